// Floats and integers side by side, and what vector extensions of compilers lack: keeping only chosen lanes.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace mlmd {

#if defined(__AVX512F__)

struct Lanes {
  static constexpr int width = 16;
  using Floats = __m512;
  using Integers = __m512i;
  using Mask = __mmask16;
  static constexpr Mask all = 0xffff;  // GCC 12 warns of its own headers where no mask is given
  static Floats same(float a) { return _mm512_set1_ps(a); }
  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static Integers load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static Floats minus(const int32_t* p, int32_t origin) {
    return _mm512_maskz_cvtepi32_ps(all, _mm512_sub_epi32(load(p), _mm512_set1_epi32(origin)));
  }
  static Floats beyond(Floats a, Floats half) {  // max(|a| - half, 0)
    return _mm512_maskz_max_ps(all, _mm512_sub_ps(_mm512_abs_ps(a), half), _mm512_setzero_ps());
  }
  static Floats square(Floats x, Floats y, Floats z) {
    return _mm512_fmadd_ps(x, x, _mm512_fmadd_ps(y, y, _mm512_mul_ps(z, z)));
  }
  static Floats minus(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  static Mask below(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  static Mask differ(Mask m, Integers a, int32_t b) {
    return _mm512_mask_cmpneq_epi32_mask(m, a, _mm512_set1_epi32(b));
  }
  static Mask first(int n) { return n >= 16 ? all : Mask((1u << n) - 1); }
  static int count(Mask m) { return __builtin_popcount(m); }
  // compress in the register and store all of it: compressing stores are slow on some machines
  static void keep(Mask m, Floats a, float* out) { _mm512_storeu_ps(out, _mm512_maskz_compress_ps(m, a)); }
  static void keep(Mask m, Integers a, int32_t* out) {
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(m, a));
  }
};

#elif defined(__AVX2__)

// For every mask of 8 lanes the lanes that are set, a byte each.
struct Lists {
  alignas(64) uint64_t lanes[256];
  constexpr Lists() : lanes() {
    for (int m = 0; m < 256; m++) {
      int n = 0;
      for (int l = 0; l < 8; l++)
        if (m >> l & 1) lanes[m] |= uint64_t(l) << 8 * n++;
    }
  }
};
inline constexpr Lists LISTS{};

struct Lanes {
  static constexpr int width = 8;
  using Floats = __m256;
  using Integers = __m256i;
  using Mask = int;
  static Floats same(float a) { return _mm256_set1_ps(a); }
  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static Integers load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Floats minus(const int32_t* p, int32_t origin) {
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(load(p), _mm256_set1_epi32(origin)));
  }
  static Floats beyond(Floats a, Floats half) {
    return _mm256_max_ps(_mm256_sub_ps(_mm256_andnot_ps(same(-0.0f), a), half), _mm256_setzero_ps());
  }
  static Floats square(Floats x, Floats y, Floats z) {
    return _mm256_add_ps(_mm256_mul_ps(x, x), _mm256_add_ps(_mm256_mul_ps(y, y), _mm256_mul_ps(z, z)));
  }
  static Floats minus(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
  static Mask below(Floats a, Floats b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
  static Mask differ(Mask m, Integers a, int32_t b) {
    const __m256i same = _mm256_cmpeq_epi32(a, _mm256_set1_epi32(b));
    return m & ~_mm256_movemask_ps(_mm256_castsi256_ps(same));
  }
  static Mask first(int n) { return n >= 8 ? 0xff : (1 << n) - 1; }
  static int count(Mask m) { return __builtin_popcount(unsigned(m)); }
  static Integers order(Mask m) { return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(LISTS.lanes[m]))); }
  static void keep(Mask m, Floats a, float* out) {
    _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(a, order(m)));
  }
  static void keep(Mask m, Integers a, int32_t* out) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permutevar8x32_epi32(a, order(m)));
  }
};

#else

struct Lanes {  // one at a time, without branches
  static constexpr int width = 1;
  using Floats = float;
  using Integers = int32_t;
  using Mask = int;
  static Floats same(float a) { return a; }
  static Floats load(const float* p) { return *p; }
  static Integers load(const int32_t* p) { return *p; }
  static Floats minus(const int32_t* p, int32_t origin) { return float(*p - origin); }
  static Floats beyond(Floats a, Floats half) { return std::max(std::fabs(a) - half, 0.0f); }
  static Floats square(Floats x, Floats y, Floats z) { return x * x + y * y + z * z; }
  static Floats minus(Floats a, Floats b) { return a - b; }
  static Mask below(Floats a, Floats b) { return a < b; }
  static Mask differ(Mask m, Integers a, int32_t b) { return m & (a != b); }
  static Mask first(int) { return 1; }
  static int count(Mask m) { return m; }
  static void keep(Mask, Floats a, float* out) { *out = a; }
  static void keep(Mask, Integers a, int32_t* out) { *out = a; }
};

#endif

}  // namespace mlmd
