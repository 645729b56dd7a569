#include "pair.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::pair_kernel(Reader& reader, bool single) { return make<Pair>(reader, single); }
