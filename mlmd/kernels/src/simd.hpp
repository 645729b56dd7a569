// Vectors of the instruction set the file is compiled for, and the few functions of them that potentials need.
//
// A vector holds one number for each of W atoms ("lane = atom"). GCC's and Clang's vector extensions give the arithmetic
// operators; comparisons give masks (integers of the same width, all bits set where true), which `select` understands.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef MLMD_VECTOR_BYTES
#define MLMD_VECTOR_BYTES 16  // SSE2 and NEON; a wider vector than the machine has costs several times more
#endif

#define MLMD_INLINE inline __attribute__((always_inline))

namespace mlmd {

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(MLMD_VECTOR_BYTES)));
  typedef std::int32_t M __attribute__((vector_size(MLMD_VECTOR_BYTES)));
  typedef float Part __attribute__((vector_size(MLMD_VECTOR_BYTES / 2)));   // half of the lanes,
  typedef double Wide __attribute__((vector_size(MLMD_VECTOR_BYTES)));       // and what they are in double
  static constexpr int W = MLMD_VECTOR_BYTES / 4;
};

template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(MLMD_VECTOR_BYTES)));
  typedef std::int64_t M __attribute__((vector_size(MLMD_VECTOR_BYTES)));
  typedef V Wide;
  static constexpr int W = MLMD_VECTOR_BYTES / 8;
};

template <class T>
using Vector = typename Simd<T>::V;
template <class T>
using Mask = typename Simd<T>::M;
template <class T>
constexpr int WIDTH = Simd<T>::W;

template <class T>
MLMD_INLINE Vector<T> broadcast(T value) {
  return Vector<T>{} + value;
}

// a where the mask is set, else b
template <class V, class M>
MLMD_INLINE V select(M mask, V a, V b) {
  return mask ? a : b;
}

template <class M>
MLMD_INLINE bool any(M mask) {
  bool found = false;
  for (unsigned lane = 0; lane < sizeof(M) / sizeof(mask[0]); lane++) found |= mask[lane] != 0;
  return found;
}

template <class V>
MLMD_INLINE V sqrt(V x) {
  V root;
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) root[lane] = std::sqrt(x[lane]);
  return root;
}

template <class V>
MLMD_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

template <class V>
MLMD_INLINE V min(V a, V b) {
  return a < b ? a : b;
}

// The function of every lane, where speed does not matter
template <class V, class F>
MLMD_INLINE V by_lane(V x, F function) {
  for (unsigned lane = 0; lane < sizeof(V) / sizeof(x[0]); lane++) x[lane] = function(x[lane]);
  return x;
}

// A sum of vectors, in double
template <class T>
struct Sum {
  typename Simd<T>::Wide low{}, high{};

  MLMD_INLINE void add(Vector<T> x) {
    if constexpr (sizeof(T) == 8) {
      low += x;
    } else {
      typename Simd<T>::Part part[2];
      std::memcpy(part, &x, sizeof x);
      low += __builtin_convertvector(part[0], decltype(low));
      high += __builtin_convertvector(part[1], decltype(high));
    }
  }
  double total() const {
    double sum = 0;
    for (unsigned lane = 0; lane < sizeof low / sizeof(double); lane++) sum += low[lane] + high[lane];
    return sum;
  }
};

namespace detail {

// e^r for |r| <= ln(2)/2: the Taylor series, whose first term left out is below half a unit in the last place
template <class T>
MLMD_INLINE Vector<T> exp_reduced(Vector<T> r) {
  constexpr int degree = sizeof(T) == 8 ? 13 : 7;
  constexpr double inverse_factorial[14] = {
      1., 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800,
      1. / 39916800, 1. / 479001600, 1. / 6227020800.};
  Vector<T> sum = broadcast<T>(T(inverse_factorial[degree]));
#pragma GCC unroll 14
  for (int n = degree - 1; n >= 0; n--) sum = sum * r + T(inverse_factorial[n]);
  return sum;
}

}  // namespace detail

// e^x to about one unit in the last place; 0 below and the largest power above the range of T; NaN stays NaN
template <class T>
MLMD_INLINE Vector<T> exp(Vector<T> x) {
  typedef Mask<T> M;
  constexpr bool wide = sizeof(T) == 8;
  constexpr T limit = wide ? T(708) : T(87);
  constexpr T high = wide ? T(0x1.62e42fefa0000p-1) : T(0x1.62e400p-1);       // ln 2 in two parts, so that
  constexpr T low = wide ? T(0x1.cf79abc9e3b39p-40) : T(0x1.7f7d1cp-20);      // n times the first is exact
  constexpr T rounding = wide ? T(6755399441055744.0) : T(12582912.0);        // 1.5 * 2^52: the integer part stays
  const Vector<T> bounded = min(max(x, broadcast<T>(-limit)), broadcast<T>(limit));
  const Vector<T> shifted = bounded * T(1.4426950408889634) + rounding;
  const Vector<T> n = shifted - rounding;
  const Vector<T> r = (bounded - n * high) - n * low;
  M power;
  std::memcpy(&power, &shifted, sizeof power);  // the low bits of `shifted` are n
  constexpr int mantissa = wide ? 52 : 23;
  M bits;
  const Vector<T> one = broadcast<T>(T(1));
  std::memcpy(&bits, &one, sizeof bits);
  bits += power << mantissa;
  Vector<T> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  const Vector<T> value = detail::exp_reduced<T>(r) * scale;
  return select(x != x, x, select(x < -limit, Vector<T>{}, value));
}

// tanh x = 1 - 2 / (e^2x + 1), to rounding of numbers near one
template <class T>
MLMD_INLINE Vector<T> tanh(Vector<T> x) {
  return T(1) - T(2) / (exp<T>(T(2) * x) + T(1));
}

// cos(pi x) and sin(pi x) for 0 <= x <= 1, by Taylor series around 1/2, where both are good to a few units in the last place
template <class T>
MLMD_INLINE void cos_sin_pi(Vector<T> x, Vector<T>& c, Vector<T>& s) {
  const Vector<T> y = (x - T(0.5)) * T(3.14159265358979323846), z = y * y;
  if constexpr (sizeof(T) == 8) {
    Vector<T> a = broadcast<T>(T(1. / 51090942171709440000.));
    for (double k : {-1. / 121645100408832000., 1. / 355687428096000., -1. / 1307674368000., 1. / 6227020800.,
                     -1. / 39916800., 1. / 362880., -1. / 5040., 1. / 120., -1. / 6., 1.})
      a = a * z + T(k);
    Vector<T> b = broadcast<T>(T(1. / 2432902008176640000.));
    for (double k : {-1. / 6402373705728000., 1. / 20922789888000., -1. / 87178291200., 1. / 479001600., -1. / 3628800.,
                     1. / 40320., -1. / 720., 1. / 24., -1. / 2., 1.})
      b = b * z + T(k);
    c = -(a * y);
    s = b;
  } else {
    Vector<T> a = broadcast<T>(T(-1. / 39916800.));
    for (double k : {1. / 362880., -1. / 5040., 1. / 120., -1. / 6., 1.}) a = a * z + T(k);
    Vector<T> b = broadcast<T>(T(1. / 479001600.));
    for (double k : {-1. / 3628800., 1. / 40320., -1. / 720., 1. / 24., -1. / 2., 1.}) b = b * z + T(k);
    c = -(a * y);
    s = b;
  }
}

}  // namespace mlmd
