// Neighbours within reaches that may be shorter than the cutoff of a block, moved together: every lane's in its own order,
// so that no lane works for others. What is left over is padded with (reach, 0, 0).
#pragma once

#include <vector>

#include "block.hpp"

namespace mlmd {

template <class T>
class NearRows {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  int n = 0;
  std::vector<int> begin;            // [n_species + 1]
  Buffer<V> x, y, z, r;              // [n] vector from the centre and its length
  Buffer<V> ux, uy, uz, inverse;     // [n] the vector of length 1, and 1 / r
  Buffer<V> gx, gy, gz;              // [n] gradients, zero

  // reach [n_species] of the neighbours of each species; 0 for none
  void keep(const Block<T>& block, int n_species, const T* reach) {
    begin.resize(n_species + 1);
    from_.reserve((std::size_t(block.n_rows) + 1) * W);
    for (Buffer<V>* one : {&x, &y, &z, &r, &ux, &uy, &uz, &inverse, &gx, &gy, &gz}) one->reserve(block.n_rows);
    n = 0;
    for (int kind = 0; kind < n_species; kind++) {
      begin[kind] = n;
      if (reach[kind] > 0) move_together(block, kind, reach[kind]);
    }
    begin[n_species] = n;
    for (int k = 0; k < n; k++) {
      inverse[k] = T(1) / r[k];
      ux[k] = x[k] * inverse[k], uy[k] = y[k] * inverse[k], uz[k] = z[k] * inverse[k];
      gx[k] = gy[k] = gz[k] = V{};
    }
  }

  // Adds the gradients to those of the block
  void give_back(const Block<T>& block) const {
    T *const to_x = scalars(block.gx), *const to_y = scalars(block.gy), *const to_z = scalars(block.gz);
    for (int k = 0; k < n; k++)
      for (int lane = 0; lane < W; lane++) {
        const std::size_t to = std::size_t(from_[std::size_t(k) * W + lane]) * W + lane;
        to_x[to] += gx[k][lane], to_y[to] += gy[k][lane], to_z[to] += gz[k][lane];
      }
  }

 private:
  static const T* scalars(const V* vectors) { return reinterpret_cast<const T*>(vectors); }
  static T* scalars(V* vectors) { return reinterpret_cast<T*>(vectors); }

  void move_together(const Block<T>& block, int kind, T reach) {
    int count[W] = {}, longest = 0;
    std::int32_t* const from = &from_[std::size_t(n) * W];
    for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
      const Mask<T> near = block.r[row] < reach;
      for (int lane = 0; lane < W; lane++) {  // written in any case and kept by going on
        from[count[lane] * W + lane] = row;
        count[lane] -= int(near[lane]);
      }
    }
    for (int lane = 0; lane < W; lane++) longest = count[lane] > longest ? count[lane] : longest;
    Mask<T> filled;
    for (int lane = 0; lane < W; lane++) filled[lane] = count[lane];
    for (int lane = 0; lane < W; lane++)
      for (int k = count[lane]; k < longest; k++) from[k * W + lane] = block.begin[kind];
    const T* const given[4] = {scalars(block.x), scalars(block.y), scalars(block.z), scalars(block.r)};
    V* const to[4] = {&x[n], &y[n], &z[n], &r[n]};
    for (int k = 0; k < longest; k++) {
      const Mask<T> real = filled > k;
      for (int a = 0; a < 4; a++) {
        V found;
        for (int lane = 0; lane < W; lane++) found[lane] = given[a][std::size_t(from[k * W + lane]) * W + lane];
        to[a][k] = select(real, found, a == 0 || a == 3 ? broadcast<T>(reach) : V{});
      }
    }
    n += longest;
  }

  Buffer<std::int32_t> from_;  // [row][lane] rows of the block
};

}  // namespace mlmd
