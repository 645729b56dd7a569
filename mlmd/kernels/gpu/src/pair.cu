// Pair potentials: Lennard-Jones, Morse and ZBL (src/pair.hpp has the formulas).
//
//   slope_pairs  energies of atoms, and dE_i/dr of all neighbours
//
// FORM is a macro, as in pair.hpp: 0 Lennard-Jones, 1 Morse, 2 ZBL, 3 ZBL as LAMMPS switches it.
#include "atoms.cuh"
#include "neighbours.cuh"

constexpr int PARAMETERS = 8;  // of a pair of species, the last ones not used; behind the lengths
constexpr int LENGTHS = 4;

// phi and dphi/dr without the step, with 1 / r at hand
MLMD_INLINE void pair_at(real r, real over, const real* p, real& phi, real& dphi) {
  if constexpr (FORM == 0) {
    const real square = over * over, sixth = square * square * square;
    phi = sixth * (p[0] * sixth - p[1]);
    dphi = sixth * over * (real(6) * p[1] - real(12) * p[0] * sixth);
  } else if constexpr (FORM == 1) {
    const real u = exponential((p[2] - r) * p[1]);
    phi = p[0] * u * (u - real(2));
    dphi = real(-2) * p[0] * p[1] * u * (u - real(1));
  } else {
    constexpr double weight[4] = {0.18175, 0.50986, 0.28022, 0.02817};
    constexpr double decay[4] = {3.19980, 0.94229, 0.40290, 0.20162};
    const real x = r * p[1], bare = p[0] * over;
    real screening = 0, change = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const real term = real(weight[k]) * exponential(real(-decay[k]) * x);
      screening += term, change -= real(decay[k]) * term;
    }
    phi = bare * screening;
    dphi = bare * (change * p[1] - screening * over);
  }
}

KERNEL(slope_pairs) {
  const Member me(f.n_atoms);
  const Slot centre = slots_of(f)[me.i];
  const real cutoff = f.table[0], onset = f.table[1], rate = f.table[2];
  const int n = me.own ? f.counts[2 * me.i] : 0;
  Four* const slopes = (Four*)f.slopes + me.i * f.capacity;
  real energy = 0;
  for (int k = me.lane; k < n; k += LANES) {
    const Neighbour one = row_of(f, me.i)[k];
    const Slot other = slots_of(f)[one.slot];
    const Vector3 d = between(centre, other, one.crossed, f.cell);
    const real x = real(d.x), y = real(d.y), z = real(d.z), r = root(x * x + y * y + z * z);
    real along = 0;
    if (r < cutoff) {
      const real* const p = f.table + LENGTHS + PARAMETERS * (int(centre.w) * N_SPECIES + int(other.w));
      const real over = real(1) / r;
      real phi, dphi;
      pair_at(r, over, p, phi, dphi);
      if constexpr (FORM == 3) {
        const real t = r > onset ? r - onset : real(0);
        energy += phi + p[3] + t * t * t * (p[4] + p[5] * t);
        along = real(0.5) * over * (dphi + t * t * (real(3) * p[4] + real(4) * p[5] * t));
      } else {
        const real way = (cutoff - r) * rate, s = way < 1 ? way : real(1), left = s * (1 - s);
        const real step = s * s * s * (s * (real(6) * s - real(15)) + real(10)), slope = real(-30) * rate * left * left;
        energy += phi * step;
        along = real(0.5) * (dphi * step + phi * slope) * over;
      }
    }
    slopes[k] = {along * x, along * y, along * z, 0};
  }
  energy = together(energy);
  if (me.own && me.lane == 0) f.per_atom[10 * (long long)f.order[me.i]] = 0.5 * (double)energy;
}
