#include "symmetry.hpp"

std::unique_ptr<mlmd::Kernel> mlmd::symmetry_kernel(Reader& reader, bool single) {
  return make<Symmetry>(reader, single);
}
