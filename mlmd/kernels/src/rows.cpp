// Rows of neighbours: every atom of a bin is compared with what the bins around hold.
#include <cstring>
#include <limits>
#include <new>

#include "lanes.hpp"
#include "search.hpp"

namespace mlmd {

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
int System::Search::prune(const Buffer<std::int32_t>* places, int begin, int end, const float* half, Around& around,
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
    for (Buffer<float>* one : {&around.x, &around.y, &around.z}) one->reserve(room);
    for (Buffer<std::int32_t>* one : {&around.slot, &around.row}) one->reserve(room);
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
    s.matrix.reserve(std::size_t(s.n_slots) * s.capacity);
  };
  if (s.capacity == 0) {
    if (s.n_atoms < 4 * CHUNK) widen(96);
    else widen(rows(61, false) + 4);
  }
  s.ends.reserve(std::size_t(s.n_slots) * s.n_species);
  for (std::size_t slot = 0; slot < std::size_t(s.n_slots); slot++)
    if (s.atom[slot] < 0) std::fill_n(&s.ends[slot * s.n_species], s.n_species, 0);
  const int longest = rows(1, true);
  if (longest <= s.capacity) return;
  widen(longest + 4);
  rows(1, true);
}

}  // namespace mlmd
