// The embedded-atom method (src/eam.hpp has the formulas), in two steps:
//
//   add_density  densities, energies of atoms and F'
//   slope_pairs  dE_i/dr of all neighbours
#include "atoms.cuh"
#include "neighbours.cuh"

constexpr int LENGTHS = 4, EMBEDDING = LENGTHS, PAIRS = EMBEDDING + N_SPECIES * N_RHO * 4;

struct Piece {
  real p;         // the way into the interval, above the last knot more than 1
  const real* c;  // its coefficients
};

// The interval that x falls into; NaN and what is too large for an integer end at the last one
template <int N>
MLMD_INLINE Piece piece_at(const real* table, int n_intervals, real x) {
  const real bounded = x < real(n_intervals) ? (x > 0 ? x : real(0)) : real(n_intervals);
  const int interval = int(bounded) < n_intervals - 1 ? int(bounded) : n_intervals - 1;
  return {x - real(interval), table + (long long)interval * N};
}

MLMD_INLINE const real* functions_of(const Frame& f, double centre, double other) {
  return f.table + PAIRS + (long long)(int(centre) * N_SPECIES + int(other)) * N_R * 8;
}

MLMD_INLINE real at_most_one(real p) { return p < 1 ? p : real(1); }

KERNEL(add_density) {
  const Member me(f.n_atoms);
  const Slot centre = slots_of(f)[me.i];
  const real cutoff = f.table[0], per_rho = f.table[1], per_r = f.table[2];
  const int n = me.own ? f.counts[2 * me.i] : 0;
  real rho = 0, bound = 0;
  for (int k = me.lane; k < n; k += LANES) {
    const Neighbour one = row_of(f, me.i)[k];
    const Slot other = slots_of(f)[one.slot];
    const Vector3 d = between(centre, other, one.crossed, f.cell);
    const real x = real(d.x), y = real(d.y), z = real(d.z), r = root(x * x + y * y + z * z);
    if (!(r < cutoff)) continue;
    const Piece at = piece_at<8>(functions_of(f, centre.w, other.w), N_R, r * per_r);
    const real p = at_most_one(at.p), *const c = at.c;
    rho += ((c[3] * p + c[2]) * p + c[1]) * p + c[0];
    bound += (((c[7] * p + c[6]) * p + c[5]) * p + c[4]) / r;
  }
  rho = together(rho), bound = together(bound);
  if (!me.own || me.lane) return;
  const Piece at = piece_at<4>(f.table + EMBEDDING + (long long)int(centre.w) * N_RHO * 4, N_RHO, rho * per_rho);
  const real p = at_most_one(at.p), above = at.p > 1 ? at.p - real(1) : real(0), *const c = at.c;
  const real slope = (real(3) * c[3] * p + real(2) * c[2]) * p + c[1];
  const real embedded = ((c[3] * p + c[2]) * p + c[1]) * p + c[0] + slope * above;
  f.features[me.i] = slope * per_rho;
  f.per_atom[10 * (long long)f.order[me.i]] = (double)(embedded + real(0.5) * bound);
}

KERNEL(slope_pairs) {
  const Member me(f.n_atoms);
  if (!me.own) return;
  const Slot centre = slots_of(f)[me.i];
  const real cutoff = f.table[0], per_r = f.table[2], slope = f.features[me.i];
  Four* const slopes = (Four*)f.slopes + me.i * f.capacity;
  for (int k = me.lane; k < f.counts[2 * me.i]; k += LANES) {
    const Neighbour one = row_of(f, me.i)[k];
    const Slot other = slots_of(f)[one.slot];
    const Vector3 d = between(centre, other, one.crossed, f.cell);
    const real x = real(d.x), y = real(d.y), z = real(d.z), r = root(x * x + y * y + z * z);
    real along = 0;
    if (r < cutoff) {
      const Piece at = piece_at<8>(functions_of(f, centre.w, other.w), N_R, r * per_r);
      const real p = at_most_one(at.p), inverse = real(1) / r, *const c = at.c;
      const real height = ((c[7] * p + c[6]) * p + c[5]) * p + c[4];
      const real rise = ((real(3) * c[7] * p + real(2) * c[6]) * p + c[5]) * per_r;
      along = slope * ((real(3) * c[3] * p + real(2) * c[2]) * p + c[1]) * (per_r * inverse) +
              real(0.5) * (rise - height * inverse) * inverse * inverse;
    }
    slopes[k] = {along * x, along * y, along * z, 0};
  }
}
