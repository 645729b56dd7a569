// The rows of a block that matter to a three-body potential: those in which some lane has a neighbour within the reach
// of its pair of species, which may be much shorter than the cutoff of the block.
#pragma once

#include <vector>

#include "kernel.hpp"

namespace mlmd {

template <class T>
struct CloseRows {
  using V = Vector<T>;

  std::vector<int> begin;  // [n_species + 1] in the rows kept
  Buffer<int> row;         // [n] place in the block
  Buffer<V> x, y, z, r;    // [n] direction from centre to neighbour (length 1), and distance
  int n = 0;

  // reach [n_species] of each species of neighbour; gradients of the rows left out become zero
  void keep(const Block<T>& block, int n_species, const T* reach, T cutoff) {
    reserve(block.n_rows);
    begin.resize(n_species + 1);
    n = 0;
    for (int kind = 0; kind < n_species; kind++) {
      begin[kind] = n;
      const bool all = reach[kind] >= cutoff;
      for (int k = block.begin[kind]; k < block.begin[kind + 1]; k++) {
        block.gx[k] = block.gy[k] = block.gz[k] = V{};
        if (!all && !any(block.r[k] < reach[kind])) continue;
        const V inverse = T(1) / block.r[k];
        x[n] = block.x[k] * inverse, y[n] = block.y[k] * inverse, z[n] = block.z[k] * inverse, r[n] = block.r[k];
        row[n++] = k;
      }
    }
    begin[n_species] = n;
  }

  V cosine(int j, int k) const { return x[j] * x[k] + y[j] * y[k] + z[j] * z[k]; }

 private:
  void reserve(int n_rows) {
    row.reserve(n_rows);
    for (Buffer<V>* one : {&x, &y, &z, &r}) one->reserve(n_rows);
  }
};

}  // namespace mlmd
