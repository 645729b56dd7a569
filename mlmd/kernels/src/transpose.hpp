// Rows and columns of W vectors exchanged: from W numbers of one atom to one number of each of W atoms.
#pragma once

#include <cstddef>
#include <utility>

#include "simd.hpp"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define MLMD_SHUFFLES
#endif
#endif

namespace mlmd {
namespace detail {

#ifdef MLMD_SHUFFLES
// Squares of D x D numbers to the right of the diagonal of larger squares change places with those below it
template <class T, int D, std::size_t... LANE>
MLMD_INLINE void exchange(Vector<T>* v, std::index_sequence<LANE...>) {
  constexpr int W = WIDTH<T>;
#pragma GCC unroll 16
  for (int i = 0; i < W; i++) {
    if (i & D) continue;
    const Vector<T> a = v[i], b = v[i + D];
    v[i] = __builtin_shufflevector(a, b, (LANE & D ? int(LANE) + W - D : int(LANE))...);
    v[i + D] = __builtin_shufflevector(a, b, (LANE & D ? int(LANE) + W : int(LANE) + D)...);
  }
  if constexpr (2 * D < W) exchange<T, 2 * D>(v, std::index_sequence<LANE...>());
}
#endif

}  // namespace detail

// v[i][lane] becomes v[lane][i], i < W
template <class T>
MLMD_INLINE void transpose(Vector<T>* v) {
  constexpr int W = WIDTH<T>;
#ifdef MLMD_SHUFFLES
  detail::exchange<T, 1>(v, std::make_index_sequence<W>());
#else
  for (int i = 0; i < W; i++)
    for (int lane = 0; lane < i; lane++) {
      const T other = v[lane][i];
      v[lane][i] = v[i][lane];
      v[i][lane] = other;
    }
#endif
}

}  // namespace mlmd
