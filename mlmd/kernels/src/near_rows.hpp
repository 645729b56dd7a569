// The rows of a block for functions that reach less far than it does.
//
// Neighbours come in rows that are not sorted by distance. Where a second cutoff is smaller, every lane's neighbours
// within it are moved together, so that no lane works for others (C at 7 and 4 Angstrom: 250 rows become 60).
#pragma once

#include <algorithm>
#include <vector>

#include "kernel.hpp"

namespace mlmd {

// Neighbours in rows: those of the block, or those of it that are near
template <class T>
struct Rows {
  using V = Vector<T>;
  int n;
  const int* begin;
  const V *x, *y, *z, *r;
};

template <class T>
class NearRows {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  // cutoffs [n_species] by species of the neighbour. What is left over in the last rows is padded as in a block.
  Rows<T> move(const Block<T>& block, int n_species, const double* cutoffs) {
    for (Buffer<V>& one : vector_) one.reserve(block.n_rows);
    from_.reserve((std::size_t(block.n_rows) + 1) * W);
    begin_.resize(n_species + 1);
    int to = 0;
    for (int kind = 0; kind < n_species; kind++) {
      begin_[kind] = to;
      const T cutoff = T(cutoffs[kind]);
      int count[W] = {}, longest = 0;
      std::int32_t* const from = &from_[std::size_t(to) * W];
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        const Mask<T> near = block.r[row] < cutoff;
        for (int lane = 0; lane < W; lane++) {  // written in any case and kept by going on
          from[count[lane] * W + lane] = row;
          count[lane] -= int(near[lane]);
        }
      }
      for (int lane = 0; lane < W; lane++) longest = std::max(longest, count[lane]);
      Mask<T> filled;
      for (int lane = 0; lane < W; lane++) filled[lane] = count[lane];
      for (int lane = 0; lane < W; lane++)
        for (int k = count[lane]; k < longest; k++) from[k * W + lane] = block.begin[kind];
      const T* const given[4] = {scalars(block.x), scalars(block.y), scalars(block.z), scalars(block.r)};
      for (int k = 0; k < longest; k++) {
        const Mask<T> real = filled > k;
        for (int a = 0; a < 4; a++) {
          V found;
          for (int lane = 0; lane < W; lane++) found[lane] = given[a][std::size_t(from[k * W + lane]) * W + lane];
          vector_[a][to + k] = select(real, found, a == 0 || a == 3 ? broadcast<T>(cutoff) : V{});
        }
      }
      to += longest;
    }
    begin_[n_species] = to;
    return {to, begin_.data(), vector_[0].data(), vector_[1].data(), vector_[2].data(), vector_[3].data()};
  }

  // What a row has of something given by the rows of the block; something of no meaning where a lane has no neighbour
  V taken(const V* given, int row) const {
    V found;
    for (int lane = 0; lane < W; lane++) found[lane] = scalars(given)[place(row, lane)];
    return found;
  }

  // The way back: added to the rows of the block; it must be zero where a lane has no neighbour
  void add(V value, int row, V* to) const {
    for (int lane = 0; lane < W; lane++) scalars(to)[place(row, lane)] += value[lane];
  }

 private:
  std::size_t place(int row, int lane) const { return std::size_t(from_[std::size_t(row) * W + lane]) * W + lane; }
  static const T* scalars(const V* vectors) { return reinterpret_cast<const T*>(vectors); }
  static T* scalars(V* vectors) { return reinterpret_cast<T*>(vectors); }

  Buffer<V> vector_[4];        // [row] x, y, z, r
  Buffer<std::int32_t> from_;  // [row][lane] the row of the block that it comes from
  std::vector<int> begin_;     // where the rows of a species begin
};

}  // namespace mlmd
