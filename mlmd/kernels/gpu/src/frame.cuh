// What kernels of a GPU are given: one structure for all of them, so that Python fills in one. Python reads the members
// from this file (frame.py); pointers are device memory. Lengths are in Angstrom, energies in eV.
//
// Atoms stand in slots, sorted by the bin of space that they are in. A row holds the neighbours of a slot: the slot of
// each and the cell vectors crossed on the way, ten bits for each (no bit is set inside the cell).
#pragma once

struct Frame {
  int n_atoms;
  int capacity;          // of a row
  int near_capacity;     // of a row of pairs within the smaller cutoff
  int bins_x;            // bins along the vectors of the cell
  int bins_y;
  int bins_z;
  int around_x;          // bins to look at in each direction
  int around_y;
  int around_z;
  int periodic_x;        // 1 or 0
  int periodic_y;
  int periodic_z;
  double reach2;         // square of the distance up to which neighbours are listed
  double near_reach2;    // the same for pairs that may come within the smaller cutoff
  const double* positions;  // [atom][3]
  const double* cell;       // [9] rows are vectors, then [9] the deformation since the search, as x' = x D
  const int* order;         // [slot] the atom
  const int* kinds;         // [slot] its species
  const int* crossings;     // [slot][3] cell vectors between an atom and its place inside the cell at the search
  const int* bin;           // [slot] sorted
  const int* bin_begin;     // [bin + 1]
  double* slots;            // [slot][4] place inside the cell, species
  double* searched;         // [slot][3] where it was at the search
  double* moved;            // [1] largest square of a displacement since the search
  int* counts;              // [slot][2] neighbours, and those of them that may come within the smaller cutoff
  int* row;                 // [slot][capacity][2] slot of the neighbour, cell vectors crossed
  unsigned* partner;        // [slot][capacity] where in all rows the same pair stands, seen from the other end
  const real* table;        // parameters of the potential
  const int* links;         // tables of numbers that are whole
  const double* constants;  // [species] energy that an atom of it has in any case
  real* near;               // [slot][near_capacity][4] vector to a neighbour within the smaller cutoff, its species
  int* near_place;          // [slot][near_capacity] its place in the row
  int* near_count;          // [slot]
  real* features;           // [slot][FEATURES] sums over neighbours that features are
  real* moments;            // [slot][MOMENTS] sums that features are made of; then dE/d(sum)
  real* weights;            // [slot][WEIGHTS] dE/df of functions of the distance
  real* slopes;             // [slot][capacity][4] dE_i / d(vector to the neighbour)
  double* per_atom;         // [atom][10] energy, virial
  double* forces;           // [atom][3]
};
