// In place of simd.hpp of the kernels for processors, where one thread works out one atom: a vector is one number.
#pragma once

namespace mlmd {

template <class T>
using Vector = T;

template <class T>
MLMD_INLINE T broadcast(T value) {
  return value;
}

}  // namespace mlmd
