#include "stillinger_weber.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::stillinger_weber_kernel(Reader& reader, bool single) { return make<StillingerWeber>(reader, single); }
