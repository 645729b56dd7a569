// Derivatives of all features of an atom by the vectors of some neighbours, times many weights: a product of matrices.
//
// Columns of the weights are moved together in panels, of which one stays in the cache next to the processor while rows of
// derivatives pass by, some at a time, whose sums are in registers. Features that none of the neighbours changes are left
// out: with several species those are many.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "buffer.hpp"
#include "simd.hpp"

namespace mlmd {

class WeightedSlopes {
 public:
  using V = Vector<double>;
  static constexpr int W = WIDTH<double>;

  WeightedSlopes(int n_features, std::size_t n_sums)
      : n_features_(n_features), n_sums_(n_sums), stride_((n_sums + COLUMNS - 1) / COLUMNS * COLUMNS) {}

  // Of an atom, [n_features][n_sums]
  void set_weights(const double* weights) {
    panels_.reserve(n_features_ * stride_);
    for (int f = 0; f < n_features_; f++, weights += n_sums_)
      for (std::size_t first = 0; first < n_sums_; first += COLUMNS) {
        double* const to = panels_.data() + first * n_features_ + f * COLUMNS;
        const std::size_t count = std::min(std::size_t(COLUMNS), n_sums_ - first);
        std::copy(weights + first, weights + first + count, to);
        std::fill(to + count, to + COLUMNS, 0.0);
      }
  }

  void clear() { n_rows_ = 0; }

  // One more row: one lane of derivatives [n_features]
  void add(const V* slopes, int lane) {
    rows_.grow((n_rows_ + 1) * n_features_, 2 * n_rows_ * n_features_);
    double* const row = rows_.data() + n_rows_++ * n_features_;
    for (int f = 0; f < n_features_; f++) row[f] = slopes[f][lane];
  }

  // Sums over features of rows times weights
  void multiply() {
    find_features();
    const std::size_t n = used_.size(), n_groups = (n_rows_ + ROWS - 1) / ROWS;
    pack_rows(n_groups);
    sums_.reserve(n_groups * ROWS * stride_);
    for (std::size_t first = 0; first < stride_; first += COLUMNS)
      for (std::size_t group = 0; group < n_groups; group++)
        multiply_group(packed_.data() + group * n * ROWS, panels_.data() + first * n_features_,
                       sums_.data() + group * ROWS * stride_ + first);
  }

  // [n_sums] of a row
  const double* of(std::size_t row) const { return sums_.data() + row * stride_; }

 private:
  static constexpr int ROWS = MLMD_VECTOR_BYTES == 64 ? 8 : 4, VECTORS = 3, COLUMNS = VECTORS * W;

  void find_features() {
    used_.clear();
    for (int f = 0; f < n_features_; f++)
      for (std::size_t r = 0; r < n_rows_; r++)
        if (rows_[r * n_features_ + f] != 0) {
          used_.push_back(f);
          break;
        }
  }

  void pack_rows(std::size_t n_groups) {
    packed_.reserve(n_groups * ROWS * used_.size());
    double* to = packed_.data();
    for (std::size_t group = 0; group < n_groups; group++)
      for (const int f : used_)
        for (std::size_t r = group * ROWS; r < (group + 1) * ROWS; r++)
          *to++ = r < n_rows_ ? rows_[r * n_features_ + f] : 0.0;
  }

  void multiply_group(const double* rows, const double* weights, double* to) const {
    V sum[ROWS][VECTORS] = {};
    for (const int f : used_) {
      const V* const panel = reinterpret_cast<const V*>(weights) + f * VECTORS;
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; v++) sum[r][v] += rows[r] * panel[v];
      rows += ROWS;
    }
    for (int r = 0; r < ROWS; r++) std::memcpy(to + r * stride_, sum[r], sizeof sum[r]);
  }

  int n_features_;
  std::size_t n_sums_, stride_, n_rows_ = 0;
  std::vector<int> used_;       // features with a derivative that is not zero
  Buffer<double> rows_;         // [row][feature]
  Buffer<double> packed_;       // [group][used feature][ROWS]
  Buffer<double> panels_;       // [panel][feature][COLUMNS]
  Buffer<double> sums_;         // [row][stride]
};

}  // namespace mlmd
