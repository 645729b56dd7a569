// One atom and its neighbours within the cutoff, W of them at once: what a potential sees that is a sum over pairs.
#pragma once

#include "block.hpp"
#include "buffer.hpp"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace mlmd {

// Makes blocks whose lanes are neighbours of one atom, one after the other in the same memory. Their `real` is not set.
template <class T>
class Row {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  // The block of one slot; species and cutoff are those of the potential.
  Block<T> block(const System& system, int slot, int species, double cutoff) {
    const int n_species = system.n_species;
    const std::int32_t* const ends = &system.ends[std::size_t(slot) * n_species];
    const std::int32_t* const list = &system.matrix[std::size_t(slot) * system.capacity];
    // whole vectors for every species, and what is written and not kept after the last
    const std::size_t room = std::size_t(ends[n_species - 1]) + std::size_t(n_species) * (W - 1) + FOUR;
    for (Buffer<T>* one : {&x_, &y_, &z_, &r_, &gx_, &gy_, &gz_}) one->reserve(room);
    begin_.resize(n_species + 1);
    int n = 0;
    for (int kind = 0; kind < n_species; kind++) {
      begin_[kind] = n / W;
      const int from = kind ? ends[kind - 1] : 0;
      n = near(system, slot, list + from, ends[kind] - from, cutoff * cutoff, n);
      for (; n % W; n++) x_[n] = T(cutoff), y_[n] = T(0), z_[n] = T(0);
    }
    begin_[n_species] = n / W;
    V *const x = vectors(x_), *const y = vectors(y_), *const z = vectors(z_), *const r = vectors(r_);
    for (int k = 0; k < n / W; k++) r[k] = sqrt(x[k] * x[k] + y[k] * y[k] + z[k] * z[k]);
    Block<T> made;
    made.species = species, made.n_rows = n / W, made.begin = begin_.data();
    made.x = x, made.y = y, made.z = z, made.r = r;
    made.gx = vectors(gx_), made.gy = vectors(gy_), made.gz = vectors(gz_);
    return made;
  }

 private:
  static constexpr int FOUR = 4;

  static V* vectors(Buffer<T>& buffer) { return reinterpret_cast<V*>(buffer.data()); }

  // Vectors to those of a list that are nearer than the square root of a limit, from place n on; where they end
  int near(const System& system, int slot, const std::int32_t* list, int count, double limit, int n) {
    const double* const at = system.coordinates;
    const double* const own = at + 4 * std::size_t(slot);
#if defined(__AVX2__)
    const __m256d x0 = _mm256_set1_pd(own[0]), y0 = _mm256_set1_pd(own[1]), z0 = _mm256_set1_pd(own[2]),
                  most = _mm256_set1_pd(limit);
    for (int k = 0; k < count; k += FOUR) {
      std::int32_t other[FOUR];
      for (int lane = 0; lane < FOUR; lane++) other[lane] = k + lane < count ? list[k + lane] : system.far_slot;
      const __m256d a = _mm256_load_pd(at + 4 * std::size_t(other[0])), b = _mm256_load_pd(at + 4 * std::size_t(other[1])),
                    c = _mm256_load_pd(at + 4 * std::size_t(other[2])), d = _mm256_load_pd(at + 4 * std::size_t(other[3]));
      const __m256d ab = _mm256_unpacklo_pd(a, b), cd = _mm256_unpacklo_pd(c, d),
                    ab_y = _mm256_unpackhi_pd(a, b), cd_y = _mm256_unpackhi_pd(c, d);
      const __m256d x = _mm256_permute2f128_pd(ab, cd, 0x20) - x0, y = _mm256_permute2f128_pd(ab_y, cd_y, 0x20) - y0,
                    z = _mm256_permute2f128_pd(ab, cd, 0x31) - z0;
      const int kept = _mm256_movemask_pd(_mm256_cmp_pd(x * x + y * y + z * z, most, _CMP_LT_OQ));
      const __m256i order = ORDERS.of(kept);
      store(&x_[n], x, order), store(&y_[n], y, order), store(&z_[n], z, order);
      n += __builtin_popcount(unsigned(kept));
    }
#else
    for (int k = 0; k < count; k++) {
      const double* const other = at + 4 * std::size_t(list[k]);
      const double dx = other[0] - own[0], dy = other[1] - own[1], dz = other[2] - own[2];
      // written in any case and kept by going on, which costs less than a branch that is hard to foretell
      x_[n] = T(dx), y_[n] = T(dy), z_[n] = T(dz);
      n += dx * dx + dy * dy + dz * dz < limit;
    }
#endif
    return n;
  }

#if defined(__AVX2__)
  // For every mask of four lanes the halves of those that are set, the first ones first
  struct Orders {
    alignas(32) std::int32_t halves[16][8];
    constexpr Orders() : halves() {
      for (int mask = 0; mask < 16; mask++)
        for (int lane = 0, n = 0; lane < FOUR; lane++)
          if (mask >> lane & 1) halves[mask][2 * n] = 2 * lane, halves[mask][2 * n + 1] = 2 * lane + 1, n++;
    }
    __m256i of(int mask) const { return _mm256_load_si256(reinterpret_cast<const __m256i*>(halves[mask])); }
  };
  static constexpr Orders ORDERS{};

  static MLMD_INLINE void store(T* to, __m256d values, __m256i order) {
    const __m256d kept = _mm256_castsi256_pd(_mm256_permutevar8x32_epi32(_mm256_castpd_si256(values), order));
    if constexpr (sizeof(T) == 8) _mm256_storeu_pd(to, kept);
    else _mm_storeu_ps(to, _mm256_cvtpd_ps(kept));
  }
#endif

  Buffer<T> x_, y_, z_, r_, gx_, gy_, gz_;
  std::vector<int> begin_;
};

}  // namespace mlmd
