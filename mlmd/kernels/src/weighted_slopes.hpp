// Derivatives of all features of an atom by the vectors of some neighbours, times many weights: a product of matrices.
//
// Panels of columns of the weights are moved together and stay in the cache next to the processor, while rows of
// derivatives pass by, some at a time, whose sums are in registers. Features that none of the neighbours changes are left
// out: with several species those are many.
#pragma once

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

  void clear() { n_rows_ = 0; }

  // One more row: one lane of derivatives [n_features]
  void add(const V* slopes, int lane) {
    rows_.grow((n_rows_ + 1) * n_features_, 2 * n_rows_ * n_features_);
    double* const row = rows_.data() + n_rows_++ * n_features_;
    for (int f = 0; f < n_features_; f++) row[f] = slopes[f][lane];
  }

  // Sums over features of rows times weights [n_features][n_sums]; gives those of the first row, for `of` another
  void multiply(const double* weights) {
    find_features();
    const std::size_t n = used_.size(), n_groups = (n_rows_ + ROWS - 1) / ROWS;
    pack_rows(n_groups);
    panel_.reserve(n * COLUMNS);
    sums_.reserve(n_groups * ROWS * stride_);
    for (std::size_t first = 0; first < n_sums_; first += COLUMNS) {
      const std::size_t count = std::min(std::size_t(COLUMNS), n_sums_ - first);
      double* to = panel_.data();
      for (std::size_t k = 0; k < n; k++, to += COLUMNS) {
        const double* const from = weights + used_[k] * n_sums_ + first;
        std::memcpy(to, from, count * sizeof(double));
        if (count < COLUMNS) std::fill(to + count, to + COLUMNS, 0.0);
      }
      for (std::size_t group = 0; group < n_groups; group++)
        multiply_group(packed_.data() + group * n * ROWS, n, sums_.data() + group * ROWS * stride_ + first);
    }
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

  void multiply_group(const double* rows, std::size_t n, double* to) const {
    V sum[ROWS][VECTORS] = {};
    const V* panel = reinterpret_cast<const V*>(panel_.data());
    for (std::size_t k = 0; k < n; k++, rows += ROWS, panel += VECTORS) {
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; v++) sum[r][v] += rows[r] * panel[v];
    }
    for (int r = 0; r < ROWS; r++) std::memcpy(to + r * stride_, sum[r], sizeof sum[r]);
  }

  int n_features_;
  std::size_t n_sums_, stride_, n_rows_ = 0;
  std::vector<int> used_;       // features with a derivative that is not zero
  Buffer<double> rows_;         // [row][feature]
  Buffer<double> packed_;       // [group][used feature][ROWS]
  Buffer<double> panel_;        // [used feature][COLUMNS]
  Buffer<double> sums_;         // [row][stride]
};

}  // namespace mlmd
