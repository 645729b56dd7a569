// Numbers of a density of neighbours that no rotation changes, from its moments a_nlm by real harmonics (harmonics.cuh):
//
//   sum_m weight_lm a_nlm^2;  -kappa det Q_n;  7/15 (sum_m weight_1m a_n1m^2)^2
//
// Q_n is the traceless tensor of which the a_n2m are components; kappa makes of its determinant the sum over Wigner's 3j
// symbols (2 2 2; m m' m''). Moments are [lm][n], invariants [invariant][n].
#pragma once

#include "harmonics.cuh"
#include "simd.cuh"

namespace mlmd {

template <class T>
class Invariants {
 public:
  using V = Vector<T>;

  Invariants() = default;
  Invariants(int n, bool four_body, bool five_body)
      : n_(n), four_body_(four_body), five_body_(five_body),
        kappa_(T(0.8099439292797229)) {}  // sqrt(27 / 70) (15 / 4 pi)^(3/2)

  // a[lm][n] to q[invariant][n]
  template <int L>
  void values(const V* a, V* q) const {
    using H = Harmonics<T, L>;
    const int n = n_;
    for (int l = 1; l <= L; l++)
      for (int i = 0; i < n; i++) q[(l - 1) * n + i] = power<L>(l, a + i);
    V* next = q + L * n;
    if (four_body_) {
      if constexpr (L >= 2)
        for (int i = 0; i < n; i++) next[i] = -kappa_ * Traceless(a + (H::place(2, 0) * n + i), n).determinant();
      next += n;
    }
    if (five_body_)
      for (int i = 0; i < n; i++) next[i] = T(7. / 15) * q[i] * q[i];
  }

  // From changes of a to those of q
  template <int L>
  void push(const V* a, const V* changes, V* q) const {
    using H = Harmonics<T, L>;
    const int n = n_;
    for (int l = 1; l <= L; l++)
      for (int i = 0; i < n; i++) q[(l - 1) * n + i] = T(2) * product<L>(l, a + i, changes + i);
    V* next = q + L * n;
    if (four_body_) {
      if constexpr (L >= 2)
        for (int i = 0; i < n; i++) {
          V by[5];
          Traceless(a + (H::place(2, 0) * n + i), n).gradient(broadcast<T>(-kappa_), by);
          next[i] = V{};
          for (int k = 0; k < 5; k++) next[i] += by[k] * changes[(H::place(2, 0) + k) * n + i];
        }
      next += n;
    }
    if (five_body_)
      for (int i = 0; i < n; i++) next[i] = T(14. / 15) * power<L>(1, a + i) * q[i];
  }

  // a[lm][n] to dE/da, from dE/dq
  template <int L>
  void pull(V* a, const V* dq) const {
    using H = Harmonics<T, L>;
    const int n = n_;
    const V* const four = dq + L * n;
    const V* const five = four + (four_body_ ? n : 0);
    for (int i = 0; i < n; i++) {
      V by_two[5] = {}, by_one = dq[i];
      if constexpr (L >= 2)
        if (four_body_) Traceless(a + (H::place(2, 0) * n + i), n).gradient(-kappa_ * four[i], by_two);
      if (five_body_) by_one += T(14. / 15) * power<L>(1, a + i) * five[i];
      for (int l = 1; l <= L; l++) {
        const V twice = T(2) * (l == 1 ? by_one : dq[(l - 1) * n + i]);
        for (int k = 0; k < 2 * l + 1; k++) a[(l * l - 1 + k) * n + i] *= twice * H::WEIGHT.at[l * l - 1 + k];
      }
      if constexpr (L >= 2)
        for (int k = 0; k < 5; k++) a[(H::place(2, 0) + k) * n + i] += by_two[k];
    }
  }

 private:
  // sum_m weight_lm a_lm b_lm
  template <int L>
  MLMD_INLINE V product(int l, const V* a, const V* b) const {
    V sum{};
    for (int k = 0; k < 2 * l + 1; k++) {
      const int at = (l * l - 1 + k) * n_;
      sum += Harmonics<T, L>::WEIGHT.at[l * l - 1 + k] * (a[at] * b[at]);
    }
    return sum;
  }
  template <int L>
  MLMD_INLINE V power(int l, const V* a) const {
    return product<L>(l, a, a);
  }

  // sum_j g (u u - 1/3) from the moments of degree 2: (3 z^2 - 1) / 6, zx, zy, x^2 - y^2, 2 xy
  struct Traceless {
    V xx, yy, zz, xy, xz, yz;
    MLMD_INLINE Traceless(const V* a, int n) {
      const V half = T(0.5) * a[3 * n];
      xx = half - a[0], yy = -half - a[0], zz = a[0] + a[0];
      xz = a[n], yz = a[2 * n], xy = T(0.5) * a[4 * n];
    }
    MLMD_INLINE V determinant() const {
      return xx * (yy * zz - yz * yz) + xy * (yz * xz - xy * zz) + xz * (xy * yz - yy * xz);
    }
    // scale times its derivative by the five moments
    MLMD_INLINE void gradient(V scale, V* by) const {
      const V cxx = yy * zz - yz * yz, cyy = xx * zz - xz * xz, czz = xx * yy - xy * xy;
      by[0] = scale * (czz + czz - cxx - cyy);
      by[1] = T(2) * scale * (xy * yz - yy * xz), by[2] = T(2) * scale * (xy * xz - xx * yz);
      by[3] = T(0.5) * scale * (cxx - cyy), by[4] = scale * (yz * xz - xy * zz);
    }
  };

  int n_ = 0;
  bool four_body_ = false, five_body_ = false;
  T kappa_ = 0;
};

}  // namespace mlmd
