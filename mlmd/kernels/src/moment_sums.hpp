// Sums over neighbours m[mu, a, b, c] = sum_j f_mu(r_j) x_j^a y_j^b z_j^c of unit vectors (x, y, z), a + b + c <= R_mu, and
// their derivatives.
//
// On the sphere z^2 = 1 - x^2 - y^2: the (R + 1)^2 products with c = 0 or 1 make all polynomials of degree R or less, of
// which there are (R + 1)(R + 2)(R + 3) / 6 powers. For every neighbour only those products are worked out, added up, and
// differentiated (64 instead of 120 for R = 7); the other moments follow once for an atom,
//
//   m[a, b, c] = m[a, b, c - 2] - m[a + 2, b, c - 2] - m[a, b + 2, c - 2],
//
// and derivatives by them go the same way back. They differ from those by the powers along the unit vector only, where
// nothing depends on them.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "simd.hpp"

namespace mlmd {

template <class T>
class MomentSums {
 public:
  using V = Vector<T>;
  static constexpr int CHUNK = 4;  // neighbours worked on together: sums are loaded and stored once for all

  struct Directions {
    V x[CHUNK], y[CHUNK], z[CHUNK];
  };

  static int n_powers(int rank) { return (rank + 1) * (rank + 2) * (rank + 3) / 6; }
  // Where x^a y^b z^c stands among all powers: by rank, then x first
  static int power(int a, int b, int c) {
    const int n = a + b + c;
    return n_powers(n - 1) + (n - a) * (n - a + 1) / 2 + c;
  }

  // ranks [n_functions] of the moments of each function, -1 for none, and where these begin among all
  void plan(const std::vector<int>& ranks, const std::vector<int>& first) {
    order_.resize(ranks.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return ranks[a] > ranks[b]; });
    rank_ = std::max(0, ranks[order_[0]]);
    begin_.assign(1, 0);
    active_.assign(rank_ + 1, 0);
    for (int mu : order_) {
      for (int n = 0; n <= ranks[mu]; n++) active_[n]++;
      begin_.push_back(begin_.back() + size(ranks[mu]));
    }
    for (std::size_t i = 0; i < order_.size(); i++) arrange(ranks[order_[i]], begin_[i], first[order_[i]]);
    std::stable_sort(folds_.begin(), folds_.end(), [](const Fold& a, const Fold& b) { return a.height < b.height; });
  }

  int n_values() const { return size(rank_); }
  int n_sums() const { return begin_.back(); }

  // values [n_values][CHUNK] of the products: those of rank n are x times all without z of rank n - 1, y times the last of
  // them, and z times all of them
  void values(const Directions& u, V* p) const {
    for (int c = 0; c < CHUNK; c++) p[c] = broadcast<T>(T(1));
    for (int n = 1; n <= rank_; n++) {
      const V* const from = p + std::size_t((n - 1) * (n - 1)) * CHUNK;
      V *const to = p + std::size_t(n * n) * CHUNK, *const high = to + (n + 1) * CHUNK;
      for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int c = 0; c < CHUNK; c++) {
          const V low = from[i * CHUNK + c];
          to[i * CHUNK + c] = low * u.x[c];
          high[i * CHUNK + c] = low * u.z[c];
        }
#pragma GCC unroll 4
      for (int c = 0; c < CHUNK; c++) to[n * CHUNK + c] = from[(n - 1) * CHUNK + c] * u.y[c];
    }
  }

  // sums [n_sums] += f [n_functions][CHUNK] times the values of the products
  void add(const V* f, const V* p, V* sums) const {
    std::size_t i = 0;
    for (; i + 1 < order_.size(); i += 2) {
      V *const one = sums + begin_[i], *const other = sums + begin_[i + 1];
      const int both = begin_[i + 2] - begin_[i + 1], all = begin_[i + 1] - begin_[i];
      V g[CHUNK], h[CHUNK];
      for (int c = 0; c < CHUNK; c++) g[c] = f[order_[i] * CHUNK + c], h[c] = f[order_[i + 1] * CHUNK + c];
      for (int k = 0; k < both; k++) {
        V sum = one[k], second = other[k];
#pragma GCC unroll 4
        for (int c = 0; c < CHUNK; c++) {
          const V value = p[k * CHUNK + c];
          sum += g[c] * value, second += h[c] * value;
        }
        one[k] = sum, other[k] = second;
      }
      add_one(g, p, one, both, all);
    }
    if (i == order_.size()) return;
    V g[CHUNK];
    for (int c = 0; c < CHUNK; c++) g[c] = f[order_[i] * CHUNK + c];
    add_one(g, p, sums + begin_[i], 0, begin_[i + 1] - begin_[i]);
  }

  // All moments from the sums
  void expand(const V* sums, V* moments) const {
    for (const Copy& one : copies_) moments[one.moment] = sums[one.sum];
    for (const Fold& one : folds_) moments[one.moment] = moments[one.plus] - moments[one.minus[0]] - moments[one.minus[1]];
  }

  // Derivatives by the sums from those by the moments, which are used up
  void fold(V* adjoints, V* by_sums) const {
    for (auto one = folds_.rbegin(); one != folds_.rend(); ++one) {
      const V adjoint = adjoints[one->moment];
      adjoints[one->plus] += adjoint;
      adjoints[one->minus[0]] -= adjoint;
      adjoints[one->minus[1]] -= adjoint;
    }
    for (const Copy& one : copies_) by_sums[one.sum] = adjoints[one.moment];
  }

  // From the derivatives by the sums those by the functions, heights [n_functions][CHUNK], and by the unit vectors.
  // rest [(rank + 1) CHUNK] is room for work.
  void differentiate(const Directions& u, const V* f, const V* p, const V* by_sums, V* heights, V* rest, V* gx, V* gy,
                     V* gz) const {
    find_heights(p, by_sums, heights);
    V x[CHUNK] = {}, y[CHUNK] = {}, z[CHUNK] = {};
    std::fill(rest, rest + (rank_ + 1) * CHUNK, V{});
    for (int n = rank_; n > 0; n--) switch (active_[n]) {
        case 1: descend<1>(n, u, f, p, by_sums, rest, x, y, z); break;
        case 2: descend<2>(n, u, f, p, by_sums, rest, x, y, z); break;
        case 3: descend<3>(n, u, f, p, by_sums, rest, x, y, z); break;
        default: descend<0>(n, u, f, p, by_sums, rest, x, y, z);
      }
    for (int c = 0; c < CHUNK; c++) gx[c] = x[c], gy[c] = y[c], gz[c] = z[c];
  }

 private:
  struct Copy {
    int sum, moment;
  };
  struct Fold {
    int height, moment, plus, minus[2];  // height: the power of z
  };

  static int size(int rank) { return (rank + 1) * (rank + 1); }

  void arrange(int rank, int begin, int first) {
    for (int n = 0; n <= rank; n++)
      for (int c = 0; c <= n; c++)
        for (int b = 0; b <= n - c; b++) {
          const int a = n - c - b, moment = first + power(a, b, c);
          if (c < 2) {
            copies_.push_back({begin + n * n + (c ? n + 1 : 0) + b, moment});
          } else {
            const int low = c - 2;
            folds_.push_back({c, moment, first + power(a, b, low), {first + power(a + 2, b, low), first + power(a, b + 2, low)}});
          }
        }
  }

  static MLMD_INLINE void add_one(const V* g, const V* p, V* sums, int from, int to) {
#pragma GCC unroll 2
    for (int k = from; k < to; k++) {
      V sum = sums[k];
#pragma GCC unroll 4
      for (int c = 0; c < CHUNK; c++) sum += g[c] * p[k * CHUNK + c];
      sums[k] = sum;
    }
  }

  void find_heights(const V* p, const V* by_sums, V* heights) const {
    for (std::size_t i = 0; i < order_.size(); i += 2) {
      const bool two = i + 1 < order_.size();
      const V *const one = by_sums + begin_[i], *const other = by_sums + begin_[i + 1];
      const int both = two ? begin_[i + 2] - begin_[i + 1] : 0, all = begin_[i + 1] - begin_[i];
      V g[CHUNK] = {}, h[CHUNK] = {};
      for (int k = 0; k < both; k++) {
        const V a = one[k], b = other[k];
#pragma GCC unroll 4
        for (int c = 0; c < CHUNK; c++) {
          const V value = p[k * CHUNK + c];
          g[c] += a * value, h[c] += b * value;
        }
      }
      for (int k = both; k < all; k++) {
        const V a = one[k];
#pragma GCC unroll 4
        for (int c = 0; c < CHUNK; c++) g[c] += a * p[k * CHUNK + c];
      }
      for (int c = 0; c < CHUNK; c++) heights[order_[i] * CHUNK + c] = g[c];
      if (two)
        for (int c = 0; c < CHUNK; c++) heights[order_[i + 1] * CHUNK + c] = h[c];
    }
  }

  // The derivative by product k of rank n, not counting what goes through products of higher rank
  template <int A>
  MLMD_INLINE void own(int k, int n_active, const V* f, const V* by_sums, V* slope) const {
    const V first = by_sums[k];  // of the function with the highest rank, which begin first
#pragma GCC unroll 4
    for (int c = 0; c < CHUNK; c++) slope[c] = f[order_[0] * CHUNK + c] * first;
    const int n = A ? A : n_active;
#pragma GCC unroll 2
    for (int i = 1; i < n; i++) {
      const V a = by_sums[begin_[i] + k];
      const V* const g = f + order_[i] * CHUNK;
#pragma GCC unroll 4
      for (int c = 0; c < CHUNK; c++) slope[c] += g[c] * a;
    }
  }

  // `rest` holds, for the products of rank n without z, the derivative through products of higher rank; then for those of
  // rank n - 1. A: how many functions have moments of this rank, 0 for any number.
  template <int A>
  void descend(int n, const Directions& u, const V* f, const V* p, const V* by_sums, V* rest, V* gx, V* gy, V* gz) const {
    const int n_active = active_[n], start = n * n;
    const V* const low = p + std::size_t((n - 1) * (n - 1)) * CHUNK;
    V first[CHUNK], high[CHUNK], last[CHUNK];
    own<A>(start + n, n_active, f, by_sums, last);
    for (int i = 0; i < n; i++) {
      own<A>(start + i, n_active, f, by_sums, first);
      own<A>(start + n + 1 + i, n_active, f, by_sums, high);
#pragma GCC unroll 4
      for (int c = 0; c < CHUNK; c++) {
        const V slope = first[c] + rest[i * CHUNK + c], value = low[i * CHUNK + c];
        gx[c] += value * slope, gz[c] += value * high[c];
        rest[i * CHUNK + c] = u.x[c] * slope + u.z[c] * high[c];
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < CHUNK; c++) {
      const V slope = last[c] + rest[n * CHUNK + c];
      gy[c] += low[(n - 1) * CHUNK + c] * slope;
      rest[(n - 1) * CHUNK + c] += u.y[c] * slope;
    }
  }

  std::vector<int> order_, begin_;  // functions, those of the highest rank first; [n_functions + 1] where their sums begin
  std::vector<int> active_;         // [rank + 1] how many have moments of a rank
  std::vector<Copy> copies_;
  std::vector<Fold> folds_;         // by the power of z
  int rank_ = 0;
};

}  // namespace mlmd
