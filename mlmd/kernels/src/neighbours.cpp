// A system of atoms in motion: follows them as long as its list of neighbours holds, and searches when it may not.
#include "neighbours.hpp"

#include <cstring>
#include <limits>
#include <stdexcept>

#include "search.hpp"

namespace mlmd {

static constexpr double FAR = 1e8;     // Angstrom
static constexpr double SLACK = 1e-9;  // Angstrom

System::Search::Search(System& system, const double* where, const Cell& complete, int threads)
    : s(system), positions(where), n_threads(threads), cell(periodic(complete, system.pbc_)),
      reduced(reduce(complete, system.pbc_)), inverse_(inverse(reduced.cell)),
      reach((system.cutoff + system.skin) * (1 + MARGIN)) {}

System::System(int atoms, const std::int32_t* species, int kinds, const std::int32_t* pbc, double range, double margin,
               int ghosts)
    : n_atoms(atoms), n_centres(atoms - ghosts), n_species(kinds), cutoff(range), skin(margin), n_ghosts(ghosts),
      pbc_{!!pbc[0], !!pbc[1], !!pbc[2]} {
  if (n_atoms < 0 || n_species < 1) throw std::invalid_argument("a system needs atoms and species");
  if (n_ghosts < 0 || n_centres < 0) throw std::invalid_argument("more ghosts than atoms");
  if (n_ghosts && (pbc_[0] || pbc_[1] || pbc_[2])) throw std::invalid_argument("ghosts stand for periodic images");
  if (!(cutoff > 0 && std::isfinite(cutoff) && skin >= 0 && std::isfinite(skin)))
    throw std::invalid_argument("cutoff and skin must be finite and positive");
  std::vector<std::int64_t> count(n_species, 0);
  species_.reserve(n_atoms);
  for (int i = 0; i < n_atoms; i++) {
    if (species[i] < 0 || species[i] >= n_species) throw std::invalid_argument("a species does not exist");
    species_[i] = species[i];
    if (i < n_centres) count[species[i]]++;
  }
  std::int64_t slots = 0;
  for (const std::int64_t n : count) {
    first_slot.push_back(std::int32_t(slots));
    slots += (n + LANES - 1) / LANES * LANES;
    if (slots > std::numeric_limits<std::int32_t>::max() - 2 * LANES) throw std::invalid_argument("too many atoms");
  }
  first_slot.push_back(std::int32_t(slots));
  n_slots = int(slots);
  if (slots + n_ghosts > std::numeric_limits<std::int32_t>::max() - 2 * LANES)
    throw std::invalid_argument("too many atoms");
  far_slot = n_slots + n_ghosts;
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
  follow_ghosts(positions, n_threads);
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
  positions_.reserve(3 * std::size_t(n_atoms));
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

void System::follow_ghosts(const double* positions, int n_threads) {
  in_chunks(n_ghosts, n_threads, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; k++) {
      double* const to = coordinates + 4 * (std::size_t(n_slots) + n_images + k);
      std::copy_n(positions + 3 * (n_centres + k), 3, to);
      to[3] = 0;
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
