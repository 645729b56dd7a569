// W atoms of one species and their neighbours within the cutoff, as rows of vectors: what a potential sees.
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.hpp"
#include "neighbours.hpp"
#include "simd.hpp"

namespace mlmd {

// All lanes of a row have a neighbour of the same species. A lane that has none is padded with the vector
// (cutoff, 0, 0), where every potential is exactly zero together with its derivative.
template <class T>
struct Block {
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  int species = 0;                // of the centres
  int n_rows = 0;
  const int* begin = nullptr;     // [n_species + 1]: rows begin[s] ... begin[s + 1] - 1 have neighbours of species s
  const V *x = nullptr, *y = nullptr, *z = nullptr, *r = nullptr;  // [n_rows] from centre to neighbour, length; Angstrom
  V *gx = nullptr, *gy = nullptr, *gz = nullptr;                   // [n_rows] to be written: dE_i / d(vector), eV/Angstrom
  const Mask<T>* real = nullptr;                                   // [n_rows] lanes that hold a neighbour
};

// Makes blocks, one after the other in the same memory.
template <class T>
class Gather {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  // The block of the W slots from `first`; species and cutoff are those of the potential.
  Block<T> block(const System& system, int first, int species, double cutoff) {
    const int n_species = system.n_species, capacity = system.capacity;
    reserve(system, first);
    const double limit = cutoff * cutoff;
    const double* const at = system.coordinates;
    int row = 0;
    for (int kind = 0; kind < n_species; kind++) {
      begin_[kind] = row;
      int longest = 0, count[W];
      for (int lane = 0; lane < W; lane++) {
        const std::size_t slot = first + lane;
        const auto* const ends = &system.ends[slot * n_species];
        const std::int32_t* const list = &system.matrix[slot * capacity];
        const int end = ends[kind];
        const double xi = at[4 * slot], yi = at[4 * slot + 1], zi = at[4 * slot + 2];
        std::size_t to = std::size_t(row) * W + lane;
        for (int k = kind ? ends[kind - 1] : 0; k < end; k++) {
          const std::int32_t j = list[k];
          const double dx = at[4 * std::size_t(j)] - xi, dy = at[4 * std::size_t(j) + 1] - yi,
                       dz = at[4 * std::size_t(j) + 2] - zi;
          // written in any case and kept by going on, which costs less than a branch that is hard to foretell
          x_[to] = T(dx), y_[to] = T(dy), z_[to] = T(dz), slot_[to] = j;
          to += dx * dx + dy * dy + dz * dz < limit ? W : 0;
        }
        count[lane] = int((to - lane) / W) - row;
        longest = std::max(longest, count[lane]);
      }
      for (int lane = 0; lane < W; lane++)
        for (int k = count[lane]; k < longest; k++) {
          const std::size_t to = std::size_t(row + k) * W + lane;
          x_[to] = T(cutoff), y_[to] = T(0), z_[to] = T(0), slot_[to] = system.far_slot;
        }
      mark(row, longest, count);
      row += longest;
    }
    begin_[n_species] = row;
    V *const x = vectors(x_), *const y = vectors(y_), *const z = vectors(z_), *const r = vectors(r_);
    for (int k = 0; k < row; k++) r[k] = sqrt(x[k] * x[k] + y[k] * y[k] + z[k] * z[k]);
    Block<T> made;
    made.species = species, made.n_rows = row, made.begin = begin_.data();
    made.x = x, made.y = y, made.z = z, made.r = r, made.real = real_.data();
    made.gx = vectors(gx_), made.gy = vectors(gy_), made.gz = vectors(gz_);
    return made;
  }

  // [row][lane] slots of the neighbours of the last block; the far slot where there is none
  const std::int32_t* slots() const { return slot_.data(); }

 private:
  static V* vectors(Buffer<T>& buffer) { return reinterpret_cast<V*>(buffer.data()); }

  void reserve(const System& system, int first) {
    std::size_t rows = 1;  // what is written and not kept comes after the last
    begin_.resize(system.n_species + 1);
    for (int kind = 0; kind < system.n_species; kind++) {
      int longest = 0;
      for (int lane = 0; lane < W; lane++) {
        const auto* const ends = &system.ends[std::size_t(first + lane) * system.n_species];
        longest = std::max(longest, int(ends[kind]) - (kind ? int(ends[kind - 1]) : 0));
      }
      rows += longest;
    }
    if (rows * W <= x_.size()) return;
    rows += rows / 4;
    for (Buffer<T>* one : {&x_, &y_, &z_, &r_, &gx_, &gy_, &gz_}) one->reserve(rows * W);
    slot_.reserve(rows * W);
    real_.reserve(rows);
  }

  void mark(int row, int n_rows, const int* count) {
    Mask<T> limit;
    for (int lane = 0; lane < W; lane++) limit[lane] = count[lane];
    for (int k = 0; k < n_rows; k++) real_[row + k] = limit > k;
  }

  Buffer<T> x_, y_, z_, r_, gx_, gy_, gz_;
  Buffer<std::int32_t> slot_;
  Buffer<Mask<T>> real_;
  std::vector<int> begin_;
};

}  // namespace mlmd
