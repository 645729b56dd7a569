// Moment tensor potentials (src/moments.hpp has the formulas), in four steps:
//
//   see_pairs    vectors to the neighbours within the cutoff, side by side
//   sum_up       sums over neighbours of f_mu(r) times products of unit vectors (src/moment_sums.hpp says which)
//   contract     moments, their products and the energy, and its derivatives by the sums
//   slope_pairs  dE_i/dr of all neighbours
//
// Sizes are macros. Functions stand in the order of their ranks, the highest first; RANKS lists these. What is made of
// the sums are nodes: each is a sum of c v[a] v[b] over pairs of nodes before it, v[N_NODES] being 1, and so is the
// energy. The tables of links say which, for all of one level at once, and the same seen from the nodes that they are
// made of, for the way back.
#include "atoms.cuh"
#include "neighbours.cuh"

constexpr int RANK_OF[N_FUNCTIONS] = {RANKS};
constexpr int RANK = RANK_OF[0];
constexpr int FUNCTION_ROW = (N_FUNCTIONS + 3) / 4 * 4;
constexpr int MOMENTS = (N_SUMS + 3) / 4 * 4;
// where parameters stand in f.table
constexpr int LENGTHS = 0, FUNCTIONS = 4, COEFFICIENTS = FUNCTIONS + N_SPECIES * N_SPECIES * N_CHEBYSHEV * FUNCTION_ROW;

MLMD_INLINE constexpr int begin_of(int function) {
  int begin = 0;
  for (int i = 0; i < function; i++) begin += (RANK_OF[i] + 1) * (RANK_OF[i] + 1);
  return begin;
}

template <int I>
struct Constant {
  static constexpr int value = I;
};

// Calls function(0), function(1), ... of N constants: loops whose bounds depend on each other are not unrolled in full
template <int N, int I = 0, class F>
MLMD_INLINE void each(F&& function) {
  if constexpr (I < N) {
    function(Constant<I>());
    each<N, I + 1>(function);
  }
}

KERNEL(see_pairs) {
  const Member me(f.n_atoms);
  const Slot centre = slots_of(f)[me.i];
  const int n = me.own ? f.counts[2 * me.i] : 0;
  Four* const near = (Four*)f.near + me.i * f.near_capacity;
  Four* const slopes = (Four*)f.slopes + me.i * f.capacity;
  int* const place = f.near_place + me.i * f.near_capacity;
  int found = 0;
  for (int first = 0; first < n; first += LANES) {
    const int k = first + me.lane;
    bool within = false;
    Four to = {};
    if (k < n) {
      const Neighbour one = row_of(f, me.i)[k];
      const Slot other = slots_of(f)[one.slot];
      const Vector3 d = between(centre, other, one.crossed, f.cell);
      to = {real(d.x), real(d.y), real(d.z), real(other.w)};
      within = root(to.x * to.x + to.y * to.y + to.z * to.z) < f.table[LENGTHS];
      if (!within) slopes[k] = {0, 0, 0, 0};
    }
    const unsigned who = votes(within);
    const int to_place = found + n_set(who & ((1u << me.lane) - 1u));
    if (within && to_place < f.near_capacity) near[to_place] = to, place[to_place] = k;
    found += n_set(who);
  }
  if (me.own && me.lane == 0) f.near_count[me.i] = found < f.near_capacity ? found : f.near_capacity;
}

// f_mu of a distance, and df_mu/dr where wanted
template <bool SLOPES>
MLMD_INLINE void functions_at(const Frame& f, int pair, real r, real* value_of, real* slope_of) {
  const real cutoff = f.table[LENGTHS], middle = f.table[LENGTHS + 1], rate = f.table[LENGTHS + 2];
  const real x = (r + r - middle) * (rate * real(0.5)), left = cutoff > r ? cutoff - r : real(0);
  real value = left * left, slope = real(-2) * left, next = value * x, next_slope = slope * x + rate * value;
  const Four* c = (const Four*)(f.table + FUNCTIONS + pair * N_CHEBYSHEV * FUNCTION_ROW);
#pragma unroll
  for (int beta = 0; beta < N_CHEBYSHEV; beta++) {
#pragma unroll
    for (int mu = 0; mu < FUNCTION_ROW; mu += 4, c++) {
      const Four four = *c;
      value_of[mu] += four.x * value, value_of[mu + 1] += four.y * value;
      value_of[mu + 2] += four.z * value, value_of[mu + 3] += four.w * value;
      if (!SLOPES) continue;
      slope_of[mu] += four.x * slope, slope_of[mu + 1] += four.y * slope;
      slope_of[mu + 2] += four.z * slope, slope_of[mu + 3] += four.w * slope;
    }
    const real after = real(2) * x * next - value, after_slope = real(2) * (x * next_slope + rate * next) - slope;
    value = next, next = after, slope = next_slope, next_slope = after_slope;
  }
}

// Products of a unit vector without z, of all ranks below N: those of rank n from n (n + 1) / 2 on, x first
template <int N>
MLMD_INLINE void flat_products(real x, real y, real* p) {
  p[0] = 1;
  each<N - 1>([&](auto before) {
    constexpr int n = decltype(before)::value + 1;
#pragma unroll
    for (int b = 0; b < n; b++) p[n * (n + 1) / 2 + b] = p[n * (n - 1) / 2 + b] * x;
    p[n * (n + 1) / 2 + n] = p[n * (n + 1) / 2 - 1] * y;
  });
}

KERNEL(sum_up) {
  const Member me(f.n_atoms);
  const int zi = N_SPECIES == 1 ? 0 : int(slots_of(f)[me.i].w), n = me.own ? f.near_count[me.i] : 0;
  const Four* const near = (const Four*)f.near + me.i * f.near_capacity;
  constexpr int N_ADDED = (N_SUMS + LANES - 1) / LANES * LANES;
  real sums[N_ADDED] = {};
  for (int e = me.lane; e < n; e += LANES) {
    const Four to = near[e];
    const real r = root(to.x * to.x + to.y * to.y + to.z * to.z), inverse = real(1) / r;
    real g[FUNCTION_ROW] = {}, p[(RANK + 1) * (RANK + 2) / 2];
    functions_at<false>(f, zi * N_SPECIES + (N_SPECIES == 1 ? 0 : int(to.w)), r, g, g);
    flat_products<RANK + 1>(to.x * inverse, to.y * inverse, p);
    const real z = to.z * inverse;
    each<N_FUNCTIONS>([&](auto function) {
      constexpr int mu = decltype(function)::value;
      each<RANK_OF[mu] + 1>([&](auto n) {
        constexpr int rank = decltype(n)::value, at = begin_of(mu) + rank * rank;
        const real height = g[mu], gz = height * z;
#pragma unroll
        for (int b = 0; b <= rank; b++) sums[at + b] += height * p[rank * (rank + 1) / 2 + b];
#pragma unroll
        for (int b = 0; b < rank; b++) sums[at + rank + 1 + b] += gz * p[rank * (rank - 1) / 2 + b];
      });
    });
  }
  divide_sums<N_ADDED>(sums, me.lane);
#pragma unroll
  for (int k = 0; k < N_ADDED / LANES; k++) {
    const int at = first_sum<N_ADDED>(me.lane) + k;
    if (me.own && at < N_SUMS) f.moments[me.i * MOMENTS + at] = sums[k];
  }
}

// sum of c v[a] w[b] over some links
MLMD_INLINE real linked(const Frame& f, int from, int to, int step, const real* v, const real* w) {
  real sum = 0;
  for (int k = from; k < to; k += step) {
    const unsigned both = (unsigned)f.links[LINKS + k];
    sum += f.table[COEFFICIENTS + k] * (v[both & 0xffff] * w[both >> 16]);
  }
  return sum;
}

// v of all nodes of some levels: a level is where its nodes begin, a node is its number and where its links begin
MLMD_INLINE void in_levels(const Frame& f, int levels, int n_levels, int lane, const real* v, const real* w, real* to) {
  for (int level = 0; level < n_levels; level++) {
    const int end = f.links[levels + level + 1];
    for (int k = f.links[levels + level] + lane; k < end; k += LANES) {
      const int* const node = f.links + NODES + 2 * k;
      to[node[0]] = linked(f, node[1], node[3], 1, v, w);
    }
    meet();
  }
}

KERNEL(contract) {
  const Member me(f.n_atoms);
  SHARED(values, N_NODES + 1);
  SHARED(slopes, N_NODES + 1);
  real* const moments = f.moments + me.i * MOMENTS;
  for (int k = me.lane; k < N_SUMS; k += LANES) values[k] = moments[k];
  if (me.lane == 0) values[N_NODES] = slopes[N_NODES] = 1;
  meet();
  in_levels(f, LEVELS, N_UP, me.lane, values, values, values);
  const real energy = together(linked(f, ENERGY_BEGIN + me.lane, ENERGY_END, LANES, values, values));
  in_levels(f, LEVELS + N_UP + 1, N_DOWN, me.lane, values, slopes, slopes);
  if (!me.own) return;
  for (int k = me.lane; k < N_SUMS; k += LANES) moments[k] = slopes[k];
  if (me.lane == 0)
    f.per_atom[10 * (long long)f.order[me.i]] = (double)energy + f.constants[N_SPECIES == 1 ? 0 : int(slots_of(f)[me.i].w)];
}

KERNEL(slope_pairs) {
  const Member me(f.n_atoms);
  if (!me.own) return;
  const int zi = N_SPECIES == 1 ? 0 : int(slots_of(f)[me.i].w), n = f.near_count[me.i];
  const Four* const near = (const Four*)f.near + me.i * f.near_capacity;
  const int* const place = f.near_place + me.i * f.near_capacity;
  Four* const slopes = (Four*)f.slopes + me.i * f.capacity;
#if KEEP
  real by[MOMENTS];
#pragma unroll
  for (int k = 0; k < MOMENTS; k += 4) {
    const Four four = *(const Four*)(f.moments + me.i * MOMENTS + k);
    by[k] = four.x, by[k + 1] = four.y, by[k + 2] = four.z, by[k + 3] = four.w;
  }
#else
  const real* const by = f.moments + me.i * MOMENTS;
#endif
  for (int e = me.lane; e < n; e += LANES) {
    const Four to = near[e];
    const real r = root(to.x * to.x + to.y * to.y + to.z * to.z), inverse = real(1) / r;
    const real x = to.x * inverse, y = to.y * inverse, z = to.z * inverse;
    real g[FUNCTION_ROW] = {}, rate[FUNCTION_ROW] = {}, p[(RANK + 1) * (RANK + 2) / 2];
    functions_at<true>(f, zi * N_SPECIES + (N_SPECIES == 1 ? 0 : int(to.w)), r, g, rate);
    flat_products<RANK + 1>(x, y, p);
    // rest: the derivative by the products without z of one rank, through those of higher ranks. Of products k of a rank
    // the derivative by a function is p_k by_k, that by the product f by_k.
    real gx = 0, gy = 0, gz = 0, along = 0, rest[RANK + 1] = {};
    each<RANK + 1>([&](auto down) {
      constexpr int rank = RANK - decltype(down)::value;
      real low[RANK + 1] = {}, high[RANK + 1] = {};
      each<N_FUNCTIONS>([&](auto function) {
      constexpr int mu = decltype(function)::value;
        if constexpr (rank <= RANK_OF[mu]) {
          constexpr int at = begin_of(mu) + rank * rank;
          real height = 0, height_z = 0;
#pragma unroll
          for (int b = 0; b <= rank; b++) {
            height += by[at + b] * p[rank * (rank + 1) / 2 + b];
            low[b] += g[mu] * by[at + b];
          }
#pragma unroll
          for (int b = 0; b < rank; b++) {
            height_z += by[at + rank + 1 + b] * p[rank * (rank - 1) / 2 + b];
            high[b] += g[mu] * by[at + rank + 1 + b];
          }
          along += rate[mu] * (height + z * height_z);
        }
      });
      if constexpr (rank > 0) {
#pragma unroll
        for (int b = 0; b < rank; b++) {
          const real slope = low[b] + rest[b], value = p[rank * (rank - 1) / 2 + b];
          gx += value * slope, gz += value * high[b];
          rest[b] = x * slope + z * high[b];
        }
        const real slope = low[rank] + rest[rank];
        gy += p[rank * (rank + 1) / 2 - 1] * slope;
        rest[rank - 1] += y * slope;
      }
    });
    along -= (gx * x + gy * y + gz * z) * inverse;
    slopes[place[e]] = {gx * inverse + along * x, gy * inverse + along * y, gz * inverse + along * z, 0};
  }
}
