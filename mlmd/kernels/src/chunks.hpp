// Loops over atoms by several threads, and where atoms and cells are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "lattice.hpp"

namespace mlmd {

constexpr int CHUNK = 2048;       // atoms dealt with at once; sums over chunks do not depend on threads
constexpr int FEW = 8 * CHUNK;    // waiting for other threads would take longer than the work

template <class Work>
void in_chunks(std::int64_t n, int n_threads, const Work& work) {
  const std::int64_t n_chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) num_threads(n_threads) if (n_threads > 1 && n > FEW)
  for (std::int64_t c = 0; c < n_chunks; c++) work(c, c * CHUNK, std::min(n, (c + 1) * CHUNK));
}

inline Vector3 at(const double* positions, std::size_t k) {
  return {positions[3 * k], positions[3 * k + 1], positions[3 * k + 2]};
}

// The rows that are looked at, and zero vectors for the others.
inline Cell periodic(Cell rows, const std::int32_t* pbc) {
  for (int d = 0; d < 3; d++)
    if (!pbc[d]) rows[d] = {};
  return rows;
}

inline Vector3 across(const std::int32_t* crossed, const Cell& cell) {
  return Vector3{double(crossed[0]), double(crossed[1]), double(crossed[2])} * cell;
}

}  // namespace mlmd
