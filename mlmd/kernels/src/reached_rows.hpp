// The rows of a block within reaches that may be shorter than its cutoff, with unit vectors and room for gradients.
#pragma once

#include "near_rows.hpp"

namespace mlmd {

template <class T>
class ReachedRows {
 public:
  using V = Vector<T>;

  int n = 0;
  const int* begin = nullptr;                                            // [n_species + 1]
  const V *x = nullptr, *y = nullptr, *z = nullptr, *r = nullptr;        // [n] vector from the centre and its length
  Buffer<V> ux, uy, uz, inverse;                                         // [n] the vector of length 1, and 1 / r
  Buffer<V> gx, gy, gz;                                                  // [n] gradients, zero at first

  // reach [n_species] of the neighbours of each species; 0 for none
  void keep(const Block<T>& block, int n_species, const double* reach) {
    const Rows<T> rows = near_.move(block, n_species, reach);
    n = rows.n, begin = rows.begin, x = rows.x, y = rows.y, z = rows.z, r = rows.r;
    for (Buffer<V>* one : {&ux, &uy, &uz, &inverse, &gx, &gy, &gz}) one->reserve(n);
    for (int k = 0; k < n; k++) {
      inverse[k] = T(1) / r[k];
      ux[k] = x[k] * inverse[k], uy[k] = y[k] * inverse[k], uz[k] = z[k] * inverse[k];
      gx[k] = gy[k] = gz[k] = V{};
    }
  }

  // Adds the gradients to those of the block
  void give_back(const Block<T>& block) const {
    for (int k = 0; k < n; k++) near_.add(gx[k], k, block.gx), near_.add(gy[k], k, block.gy), near_.add(gz[k], k, block.gz);
  }

  // What a row has of something given by the rows of the block; something of no meaning where a lane has no neighbour
  V taken(const V* given, int row) const { return near_.taken(given, row); }

 private:
  NearRows<T> near_;
};

}  // namespace mlmd
