// Functions of the distance that vanish with their slope at a cutoff r_c: squares of Chebyshev polynomials times a wave,
//
//   g_n = sum_k c[z_i, z_j, n, k] f_k(r),   f_k = (T_k(y) sin(pi y / 2))^2,   y = 1 - r / r_c
//
// f_k is the usual (T_k(2 y^2 - 1) + 1) / 2 times (1 + cos(pi r / r_c)) / 2: being a square it has half the degree and
// loses no digits by cancellation. Everything is done for R neighbours side by side, since each is a chain of operations
// that wait for each other.
#pragma once

#include <numeric>
#include <type_traits>
#include <vector>

#include "kernel.hpp"

namespace mlmd {

template <class T>
struct SquaredChebyshev {
  using V = Vector<T>;
  static constexpr int GROUP = 4;  // neighbours worked out side by side

  // sin and cos of pi y / 2 for 0 <= y <= 1, the first exactly 0 at 0; the second where wanted
  template <int R, bool COS>
  static MLMD_INLINE void half_wave(const V* y, V* sine, V* cosine) {
    constexpr int degree = sizeof(T) == 8 ? 10 : 6;  // of polynomials in t^2, good to rounding
    V square[R];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      square[i] = T(2.46740110027233965471) * (y[i] * y[i]);
      sine[i] = broadcast<T>(SERIES.at[2 * degree + 1]), cosine[i] = broadcast<T>(SERIES.at[2 * degree]);
    }
#pragma GCC unroll 10
    for (int k = degree - 1; k >= 0; k--)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        sine[i] = sine[i] * square[i] + SERIES.at[2 * k + 1];
        if (COS) cosine[i] = cosine[i] * square[i] + SERIES.at[2 * k];
      }
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) sine[i] *= T(1.57079632679489661923) * y[i];
  }
  struct Series {  // 1, 1, -1/2!, -1/3!, 1/4!, ...
    T at[22] = {};
    constexpr Series() {
      double factorial = 1;
      for (int n = 0; n < 22; n++) {
        if (n > 1) factorial *= n;
        at[n] = T((n / 2 % 2 ? -1 : 1) / factorial);
      }
    }
  };
  static constexpr Series SERIES{};

  static MLMD_INLINE V reduced(V r, T cutoff) { return max((cutoff - r) * (T(1) / cutoff), V{}); }

  // The roots T_k(y) sin(pi y / 2) of f_k of R neighbours, one k after the other
  template <int R>
  struct Roots {
    V twice[R], before[R], root[R];  // 2 y, and the roots for k - 1 and k
    MLMD_INLINE explicit Roots(const V* y) {  // k = 1
      V unused[R];
      half_wave<R, false>(y, before, unused);
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) twice[i] = y[i] + y[i], root[i] = y[i] * before[i];
    }
    MLMD_INLINE V next(int i) {
      const V next = twice[i] * root[i] - before[i];
      before[i] = root[i];
      return root[i] = next;
    }
  };

  // f[i][k], k < n (and f[i][1] in any case), of R neighbours
  template <int R>
  static MLMD_INLINE void values(const V* y, int n, V* f, int stride) {
    Roots<R> roots(y);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      f[i * stride] = roots.before[i] * roots.before[i];
      f[i * stride + 1] = roots.root[i] * roots.root[i];
    }
    for (int k = 2; k < n; k++)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V root = roots.next(i);
        f[i * stride + k] = root * root;
      }
  }

  // f[k] += the same summed over R neighbours
  template <int R>
  static MLMD_INLINE void add_values(const V* y, int n, V* f) {
    Roots<R> roots(y);
    V first{}, second{};
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      first += roots.before[i] * roots.before[i];
      second += roots.root[i] * roots.root[i];
    }
    f[0] += first;
    if (n > 1) f[1] += second;
    for (int k = 2; k < n; k++) {
      V sum{};  // added as one: a sum of many numbers loses fewer digits in parts
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V root = roots.next(i);
        sum += root * root;
      }
      f[k] += sum;
    }
  }

  // 1/2 sum_k weight[i][k] df[k]/dy of R neighbours
  template <int R>
  static MLMD_INLINE void slopes(const V* y, int n, const V* weight, int stride, V* slope) {
    V twice[R], before[R], root[R], change_before[R], change[R];
    half_wave<R, true>(y, before, change_before);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      change_before[i] *= T(1.57079632679489661923);
      twice[i] = y[i] + y[i], root[i] = y[i] * before[i], change[i] = before[i] + y[i] * change_before[i];
      slope[i] = weight[i * stride] * (before[i] * change_before[i]);
      if (n > 1) slope[i] += weight[i * stride + 1] * (root[i] * change[i]);
    }
    for (int k = 2; k < n; k++)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V next = twice[i] * root[i] - before[i];
        const V change_next = twice[i] * change[i] + (root[i] + root[i] - change_before[i]);
        before[i] = root[i], root[i] = next, change_before[i] = change[i], change[i] = change_next;
        slope[i] += weight[i * stride + k] * (next * change_next);
      }
  }

  // f[i][k] and df[k]/dy, k < n (and k = 1 in any case), of R neighbours
  template <int R>
  static MLMD_INLINE void values_and_slopes(const V* y, int n, V* f, V* slope, int stride) {
    V twice[R], before[R], root[R], change_before[R], change[R];
    half_wave<R, true>(y, before, change_before);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      change_before[i] *= T(1.57079632679489661923);
      twice[i] = y[i] + y[i], root[i] = y[i] * before[i], change[i] = before[i] + y[i] * change_before[i];
      f[i * stride] = before[i] * before[i], slope[i * stride] = T(2) * before[i] * change_before[i];
      f[i * stride + 1] = root[i] * root[i], slope[i * stride + 1] = T(2) * root[i] * change[i];
    }
    for (int k = 2; k < n; k++)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V next = twice[i] * root[i] - before[i];
        const V change_next = twice[i] * change[i] + (root[i] + root[i] - change_before[i]);
        before[i] = root[i], root[i] = next, change_before[i] = change[i], change[i] = change_next;
        f[i * stride + k] = next * next, slope[i * stride + k] = T(2) * next * change_next;
      }
  }

  // Where all neighbours have the same weights, sum_k w_k f_k = sin^2(pi y / 2) P(u), with P = sum_k w_k (T_k(u) + 1) / 2
  // and u = 2 y^2 - 1, is a Chebyshev series whose derivative is another one: two sums by Clenshaw's recursion cost half of
  // what the roots and their derivatives do. Here weights w become the coefficients p of P, and d are those of dP/du.
  static void as_series(int n, V* p, V* d) {
    for (int k = n - 1; k >= 0; k--) p[k] *= T(0.5);
    for (int k = n - 1; k >= 0; k--) d[k] = (k + 2 < n ? d[k + 2] : V{}) + (k + 1 < n ? T(2 * k + 2) * p[k + 1] : V{});
    d[0] *= T(0.5);
    p[0] += std::accumulate(p, p + n, V{});
  }

  // The derivative of such a sum by y, for R neighbours
  template <int R>
  static MLMD_INLINE void series_slopes(const V* y, int n, const V* p, const V* d, V* by_y) {
    V sine[R], cosine[R], twice[R], value[R], value_before[R], change[R], change_before[R];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      twice[i] = T(4) * y[i] * y[i] - T(2);  // 2 u
      value[i] = value_before[i] = change[i] = change_before[i] = V{};
    }
    half_wave<R, true>(y, sine, cosine);
    for (int k = n - 1; k > 0; k--)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V next = twice[i] * value[i] + (p[k] - value_before[i]);
        const V change_next = twice[i] * change[i] + (d[k] - change_before[i]);
        value_before[i] = value[i], value[i] = next, change_before[i] = change[i], change[i] = change_next;
      }
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      const V half = T(0.5) * twice[i];
      const V sum = half * value[i] + (p[0] - value_before[i]), slope = half * change[i] + (d[0] - change_before[i]);
      by_y[i] = sine[i] * (T(3.14159265358979323846) * cosine[i] * sum + T(4) * y[i] * sine[i] * slope);
    }
  }

  // Calls function(R as a constant, first) for all of n in groups of R = GROUP, then one by one
  template <class F>
  static MLMD_INLINE void in_groups(int first, int end, F&& function) {
    for (; first + GROUP <= end; first += GROUP) function(std::integral_constant<int, GROUP>(), first);
    for (; first < end; first++) function(std::integral_constant<int, 1>(), first);
  }
};

// Coefficients and cutoffs of the functions g_n of every pair of species; a cutoff is the mean of two species' own
template <class T>
struct RadialFunctions {
  int n = 0, n_basis = 0, n_species = 0;
  std::vector<double> cutoff;            // [z_i][z_j]
  std::vector<T> by_basis, by_function;  // [z_i][z_j][k][n] and [z_i][z_j][n][k]

  // cutoffs [z] of the species
  void read(Reader& reader, const std::vector<double>& cutoffs, int n_functions, int n_polynomials) {
    n = n_functions, n_basis = n_polynomials, n_species = int(cutoffs.size());
    for (double one : cutoffs)
      if (!(one > 0)) throw BadParameters("a cutoff is not positive");
    for (double one : cutoffs)
      for (double other : cutoffs) cutoff.push_back(0.5 * (one + other));
    for (double c : reader.numbers("radial coefficients", std::int64_t(cutoff.size()) * n * n_basis))
      by_function.push_back(T(c));
    by_basis.resize(by_function.size());
    for (std::size_t pair = 0; pair < cutoff.size(); pair++)
      for (int i = 0; i < n; i++)
        for (int k = 0; k < n_basis; k++)
          by_basis[(pair * n_basis + k) * n + i] = by_function[(pair * n + i) * n_basis + k];
  }
  T cutoff_of(int i, int j) const { return T(cutoff[pair(i, j)]); }
  const T* functions_of(int i, int j) const { return &by_function[pair(i, j) * n * n_basis]; }
  const T* basis_of(int i, int j) const { return &by_basis[pair(i, j) * n * n_basis]; }
  std::size_t pair(int i, int j) const { return std::size_t(i) * n_species + j; }
};

}  // namespace mlmd
