#include "radial_angular.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::radial_angular_kernel(Reader& reader, bool single) { return make<RadialAngular>(reader, single); }
