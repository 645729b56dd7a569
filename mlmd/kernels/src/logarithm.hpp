// Natural logarithm and powers of vectors.
#pragma once

#include "simd.hpp"

namespace mlmd {

// ln x to about one unit in the last place for normal positive x. What is smaller counts as the smallest normal number,
// infinity as the number after the largest; NaN stays NaN.
//
//   x = 2^e m with m between sqrt(1/2) and sqrt(2);  ln m = 2 (s + s^3/3 + s^5/5 + ...),  s = (m - 1) / (m + 1) below 0.172
template <class T>
MLMD_INLINE Vector<T> log(Vector<T> x) {
  typedef Mask<T> M;
  constexpr bool wide = sizeof(T) == 8;
  constexpr int mantissa = wide ? 52 : 23, bias = wide ? 1023 : 127, terms = wide ? 11 : 5;
  constexpr T smallest = wide ? T(0x1p-1022) : T(0x1p-126);
  constexpr T high = wide ? T(0x1.62e42fefa0000p-1) : T(0x1.62e400p-1);  // ln 2 in two parts, as for exp
  constexpr T low = wide ? T(0x1.cf79abc9e3b39p-40) : T(0x1.7f7d1cp-20);
  const Vector<T> bounded = x < smallest ? broadcast<T>(smallest) : x;
  M bits;
  std::memcpy(&bits, &bounded, sizeof bits);
  M exponent = (bits >> mantissa) - bias;
  bits -= exponent << mantissa;
  Vector<T> m;
  std::memcpy(&m, &bits, sizeof m);
  const M above = m > T(1.4142135623730951);
  m = select(above, m * T(0.5), m);
  exponent -= above;  // a set mask is -1
  const Vector<T> e = __builtin_convertvector(exponent, Vector<T>);
  const Vector<T> s = (m - T(1)) / (m + T(1)), square = s * s;
  Vector<T> sum = broadcast<T>(T(1. / (2 * terms + 1)));
#pragma GCC unroll 11
  for (int k = terms - 1; k > 0; k--) sum = sum * square + T(1. / (2 * k + 1));
  const Vector<T> value = e * high + (T(2) * s + (T(2) * s * square * sum + e * low));
  return select(x != x, x, value);
}

// x^p for positive x: products where p is a small whole number
template <class T>
MLMD_INLINE Vector<T> power(Vector<T> x, T p) {
  if (!(p >= 0 && p <= 16) || p != T(int(p))) return exp<T>(p * log<T>(x));
  Vector<T> value = broadcast<T>(1);
  for (int n = int(p); n; n >>= 1, x *= x)
    if (n & 1) value *= x;
  return value;
}

}  // namespace mlmd
