#include "eam.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::eam_kernel(Reader& reader, bool single) { return make<Eam>(reader, single); }
