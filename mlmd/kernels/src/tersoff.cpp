#include "tersoff.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::tersoff_kernel(Reader& reader, bool single) { return make<Tersoff>(reader, single); }
