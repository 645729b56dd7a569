// Many smooth functions of the distance at once, as polynomials between equidistant points.
//
// Every lane reads the coefficients of its own piece, those of W functions together, and W values of each of W atoms are
// then exchanged for a value of each atom W times. A series over the whole range takes several times as many
// multiplications.
#pragma once

#include <algorithm>
#include <vector>

#include "buffer.hpp"
#include "reader.hpp"
#include "transpose.hpp"

namespace mlmd {

template <class T>
class PiecewiseFunctions {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;
  static constexpr int DEGREE = 9;

  // integers: the number of pieces between 0 and `end`. numbers: coefficients [piece][function][k] of t^k, t from -1 to 1
  PiecewiseFunctions(Reader& reader, int n_functions, double end)
      : n_groups_((n_functions + W - 1) / W), n_pieces_(int(reader.integer("n_pieces", 1, 100000))), end_(end) {
    const std::int64_t n = n_functions, n_numbers = n * n_pieces_ * (DEGREE + 1);
    const std::vector<double> given = reader.numbers("radial functions", n_numbers);
    table_.reserve(std::size_t(n_pieces_) * n_groups_ * (DEGREE + 1) * W);
    std::fill(table_.data(), table_.data() + table_.size(), T(0));
    const double* coefficient = given.data();
    for (int piece = 0; piece < n_pieces_; piece++)
      for (int f = 0; f < n_functions; f++)
        for (int k = 0; k <= DEGREE; k++)
          table_[((std::size_t(piece) * n_groups_ + f / W) * (DEGREE + 1) + k) * W + f % W] = T(*coefficient++);
  }

  // Functions, and some places behind the last
  int n_padded() const { return n_groups_ * W; }

  // Values, and slopes where wanted, at one distance for each lane; function f goes to place where[f], f < n_padded
  template <bool SLOPES>
  MLMD_INLINE void evaluate(V r, const int* where, V* values, V* slopes) const {
    const T rate = T(n_pieces_ / end_);
    const V place = min(max(r * rate, V{}), broadcast<T>(T(n_pieces_ - 1)));  // 0 where r is not a number
    const V* piece[W];
    T t[W];
    for (int lane = 0; lane < W; lane++) {
      const int number = int(place[lane]);
      piece[lane] = reinterpret_cast<const V*>(table_.data()) + std::size_t(number) * n_groups_ * (DEGREE + 1);
      t[lane] = T(2) * (r[lane] * rate - T(number)) - T(1);
    }
    for (int group = 0; group < n_groups_; group++, where += W) {
      V value[W], slope[W];
#pragma GCC unroll 16
      for (int lane = 0; lane < W; lane++) {
        const V* const c = piece[lane] + group * (DEGREE + 1);
        const V x = broadcast<T>(t[lane]);
        value[lane] = c[DEGREE] * x + c[DEGREE - 1];
        if (SLOPES) slope[lane] = c[DEGREE];
#pragma GCC unroll 9
        for (int k = DEGREE - 2; k >= 0; k--) {
          if (SLOPES) slope[lane] = slope[lane] * x + value[lane];
          value[lane] = value[lane] * x + c[k];
        }
      }
      transpose<T>(value);
      if (SLOPES) transpose<T>(slope);
#pragma GCC unroll 16
      for (int i = 0; i < W; i++) {
        values[where[i]] = value[i];
        if (SLOPES) slopes[where[i]] = T(2) * rate * slope[i];
      }
    }
  }

 private:
  int n_groups_, n_pieces_;
  double end_;
  Buffer<T> table_;  // [piece][group][k][W]
};

}  // namespace mlmd
