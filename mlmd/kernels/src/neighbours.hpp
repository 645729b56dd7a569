// Atoms in the order that loops over neighbours like, their periodic images, and lists of neighbours that stay valid
// for many steps.
//
// Atoms are kept in *slots*: sorted by species, and within a species by where they are, so that what is near in space
// is near in memory. Every species begins at a multiple of LANES; slots left over hold no atom. Periodic images of
// atoms are slots of their own after those of the atoms, so that no loop over neighbours needs to know of the cell,
// whatever its shape and however small it is.
//
// The last atoms may be *ghosts*: neighbours of the others that are no centres themselves, as atoms of other processes
// are where each has a part of space. They are slots after the images, and have no rows.
//
// Pairs are searched up to cutoff + skin and reused while none within the cutoff can be missing. Let F be the
// deformation of the cell since the search, eps = 1 - its smallest singular value, and delta the largest displacement
// of an atom from its deformed old place, relative to the mean displacement. A pair outside of the list was at
// cutoff + skin or more, so it is now at (1 - eps) (cutoff + skin) - 2 delta or more: the list is complete as long as
// skin - eps (cutoff + skin) >= 2 delta. What is in the list, and in which order, depends on positions and cell of the
// search alone: not on threads, and not on what was before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.hpp"

namespace mlmd {

struct Cell;

constexpr int LANES = 16;  // of the widest vectors

class System {
 public:
  // species [n_atoms] in 0 ... n_species - 1, pbc [3], lengths in Angstrom; throws std::invalid_argument.
  // The last n_ghosts of the atoms are ghosts; there can be such where no direction is periodic.
  System(int n_atoms, const std::int32_t* species, int n_species, const std::int32_t* pbc, double cutoff, double skin,
         int n_ghosts = 0);
  ~System();
  System(const System&) = delete;
  System& operator=(const System&) = delete;

  // Everything as it is at positions [n_atoms][3] and cell [3][3] (rows are vectors; those of directions that are not
  // periodic are not looked at): searches when a pair could be missing, else only follows the atoms. False, and
  // nothing changed, when a position is not finite or the periodic vectors are not or have no volume. Throws
  // std::bad_alloc or std::length_error when there are more neighbours or images than memory or 2^31 slots; the next
  // call searches then.
  bool update(const double* positions, const double* cell, int n_threads);
  // The same, and always searches.
  bool search(const double* positions, const double* cell, int n_threads);
  // Pairs closer than the cutoff at such positions, by species and distance (pair_counts.cpp). No list is made, and
  // what there was of one is lost. False as above; all threads there are where n_threads is zero.
  bool count(const double* positions, const double* cell, int n_threads, int n_bins, const std::int32_t* wanted,
             std::int64_t* counts);

  int n_atoms, n_centres, n_species;    // centres are the atoms that are no ghosts
  double cutoff, skin;                  // Angstrom
  int n_slots = 0;                      // of centres and of padding
  std::vector<std::int32_t> atom;       // [n_slots] atom in the slot, -1 for none
  std::vector<std::int32_t> first_slot; // [n_species + 1]
  int n_images = 0;                     // slots n_slots ... n_slots + n_images - 1
  Buffer<std::int32_t> image_of;         // [n_images] slot of the atom, in ascending order
  int n_ghosts = 0;                     // slots from n_slots + n_images on, in the order of the atoms
  int far_slot = 0;                     // n_slots + n_images + n_ghosts: 1e8 Angstrom away, as slots without an atom are
  double* coordinates = nullptr;        // [far_slot + 1][4] x y z 0, continuous since the search
  int capacity = 0;                     // length of a row of the matrix, a multiple of 8
  Buffer<std::int32_t> matrix;           // [n_slots][capacity] neighbours of a slot, by their species
  Buffer<std::int32_t> ends;             // [n_slots][n_species] where the neighbours of a species end in the row
  long n_searches = 0;

  // Of the last search, for checkpoints: null before the first.
  const double* searched_positions() const { return searched_ ? positions_.data() : nullptr; }
  const double* searched_cell() const { return searched_ ? cell_ : nullptr; }

  // Cell vectors crossed from the position of an atom to that of a slot of it [3]: coordinates of the slot are
  // position + crossed . cell.
  const std::int32_t* crossed(int slot) const { return &crossed_[3 * std::size_t(slot)]; }

  // The atom that a slot holds, or is an image of; -1 for none
  std::int32_t atom_of(int slot) const {
    if (slot < n_slots) return atom[slot];
    if (slot < n_slots + n_images) return atom[image_of[slot - n_slots]];
    return slot < far_slot ? n_centres + (slot - n_slots - n_images) : -1;
  }

  std::size_t bytes() const;            // of memory held

 private:
  struct Search;

  double slack(const double* positions, const double* cell, int n_threads) const;
  void make_room();  // for the slots there are
  void follow_atoms(const double* positions, const Cell& cell, int n_threads);
  void follow_images(const Cell& cell, int n_threads);
  void follow_ghosts(const double* positions, int n_threads);

  std::int32_t pbc_[3];
  bool searched_ = false;
  Buffer<double> positions_;             // [n_atoms][3] of the last search
  double cell_[9] = {};
  Buffer<std::int32_t> species_;         // [n_atoms]
  Buffer<std::int32_t> crossed_;         // [n_slots + n_images][3]
  Buffer<double> coordinates_;
};

}  // namespace mlmd
