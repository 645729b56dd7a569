// Small products of matrices whose elements are vectors (one number for each lane), in tiles that stay in registers.
//
// Sizes are known at run time only. Outputs are worked on in tiles of at most TILE; every tile is a function of its own
// with its size fixed, in which sums live in registers while the operands stream by once.
#pragma once

#include <utility>

#include "simd.hpp"

namespace mlmd {

constexpr int TILE = MLMD_VECTOR_BYTES == 64 ? 12 : 6;  // AVX-512 has 32 registers, what we take for the others has 16

namespace detail {

// A number from memory that is used twice, loaded once: compilers prefer operands in memory
template <class V>
MLMD_INLINE V in_register(V x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#endif
  return x;
}

// For some rows: out[i] (+)= sum_k m[k][i] in[k]
template <class T, int N, bool ADD>
__attribute__((noinline)) void multiply_tile(const T* m, int stride, int n_in, int n_rows, const Vector<T>* in,
                                             int stride_in, Vector<T>* out, int stride_out) {
  for (int row = 0; row < n_rows; row++, in += stride_in, out += stride_out) {
    Vector<T> sum[N];
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) sum[i] = ADD ? out[i] : Vector<T>{};
    const T* of = m;
    for (int k = 0; k < n_in; k++, of += stride) {
      const Vector<T> one = in[k];
#pragma GCC unroll 12
      for (int i = 0; i < N; i++) sum[i] += one * of[i];
    }
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) out[i] = sum[i];
  }
}

// M columns of the outer product below
template <class T, int N, int M>
MLMD_INLINE void outer_columns(const Vector<T>* g, const Vector<T>* h, int n_rows, int n, int n_columns, Vector<T>* a) {
  using V = Vector<T>;
  V sum[M][N];
#pragma GCC unroll 12
  for (int j = 0; j < M; j++)
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) sum[j][i] = a[j * n + i];
  for (int row = 0; row < n_rows; row++, g += n, h += n_columns) {
    V column[M];
#pragma GCC unroll 12
    for (int j = 0; j < M; j++) column[j] = h[j];
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) {
      const V one = in_register(g[i]);
#pragma GCC unroll 12
      for (int j = 0; j < M; j++) sum[j][i] += one * column[j];
    }
  }
#pragma GCC unroll 12
  for (int j = 0; j < M; j++)
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) a[j * n + i] = sum[j][i];
}

// a[m][i] += sum_row g[row][i] h[row][m]
template <class T, int N>
__attribute__((noinline)) void outer_tile(const Vector<T>* g, const Vector<T>* h, int n_rows, int n, int n_columns,
                                          Vector<T>* a) {
  constexpr int M = 2 * TILE / N < 4 ? (2 * TILE / N < 2 ? 1 : 2 * TILE / N) : 4;
  int m = 0;
  for (; m + M <= n_columns; m += M) outer_columns<T, N, M>(g, h + m, n_rows, n, n_columns, a + std::size_t(m) * n);
  for (; m < n_columns; m++) outer_columns<T, N, 1>(g, h + m, n_rows, n, n_columns, a + std::size_t(m) * n);
}

// For some rows: s[m] (+)= sum_i g[i] a[m][i],  b[i] = sum_m h[m] a[m][i]. Elements of a are loaded once for both.
template <class T, int N, bool ADD>
__attribute__((noinline)) void both_tile(const Vector<T>* a, const Vector<T>* g, const Vector<T>* h, int n_rows, int n,
                                         int n_columns, Vector<T>* s, Vector<T>* b) {
  using V = Vector<T>;
  for (int row = 0; row < n_rows; row++, g += n, b += n, h += n_columns, s += n_columns) {
    V left[N], sum[N];
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) left[i] = g[i], sum[i] = V{};
    const V* column = a;
    for (int m = 0; m < n_columns; m++, column += n) {
      const V right = h[m];
      V part[4] = {};  // of the sum, which would wait for itself
      if (ADD) part[0] = s[m];
#pragma GCC unroll 12
      for (int i = 0; i < N; i++) {
        const V one = in_register(column[i]);
        part[i % 4] += left[i] * one;
        sum[i] += right * one;
      }
      s[m] = (part[0] + part[1]) + (part[2] + part[3]);
    }
#pragma GCC unroll 12
    for (int i = 0; i < N; i++) b[i] = sum[i];
  }
}

// Calls function(tile as a constant, first) for tiles of equal size, up to one, that make up n
template <int N = TILE, class F>
MLMD_INLINE void with_size(int size, F&& function) {
  if constexpr (N > 0) {
    if (size == N) return function(std::integral_constant<int, N>());
    with_size<N - 1>(size, std::forward<F>(function));
  }
}

template <class F>
MLMD_INLINE void in_tiles(int n, F&& function) {
  for (int left = (n + TILE - 1) / TILE, from = 0; left > 0; left--) {
    const int size = (n - from + left - 1) / left;
    with_size(size, [&](auto tile) { function(tile, from); });
    from += size;
  }
}

}  // namespace detail

// out[i] += sum_k m[k][i] in[k], i < n_out, k < n_in
template <class T>
MLMD_INLINE void multiply_add(const T* m, int n_out, int n_in, const Vector<T>* in, Vector<T>* out) {
  detail::in_tiles(n_out, [&](auto tile, int from) {
    detail::multiply_tile<T, decltype(tile)::value, true>(m + from, n_out, n_in, 1, in, 0, out + from, 0);
  });
}

// out[row][i] = sum_k m[k][i] in[row][k], rows being as far apart as the strides say
template <class T>
MLMD_INLINE void multiply_rows(const T* m, int n_out, int n_in, int n_rows, const Vector<T>* in, int stride_in,
                               Vector<T>* out, int stride_out) {
  detail::in_tiles(n_out, [&](auto tile, int from) {
    constexpr int N = decltype(tile)::value;
    detail::multiply_tile<T, N, false>(m + from, n_out, n_in, n_rows, in, stride_in, out + from, stride_out);
  });
}

// a[m][i] += sum_row g[row][i] h[row][m], i < n, m < n_columns
template <class T>
MLMD_INLINE void add_outer(const Vector<T>* g, const Vector<T>* h, int n_rows, int n, int n_columns, Vector<T>* a) {
  detail::in_tiles(n, [&](auto tile, int from) {
    detail::outer_tile<T, decltype(tile)::value>(g + from, h, n_rows, n, n_columns, a + from);
  });
}

// s[row][m] = sum_i g[row][i] a[m][i],  b[row][i] = sum_m h[row][m] a[m][i]
template <class T>
MLMD_INLINE void multiply_both(const Vector<T>* a, const Vector<T>* g, const Vector<T>* h, int n_rows, int n,
                               int n_columns, Vector<T>* s, Vector<T>* b) {
  detail::in_tiles(n, [&](auto tile, int from) {
    constexpr int N = decltype(tile)::value;
    if (from == 0)
      detail::both_tile<T, N, false>(a, g, h, n_rows, n, n_columns, s, b);
    else
      detail::both_tile<T, N, true>(a + from, g + from, h, n_rows, n, n_columns, s, b + from);
  });
}

}  // namespace mlmd
