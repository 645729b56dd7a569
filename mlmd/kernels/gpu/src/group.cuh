// Sums over the lanes of a group, always in the same order.
#pragma once

// The sum, in each lane
template <class T>
MLMD_INLINE T together(T x) {
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) x += from_lane(x, step);
  return x;
}

// Many sums, each in one lane: with every step a lane gives away half of those that it still has a part of. Of the N
// numbers, a whole multiple of LANES, the sums that a lane ends up with stand first, those from place(lane) on.
template <int N, int STEP = LANES / 2>
MLMD_INLINE void divide_sums(real* a, int lane) {
  if constexpr (STEP > 0) {
    const bool upper = lane & STEP;
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
      const real kept = upper ? a[k + N / 2] : a[k], given = upper ? a[k] : a[k + N / 2];
      a[k] = kept + from_lane(given, STEP);
    }
    divide_sums<N / 2, STEP / 2>(a, lane);
  }
}
template <int N>
MLMD_INLINE int first_sum(int lane) {  // in the order of the bits of the lane, the highest first
  return lane * (N / LANES);
}
