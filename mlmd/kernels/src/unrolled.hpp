// A loop body for every size up to UNROLLED, in which the size is a constant.
#pragma once

#include <type_traits>

#include "simd.hpp"

namespace mlmd {

constexpr int UNROLLED = 9;

template <class F>
MLMD_INLINE void unrolled(int n, F&& body) {
  switch (n) {
    case 1: return body(std::integral_constant<int, 1>());
    case 2: return body(std::integral_constant<int, 2>());
    case 3: return body(std::integral_constant<int, 3>());
    case 4: return body(std::integral_constant<int, 4>());
    case 5: return body(std::integral_constant<int, 5>());
    case 6: return body(std::integral_constant<int, 6>());
    case 7: return body(std::integral_constant<int, 7>());
    case 8: return body(std::integral_constant<int, 8>());
    case 9: return body(std::integral_constant<int, 9>());
  }
}

}  // namespace mlmd
