// Radial-angular networks (src/radial_angular.hpp has the formulas), in five steps:
//
//   see_near   sums of the radial features; the vectors to the neighbours of the angular ones, side by side
//   sum_up     moments a_nlm
//   ask        features, the network's energy, and what it changes by: dE/da, and dE/df of the radial functions
//   slope_far  dE_i/dr of all neighbours through the radial features and the repulsion
//   slope_near the same through the angular ones
//
// Sizes are macros: a program is compiled for a potential, with its loops unrolled and its sums in registers.
#include "atoms.cuh"
#include "neighbours.cuh"
#include "harmonics.cuh"
#include "invariants.cuh"
#include "squared_chebyshev.cuh"

// Where parameters stand in f.table: see radial_angular.py
constexpr int PAIRS = N_SPECIES * N_SPECIES;
constexpr int RADIAL_ROW = (N_RADIAL_BASIS + 3) / 4 * 4, ANGULAR_ROW = (N_ANGULAR_BASIS + 3) / 4 * 4;
constexpr int FEATURE_ROW = (N_FEATURES + 3) / 4 * 4;
constexpr int RADIAL_CUTOFFS = 0, ANGULAR_CUTOFFS = (PAIRS + 3) / 4 * 4;
constexpr int RADIAL_C = 2 * ANGULAR_CUTOFFS, ANGULAR_C = RADIAL_C + PAIRS * N_RADIAL * RADIAL_ROW;
constexpr int NETWORKS = ANGULAR_C + PAIRS * N_ANGULAR * ANGULAR_ROW;
constexpr int NEURON = FEATURE_ROW + 4;  // its weights, bias and output
constexpr int REPULSION = NETWORKS + N_NETWORKS * N_NEURONS * NEURON, REPULSION_ROW = 12;

constexpr int N_HARMONICS = L_MAX * L_MAX + 2 * L_MAX;
constexpr int MOMENTS = (N_HARMONICS * N_ANGULAR + 3) / 4 * 4;
constexpr int WEIGHTS = N_SPECIES * RADIAL_ROW;

MLMD_INLINE int kind_of(double w) { return N_SPECIES == 1 ? 0 : int(w); }

// sum_k c[k] f[k] with c in whole vectors of memory, zero behind the last
template <int ROW>
MLMD_INLINE real mixed(const real* c, const real* f) {
  real sum = 0;
#pragma unroll
  for (int k = 0; k < ROW; k += 4) {
    const Four four = *(const Four*)(c + k);
    sum += four.x * f[k] + four.y * f[k + 1] + four.z * f[k + 2] + four.w * f[k + 3];
  }
  return sum;
}

KERNEL(see_near) {
  const Member me(f.n_atoms);
  const Slot centre = slots_of(f)[me.i];
  const int zi = kind_of(centre.w), n = me.own ? f.counts[2 * me.i] : 0;
  Four* const near = (Four*)f.near + me.i * f.near_capacity;
  int* const place = f.near_place + me.i * f.near_capacity;
  real q[N_RADIAL] = {}, sums[RADIAL_ROW] = {};
  int found = 0;
  for (int first = 0; first < n; first += LANES) {
    const int k = first + me.lane;
    bool within = false;
    Four to = {};
    if (k < n) {
      const Neighbour one = row_of(f, me.i)[k];
      const Slot other = slots_of(f)[one.slot];
      const Vector3 d = between(centre, other, one.crossed, f.cell);
      const int pair = zi * N_SPECIES + kind_of(other.w);
      to = {real(d.x), real(d.y), real(d.z), real(other.w)};
      const real r = root(to.x * to.x + to.y * to.y + to.z * to.z), cutoff = f.table[RADIAL_CUTOFFS + pair];
      within = L_MAX > 0 && r < f.table[ANGULAR_CUTOFFS + pair];
      if (r < cutoff) {
        real values[RADIAL_ROW] = {};
        values_at<N_RADIAL_BASIS>(reduced(r, cutoff), values);
        if (N_SPECIES == 1) {
#pragma unroll
          for (int b = 0; b < N_RADIAL_BASIS; b++) sums[b] += values[b];
        } else {
#pragma unroll
          for (int m = 0; m < N_RADIAL; m++)
            q[m] += mixed<RADIAL_ROW>(f.table + RADIAL_C + (pair * N_RADIAL + m) * RADIAL_ROW, values);
        }
      }
    }
    if (L_MAX > 0) {
      const unsigned who = votes(within);
      const int to_place = found + n_set(who & ((1u << me.lane) - 1u));
      if (within && to_place < f.near_capacity) near[to_place] = to, place[to_place] = k;
      found += n_set(who);
    }
  }
  if (N_SPECIES == 1) {
#pragma unroll
    for (int b = 0; b < N_RADIAL_BASIS; b++) sums[b] = together(sums[b]);
#pragma unroll
    for (int m = 0; m < N_RADIAL; m++) q[m] = mixed<RADIAL_ROW>(f.table + RADIAL_C + m * RADIAL_ROW, sums);
  } else {
#pragma unroll
    for (int m = 0; m < N_RADIAL; m++) q[m] = together(q[m]);
  }
  if (!me.own) return;
#pragma unroll
  for (int m = 0; m < N_RADIAL; m++)
    if (m % LANES == me.lane) f.features[me.i * N_RADIAL + m] = q[m];
  if (me.lane == 0) f.near_count[me.i] = found < f.near_capacity ? found : f.near_capacity;
}

#if L_MAX > 0
KERNEL(sum_up) {
  using H = mlmd::Harmonics<real, L_MAX>;
  const Member me(f.n_atoms);
  const int zi = kind_of(slots_of(f)[me.i].w), n = me.own ? f.near_count[me.i] : 0;
  const Four* const near = (const Four*)f.near + me.i * f.near_capacity;
  real* const moments = f.moments + me.i * MOMENTS;
  for (int start = 0; start < N_ANGULAR; start += AT_ONCE) {  // as many functions as there are registers for
    constexpr int N_SUMS = (H::N * AT_ONCE + LANES - 1) / LANES * LANES;
    real a[N_SUMS] = {};
    for (int e = me.lane; e < n; e += LANES) {
      const Four to = near[e];
      const int pair = zi * N_SPECIES + kind_of(to.w);
      const real r = root(to.x * to.x + to.y * to.y + to.z * to.z), inverse = real(1) / r;
      real values[ANGULAR_ROW] = {}, h[H::N], g[AT_ONCE];
      values_at<N_ANGULAR_BASIS>(reduced(r, f.table[ANGULAR_CUTOFFS + pair]), values);
#pragma unroll
      for (int m = 0; m < AT_ONCE; m++) {
        const int one = start + m < N_ANGULAR ? start + m : N_ANGULAR - 1;
        g[m] = mixed<ANGULAR_ROW>(f.table + ANGULAR_C + (pair * N_ANGULAR + one) * ANGULAR_ROW, values);
      }
      H::values(typename H::Parts(to.x * inverse, to.y * inverse, to.z * inverse), h);
#pragma unroll
      for (int lm = 0; lm < H::N; lm++)
#pragma unroll
        for (int m = 0; m < AT_ONCE; m++) a[lm * AT_ONCE + m] += g[m] * h[lm];
    }
    divide_sums<N_SUMS>(a, me.lane);
    if (!me.own) continue;
#pragma unroll
    for (int k = 0; k < N_SUMS / LANES; k++) {
      const int at = first_sum<N_SUMS>(me.lane) + k, lm = at / AT_ONCE, m = start + at % AT_ONCE;
      if (lm < H::N && m < N_ANGULAR) moments[lm * N_ANGULAR + m] = a[k];
    }
  }
}
#endif

KERNEL(ask) {
  const long long i = thread();
  if (i >= f.n_atoms) return;
  const int kind = kind_of(slots_of(f)[i].w), net = N_NETWORKS == 1 ? 0 : kind;
  real q[FEATURE_ROW] = {}, dq[FEATURE_ROW] = {};
#pragma unroll
  for (int m = 0; m < N_RADIAL; m++) q[m] = f.features[i * N_RADIAL + m];
#if L_MAX > 0
  real* const moments = f.moments + i * MOMENTS;
  const mlmd::Invariants<real> invariants(N_ANGULAR, FOUR_BODY, FIVE_BODY);
  invariants.template values<L_MAX>(moments, q + N_RADIAL);
#endif
  const real* neuron = f.table + NETWORKS + (long long)net * N_NEURONS * NEURON;
  real energy = 0;
  for (int h = 0; h < N_NEURONS; h++, neuron += NEURON) {
    const Four four = *(const Four*)(neuron + FEATURE_ROW);
    const real x = four.x + mixed<FEATURE_ROW>(neuron, q);
    // tanh x = 1 - s and its derivative s (2 - s), s = 2 / (e^2x + 1), which has no difference of squares
    const real s = real(2) / (exponential(x + x) + real(1)), slope = four.y * (s * (real(2) - s));
    energy += four.y * (real(1) - s);
#pragma unroll
    for (int d = 0; d < FEATURE_ROW; d += 4) {
      const Four w = *(const Four*)(neuron + d);
      dq[d] += slope * w.x, dq[d + 1] += slope * w.y, dq[d + 2] += slope * w.z, dq[d + 3] += slope * w.w;
    }
  }
  f.per_atom[10 * (long long)f.order[i]] = (double)energy + f.constants[kind];
#if L_MAX > 0
  invariants.template pull<L_MAX>(moments, dq + N_RADIAL);
#endif
  for (int other = 0; other < N_SPECIES; other++) {
    const real* const c = f.table + RADIAL_C + (kind * N_SPECIES + other) * N_RADIAL * RADIAL_ROW;
    real w[RADIAL_ROW] = {};
#pragma unroll
    for (int m = 0; m < N_RADIAL; m++)
#pragma unroll
      for (int b = 0; b < RADIAL_ROW; b++) w[b] += dq[m] * c[m * RADIAL_ROW + b];
#pragma unroll
    for (int b = 0; b < RADIAL_ROW; b++) f.weights[i * WEIGHTS + other * RADIAL_ROW + b] = w[b];
  }
}

// Half of the screened repulsion of a pair, as in src/screened_repulsion.hpp; adds its derivative by r
MLMD_INLINE real repulsion(const real* table, real r, real& by_r) {
  const real inner = table[0], outer = table[1], inverse = real(1) / r;
  if (!(r < outer)) return 0;
  real screened = 0, change = 0;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const real term = table[2 + 2 * k] * exponential(-table[3 + 2 * k] * r);
    screened += term, change -= table[3 + 2 * k] * term;
  }
  real step = 1, slope = 0;
  if (r > inner) {  // 1/2 (1 + cos pi w) = cos^2 (pi w / 2)
    real sine, cosine;
    half_wave((r - inner) / (outer - inner), sine, cosine);
    step = cosine * cosine, slope = real(-3.14159265358979323846) * sine * cosine / (outer - inner);
  }
  const real phi = screened * inverse;
  by_r += real(0.5) * ((change - phi) * inverse * step + phi * slope);
  return real(0.5) * phi * step;
}

KERNEL(slope_far) {
  const Member me(f.n_atoms);
  const Slot centre = slots_of(f)[me.i];
  const int zi = kind_of(centre.w), n = me.own ? f.counts[2 * me.i] : 0;
  Four* const slopes = (Four*)f.slopes + me.i * f.capacity;
  real energy = 0;
  for (int k = me.lane; k < n; k += LANES) {
    const Neighbour one = row_of(f, me.i)[k];
    const Slot other = slots_of(f)[one.slot];
    const Vector3 d = between(centre, other, one.crossed, f.cell);
    const int zj = kind_of(other.w), pair = zi * N_SPECIES + zj;
    const real x = real(d.x), y = real(d.y), z = real(d.z);
    const real r = root(x * x + y * y + z * z), cutoff = f.table[RADIAL_CUTOFFS + pair];
    real by_r = 0;
    if (r < cutoff) {
      real weight[RADIAL_ROW];
#pragma unroll
      for (int b = 0; b < RADIAL_ROW; b += 4) {
        const Four four = *(const Four*)(f.weights + me.i * WEIGHTS + zj * RADIAL_ROW + b);
        weight[b] = four.x, weight[b + 1] = four.y, weight[b + 2] = four.z, weight[b + 3] = four.w;
      }
      by_r = -slope_at<N_RADIAL_BASIS>(reduced(r, cutoff), weight) / cutoff;
    }
    if (REPULSIVE) energy += repulsion(f.table + REPULSION + pair * REPULSION_ROW, r, by_r);
    const real along = by_r / r;
    slopes[k] = {along * x, along * y, along * z, 0};
  }
  if (REPULSIVE) {
    energy = together(energy);
    if (me.own && me.lane == 0) f.per_atom[10 * (long long)f.order[me.i]] += (double)energy;
  }
}

#if L_MAX > 0
KERNEL(slope_near) {
  using H = mlmd::Harmonics<real, L_MAX>;
  const Member me(f.n_atoms);
  if (!me.own) return;  // there is nothing to vote about here
  const int zi = kind_of(slots_of(f)[me.i].w), n = f.near_count[me.i];
  const Four* const near = (const Four*)f.near + me.i * f.near_capacity;
  const int* const place = f.near_place + me.i * f.near_capacity;
  Four* const slopes = (Four*)f.slopes + me.i * f.capacity;
#if KEEP
  real a[MOMENTS];
#pragma unroll
  for (int k = 0; k < MOMENTS; k += 4) {
    const Four four = *(const Four*)(f.moments + me.i * MOMENTS + k);
    a[k] = four.x, a[k + 1] = four.y, a[k + 2] = four.z, a[k + 3] = four.w;
  }
#else
  const real* const a = f.moments + me.i * MOMENTS;
#endif
  for (int e = me.lane; e < n; e += LANES) {
    const Four to = near[e];
    const int pair = zi * N_SPECIES + kind_of(to.w);
    const real cutoff = f.table[ANGULAR_CUTOFFS + pair];
    const real r = root(to.x * to.x + to.y * to.y + to.z * to.z), inverse = real(1) / r, y = reduced(r, cutoff);
    const real ux = to.x * inverse, uy = to.y * inverse, uz = to.z * inverse;
    const typename H::Parts parts(ux, uy, uz);
    real values[ANGULAR_ROW] = {}, weight[ANGULAR_ROW] = {}, h[H::N], by_h[H::N] = {};
    values_at<N_ANGULAR_BASIS>(y, values);
    H::values(parts, h);
#pragma unroll
    for (int m = 0; m < N_ANGULAR; m++) {
      const real* const c = f.table + ANGULAR_C + (pair * N_ANGULAR + m) * ANGULAR_ROW;
      const real g = mixed<ANGULAR_ROW>(c, values);
      real by_g = 0;
#pragma unroll
      for (int lm = 0; lm < H::N; lm++) {
        const real one = a[lm * N_ANGULAR + m];
        by_h[lm] += g * one, by_g += h[lm] * one;
      }
#pragma unroll
      for (int b = 0; b < ANGULAR_ROW; b += 4) {
        const Four four = *(const Four*)(c + b);
        weight[b] += by_g * four.x, weight[b + 1] += by_g * four.y;
        weight[b + 2] += by_g * four.z, weight[b + 3] += by_g * four.w;
      }
    }
    real gx, gy, gz;
    H::gradient(parts, by_h, gx, gy, gz);
    const real along = -slope_at<N_ANGULAR_BASIS>(y, weight) / cutoff - (gx * ux + gy * uy + gz * uz) * inverse;
    Four sum = slopes[place[e]];
    sum.x += gx * inverse + along * ux, sum.y += gy * inverse + along * uy, sum.z += gz * inverse + along * uz;
    slopes[place[e]] = sum;
  }
}
#endif
