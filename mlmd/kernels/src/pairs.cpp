// Systems and their neighbours for Python: handles, rows, and lists of pairs in canonical order.
#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <vector>

#include "chunks.hpp"
#include "guarded.hpp"
#include "neighbours.hpp"

using namespace mlmd;

namespace {

// Not inlined, because pairs are counted first and listed then: in two places it could be rounded in two ways.
__attribute__((noinline)) double distance2(const double* a, const double* b) {
  const double x = b[0] - a[0], y = b[1] - a[1], z = b[2] - a[2];
  return x * x + y * y + z * z;
}

template <class Work>
std::int32_t status_of(const Work& work) {
  try {
    return work() ? OK : BAD_CONFIGURATION;
  } catch (const std::length_error&) {
    return TOO_MANY;
  } catch (...) {
    return NO_MEMORY;
  }
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

// Null when the arguments are not possible.
void* mlmd_system_new(std::int32_t n_atoms, const std::int32_t* species, std::int32_t n_species,
                      const std::int32_t* pbc, double cutoff, double skin) {
  try {
    return new System(n_atoms, species, n_species, pbc, cutoff, skin);
  } catch (...) {
    return nullptr;
  }
}

// The same, of atoms whose last n_ghosts are neighbours of the others and no centres.
void* mlmd_system_with_ghosts(std::int32_t n_atoms, std::int32_t n_ghosts, const std::int32_t* species,
                              std::int32_t n_species, const std::int32_t* pbc, double cutoff, double skin) {
  try {
    return new System(n_atoms, species, n_species, pbc, cutoff, skin, n_ghosts);
  } catch (...) {
    return nullptr;
  }
}

void mlmd_system_free(void* system) { delete static_cast<System*>(system); }

// A status; NO_MEMORY also where there are too many neighbours or images.
std::int32_t mlmd_system_update(void* system, const double* positions, const double* cell, std::int32_t n_threads) {
  return status_of([&] { return static_cast<System*>(system)->update(positions, cell, n_threads); });
}

std::int32_t mlmd_system_search(void* system, const double* positions, const double* cell, std::int32_t n_threads) {
  return status_of([&] { return static_cast<System*>(system)->search(positions, cell, n_threads); });
}

// counts [6]: slots, images and ghosts, capacity, species, searches, bytes.
void mlmd_system_counts(const void* system, std::int64_t* counts) {
  const System& s = *static_cast<const System*>(system);
  const std::int64_t all[6] = {s.n_slots, s.n_images + s.n_ghosts, s.capacity, s.n_species, s.n_searches, std::int64_t(s.bytes())};
  std::copy(all, all + 6, counts);
}

// atom [n_slots], ends [n_slots][n_species], matrix [n_slots][capacity] with -1 after the last neighbour,
// coordinates [n_slots + n_images + n_ghosts][3]. No atoms are in the slots before the first search.
void mlmd_system_rows(const void* system, std::int32_t* atom, std::int32_t* ends, std::int32_t* matrix,
                      double* coordinates) {
  const System& s = *static_cast<const System*>(system);
  if (!s.searched_positions()) {
    std::fill(atom, atom + s.n_slots, -1);
    std::fill(ends, ends + std::size_t(s.n_slots) * s.n_species, 0);
    return;
  }
  std::copy(s.atom.begin(), s.atom.end(), atom);
  for (std::size_t slot = 0; slot < std::size_t(s.n_slots); slot++) {
    const std::int32_t* const end = &s.ends[slot * s.n_species];
    std::copy(end, end + s.n_species, ends + slot * s.n_species);
    const std::int32_t* const row = &s.matrix[slot * s.capacity];
    std::int32_t* const to = matrix + slot * s.capacity;
    std::fill(std::copy(row, row + end[s.n_species - 1], to), to + s.capacity, -1);
  }
  for (std::size_t slot = 0; slot < std::size_t(s.far_slot); slot++)
    for (int d = 0; d < 3; d++) coordinates[3 * slot + d] = s.coordinates[4 * slot + d];
}

// Positions [n_atoms][3] and cell [3][3] of the last search. False before the first.
std::int32_t mlmd_system_searched(const void* system, double* positions, double* cell) {
  const System& s = *static_cast<const System*>(system);
  if (!s.searched_positions()) return 0;
  std::copy(s.searched_positions(), s.searched_positions() + 3 * std::size_t(s.n_atoms), positions);
  std::copy(s.searched_cell(), s.searched_cell() + 9, cell);
  return 1;
}

// Pairs closer than the cutoff, by centre (no ghost is one), neighbour and cell vectors crossed from one to the other. Returns their
// number (none before the first search), or -1 without memory; writes them where there is room for all.
std::int64_t mlmd_system_list(const void* system, double cutoff, std::int32_t n_threads, std::int64_t room,
                              std::int64_t* centres, std::int64_t* neighbours, std::int64_t* shifts) try {
  const System& s = *static_cast<const System*>(system);
  if (!s.searched_positions()) return 0;
  const auto for_neighbours = [&](std::size_t slot, const auto& use) {
    const double* const a = s.coordinates + 4 * slot;
    const int end = s.ends[(slot + 1) * s.n_species - 1];
    for (int k = 0; k < end; k++) {
      const std::int32_t other = s.matrix[slot * s.capacity + k];
      if (distance2(a, s.coordinates + 4 * std::size_t(other)) < cutoff * cutoff) use(other);
    }
  };
  std::vector<std::int32_t> slot_of(s.n_atoms);
  for (int slot = 0; slot < s.n_slots; slot++)
    if (s.atom[slot] >= 0) slot_of[s.atom[slot]] = slot;
  std::vector<std::int64_t> first(std::size_t(s.n_centres) + 1, 0);
  in_chunks(s.n_centres, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) for_neighbours(slot_of[i], [&](std::int32_t) { first[i + 1]++; });
  });
  for (int i = 0; i < s.n_centres; i++) first[i + 1] += first[i];
  if (first[s.n_centres] > room) return first[s.n_centres];
  using Pair = std::array<std::int64_t, 4>;  // neighbour and shift
  bool failed = false;
  in_chunks(s.n_centres, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    std::vector<Pair> pairs;
    for (std::int64_t i = begin; i < end; i++) try {
        pairs.clear();
        const std::int32_t* const from = s.crossed(slot_of[i]);
        for_neighbours(slot_of[i], [&](std::int32_t other) {
          const std::int32_t* const to = s.crossed(other);
          pairs.push_back({s.atom_of(other), to[0] - from[0], to[1] - from[1], to[2] - from[2]});
        });
        std::int64_t p = first[i];
        if (std::int64_t(pairs.size()) != first[i + 1] - p) throw std::bad_alloc();
        std::sort(pairs.begin(), pairs.end());
        for (const Pair& pair : pairs) {
          centres[p] = i, neighbours[p] = pair[0];
          for (int d = 0; d < 3; d++) shifts[3 * p + d] = pair[d + 1];
          p++;
        }
      } catch (const std::bad_alloc&) {
#pragma omp atomic write
        failed = true;
      }
  });
  return failed ? -1 : first[s.n_centres];
} catch (...) {
  return -1;
}

}  // extern "C"
#pragma GCC visibility pop
