// Near rows of a block with what triplets need of them: directions, and room for gradients.
#pragma once

#include "near_rows.hpp"

namespace mlmd {

template <class T>
struct DirectedRows {
  using V = Vector<T>;

  int n = 0;
  const int* begin = nullptr;                                      // [n_species + 1]
  const V *x = nullptr, *y = nullptr, *z = nullptr, *r = nullptr;  // [n] vector from the centre and its length
  Buffer<V> ux, uy, uz, inverse;                                   // [n] the vector of length 1, and 1 / r
  Buffer<V> gx, gy, gz;                                            // [n] gradients, zero
  NearRows<T> rows;

  // reach [n_species] of the neighbours of each species; 0 for none
  void keep(const Block<T>& block, int n_species, const double* reach) {
    const Rows<T> near = rows.move(block, n_species, reach);
    n = near.n, begin = near.begin, x = near.x, y = near.y, z = near.z, r = near.r;
    for (Buffer<V>* one : {&ux, &uy, &uz, &inverse, &gx, &gy, &gz}) one->reserve(n);
    for (int k = 0; k < n; k++) {
      inverse[k] = T(1) / r[k];
      ux[k] = x[k] * inverse[k], uy[k] = y[k] * inverse[k], uz[k] = z[k] * inverse[k];
      gx[k] = gy[k] = gz[k] = V{};
    }
  }

  // Adds the gradients to those of the block
  void give_back(V* to_x, V* to_y, V* to_z) const {
    for (int k = 0; k < n; k++) rows.add(gx[k], k, to_x), rows.add(gy[k], k, to_y), rows.add(gz[k], k, to_z);
  }
};

}  // namespace mlmd
