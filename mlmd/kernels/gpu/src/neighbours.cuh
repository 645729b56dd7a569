// The list of neighbours: rows of slots within cutoff and skin, and where each pair stands in the other atom's row.
#pragma once

#include "atoms.cuh"

// Places of atoms inside the cell, and how far the farthest has moved from where the deformed cell would take it
KERNEL(follow) {
  const long long i = thread();
  if (i >= f.n_atoms) return;
  const double *const x = f.positions + 3 * (long long)f.order[i], *const cell = f.cell, *const bent = f.cell + 9;
  const int* const n = f.crossings + 3 * i;
  const double* const before = f.searched + 3 * i;
  double at[3], square = 0;
  for (int a = 0; a < 3; a++) at[a] = x[a] - (n[0] * cell[a] + n[1] * cell[3 + a] + n[2] * cell[6 + a]);
  for (int a = 0; a < 3; a++) {
    const double d = at[a] - (before[0] * bent[a] + before[1] * bent[3 + a] + before[2] * bent[6 + a]);
    square += d * d;
  }
  ((Slot*)f.slots)[i] = {at[0], at[1], at[2], (double)f.kinds[i]};
  raise(f.moved, square);
}

// The same at a search, from which displacements are counted
KERNEL(settle) {
  const long long i = thread();
  if (i >= f.n_atoms) return;
  const double *const x = f.positions + 3 * (long long)f.order[i], *const cell = f.cell;
  const int* const n = f.crossings + 3 * i;
  double at[3];
  for (int a = 0; a < 3; a++) {
    at[a] = x[a] - (n[0] * cell[a] + n[1] * cell[3 + a] + n[2] * cell[6 + a]);
    f.searched[3 * i + a] = at[a];
  }
  ((Slot*)f.slots)[i] = {at[0], at[1], at[2], (double)f.kinds[i]};
}

// A bin some bins away: its number inside the cell and the cells crossed. False where there is none.
MLMD_INLINE bool wrap(int& bin, int n, int periodic, int& cells) {
  cells = bin >= 0 ? bin / n : -((n - 1 - bin) / n);
  if (cells != 0 && !periodic) return false;
  bin -= cells * n;
  return true;
}

// Neighbours of every slot; counts go on where a row is full
KERNEL(fill_rows) {
  const long long i = thread();
  if (i >= f.n_atoms) return;
  const Slot me = slots_of(f)[i];
  Neighbour* const row = (Neighbour*)f.row + i * f.capacity;
  const int bin = f.bin[i], bx = bin % f.bins_x, by = bin / f.bins_x % f.bins_y, bz = bin / f.bins_x / f.bins_y;
  int n = 0, n_near = 0;
  for (int z = bz - f.around_z; z <= bz + f.around_z; z++) {
    int in_z = z, cells_z;
    if (!wrap(in_z, f.bins_z, f.periodic_z, cells_z)) continue;
    for (int y = by - f.around_y; y <= by + f.around_y; y++) {
      int in_y = y, cells_y;
      if (!wrap(in_y, f.bins_y, f.periodic_y, cells_y)) continue;
      for (int x = bx - f.around_x; x <= bx + f.around_x; x++) {
        int in_x = x, cells_x;
        if (!wrap(in_x, f.bins_x, f.periodic_x, cells_x)) continue;
        const int other = (in_z * f.bins_y + in_y) * f.bins_x + in_x, code = crossed(cells_x, cells_y, cells_z);
        for (int j = f.bin_begin[other]; j < f.bin_begin[other + 1]; j++) {
          const Vector3 d = between(me, slots_of(f)[j], code, f.cell);
          const double square = d.x * d.x + d.y * d.y + d.z * d.z;
          if (!(square < f.reach2) || (j == i && code == 0)) continue;
          if (n < f.capacity) row[n] = {j, code};
          n++;
          if (square < f.near_reach2) n_near++;
        }
      }
    }
  }
  f.counts[2 * i] = n, f.counts[2 * i + 1] = n_near;
}

// A pair that the other end does not list is as far away as a list goes: its own place stands for it, and nothing is there
KERNEL(find_partners) {
  const long long at = thread(), i = at / f.capacity;
  const int k = int(at % f.capacity);
  if (i >= f.n_atoms || k >= f.counts[2 * i]) return;
  const Neighbour one = row_of(f, i)[k];
  const int back = crossed(-crossed_x(one.crossed), -crossed_y(one.crossed), -crossed_z(one.crossed));
  const Neighbour* const other = row_of(f, one.slot);
  unsigned found = (unsigned)at;
  for (int m = 0; m < f.counts[2 * one.slot]; m++)
    if (other[m].slot == i && other[m].crossed == back) {
      found = (unsigned)((long long)one.slot * f.capacity + m);
      break;
    }
  f.partner[at] = found;
}

// Forces and virials, from the slopes of all pairs: +g of the pairs that an atom is the centre of, -g of those that it is
// the neighbour of, whose virial r (x) g is its own. Nothing is added to what others add to: sums are always in one order.
KERNEL(add_forces) {
  const Member me(f.n_atoms);
  const Slot centre = slots_of(f)[me.i];
  const Four* const slopes = (const Four*)f.slopes;
  const long long first = me.i * f.capacity;
  double force[3] = {}, virial[9] = {};
  for (int k = me.lane; k < (me.own ? f.counts[2 * me.i] : 0); k += LANES) {
    const Neighbour one = row_of(f, me.i)[k];
    const Vector3 d = between(centre, slots_of(f)[one.slot], one.crossed, f.cell);
    const Four out = slopes[first + k], in = slopes[f.partner[first + k]];
    force[0] += (double)out.x - in.x, force[1] += (double)out.y - in.y, force[2] += (double)out.z - in.z;
    const double r[3] = {d.x, d.y, d.z}, g[3] = {in.x, in.y, in.z};
    for (int a = 0; a < 3; a++)
      for (int b = 0; b < 3; b++) virial[3 * a + b] -= r[a] * g[b];
  }
  for (int a = 0; a < 3; a++) force[a] = together(force[a]);
  for (int a = 0; a < 9; a++) virial[a] = together(virial[a]);
  if (!me.own || me.lane) return;
  const long long atom = f.order[me.i];
  for (int a = 0; a < 3; a++) f.forces[3 * atom + a] = force[a];
  for (int a = 0; a < 9; a++) f.per_atom[10 * atom + 1 + a] = virial[a];
}
