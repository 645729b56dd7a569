// Gaussians, and cutoff functions of symmetry functions: f(y) and f'(y), y from 1 at the onset to 0 at the cutoff.
#pragma once

#include <type_traits>

#include "simd.hpp"

namespace mlmd {

// e^-x for x >= 0, to about one unit in the last place; 1e-100 (2e-19 in single precision) for all large x, so that the
// product of some is no number with fewer digits, which processors are slow with
template <class T>
MLMD_INLINE Vector<T> decay(Vector<T> x) {
  typedef Mask<T> M;
  constexpr bool wide = sizeof(T) == 8;
  constexpr T limit = wide ? T(230) : T(43);
  constexpr T high = wide ? T(0x1.62e42fefa0000p-1) : T(0x1.62e400p-1);  // ln 2 in two parts, as for exp
  constexpr T low = wide ? T(0x1.cf79abc9e3b39p-40) : T(0x1.7f7d1cp-20);
  constexpr T rounding = wide ? T(6755399441055744.0) : T(12582912.0);
  constexpr int degree = wide ? 11 : 6;  // Chebyshev series of e^r for |r| < ln(2)/2, to 4e-18 and 3e-9
  constexpr double series[2][12] = {
      {0.9999999999595482, 1.0000000377274711, 0.5000000107749448, 0.16666415477134702, 0.04166621827422232,
       0.008375128898844522, 0.001394858083005471},
      {1.0, 1.0, 0.5000000000000019, 0.16666666666666702, 0.04166666666648808, 0.008333333333309526,
       0.0013888888952318084, 0.00019841269909219884, 2.4801485479175668e-05, 2.7557224956072986e-06,
       2.763264069051338e-07, 2.5114870232064345e-08}};
  const Vector<T> bounded = min(x, broadcast<T>(limit));
  const Vector<T> shifted = rounding - bounded * T(1.4426950408889634);
  const Vector<T> n = shifted - rounding;
  const Vector<T> r = (-bounded - n * high) - n * low;
  M power, bits;
  std::memcpy(&power, &shifted, sizeof power);
  Vector<T> scale = broadcast<T>(T(1));
  std::memcpy(&bits, &scale, sizeof bits);
  bits += power << (wide ? 52 : 23);
  std::memcpy(&scale, &bits, sizeof scale);
  Vector<T> sum = broadcast<T>(T(series[wide][degree]));
#pragma GCC unroll 11
  for (int k = degree - 1; k >= 0; k--) sum = sum * r + T(series[wide][k]);
  return sum * scale;
}

enum class Taper { COSINE, TANH, TANH_NORMALISED, EXPONENTIAL, CUBIC, QUINTIC, SEPTIC, NONIC, COUNT };

namespace detail {

// tanh y for 0 <= y <= 1: Lambert's continued fraction, cut off where it is good to rounding
template <class T>
MLMD_INLINE Vector<T> tanh_below_one(Vector<T> y) {
  const Vector<T> z = y * y;
  if constexpr (sizeof(T) == 8)
    return y * (T(34459425) + z * (T(4729725) + z * (T(135135) + z * (T(990) + z)))) /
           (T(34459425) + z * (T(16216200) + z * (T(945945) + z * (T(13860) + T(45) * z))));
  else
    return y * (T(135135) + z * (T(17325) + z * (T(378) + z))) /
           (T(135135) + z * (T(62370) + z * (T(3150) + T(28) * z)));
}

// f and f'
template <class T, Taper KIND>
MLMD_INLINE void taper_at(Vector<T> y, Vector<T>& value, Vector<T>& slope) {
  using V = Vector<T>;
  const V rest = T(1) - y, square = y * y, both = y * rest;
  if constexpr (KIND == Taper::COSINE) {
    V c, s;
    cos_sin_pi<T>(T(0.5) * y, c, s);
    value = s * s, slope = T(3.14159265358979323846) * (s * c);
  } else if constexpr (KIND == Taper::TANH || KIND == Taper::TANH_NORMALISED) {
    const V t = tanh_below_one<T>(y), t2 = t * t;
    constexpr T scale = KIND == Taper::TANH ? T(1) : T(2.2637537952253513);  // tanh(1)^-3
    value = scale * t * t2, slope = T(3) * scale * t2 * (T(1) - t2);
  } else if constexpr (KIND == Taper::EXPONENTIAL) {
    const V u = max(y * (T(1) + rest), broadcast<T>(T(1e-3))), inverse = T(1) / u;  // e^-999 is zero
    value = exp<T>(T(1) - inverse), slope = T(2) * rest * value * inverse * inverse;
  } else if constexpr (KIND == Taper::CUBIC) {
    value = square * (T(3) - T(2) * y), slope = T(6) * both;
  } else if constexpr (KIND == Taper::QUINTIC) {
    value = square * y * (T(10) + y * (T(-15) + T(6) * y)), slope = T(30) * both * both;
  } else if constexpr (KIND == Taper::SEPTIC) {
    value = square * square * (T(35) + y * (T(-84) + y * (T(70) - T(20) * y))), slope = T(140) * both * both * both;
  } else {
    const V twice = both * both;
    value = square * square * y * (T(126) + y * (T(-420) + y * (T(540) + y * (T(-315) + T(70) * y))));
    slope = T(630) * twice * twice;
  }
}

}  // namespace detail

// f and df/dr of n distances, for a cutoff and rate = 1 / (cutoff - onset). All are flat where y is bounded.
template <class T>
void tapers(Taper which, const Vector<T>* r, int n, T cutoff, T rate, Vector<T>* value, Vector<T>* slope) {
  const auto all = [&](auto kind) {
    for (int k = 0; k < n; k++) {
      const Vector<T> y = min(max((cutoff - r[k]) * rate, Vector<T>{}), broadcast<T>(T(1)));
      Vector<T> change;
      detail::taper_at<T, decltype(kind)::value>(y, value[k], change);
      slope[k] = -rate * change;
    }
  };
  switch (which) {
    case Taper::COSINE: return all(std::integral_constant<Taper, Taper::COSINE>());
    case Taper::TANH: return all(std::integral_constant<Taper, Taper::TANH>());
    case Taper::TANH_NORMALISED: return all(std::integral_constant<Taper, Taper::TANH_NORMALISED>());
    case Taper::EXPONENTIAL: return all(std::integral_constant<Taper, Taper::EXPONENTIAL>());
    case Taper::CUBIC: return all(std::integral_constant<Taper, Taper::CUBIC>());
    case Taper::QUINTIC: return all(std::integral_constant<Taper, Taper::QUINTIC>());
    case Taper::SEPTIC: return all(std::integral_constant<Taper, Taper::SEPTIC>());
    default: return all(std::integral_constant<Taper, Taper::NONIC>());
  }
}

}  // namespace mlmd
