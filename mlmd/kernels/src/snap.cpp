#include "snap.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::snap_kernel(Reader& reader, bool single) { return make<Snap>(reader, single); }
