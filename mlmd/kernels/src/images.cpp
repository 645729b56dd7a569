// Atoms in the reduced cell, and their periodic images that can be somebody's neighbours.
#include <limits>
#include <new>
#include <stdexcept>

#include "search.hpp"

namespace mlmd {

static constexpr double FARTHEST = 1e15;  // Angstrom, of positions

// Into the reduced cell. False when a position is not finite, or absurdly far away.
bool System::Search::wrap() {
  wrapped_.reserve(3 * std::size_t(s.n_atoms));
  const std::size_t n_chunks = (std::size_t(s.n_atoms) + CHUNK - 1) / CHUNK;
  std::vector<Bounds> places(n_chunks), fractions(n_chunks);
  std::vector<char> bad(n_chunks, 0);
  in_chunks(s.n_atoms, n_threads, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) {
      const Vector3 from = at(positions, i), f = from * inverse_;
      const double farthest = std::max({std::fabs(from.x), std::fabs(from.y), std::fabs(from.z)});
      if (!finite(from) || !finite(f) || farthest > FARTHEST) {
        bad[chunk] = 1;
        return;
      }
      double steps[3];
      for (int d = 0; d < 3; d++) steps[d] = s.pbc_[d] ? -std::floor(f[d]) : 0.0;
      for (int a = 0; a < 3; a++) {
        double crossed = 0;
        for (int d = 0; d < 3; d++) crossed += steps[d] * double(reduced.basis[d][a]);
        if (!(std::fabs(crossed) < 1e9)) {
          bad[chunk] = 1;
          return;
        }
        wrapped_[3 * i + a] = std::int32_t(crossed);
      }
      const Vector3 place = from + across(&wrapped_[3 * i], cell);
      places[chunk].add(place);
      fractions[chunk].add(f + Vector3{steps[0], steps[1], steps[2]});
    }
  });
  for (std::size_t c = 0; c < n_chunks; c++) {
    if (bad[c]) return false;
    box_.add(places[c]), fractional_.add(fractions[c]);
  }
  return true;
}

// Appends the images of a slot that can have neighbours among the wrapped atoms: those as near to the slab that the
// atoms fill, along every periodic direction, and to their box.
void System::Search::images_of(int slot, std::vector<Image>& images) const {
  if (s.atom[slot] < 0) return;
  const double* const c = s.coordinates + 4 * std::size_t(slot);
  const Vector3 place{c[0], c[1], c[2]}, f = place * inverse_;
  if (apart_[0].holds(f.x) && apart_[1].holds(f.y) && apart_[2].holds(f.z)) return;
  int low[3] = {}, high[3] = {};
  for (int d = 0; d < 3; d++) {
    if (!s.pbc_[d]) continue;
    low[d] = int(std::ceil(near_[d].low - f[d]));
    high[d] = int(std::floor(near_[d].high - f[d]));
  }
  for (int i = low[0]; i <= high[0]; i++)
    for (int j = low[1]; j <= high[1]; j++)
      for (int k = low[2]; k <= high[2]; k++) {
        if (i == 0 && j == 0 && k == 0) continue;
        const Vector3 image = place + Vector3{double(i), double(j), double(k)} * reduced.cell;
        if (box_.holds(image)) images.push_back({slot, std::int32_t(bin_of(image)), {i, j, k}});
      }
}

void System::Search::make_images() {
  double most = 1;  // images of an atom
  for (int d = 0; d < 3; d++) {
    if (!s.pbc_[d]) {  // no images along this direction, wherever the atom is
      near_[d] = apart_[d] = {-HUGE_VAL, HUGE_VAL};
      continue;
    }
    const double depth = reach * length({inverse_[0][d], inverse_[1][d], inverse_[2][d]});
    near_[d] = {fractional_.low[d] - depth, fractional_.high[d] + depth};
    apart_[d] = {near_[d].high - 1, near_[d].low + 1};
    most *= near_[d].high - near_[d].low + 1;
  }
  if (!(most < 1e7)) throw std::length_error("the cell is much smaller than the cutoff");
  const std::size_t n_chunks = (std::size_t(s.n_slots) + CHUNK - 1) / CHUNK;
  std::vector<std::vector<Image>> images(n_chunks);
  bool failed = false;
  in_chunks(s.n_slots, n_threads, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    try {
      for (std::int64_t slot = begin; slot < end; slot++) images_of(int(slot), images[chunk]);
    } catch (...) {  // may not leave a parallel region
#pragma omp atomic write
      failed = true;
    }
  });
  if (failed) throw std::bad_alloc();
  std::vector<std::int64_t> first(n_chunks + 1, 0);
  for (std::size_t c = 0; c < n_chunks; c++) first[c + 1] = first[c] + std::int64_t(images[c].size());
  if (first[n_chunks] + s.n_slots + s.n_ghosts > std::numeric_limits<std::int32_t>::max() - 2 * LANES)
    throw std::length_error("more atoms and images than 32 bits can number");
  s.n_images = int(first[n_chunks]);
  s.far_slot = s.n_slots + s.n_images + s.n_ghosts;
  s.image_of.reserve(s.n_images);
  image_bin_.reserve(s.n_images);
  s.make_room();
  in_chunks(s.n_slots, n_threads, [&](std::int64_t chunk, std::int64_t, std::int64_t) {
    std::int64_t k = first[chunk];
    for (const Image& image : images[chunk]) {
      s.image_of[k] = image.slot;
      image_bin_[k] = image.bin;
      for (int a = 0; a < 3; a++) {
        std::int64_t crossed = s.crossed(image.slot)[a];
        for (int d = 0; d < 3; d++) crossed += image.steps[d] * reduced.basis[d][a];
        s.crossed_[3 * (s.n_slots + k) + a] = std::int32_t(crossed);
      }
      k++;
    }
  });
  s.follow_images(cell, n_threads);
}

}  // namespace mlmd
