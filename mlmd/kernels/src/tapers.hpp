// Cutoff functions of symmetry functions: f(y) and f'(y), y from 1 at the onset to 0 at the cutoff.
#pragma once

#include "logarithm.hpp"

namespace mlmd {

enum class Taper { COSINE, TANH, TANH_NORMALISED, EXPONENTIAL, CUBIC, QUINTIC, SEPTIC, NONIC, COUNT };

// f and df/dr at r, for a cutoff and rate = 1 / (cutoff - onset). All are flat where y is bounded.
template <class T>
MLMD_INLINE void taper(Taper which, Vector<T> r, T cutoff, T rate, Vector<T>& value, Vector<T>& slope) {
  using V = Vector<T>;
  const V y = min(max((cutoff - r) * rate, V{}), broadcast<T>(T(1)));
  const V rest = T(1) - y, square = y * y, both = y * rest;
  switch (which) {
    case Taper::COSINE: {
      V c, s;
      cos_sin_pi<T>(T(0.5) * y, c, s);
      value = s * s, slope = T(3.14159265358979323846) * (s * c);
      break;
    }
    case Taper::TANH:
    case Taper::TANH_NORMALISED: {
      const V t = tanh<T>(y), t2 = t * t;
      const T scale = which == Taper::TANH ? T(1) : T(2.2637537952253513);  // tanh(1)^-3
      value = scale * t * t2, slope = T(3) * scale * t2 * (T(1) - t2);
      break;
    }
    case Taper::EXPONENTIAL: {
      const V u = max(y * (T(1) + rest), broadcast<T>(T(1e-3))), inverse = T(1) / u;  // e^-999 is zero
      value = exp<T>(T(1) - inverse), slope = T(2) * rest * value * inverse * inverse;
      break;
    }
    case Taper::CUBIC:
      value = square * (T(3) - T(2) * y), slope = T(6) * both;
      break;
    case Taper::QUINTIC:
      value = square * y * (T(10) + y * (T(-15) + T(6) * y)), slope = T(30) * both * both;
      break;
    case Taper::SEPTIC:
      value = square * square * (T(35) + y * (T(-84) + y * (T(70) - T(20) * y))), slope = T(140) * both * both * both;
      break;
    default: {
      value = square * square * y * (T(126) + y * (T(-420) + y * (T(540) + y * (T(-315) + T(70) * y))));
      const V twice = both * both;
      slope = T(630) * twice * twice;
    }
  }
  slope *= -rate;
}

}  // namespace mlmd
