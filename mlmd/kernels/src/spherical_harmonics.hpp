// Orthonormal real spherical harmonics up to a degree that is known at run time only,
//
//   Y_lm = q_lm(z) (Re, Im) (x + iy)^m,   q_lm = N_lm d^m P_l / dz^m,
//
// with Legendre polynomials P_l, of a unit vector, and how they change with it. The q of one m follow from each other by a
// recursion, and dq_lm/dz is a multiple of q_l,m+1: derivatives need no further polynomials.
#pragma once

#include <cmath>
#include <vector>

#include "simd.hpp"

namespace mlmd {

template <class T>
class SphericalHarmonics {
 public:
  using V = Vector<T>;

  explicit SphericalHarmonics(int top) : top_(top) {
    double first = 1 / (4 * 3.14159265358979323846);  // (N_mm (2m - 1)!!)^2
    for (int m = 0; m <= top; m++) {
      if (m) first *= (m == 1 ? 2 : 1) * (2 * m + 1) / (2.0 * m);
      first_.push_back(T(std::sqrt(first)));
      for (int l = m; l <= top; l++) {
        const double square = double(l) * l - m * m, before = double(l - 1) * (l - 1) - m * m;
        const double scale = l > m ? std::sqrt((4.0 * l * l - 1) / square) : 0;
        by_z_.push_back(T(scale));
        step_.push_back(T(l > m + 1 ? scale * std::sqrt(before / (4.0 * (l - 1) * (l - 1) - 1)) : 0));
        rise_.push_back(T(std::sqrt((m ? 1.0 : 0.5) * (l - m) * (l + m + 1))));
      }
    }
  }

  int top() const { return top_; }
  int n_triangle() const { return int(by_z_.size()); }

  // factor q_lm(z), by m, then l
  MLMD_INLINE void polynomials(V z, V factor, V* q) const {
    const T *scale = by_z_.data(), *step = step_.data();
    for (int m = 0; m <= top_; m++) {
      const int n = top_ - m + 1;
      q[0] = first_[m] * factor;
      if (n > 1) q[1] = scale[1] * (z * q[0]);
      for (int k = 2; k < n; k++) q[k] = scale[k] * (z * q[k - 1]) - step[k] * q[k - 2];
      q += n, scale += n, step += n;
    }
  }

  // Y_lm from q; `at(l)` is where those of a degree go: m = 0, real and imaginary parts of m = 1, 2, ...
  template <class At>
  MLMD_INLINE void values(V x, V y, const V* q, const At& at) const {
    V re = broadcast<T>(T(1)), im{};
    for (int m = 0; m <= top_; m++) {
      for (int l = m; l <= top_; l++, q++) {
        V* const to = at(l);
        if (m) to[2 * m - 1] = *q * re, to[2 * m] = *q * im;
        else to[0] = *q;
      }
      turn(x, y, re, im);
    }
  }

  // How Y_lm change with a change (dx, dy, dz) of the vector, its components taken as independent
  template <class At>
  MLMD_INLINE void changes(V x, V y, V dx, V dy, V dz, const V* q, const At& at) const {
    V re = broadcast<T>(T(1)), im{}, re_change{}, im_change{};
    const T* rise = rise_.data();
    for (int m = 0; m <= top_; m++) {
      const V* const next = q + (top_ - m + 1);  // q_l,m+1 is at next[l - m - 1]
      for (int k = 0; k <= top_ - m; k++, rise++) {
        V* const to = at(m + k);
        const V slope = k ? *rise * (next[k - 1] * dz) : V{};
        if (m) to[2 * m - 1] = slope * re + q[k] * re_change, to[2 * m] = slope * im + q[k] * im_change;
        else to[0] = slope;
      }
      const V change = re_change * x + re * dx - (im_change * y + im * dy);
      im_change = re_change * y + re * dy + im_change * x + im * dx, re_change = change;
      turn(x, y, re, im);
      q = next;
    }
  }

  // The derivative of sum_lm s_lm Y_lm by x, y, z, these taken as independent; `at(l)` is where the s of a degree are
  template <class At>
  MLMD_INLINE void gradient(V x, V y, const V* q, const At& at, V& gx, V& gy, V& gz) const {
    V re = broadcast<T>(T(1)), im{}, re_before{}, im_before{};
    const T* rise = rise_.data();
    gx = gy = gz = V{};
    for (int m = 0; m <= top_; m++) {
      const V* const next = q + (top_ - m + 1);
      V a{}, b{}, a_z{}, b_z{};
      for (int k = 0; k <= top_ - m; k++, rise++) {
        const V* const s = at(m + k);
        const V slope = k ? *rise * next[k - 1] : V{};
        if (m) a += q[k] * s[2 * m - 1], b += q[k] * s[2 * m], a_z += slope * s[2 * m - 1], b_z += slope * s[2 * m];
        else a_z += slope * s[0];
      }
      gx += T(m) * (a * re_before + b * im_before), gy += T(m) * (b * re_before - a * im_before);
      gz += a_z * re + b_z * im;
      re_before = re, im_before = im;
      turn(x, y, re, im);
      q = next;
    }
  }

 private:
  static MLMD_INLINE void turn(V x, V y, V& re, V& im) {
    const V next = re * x - im * y;
    im = re * y + im * x, re = next;
  }

  int top_;
  std::vector<T> first_;                   // [m] q_mm
  std::vector<T> by_z_, step_, rise_;      // q_lm = by_z z q_l-1,m - step q_l-2,m and dq_lm/dz = rise q_l,m+1
};

}  // namespace mlmd
