#include "moments.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::moments_kernel(Reader& reader, bool single) { return make<Moments>(reader, single); }
