// Real spherical harmonics up to degree L as polynomials of a unit vector, and the gradient of a sum of them.
//
//   H_lm = p_lm(z) (Re, Im) (x + iy)^m,   p_lm = d^m P_l / dz^m / (2l - 1)!!,   l = 1 ... L, m = 0 ... l
//
// with Legendre polynomials P_l, so that dp_lm/dz = p_l,m+1: the gradient needs no further polynomials. By the addition
// theorem, sum_m weight(l, m) H_lm(u) H_lm(v) = (2l + 1) / 4 pi P_l(u . v).
//
// The formulas are those of harmonics.hpp for processors. Loops have limits that are known when they are compiled, so that
// they are unrolled whole and arrays stay in registers; processors are 3 % slower with these.
#pragma once

#include "simd.cuh"

namespace mlmd {

template <class T, int L>
struct Harmonics {
  using V = Vector<T>;
  static constexpr int N = L * L + 2 * L;  // by l, within it m = 0, Re 1, Im 1, Re 2, ...

  static constexpr int place(int l, int m) { return l * l - 1 + (m ? 2 * m - 1 : 0); }

  // [place] weight(l, m). This and other constants stand in tables, which compilers work out, where they would
  // otherwise run loops of divisions whenever a constant is used.
  struct Weights {
    T at[N] = {};
    constexpr Weights() {
      for (int l = 1; l <= L; l++)
        for (int k = 0; k < 2 * l + 1; k++) {
          const int m = (k + 1) / 2;
          double w = (2 * l + 1) / (4 * 3.14159265358979323846) * (m ? 2 : 1);
          for (int j = l - m + 1; j <= l + m; j++) w /= j;
          for (int j = 1; j < 2 * l; j += 2) w *= double(j) * j;
          at[l * l - 1 + k] = T(w);
        }
    }
  };
  static constexpr Weights WEIGHT{};

  // What values and gradient have in common
  struct Parts {
    V p[L + 1][L + 1];          // [l][m]; p[l][l] = 1 is not set
    V c[L + 1], s[L + 1];       // Re and Im of (x + iy)^m, m >= 1

    MLMD_INLINE Parts(V x, V y, V z) {
      c[1] = x, s[1] = y;
#pragma GCC unroll 8
      for (int m = 2; m <= L; m++) {
        c[m] = x * c[m - 1] - y * s[m - 1];
        s[m] = x * s[m - 1] + y * c[m - 1];
      }
      const V square = z * z;
#pragma GCC unroll 8
      for (int l = 1; l <= L; l++) {
#pragma GCC unroll 8
        for (int m = 0; m < L; m++)
          if (m < l) p[l][m] = polynomial(l, m, z, square);
      }
    }
  };

  static MLMD_INLINE void values(const Parts& parts, V* h) {
#pragma GCC unroll 8
    for (int l = 1; l <= L; l++) {
      h[place(l, 0)] = parts.p[l][0];
#pragma GCC unroll 8
      for (int m = 1; m <= L; m++) {
        if (m > l) continue;
        h[place(l, m)] = m == l ? parts.c[m] : parts.p[l][m] * parts.c[m];
        h[place(l, m) + 1] = m == l ? parts.s[m] : parts.p[l][m] * parts.s[m];
      }
    }
  }

  // How the H_lm change with a change (dx, dy, dz) of the vector, its components taken as independent
  static MLMD_INLINE void changes(const Parts& parts, V dx, V dy, V dz, V* h) {
#pragma GCC unroll 8
    for (int m = 0; m <= L; m++) {
      V real{}, imaginary{};  // change of (x + iy)^m
      if (m == 1) real = dx, imaginary = dy;
      if (m > 1) {
        real = T(m) * (parts.c[m - 1] * dx - parts.s[m - 1] * dy);
        imaginary = T(m) * (parts.s[m - 1] * dx + parts.c[m - 1] * dy);
      }
#pragma GCC unroll 8
      for (int l = m > 1 ? m : 1; l <= L; l++) {
        V rise{};  // change of p_lm
        if (l > m) rise = l == m + 1 ? dz : parts.p[l][m + 1] * dz;
        if (m == 0) {
          h[place(l, 0)] = rise;
        } else if (l == m) {
          h[place(l, m)] = real, h[place(l, m) + 1] = imaginary;
        } else {
          h[place(l, m)] = rise * parts.c[m] + parts.p[l][m] * real;
          h[place(l, m) + 1] = rise * parts.s[m] + parts.p[l][m] * imaginary;
        }
      }
    }
  }

  // The derivative of sum_lm a_lm H_lm by x, y, z, these taken as independent
  static MLMD_INLINE void gradient(const Parts& parts, const V* a, V& gx, V& gy, V& gz) {
    gx = V{}, gy = V{}, gz = a[place(1, 0)];
#pragma GCC unroll 8
    for (int l = 2; l <= L; l++) gz += a[place(l, 0)] * parts.p[l][1];
#pragma GCC unroll 8
    for (int m = 1; m <= L; m++) {
      V real = a[place(m, m)], imaginary = a[place(m, m) + 1];  // p_mm = 1, whose derivative is 0
#pragma GCC unroll 8
      for (int l = m + 1; l <= L; l++) {
        real += a[place(l, m)] * parts.p[l][m];
        imaginary += a[place(l, m) + 1] * parts.p[l][m];
      }
      if (m == 1) {
        gx += real, gy += imaginary;
      } else {
        gx += T(m) * (real * parts.c[m - 1] + imaginary * parts.s[m - 1]);
        gy += T(m) * (imaginary * parts.c[m - 1] - real * parts.s[m - 1]);
      }
      if (m == L) continue;
      real = a[place(m + 1, m)], imaginary = a[place(m + 1, m) + 1];  // p_m+1,m = z
#pragma GCC unroll 8
      for (int l = m + 2; l <= L; l++) {
        real += a[place(l, m)] * parts.p[l][m + 1];
        imaginary += a[place(l, m) + 1] * parts.p[l][m + 1];
      }
      gz += real * parts.c[m] + imaginary * parts.s[m];
    }
  }

 private:
  // [l][m][k] of p_lm = sum_k (-1)^k z^(l-m-2k) / ((l-m-2k)! k! 2^k (2l-1) (2l-3) ... (2l-2k+1))
  struct Coefficients {
    T at[L + 1][L + 1][L / 2 + 1] = {};
    constexpr Coefficients() {
      for (int l = 1; l <= L; l++)
        for (int m = 0; m <= l; m++)
          for (int k = 0; 2 * k <= l - m; k++) {
            double a = 1;
            for (int j = 2; j <= l - m - 2 * k; j++) a /= j;
            for (int j = 1; j <= k; j++) a /= -2.0 * j * (2 * l - 2 * j + 1);
            at[l][m][k] = T(a);
          }
    }
  };
  static constexpr Coefficients COEFFICIENT{};

  static MLMD_INLINE V polynomial(int l, int m, V z, V square) {
    const int top = (l - m) / 2;
    V sum = broadcast<T>(COEFFICIENT.at[l][m][0]);
#pragma GCC unroll 8
    for (int k = 1; k <= L / 2; k++)
      if (k <= top) sum = sum * square + COEFFICIENT.at[l][m][k];
    if ((l - m) % 2 == 0) return sum;
    return l - m == 1 ? z : sum * z;
  }
};

}  // namespace mlmd
