// Beginning of a program for a GPU: threads, and LANES of them that work together on one atom.
#define MLMD_INLINE __device__ __forceinline__
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(BLOCK) name(const Frame f)

MLMD_INLINE long long thread() { return (long long)blockIdx.x * BLOCK + threadIdx.x; }

MLMD_INLINE unsigned group_mask() {
  return LANES == 32 ? 0xffffffffu : ((1u << (LANES & 31)) - 1u) << (threadIdx.x % 32 / LANES * LANES);
}

// What another lane of the group has: the one whose number differs in the bits of `step`
template <class T>
MLMD_INLINE T from_lane(T x, int step) {
  return __shfl_xor_sync(group_mask(), x, step);
}

// Numbers [size] that the lanes of a group share; what one has written others may read after they have met
#define SHARED(name, size)                           \
  __shared__ real name##_of_all[BLOCK / LANES][size]; \
  real* const name = name##_of_all[threadIdx.x / LANES]
MLMD_INLINE void meet() { __syncwarp(group_mask()); }

// Bit k of the result is set where it is true in lane k of the group
MLMD_INLINE unsigned votes(bool yes) { return (__ballot_sync(group_mask(), yes) & group_mask()) >> (threadIdx.x % 32 / LANES * LANES); }
MLMD_INLINE int n_set(unsigned bits) { return __popc(bits); }

// Squares are not negative: they are in the order of their bits, and what is not a number comes last. Most find a larger
// one there already, and need not wait for each other.
MLMD_INLINE void raise(double* highest, double square) {
  const unsigned long long bits = (unsigned long long)__double_as_longlong(fabs(square));
  if (bits > *(volatile unsigned long long*)highest) atomicMax((unsigned long long*)highest, bits);
}

MLMD_INLINE void half_wave(double y, double& sine, double& cosine) { sincospi(0.5 * y, &sine, &cosine); }
MLMD_INLINE void half_wave(float y, float& sine, float& cosine) { sincospif(0.5f * y, &sine, &cosine); }
MLMD_INLINE double root(double x) { return sqrt(x); }
MLMD_INLINE float root(float x) { return sqrtf(x); }
MLMD_INLINE double exponential(double x) { return exp(x); }
MLMD_INLINE float exponential(float x) { return expf(x); }
