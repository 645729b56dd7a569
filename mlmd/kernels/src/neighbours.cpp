// The search: wrap atoms into the (reduced) cell, sort them by species and bin, make their images explicit, and
// compare with what the bins around hold. Distances are compared in fixed point and float, with a margin that makes the
// list a superset; loops over neighbours look at their own distances anyway.
#include "neighbours.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>
#include <utility>

#include "lanes.hpp"
#include "lattice.hpp"

namespace mlmd {

namespace {

constexpr int CHUNK = 2048;            // atoms dealt with at once; sums over chunks do not depend on threads
constexpr int FEW = 8 * CHUNK;         // waiting for other threads would take longer than the work
constexpr double FAR = 1e8;            // Angstrom
constexpr double FARTHEST = 1e15;      // Angstrom, of positions
constexpr double MARGIN = 1e-6;        // relative, of lengths compared
constexpr double SLACK = 1e-9;         // Angstrom

template <class Work>
void in_chunks(std::int64_t n, int n_threads, const Work& work) {
  const std::int64_t n_chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static) num_threads(n_threads) if (n_threads > 1 && n > FEW)
  for (std::int64_t c = 0; c < n_chunks; c++) work(c, c * CHUNK, std::min(n, (c + 1) * CHUNK));
}

Vector3 at(const double* positions, std::size_t k) {
  return {positions[3 * k], positions[3 * k + 1], positions[3 * k + 2]};
}

// The rows that are looked at, and zero vectors for the others.
Cell periodic(Cell rows, const std::int32_t* pbc) {
  for (int d = 0; d < 3; d++)
    if (!pbc[d]) rows[d] = {};
  return rows;
}

Vector3 across(const std::int32_t* crossed, const Cell& cell) {
  return Vector3{double(crossed[0]), double(crossed[1]), double(crossed[2])} * cell;
}

struct Bounds {
  Vector3 low{HUGE_VAL, HUGE_VAL, HUGE_VAL}, high{-HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
  void add(Vector3 v) {
    low = {std::min(low.x, v.x), std::min(low.y, v.y), std::min(low.z, v.z)};
    high = {std::max(high.x, v.x), std::max(high.y, v.y), std::max(high.z, v.z)};
  }
  void add(const Bounds& b) { add(b.low), add(b.high); }
  bool holds(Vector3 v) const {
    return v.x >= low.x && v.x <= high.x && v.y >= low.y && v.y <= high.y && v.z >= low.z && v.z <= high.z;
  }
};

}  // namespace

// -- memory ---------------------------------------------------------------------------------------------------------

template <class T>
Array<T>::~Array() {
  std::free(data_);
}

static void* allocate(std::size_t n, std::size_t size) {
  constexpr std::size_t line = 64;
  if (n > (std::numeric_limits<std::size_t>::max() >> 1) / size) throw std::bad_alloc();
  const std::size_t bytes = (n * size + line - 1) / line * line;
  void* const memory = std::aligned_alloc(line, bytes);
  if (!memory && bytes) throw std::bad_alloc();
  return memory;
}

template <class T>
void Array<T>::resize(std::size_t n) {
  if (n > room_) {
    std::free(data_);
    data_ = nullptr, size_ = room_ = 0;
    data_ = static_cast<T*>(allocate(n, sizeof(T)));
    room_ = n;
  }
  size_ = n;
}

template <class T>
void Array<T>::grow(std::size_t n, std::size_t room) {
  if (n > room_) {
    room = std::max(n, room);
    T* const memory = static_cast<T*>(allocate(room, sizeof(T)));
    if (size_) std::memcpy(memory, data_, size_ * sizeof(T));
    std::free(data_);
    data_ = memory, room_ = room;
  }
  size_ = n;
}

template class Array<double>;
template class Array<std::int32_t>;

// -- the search -----------------------------------------------------------------------------------------------------

struct System::Search {
  Search(System& system, const double* positions, const Cell& complete, int n_threads);
  bool wrap();
  void sort();
  void make_images();
  void make_points();
  void find();

 private:
  // Candidates around the atoms of a bin, in float coordinates relative to the middle of these atoms.
  struct Around {
    Array<float> x, y, z;
    Array<std::int32_t> slot, row;
    std::vector<int> begin;  // [n_species + 1], multiples of the width of vectors
    std::vector<std::pair<std::int64_t, std::int64_t>> runs;  // of bins that follow each other
    std::int32_t origin[3];
    float reach2;
  };

  struct Image {
    std::int32_t slot, bin;  // slot of the atom
    int steps[3];            // vectors of the reduced cell
  };
  struct Range {
    double low, high;
    bool holds(double f) const { return f >= low && f <= high; }
  };

  void make_grid();
  std::int64_t bin_of(Vector3 place) const;
  std::int32_t fixed(double length, int d) const { return std::int32_t((length - origin_[d]) * per_unit_); }
  void images_of(int slot, std::vector<Image>& images) const;
  bool gather(std::int64_t bin, Around& around) const;
  void runs_around(std::int64_t bin, Around& around) const;
  int prune(const Array<std::int32_t>* places, int begin, int end, const float* half, Around& around, int n) const;
  int neighbours(int point, Around& around, std::int32_t* ends) const;
  int rows(std::int64_t stride, bool write);

  System& s;
  const double* const positions;
  const int n_threads;
  const Cell cell;       // zero vectors where not periodic
  const Reduced reduced;
  const Cell inverse_;   // of the reduced cell
  const double reach;    // cutoff + skin and a margin

  Array<std::int32_t> wrapped_;   // [n_atoms][3] cell vectors crossed
  Bounds box_, fractional_;       // of wrapped atoms, Cartesian and in the reduced cell
  Range near_[3], apart_[3];      // fractional coordinates of images that matter; of atoms that have none
  Vector3 origin_;
  double per_unit_ = 1;           // fixed-point units of length in an Angstrom
  int n_[3], stencil_ = 1;        // bins; how many to either side can hold neighbours
  bool folded_[3];
  double per_bin_ = 1;            // bins in a unit
  std::int64_t n_bins_ = 0;
  Array<std::int32_t> bin_, image_bin_;      // of atoms, of images
  Array<std::int32_t> slot_end_;             // [n_species][n_bins]
  Array<std::int32_t> point_begin_;          // [n_species][n_bins], and one more
  Array<std::int32_t> point_[3], point_slot_;  // fixed-point coordinates, by species and bin; atoms before images
};

System::Search::Search(System& system, const double* where, const Cell& complete, int threads)
    : s(system), positions(where), n_threads(threads), cell(periodic(complete, system.pbc_)),
      reduced(reduce(complete, system.pbc_)), inverse_(inverse(reduced.cell)),
      reach((system.cutoff + system.skin) * (1 + MARGIN)) {}

// Into the reduced cell. False when a position is not finite, or absurdly far away.
bool System::Search::wrap() {
  wrapped_.resize(3 * std::size_t(s.n_atoms));
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
  bin_.resize(s.n_atoms);
  in_chunks(s.n_atoms, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++)
      bin_[i] = std::int32_t(bin_of(at(positions, i) + across(&wrapped_[3 * i], cell)));
  });
  // counting sort by several threads: the atoms of a thread come after those of the threads before
  const std::size_t n_keys = std::size_t(n_bins_) * s.n_species;
  const std::size_t most = (std::size_t(1) << 26) / n_keys + 1;  // not too much memory for tables
  const int parts = s.n_atoms <= FEW ? 1 : int(std::min<std::size_t>(n_threads, most));
  Array<std::int32_t> next;
  next.resize(n_keys * parts);
  const auto of_part = [&](int part, auto use) {
    const std::int64_t begin = std::int64_t(s.n_atoms) * part / parts;
    const std::int64_t end = std::int64_t(s.n_atoms) * (part + 1) / parts;
    std::int32_t* const slots = next.data() + n_keys * part;
    for (std::int64_t i = begin; i < end; i++) use(slots[s.species_[i] * n_bins_ + bin_[i]], i);
  };
#pragma omp parallel for schedule(static) num_threads(parts) if (parts > 1)
  for (int part = 0; part < parts; part++) {
    std::memset(next.data() + n_keys * part, 0, n_keys * sizeof(std::int32_t));
    of_part(part, [](std::int32_t& count, std::int64_t) { count++; });
  }
  slot_end_.resize(n_keys);
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
  s.n_images = 0, s.far_slot = s.n_slots;
  s.make_room();
  in_chunks(s.n_slots, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t slot = begin; slot < end; slot++)
      for (int a = 0; a < 3; a++)
        s.crossed_[3 * slot + a] = s.atom[slot] < 0 ? 0 : wrapped_[3 * std::size_t(s.atom[slot]) + a];
  });
  s.follow_atoms(positions, cell, n_threads);
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
  if (first[n_chunks] + s.n_slots > std::numeric_limits<std::int32_t>::max() - 2 * LANES)
    throw std::length_error("more atoms and images than 32 bits can number");
  s.n_images = int(first[n_chunks]);
  s.far_slot = s.n_slots + s.n_images;
  s.image_of.resize(s.n_images);
  image_bin_.resize(s.n_images);
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

// Points of the grid, atoms before images in every bin: where they are, and their slots.
void System::Search::make_points() {
  const std::size_t n_keys = std::size_t(n_bins_) * s.n_species;
  const auto species_of = [&](std::int32_t slot) {
    return int(std::upper_bound(s.first_slot.begin(), s.first_slot.end(), slot) - s.first_slot.begin()) - 1;
  };
  const auto slot_begin = [&](std::size_t key) {
    return key % n_bins_ ? slot_end_[key - 1] : s.first_slot[key / n_bins_];
  };
  Array<std::int32_t> next;
  next.resize(n_keys);
  std::memset(next.data(), 0, n_keys * sizeof(std::int32_t));
  for (int k = 0; k < s.n_images; k++) {
    const std::size_t key = species_of(s.image_of[k]) * std::size_t(n_bins_) + image_bin_[k];
    next[key]++;
  }
  point_begin_.resize(n_keys + 1);
  std::int32_t point = 0;
  for (std::size_t key = 0; key < n_keys; key++) {
    const std::int32_t n_atoms = slot_end_[key] - slot_begin(key), n_images = next[key];
    point_begin_[key] = point;
    next[key] = point + n_atoms;
    point += n_atoms + n_images;
  }
  point_begin_[n_keys] = point;
  const std::size_t n_points = std::size_t(point) + Lanes::width;  // vectors may be loaded beyond the last
  for (Array<std::int32_t>* one : {&point_[0], &point_[1], &point_[2], &point_slot_}) {
    one->resize(n_points);
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
  for (int k = 0; k < s.n_images; k++) {
    const std::size_t key = species_of(s.image_of[k]) * std::size_t(n_bins_) + image_bin_[k];
    put(next[key]++, s.n_slots + k);
  }
}

// The bins around one, as few runs of bins that follow each other in memory.
void System::Search::runs_around(std::int64_t bin, Around& around) const {
  const int at_bin[3] = {int(bin % n_[0]), int(bin / n_[0] % n_[1]), int(bin / n_[0] / n_[1])};
  int low[3], high[3];
  for (int d = 0; d < 3; d++) {
    low[d] = at_bin[d] - stencil_, high[d] = at_bin[d] + stencil_;
    if (!folded_[d]) low[d] = std::max(low[d], 0), high[d] = std::min(high[d], n_[d] - 1);
    if (high[d] - low[d] + 1 > n_[d]) low[d] = 0, high[d] = n_[d] - 1;
  }
  around.runs.clear();
  for (int z = low[2]; z <= high[2]; z++)
    for (int y = low[1]; y <= high[1]; y++) {
      const std::int64_t row = (std::int64_t(z + n_[2]) % n_[2] * n_[1] + (y + n_[1]) % n_[1]) * n_[0];
      around.runs.emplace_back(row + std::max(low[0], 0), row + std::min(high[0], n_[0] - 1) + 1);
      if (low[0] < 0) around.runs.emplace_back(row + n_[0] + low[0], row + n_[0]);
      if (high[0] >= n_[0]) around.runs.emplace_back(row, row + high[0] - n_[0] + 1);
    }
}

// Points of a run that are near enough to the box of the centres, appended.
int System::Search::prune(const Array<std::int32_t>* places, int begin, int end, const float* half, Around& around,
                          int n) const {
  const Lanes::Floats hx = Lanes::same(half[0]), hy = Lanes::same(half[1]), hz = Lanes::same(half[2]);
  const Lanes::Floats limit = Lanes::same(around.reach2);
  for (int p = begin; p < end; p += Lanes::width) {
    const Lanes::Floats x = Lanes::minus(&places[0][p], around.origin[0]),
                        y = Lanes::minus(&places[1][p], around.origin[1]),
                        z = Lanes::minus(&places[2][p], around.origin[2]);
    const Lanes::Floats r2 = Lanes::square(Lanes::beyond(x, hx), Lanes::beyond(y, hy), Lanes::beyond(z, hz));
    const Lanes::Mask near = Lanes::below(r2, limit) & Lanes::first(end - p);
    Lanes::keep(near, x, &around.x[n]);
    Lanes::keep(near, y, &around.y[n]);
    Lanes::keep(near, z, &around.z[n]);
    Lanes::keep(near, Lanes::load(&point_slot_[p]), &around.slot[n]);
    n += Lanes::count(near);
  }
  return n;
}

// Candidates for the atoms of a bin. False when there is no atom in it.
bool System::Search::gather(std::int64_t bin, Around& around) const {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  std::int32_t low[3] = {most, most, most}, high[3] = {0, 0, 0};
  bool empty = true;
  for (int species = 0; species < s.n_species; species++) {
    const std::size_t key = std::size_t(species) * n_bins_ + bin;
    for (std::int32_t p = point_begin_[key]; p < point_begin_[key + 1] && point_slot_[p] < s.n_slots; p++) {
      empty = false;
      for (int d = 0; d < 3; d++) low[d] = std::min(low[d], point_[d][p]), high[d] = std::max(high[d], point_[d][p]);
    }
  }
  if (empty) return false;
  float half[3], widest = 0;
  for (int d = 0; d < 3; d++) {
    around.origin[d] = low[d] + (high[d] - low[d]) / 2;
    half[d] = 1.000001f * float(high[d] - around.origin[d] + 1);
    widest = std::max(widest, half[d]);
  }
  const double units = reach * per_unit_;
  // two units of rounding to fixed point, and the rounding of floats as large as these
  const double limit = units + 4 + (units + widest) * 1e-6;
  around.reach2 = float(limit * limit);

  runs_around(bin, around);
  std::size_t room = 0;
  for (int species = 0; species < s.n_species; species++) {
    const std::size_t key = std::size_t(species) * n_bins_;
    for (const auto& run : around.runs) room += point_begin_[key + run.second] - point_begin_[key + run.first];
    room += Lanes::width;
  }
  room += LANES;  // whole vectors are stored at the end, and rows copied eight at a time
  if (room > around.x.size()) {
    room += room / 4;
    for (Array<float>* one : {&around.x, &around.y, &around.z}) one->resize(room);
    for (Array<std::int32_t>* one : {&around.slot, &around.row}) one->resize(room);
  }
  around.begin.resize(s.n_species + 1);
  int n = 0;
  for (int species = 0; species < s.n_species; species++) {
    const std::size_t key = std::size_t(species) * n_bins_;
    around.begin[species] = n;
    for (const auto& run : around.runs)
      n = prune(point_, point_begin_[key + run.first], point_begin_[key + run.second], half, around, n);
    for (; n % Lanes::width; n++) {
      around.x[n] = around.y[n] = around.z[n] = 1e18f;
      around.slot[n] = -1;
    }
  }
  around.begin[s.n_species] = n;
  return true;
}

// Neighbours of a point among the candidates, into around.row; where every species ends; their number.
int System::Search::neighbours(int point, Around& around, std::int32_t* ends) const {
  const std::int32_t self = point_slot_[point];
  const Lanes::Floats x = Lanes::same(float(point_[0][point] - around.origin[0])),
                      y = Lanes::same(float(point_[1][point] - around.origin[1])),
                      z = Lanes::same(float(point_[2][point] - around.origin[2])),
                      limit = Lanes::same(around.reach2);
  std::int32_t* const row = around.row.data();
  int n = 0;
  for (int species = 0; species < s.n_species; species++) {
    for (int k = around.begin[species]; k < around.begin[species + 1]; k += Lanes::width) {
      const Lanes::Floats r2 = Lanes::square(Lanes::minus(Lanes::load(&around.x[k]), x),
                                             Lanes::minus(Lanes::load(&around.y[k]), y),
                                             Lanes::minus(Lanes::load(&around.z[k]), z));
      const Lanes::Integers slots = Lanes::load(&around.slot[k]);
      const Lanes::Mask near = Lanes::differ(Lanes::below(r2, limit), slots, self);
      Lanes::keep(near, slots, row + n);
      n += Lanes::count(near);
    }
    ends[species] = n;
  }
  return n;
}

// The rows of every stride-th bin that holds atoms, or only the length of the longest. Rows that are too long for the
// matrix are not written.
int System::Search::rows(std::int64_t stride, bool write) {
  int longest = 0;
  bool failed = false;
#pragma omp parallel num_threads(n_threads) if (n_threads > 1 && s.n_atoms > CHUNK) reduction(max : longest)
  {
    Around around;
    std::vector<std::int32_t> ends(s.n_species);
#pragma omp for schedule(dynamic, 16)
    for (std::int64_t bin = 0; bin < n_bins_; bin += stride) try {
        if (!gather(bin, around)) continue;
        for (int species = 0; species < s.n_species; species++) {
          const std::size_t key = std::size_t(species) * n_bins_ + bin;
          for (std::int32_t p = point_begin_[key]; p < point_begin_[key + 1] && point_slot_[p] < s.n_slots; p++) {
            const std::size_t slot = point_slot_[p];
            const int n = neighbours(p, around, ends.data());
            longest = std::max(longest, n);
            if (!write || n > s.capacity) continue;
            std::int32_t* const to = &s.matrix[slot * s.capacity];
            for (int k = 0; k < n; k += 8) std::memcpy(to + k, &around.row[k], 8 * sizeof(std::int32_t));
            for (int k = 0; k < s.n_species; k++) s.ends[slot * s.n_species + k] = ends[k];
          }
        }
      } catch (const std::bad_alloc&) {  // may not leave a parallel region
#pragma omp atomic write
        failed = true;
      }
  }
  if (failed) throw std::bad_alloc();
  return longest;
}

void System::Search::find() {
  const auto widen = [&](int n) {
    s.capacity = (std::max(n, 1) + 7) / 8 * 8;
    s.matrix.resize(std::size_t(s.n_slots) * s.capacity);
  };
  if (s.capacity == 0) {
    if (s.n_atoms < 4 * CHUNK) widen(96);
    else widen(rows(61, false) + 4);
  }
  s.ends.resize(std::size_t(s.n_slots) * s.n_species);
  for (std::size_t slot = 0; slot < std::size_t(s.n_slots); slot++)
    if (s.atom[slot] < 0) std::fill_n(&s.ends[slot * s.n_species], s.n_species, 0);
  const int longest = rows(1, true);
  if (longest <= s.capacity) return;
  widen(longest + 4);
  rows(1, true);
}

// -- the system -----------------------------------------------------------------------------------------------------

System::System(int atoms, const std::int32_t* species, int kinds, const std::int32_t* pbc, double range, double margin)
    : n_atoms(atoms), n_species(kinds), cutoff(range), skin(margin), pbc_{!!pbc[0], !!pbc[1], !!pbc[2]} {
  if (n_atoms < 0 || n_species < 1) throw std::invalid_argument("a system needs atoms and species");
  if (!(cutoff > 0 && std::isfinite(cutoff) && skin >= 0 && std::isfinite(skin)))
    throw std::invalid_argument("cutoff and skin must be finite and positive");
  std::vector<std::int64_t> count(n_species, 0);
  species_.resize(n_atoms);
  for (int i = 0; i < n_atoms; i++) {
    if (species[i] < 0 || species[i] >= n_species) throw std::invalid_argument("a species does not exist");
    species_[i] = species[i];
    count[species[i]]++;
  }
  std::int64_t slots = 0;
  for (const std::int64_t n : count) {
    first_slot.push_back(std::int32_t(slots));
    slots += (n + LANES - 1) / LANES * LANES;
    if (slots > std::numeric_limits<std::int32_t>::max() - 2 * LANES) throw std::invalid_argument("too many atoms");
  }
  first_slot.push_back(std::int32_t(slots));
  n_slots = far_slot = int(slots);
  atom.assign(n_slots, -1);
}

System::~System() = default;

void System::make_room() {
  const std::size_t room = std::size_t(far_slot) + n_slots / 8 + 64;
  crossed_.grow(3 * std::size_t(far_slot), 3 * room);
  coordinates_.grow(4 * (std::size_t(far_slot) + 1), 4 * room);
  coordinates = coordinates_.data();
  coordinates[4 * std::size_t(far_slot)] = coordinates[4 * std::size_t(far_slot) + 1] =
      coordinates[4 * std::size_t(far_slot) + 2] = FAR;
  coordinates[4 * std::size_t(far_slot) + 3] = 0;
}

bool System::update(const double* positions, const double* cell, int n_threads) {
  n_threads = std::max(n_threads, 1);
  if (!(slack(positions, cell, n_threads) > SLACK)) return search(positions, cell, n_threads);  // also when it is nan
  const Cell rows = periodic(cell_from(cell), pbc_);
  follow_atoms(positions, rows, n_threads);
  follow_images(rows, n_threads);
  return true;
}

bool System::search(const double* positions, const double* cell, int n_threads) {
  n_threads = std::max(n_threads, 1);
  Cell whole;
  if (!complete(cell, pbc_, whole)) return false;
  Search search(*this, positions, whole, n_threads);
  if (!search.wrap()) return false;
  searched_ = false;  // until it is done
  if (n_atoms > 0) {
    search.sort();
    search.make_images();
    search.make_points();
    search.find();
  } else {
    make_room();
  }
  positions_.resize(3 * std::size_t(n_atoms));
  if (positions_.data() != positions && n_atoms > 0)
    in_chunks(n_atoms, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      std::copy(positions + 3 * begin, positions + 3 * end, positions_.data() + 3 * begin);
    });
  std::copy(cell, cell + 9, cell_);
  searched_ = true;
  n_searches++;
  return true;
}

void System::follow_atoms(const double* positions, const Cell& cell, int n_threads) {
  in_chunks(n_slots, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t slot = begin; slot < end; slot++) {
      double* const to = coordinates + 4 * slot;
      const Vector3 place =
          atom[slot] < 0 ? Vector3{FAR, FAR, FAR} : at(positions, atom[slot]) + across(&crossed_[3 * slot], cell);
      to[0] = place.x, to[1] = place.y, to[2] = place.z, to[3] = 0;
    }
  });
}

void System::follow_images(const Cell& cell, int n_threads) {
  in_chunks(n_images, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; k++) {
      const std::size_t owner = image_of[k], image = std::size_t(n_slots) + k;
      std::int32_t steps[3];
      for (int d = 0; d < 3; d++) steps[d] = crossed_[3 * image + d] - crossed_[3 * owner + d];
      const Vector3 shift = across(steps, cell);
      double* const to = coordinates + 4 * image;
      const double* const from = coordinates + 4 * owner;
      to[0] = from[0] + shift.x, to[1] = from[1] + shift.y, to[2] = from[2] + shift.z, to[3] = 0;
    }
  });
}

// skin - eps (cutoff + skin) - 2 delta in Angstrom; negative when there is no list.
double System::slack(const double* positions, const double* cell, int n_threads) const {
  if (!searched_) return -1;
  double strain = 0;
  Cell deformation{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  if (std::memcmp(cell, cell_, sizeof cell_) != 0) {
    Cell before, now;
    if (!complete(cell_, pbc_, before) || !complete(cell, pbc_, now)) return -1;
    deformation = inverse(before) * now;
    strain = 1 - smallest_stretch(deformation);
  }
  const auto moved = [&](std::int64_t i) { return at(positions, i) - at(positions_.data(), i) * deformation; };
  const std::size_t n_chunks = (std::size_t(n_atoms) + CHUNK - 1) / CHUNK;
  std::vector<Vector3> sums(n_chunks);
  in_chunks(n_atoms, n_threads, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    Vector3 sum;
    for (std::int64_t i = begin; i < end; i++) sum = sum + moved(i);
    sums[chunk] = sum;
  });
  Vector3 mean;
  for (const Vector3& sum : sums) mean = mean + sum;
  if (n_atoms > 0) mean = (1.0 / n_atoms) * mean;
  if (!finite(mean)) return -1;
  std::vector<double> largest(n_chunks);
  in_chunks(n_atoms, n_threads, [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
    double most = 0;
    for (std::int64_t i = begin; i < end; i++) {
      const Vector3 way = moved(i) - mean;
      most = std::max(most, dot(way, way));
    }
    largest[chunk] = most;
  });
  double most = 0;
  for (const double one : largest) most = std::max(most, one);
  return skin - strain * (cutoff + skin) - 2 * std::sqrt(most);
}

std::size_t System::bytes() const {
  return 4 * (atom.capacity() + first_slot.capacity()) + image_of.bytes() + matrix.bytes() + ends.bytes() +
         positions_.bytes() + species_.bytes() + crossed_.bytes() + coordinates_.bytes();
}

}  // namespace mlmd

// -- for Python -----------------------------------------------------------------------------------------------------

using namespace mlmd;

namespace {

// Not inlined, because pairs are counted first and listed then: in two places it could be rounded in two ways.
__attribute__((noinline)) double distance2(const double* a, const double* b) {
  const double x = b[0] - a[0], y = b[1] - a[1], z = b[2] - a[2];
  return x * x + y * y + z * z;
}

enum Status : std::int32_t { DONE = 0, REFUSED = 1, NO_MEMORY = 2 };

template <class Work>
std::int32_t status_of(const Work& work) {
  try {
    return work() ? DONE : REFUSED;
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

void mlmd_system_free(void* system) { delete static_cast<System*>(system); }

// 0: done; 1: a position or the cell is not possible; 2: too many neighbours or images for the memory.
std::int32_t mlmd_system_update(void* system, const double* positions, const double* cell, std::int32_t n_threads) {
  return status_of([&] { return static_cast<System*>(system)->update(positions, cell, n_threads); });
}

std::int32_t mlmd_system_search(void* system, const double* positions, const double* cell, std::int32_t n_threads) {
  return status_of([&] { return static_cast<System*>(system)->search(positions, cell, n_threads); });
}

// counts [6]: slots, images, capacity, species, searches, bytes.
void mlmd_system_counts(const void* system, std::int64_t* counts) {
  const System& s = *static_cast<const System*>(system);
  const std::int64_t all[6] = {s.n_slots, s.n_images, s.capacity, s.n_species, s.n_searches, std::int64_t(s.bytes())};
  std::copy(all, all + 6, counts);
}

// atom [n_slots], ends [n_slots][n_species], matrix [n_slots][capacity] with -1 after the last neighbour,
// coordinates [n_slots + n_images][3]. No atoms are in the slots before the first search.
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

// Pairs closer than the cutoff, by centre, neighbour and cell vectors crossed from one to the other. Returns their
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
  std::vector<std::int64_t> first(std::size_t(s.n_atoms) + 1, 0);
  in_chunks(s.n_atoms, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i++) for_neighbours(slot_of[i], [&](std::int32_t) { first[i + 1]++; });
  });
  for (int i = 0; i < s.n_atoms; i++) first[i + 1] += first[i];
  if (first[s.n_atoms] > room) return first[s.n_atoms];
  using Pair = std::array<std::int64_t, 4>;  // neighbour and shift
  bool failed = false;
  in_chunks(s.n_atoms, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    std::vector<Pair> pairs;
    for (std::int64_t i = begin; i < end; i++) try {
        pairs.clear();
        const std::int32_t* const from = s.crossed(slot_of[i]);
        for_neighbours(slot_of[i], [&](std::int32_t other) {
          const std::int32_t owner = other < s.n_slots ? other : s.image_of[other - s.n_slots];
          const std::int32_t* const to = s.crossed(other);
          pairs.push_back({s.atom[owner], to[0] - from[0], to[1] - from[1], to[2] - from[2]});
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
  return failed ? -1 : first[s.n_atoms];
} catch (...) {
  return -1;
}

}  // extern "C"
#pragma GCC visibility pop
