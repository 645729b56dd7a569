// Squares of Chebyshev polynomials times a wave, as in src/squared_chebyshev.hpp, of one neighbour:
//
//   f_k = (T_k(y) sin(pi y / 2))^2,   y = 1 - r / r_c
#pragma once

// f[k], k < N
template <int N>
MLMD_INLINE void values_at(real y, real* f) {
  real before, unused;
  half_wave(y, before, unused);
  real now = y * before;
  f[0] = before * before;
  if (N > 1) f[N > 1 ? 1 : 0] = now * now;
#pragma unroll
  for (int k = 2; k < N; k++) {
    const real next = (y + y) * now - before;
    before = now, now = next;
    f[k] = next * next;
  }
}

// sum_k weight[k] df_k/dy
template <int N>
MLMD_INLINE real slope_at(real y, const real* weight) {
  real before, change_before;
  half_wave(y, before, change_before);
  change_before *= real(1.57079632679489661923);
  real now = y * before, change = before + y * change_before;
  real sum = weight[0] * (before * change_before);
  if (N > 1) sum += weight[N > 1 ? 1 : 0] * (now * change);
#pragma unroll
  for (int k = 2; k < N; k++) {
    const real next = (y + y) * now - before, change_next = (y + y) * change + (now + now - change_before);
    before = now, now = next, change_before = change, change = change_next;
    sum += weight[k] * (next * change_next);
  }
  return sum + sum;
}

MLMD_INLINE real reduced(real r, real cutoff) {
  const real y = (cutoff - r) / cutoff;
  return y > 0 ? y : real(0);
}
