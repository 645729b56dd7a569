// Atoms and images sorted by species and bin.
#include <cstring>

#include "lanes.hpp"
#include "search.hpp"

namespace mlmd {

// Bins over all places where atoms and images of interest can be. Their number is bounded by that of atoms: a grid
// that would be larger is folded onto itself, which costs comparisons only where parts come to lie on each other.
void System::Search::make_grid() {
  const Vector3 margin{reach, reach, reach};
  box_.low = box_.low - margin, box_.high = box_.high + margin;
  origin_ = box_.low;
  const Vector3 extent = box_.high - box_.low;
  const double longest = std::max({extent.x, extent.y, extent.z});
  per_unit_ = double(1 << 30) / longest;
  const double density = s.n_atoms / (extent.x * extent.y * extent.z);
  stencil_ = density * reach * reach * reach > 40 ? 2 : 1;
  const double width = (reach * per_unit_ * (1 + MARGIN) + 4) / stencil_;  // 4: units lost by rounding
  per_bin_ = 1 / width;
  const double most = 4.0 * s.n_atoms + 4096;
  for (int d = 0; d < 3; d++) n_[d] = int(extent[d] * per_unit_ * per_bin_) + 1, folded_[d] = false;
  while (double(n_[0]) * n_[1] * n_[2] * s.n_species > most) {
    const int d = int(std::max_element(n_, n_ + 3) - n_);
    if (n_[d] <= 2 * stencil_ + 1) break;
    n_[d] = std::max(n_[d] / 2, 2 * stencil_ + 1);
    folded_[d] = true;
  }
  n_bins_ = std::int64_t(n_[0]) * n_[1] * n_[2];
}

std::int64_t System::Search::bin_of(Vector3 place) const {
  std::int64_t b[3];
  for (int d = 0; d < 3; d++) {
    b[d] = std::int64_t(std::max(0.0, fixed(place[d], d) * per_bin_));
    if (b[d] >= n_[d]) b[d] = folded_[d] ? b[d] % n_[d] : n_[d] - 1;
  }
  return (b[2] * n_[1] + b[1]) * n_[0] + b[0];
}

// Slots by species and bin; atoms of a bin in their own order.
void System::Search::sort() {
  make_grid();
  bin_.reserve(s.n_atoms);
  in_chunks(s.n_atoms, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++)
      bin_[i] = std::int32_t(bin_of(at(positions, i) + across(&wrapped_[3 * i], cell)));
  });
  // counting sort by several threads: the atoms of a thread come after those of the threads before
  const std::size_t n_keys = std::size_t(n_bins_) * s.n_species;
  const std::size_t most = (std::size_t(1) << 26) / n_keys + 1;  // not too much memory for tables
  const int parts = s.n_atoms <= FEW ? 1 : int(std::min<std::size_t>(n_threads, most));
  Buffer<std::int32_t> next;
  next.reserve(n_keys * parts);
  const auto of_part = [&](int part, auto use) {
    const std::int64_t begin = std::int64_t(s.n_centres) * part / parts;
    const std::int64_t end = std::int64_t(s.n_centres) * (part + 1) / parts;
    std::int32_t* const slots = next.data() + n_keys * part;
    for (std::int64_t i = begin; i < end; i++) use(slots[s.species_[i] * n_bins_ + bin_[i]], i);
  };
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
  for (int part = 0; part < parts; part++) {
    std::memset(next.data() + n_keys * part, 0, n_keys * sizeof(std::int32_t));
    of_part(part, [](std::int32_t& count, std::int64_t) { count++; });
  }
  slot_end_.reserve(n_keys);
  std::size_t key = 0;
  for (int species = 0; species < s.n_species; species++) {
    std::int32_t slot = s.first_slot[species];
    for (std::int64_t bin = 0; bin < n_bins_; bin++, key++) {
      for (int part = 0; part < parts; part++) slot += std::exchange(next[n_keys * part + key], slot);
      slot_end_[key] = slot;
    }
  }
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
  for (int part = 0; part < parts; part++)
    of_part(part, [&](std::int32_t& slot, std::int64_t i) { s.atom[slot++] = std::int32_t(i); });
  s.n_images = 0, s.far_slot = s.n_slots + s.n_ghosts;
  s.make_room();
  in_chunks(s.n_slots, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t slot = begin; slot < end; slot++)
      for (int a = 0; a < 3; a++)
        s.crossed_[3 * slot + a] = s.atom[slot] < 0 ? 0 : wrapped_[3 * std::size_t(s.atom[slot]) + a];
  });
  s.follow_atoms(positions, cell, n_threads);
  std::fill_n(&s.crossed_[3 * std::size_t(s.n_slots)], 3 * std::size_t(s.n_ghosts), 0);
  s.follow_ghosts(positions, n_threads);
}

// Points of the grid, atoms before images and ghosts in every bin: where they are, and their slots.
void System::Search::make_points() {
  const std::size_t n_keys = std::size_t(n_bins_) * s.n_species;
  const auto species_of = [&](std::int32_t slot) {
    return int(std::upper_bound(s.first_slot.begin(), s.first_slot.end(), slot) - s.first_slot.begin()) - 1;
  };
  const auto slot_begin = [&](std::size_t key) {
    return key % n_bins_ ? slot_end_[key - 1] : s.first_slot[key / n_bins_];
  };
  Buffer<std::int32_t> next;
  next.reserve(n_keys);
  std::memset(next.data(), 0, n_keys * sizeof(std::int32_t));
  const auto key_of_image = [&](int k) { return species_of(s.image_of[k]) * std::size_t(n_bins_) + image_bin_[k]; };
  const auto key_of_ghost = [&](int k) {
    return s.species_[s.n_centres + k] * std::size_t(n_bins_) + bin_[s.n_centres + k];
  };
  for (int k = 0; k < s.n_images; k++) next[key_of_image(k)]++;
  for (int k = 0; k < s.n_ghosts; k++) next[key_of_ghost(k)]++;
  point_begin_.reserve(n_keys + 1);
  std::int32_t point = 0;
  for (std::size_t key = 0; key < n_keys; key++) {
    const std::int32_t n_atoms = slot_end_[key] - slot_begin(key), n_images = next[key];
    point_begin_[key] = point;
    next[key] = point + n_atoms;
    point += n_atoms + n_images;
  }
  point_begin_[n_keys] = point;
  const std::size_t n_points = std::size_t(point) + Lanes::width;  // vectors may be loaded beyond the last
  for (Buffer<std::int32_t>* one : {&point_[0], &point_[1], &point_[2], &point_slot_}) {
    one->reserve(n_points);
    std::fill(one->data() + point, one->data() + n_points, 0);
  }
  const auto put = [&](std::int32_t p, std::int32_t slot) {
    for (int d = 0; d < 3; d++) point_[d][p] = fixed(s.coordinates[4 * std::size_t(slot) + d], d);
    point_slot_[p] = slot;
  };
  in_chunks(std::int64_t(n_keys), n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t key = begin; key < end; key++) {
      const std::int32_t first = slot_begin(key);
      for (std::int32_t slot = first; slot < slot_end_[key]; slot++) put(point_begin_[key] + slot - first, slot);
    }
  });
  for (int k = 0; k < s.n_images; k++) put(next[key_of_image(k)]++, s.n_slots + k);
  for (int k = 0; k < s.n_ghosts; k++) put(next[key_of_ghost(k)]++, s.n_slots + s.n_images + k);
}

}  // namespace mlmd
