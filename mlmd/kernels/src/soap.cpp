#include "soap.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::soap_kernel(Reader& reader, bool single) { return make<Soap>(reader, single); }
