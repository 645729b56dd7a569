// How many pairs of atoms are at each distance, by their species: counted while they are searched, and never listed.
//
// A pair is seen from both of its atoms, once as an image and once as the image opposite. It is counted by the atom in
// the earlier bin; within a bin by the one in the earlier slot, and an atom counts its own images in one half of space.
// Counts are integers, so they are the same for any number of threads.
#include <algorithm>
#include <cmath>
#include <new>
#include <vector>

#include "guarded.hpp"
#include "search.hpp"
#include "threads.hpp"

namespace mlmd {

namespace {

// Of a bin of the histogram: a distance that is as near to the border of two, as those of a crystal are, is beyond it.
constexpr double BORDER = 1e-9;
constexpr double ALWAYS = HUGE_VAL;

// What atoms of a bin may count, by species: where it is, and a key that is larger than those of the atoms who do.
struct Candidates {
  Buffer<double> x, y, z, key;
  Buffer<std::int32_t> place;
  std::vector<int> begin;
  void reserve(std::size_t n) {
    for (Buffer<double>* one : {&x, &y, &z, &key}) one->reserve(n);
    place.reserve(n);
  }
};

// The bins of the histogram that distances from one point fall into; the one after the last for what is not counted.
void places(const Candidates& from, int begin, int end, const double* at, double key, double per_length, int n_bins,
            std::int32_t* __restrict place) {
  const double* const x = from.x.data();
  const double* const y = from.y.data();
  const double* const z = from.z.data();
  const double* const keys = from.key.data();
  const double x0 = at[0], y0 = at[1], z0 = at[2], none = n_bins;
  for (int k = begin; k < end; k++) {
    const double dx = x[k] - x0, dy = y[k] - y0, dz = z[k] - z0;
    const double bin = std::sqrt(dx * dx + dy * dy + dz * dz) * per_length + BORDER;
    place[k] = std::int32_t(keys[k] > key && bin < none ? bin : none);
  }
}

}  // namespace

// Candidates around the atoms of a bin. False when there is no atom in it.
template <class To>
bool System::Search::candidates(std::int64_t bin, Around& around, To& to) const {
  if (!gather(bin, around)) return false;
  to.reserve(around.begin[s.n_species]);
  to.begin.resize(s.n_species + 1);
  int n = 0;
  for (int species = 0; species < s.n_species; species++) {
    to.begin[species] = n;
    for (int k = around.begin[species]; k < around.begin[species + 1]; k++) {
      const std::int32_t slot = around.slot[k];
      if (slot < 0) continue;  // fills up vectors
      const bool image = slot >= s.n_slots;
      const std::int32_t owner = image ? s.image_of[slot - s.n_slots] : slot;
      const std::int32_t owner_bin = bin_[s.atom[owner]];
      if (owner_bin < bin) continue;
      const std::int32_t *there = s.crossed(slot), *here = s.crossed(owner);
      const double* const place = s.coordinates + 4 * std::size_t(slot);
      to.x[n] = place[0], to.y[n] = place[1], to.z[n] = place[2];
      to.key[n] = owner_bin > bin ? ALWAYS : 2.0 * owner + std::lexicographical_compare(here, here + 3, there, there + 3);
      n++;
    }
  }
  to.begin[s.n_species] = n;
  return true;
}

// Adds to counts [n_species][n_species][n_bins], the species of the atom that counts first.
void System::Search::count(int n_bins, const std::int32_t* wanted, std::int64_t* counts) const {
  const std::size_t row = std::size_t(n_bins) + 1, n_rows = std::size_t(s.n_species) * s.n_species;
  const double per_length = n_bins / s.cutoff;
  bool failed = false;
#pragma omp parallel num_threads(n_threads) if (n_threads > 1 && s.n_atoms > CHUNK)
  {
    Around around;
    Candidates near;
    // two histograms that take turns, so that a count need not wait for the one before in the same place
    std::vector<std::int64_t> own;
    bool spoiled = false;
    try {
      own.assign(2 * n_rows * row, 0);
    } catch (const std::bad_alloc&) {  // may not leave a parallel region
      spoiled = true;
    }
#pragma omp for schedule(dynamic, 16)
    for (std::int64_t bin = 0; bin < n_bins_; bin++) try {
        if (spoiled || !candidates(bin, around, near)) continue;
        for (int a = 0; a < s.n_species; a++) {
          const std::size_t key = std::size_t(a) * n_bins_ + bin;
          for (std::int32_t p = point_begin_[key]; p < point_begin_[key + 1] && point_slot_[p] < s.n_slots; p++) {
            const double* const at = s.coordinates + 4 * std::size_t(point_slot_[p]);
            for (int b = 0; b < s.n_species; b++) {
              if (wanted && !wanted[a * s.n_species + b]) continue;
              const int begin = near.begin[b], end = near.begin[b + 1];
              std::int32_t* const place = near.place.data();
              places(near, begin, end, at, 2.0 * point_slot_[p], per_length, n_bins, place);
              std::int64_t* const even = &own[2 * row * (a * s.n_species + b)];
              std::int64_t* const odd = even + row;
              int k = begin;
              for (; k + 1 < end; k += 2) even[place[k]]++, odd[place[k + 1]]++;
              if (k < end) even[place[k]]++;
            }
          }
        }
      } catch (const std::bad_alloc&) {
        spoiled = true;
      }
#pragma omp critical
    {
      failed |= spoiled;
      if (!spoiled)
        for (std::size_t r = 0; r < n_rows; r++)
          for (int k = 0; k < n_bins; k++) counts[r * n_bins + k] += own[2 * r * row + k] + own[(2 * r + 1) * row + k];
    }
  }
  if (failed) throw std::bad_alloc();
}

bool System::count(const double* positions, const double* cell, int n_threads, int n_bins, const std::int32_t* wanted,
                   std::int64_t* counts) {
  if (n_threads < 1) n_threads = most_threads();
  Cell whole;
  if (!complete(cell, pbc_, whole)) return false;
  Search search(*this, positions, whole, n_threads);
  if (!search.wrap()) return false;
  searched_ = false;  // the list is of other places than the atoms now
  std::fill_n(counts, std::size_t(n_species) * n_species * n_bins, 0);
  if (n_atoms == 0) return true;
  search.sort();
  search.make_images();
  search.make_points();
  search.count(n_bins, wanted, counts);
  return true;
}

}  // namespace mlmd

using namespace mlmd;

#pragma GCC visibility push(default)
extern "C" {

// counts [n_species][n_species][n_bins] of pairs closer than the cutoff, each pair once and in either order of its
// species; of those species where wanted [n_species][n_species] is not zero, or of all where it is null.
std::int32_t mlmd_pair_counts(void* system, const double* positions, const double* cell, std::int32_t n_threads,
                              std::int32_t n_bins, const std::int32_t* wanted, std::int64_t* counts) {
  bool possible = true;
  const int failure = guarded(nullptr, 0, [&] {
    possible = static_cast<System*>(system)->count(positions, cell, n_threads, n_bins, wanted, counts);
  });
  return failure || possible ? failure : int(BAD_CONFIGURATION);
}

}  // extern "C"
#pragma GCC visibility pop
