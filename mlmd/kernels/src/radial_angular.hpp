// Radial-angular networks, of which the neuroevolution potentials (NEP) of GPUMD are examples (Fan et al., Phys. Rev. B
// 104, 104309, 2021; J. Chem. Phys. 157, 114801, 2022; Song et al., Nat. Commun. 15, 10208, 2024).
//
//   E_i = sum_h v_h tanh(sum_d w_hd q_d + b_h) + c[z_i] + 1/2 sum_j phi(r_ij)
//   q   = sum_j g_n(r_ij);  sum_m weight_lm a_nlm^2;  -kappa det Q_n;  7/15 (sum_m weight_1m a_n1m^2)^2
//   g_n = sum_k c[z_i, z_j, n, k] f_k(r),   f_k = (T_k(y) sin(pi y / 2))^2,   y = 1 - r / r_c
//   a_nlm = sum_j g_n(r_ij) H_lm(r_ij / r),   H_lm see harmonics.hpp
//   phi = sum_k A_k exp(-d_k r) / r (1 + cos(pi w)) / 2,   w = (r - inner) / (outer - inner) within [0, 1]
//
// with other functions g_n and cutoffs for the radial features (the first) and the angular ones (the others), and
// cutoffs that depend on both species. f_k is the usual (T_k(2 y^2 - 1) + 1) / 2 times (1 + cos(pi r / r_c)) / 2: being
// a square it has half the degree and loses no digits by cancellation. Q_n is the traceless tensor of which the a_n2m
// are components; kappa makes of its determinant the sum over Wigner's 3j symbols (2 2 2; m m' m'').
//
// Neighbours within the larger cutoff come in rows that are not sorted by distance. Where the angular cutoff is smaller,
// every lane's neighbours within it are moved together first, so that no lane works for others (C at 7 and 4 Angstrom:
// 250 rows become 60).
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include "harmonics.hpp"
#include "kernel.hpp"
#include "tiles.hpp"

namespace mlmd {

template <class T>
class RadialAngular {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;
  static constexpr int CHUNK = 16;        // neighbours whose harmonics are added to the sums together
  static constexpr int GROUP = 4;         // neighbours whose functions of the distance are worked out side by side
  static constexpr int L_MAX = 8;
  static constexpr int TERMS = 4;         // exponentials of the repulsion

  // integers: n_species, n_radial, n_radial_basis, n_angular, n_angular_basis, l_max, four_body, five_body, n_neurons,
  // one network for all species, repulsion.
  // numbers: radial and angular cutoffs [z], c of the radial and of the angular functions [z_i][z_j][n][k], scaling [d],
  // w [z or 1][h][d], b [z or 1][h], v [z or 1][h], c [z], and with repulsion inner, outer, (A_k, d_k) [z_i][z_j].
  explicit RadialAngular(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    const int n_radial = int(reader.integer("n_radial", 1, 1000)), n_radial_basis = int(reader.integer("basis", 1, 1000));
    const int n_angular = int(reader.integer("n_angular", 1, 1000)), n_angular_basis = int(reader.integer("basis", 1, 1000));
    l_max_ = int(reader.integer("l_max", 0, L_MAX));
    four_body_ = reader.integer("four_body", 0, 1), five_body_ = reader.integer("five_body", 0, 1);
    if ((four_body_ && l_max_ < 2) || (five_body_ && l_max_ < 1)) throw BadParameters("invariants without harmonics");
    n_neurons_ = int(reader.integer("n_neurons", 1, 100000));
    n_networks_ = reader.integer("common", 0, 1) ? 1 : n_species_;
    repulsive_ = reader.integer("repulsion", 0, 1);
    n_features_ = n_radial + n_angular * (l_max_ + four_body_ + five_body_);
    kappa_ = T(std::sqrt(27. / 70) * std::pow(15 / (4 * 3.14159265358979323846), 1.5));
    const std::vector<double> outer = reader.numbers("cutoffs", n_species_), inner = reader.numbers("cutoffs", n_species_);
    radial_.read(reader, outer, n_radial, n_radial_basis);
    angular_.read(reader, inner, n_angular, n_angular_basis);
    same_cutoffs_ = outer == inner;
    compact_ = false;
    for (std::size_t pair = 0; pair < radial_.cutoff.size(); pair++) {
      if (angular_.cutoff[pair] > radial_.cutoff[pair]) throw BadParameters("an angular cutoff is above the radial one");
      compact_ = compact_ || angular_.cutoff[pair] < 0.97 * radial_.cutoff[pair];
    }
    cutoff_ = *std::max_element(outer.begin(), outer.end());
    read_networks(reader);
    if (repulsive_) read_repulsion(reader);
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  double constant(int species) const { return constant_[species]; }

  struct Scratch {
    explicit Scratch(const RadialAngular& f)
        : moments(std::size_t(f.angular_.n) * (f.n_harmonics() + 1)), features(2 * f.n_features_), hidden(f.n_neurons_),
          basis(std::size_t(f.n_species_) * f.radial_.n_basis), weights(std::size_t(f.n_species_) * f.radial_.n_basis),
          values(CHUNK * (f.longest_basis() + 1)),
          mixed(GROUP * f.longest_basis()),
          harmonics(CHUNK * f.n_harmonics() + 1), sums(GROUP * f.n_harmonics() + 1), contracted(GROUP * f.angular_.n),
          begin(f.n_species_ + 1) {}
    Buffer<V> moments;             // [lm][n] a, then dE/da
    Buffer<V> features;            // [d] q, then dE/dq
    Buffer<V> hidden;              // [h]
    Buffer<V> basis, weights;      // [z_j][k] sums of f_k over neighbours, and dE/df_k
    Buffer<V> values;              // [CHUNK][k] f
    Buffer<V> mixed;               // [GROUP][k] dE/df
    Buffer<V> harmonics;           // [CHUNK][lm]
    Buffer<V> sums, contracted;    // [GROUP][lm] dE/dH and [GROUP][n] dE/dg
    Buffer<V> functions;           // [row][n] g of the angular rows
    Buffer<V> inverse, y;          // [row] 1/r and 1 - r / r_c of the angular rows
    Buffer<V> vector[4];           // [row] x, y, z, r of angular rows moved together,
    Buffer<std::int32_t> from;     // [row][lane] the rows they come from,
    std::vector<int> begin;        // and where those of a species begin
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    switch (n_features_ > radial_.n ? l_max_ : 0) {
      case 1: return whole<1>(block, s);
      case 2: return whole<2>(block, s);
      case 3: return whole<3>(block, s);
      case 4: return whole<4>(block, s);
      case 5: return whole<5>(block, s);
      case 6: return whole<6>(block, s);
      case 7: return whole<7>(block, s);
      case 8: return whole<8>(block, s);
      default: return whole<0>(block, s);
    }
  }

 private:
  // Functions g_n of every pair of species
  struct Functions {
    int n = 0, n_basis = 0;
    std::vector<double> cutoff;       // [z_i][z_j]
    std::vector<T> by_basis, by_function;  // [z_i][z_j][k][n] and [z_i][z_j][n][k]

    void read(Reader& reader, const std::vector<double>& cutoffs, int n_functions, int n_polynomials) {
      n = n_functions, n_basis = n_polynomials;
      for (double one : cutoffs)
        if (!(one > 0)) throw BadParameters("a cutoff is not positive");
      for (double one : cutoffs)
        for (double other : cutoffs) cutoff.push_back(0.5 * (one + other));
      for (double c : reader.numbers("radial coefficients", std::int64_t(cutoff.size()) * n * n_basis))
        by_function.push_back(T(c));
      by_basis.resize(by_function.size());
      for (std::size_t pair = 0; pair < cutoff.size(); pair++)
        for (int i = 0; i < n; i++)
          for (int k = 0; k < n_basis; k++)
            by_basis[(pair * n_basis + k) * n + i] = by_function[(pair * n + i) * n_basis + k];
    }
    const T* functions_of(std::size_t pair) const { return &by_function[pair * n * n_basis]; }
    const T* basis_of(std::size_t pair) const { return &by_basis[pair * n * n_basis]; }
  };

  // Neighbours in rows: those of the block, or those of it that are within the angular cutoffs
  struct Rows {
    int n;
    const int* begin;
    const V *x, *y, *z, *r;
  };

  int n_harmonics() const { return l_max_ * l_max_ + 2 * l_max_; }
  int longest_basis() const { return std::max(radial_.n_basis, angular_.n_basis); }
  std::size_t pair(int i, int j) const { return std::size_t(i) * n_species_ + j; }

  // -- parameters ---------------------------------------------------------------------------------------------------

  void read_networks(Reader& reader) {
    const std::vector<double> scaling = reader.numbers("scaling", n_features_);
    const std::size_t size = std::size_t(n_neurons_) * n_features_;
    const std::vector<double> weights = reader.numbers("weights", std::int64_t(n_networks_ * size));
    weights_.resize(weights.size()), transposed_.resize(weights.size());
    for (int net = 0; net < n_networks_; net++)
      for (int h = 0; h < n_neurons_; h++)
        for (int d = 0; d < n_features_; d++) {
          const T w = T(scaling[d] * weights[net * size + std::size_t(h) * n_features_ + d]);
          weights_[net * size + std::size_t(h) * n_features_ + d] = w;
          transposed_[net * size + std::size_t(d) * n_neurons_ + h] = w;
        }
    for (double b : reader.numbers("biases", std::int64_t(n_networks_) * n_neurons_)) biases_.push_back(T(b));
    for (double v : reader.numbers("output", std::int64_t(n_networks_) * n_neurons_)) output_.push_back(T(v));
    constant_ = reader.numbers("constants", n_species_);
  }

  void read_repulsion(Reader& reader) {
    const std::int64_t row = 2 + 2 * TERMS;
    const std::vector<double> table = reader.numbers("repulsion", row * n_species_ * n_species_);
    for (std::size_t k = 0; k < table.size(); k += row)
      if (!(table[k] < table[k + 1] && table[k + 1] <= cutoff_)) throw BadParameters("a reach of the repulsion");
    for (double one : table) repulsion_.push_back(T(one));
  }

  // -- functions of the distance ------------------------------------------------------------------------------------

  // sin and cos of pi y / 2 for 0 <= y <= 1, the first exactly 0 at 0; the second where wanted. Everything here is done
  // for R neighbours side by side, since each is a chain of operations that wait for each other.
  template <int R, bool COS>
  static MLMD_INLINE void half_wave(const V* y, V* sine, V* cosine) {
    constexpr int degree = sizeof(T) == 8 ? 10 : 6;  // of polynomials in t^2, good to rounding
    V square[R];
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      square[i] = T(2.46740110027233965471) * (y[i] * y[i]);
      sine[i] = broadcast<T>(SERIES.at[2 * degree + 1]), cosine[i] = broadcast<T>(SERIES.at[2 * degree]);
    }
#pragma GCC unroll 10
    for (int k = degree - 1; k >= 0; k--)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        sine[i] = sine[i] * square[i] + SERIES.at[2 * k + 1];
        if (COS) cosine[i] = cosine[i] * square[i] + SERIES.at[2 * k];
      }
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) sine[i] *= T(1.57079632679489661923) * y[i];
  }
  struct Series {  // 1, 1, -1/2!, -1/3!, 1/4!, ...
    T at[22] = {};
    constexpr Series() {
      double factorial = 1;
      for (int n = 0; n < 22; n++) {
        if (n > 1) factorial *= n;
        at[n] = T((n / 2 % 2 ? -1 : 1) / factorial);
      }
    }
  };
  static constexpr Series SERIES{};

  static MLMD_INLINE V reduced(V r, T cutoff) { return max((cutoff - r) * (T(1) / cutoff), V{}); }

  // The roots T_k(y) sin(pi y / 2) of f_k of R neighbours, one k after the other
  template <int R>
  struct Roots {
    V twice[R], before[R], root[R];  // 2 y, and the roots for k - 1 and k
    MLMD_INLINE explicit Roots(const V* y) {  // k = 1
      V unused[R];
      half_wave<R, false>(y, before, unused);
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) twice[i] = y[i] + y[i], root[i] = y[i] * before[i];
    }
    MLMD_INLINE V next(int i) {
      const V next = twice[i] * root[i] - before[i];
      before[i] = root[i];
      return root[i] = next;
    }
  };

  // f[i][k], k < n (and f[i][1] in any case), of R neighbours
  template <int R>
  static MLMD_INLINE void values(const V* y, int n, V* f, int stride) {
    Roots<R> roots(y);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      f[i * stride] = roots.before[i] * roots.before[i];
      f[i * stride + 1] = roots.root[i] * roots.root[i];
    }
    for (int k = 2; k < n; k++)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V root = roots.next(i);
        f[i * stride + k] = root * root;
      }
  }

  // f[k] += the same summed over R neighbours
  template <int R>
  static MLMD_INLINE void add_values(const V* y, int n, V* f) {
    Roots<R> roots(y);
    V first{}, second{};
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      first += roots.before[i] * roots.before[i];
      second += roots.root[i] * roots.root[i];
    }
    f[0] += first;
    if (n > 1) f[1] += second;
    for (int k = 2; k < n; k++) {
      V sum{};  // added as one: a sum of many numbers loses fewer digits in parts
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V root = roots.next(i);
        sum += root * root;
      }
      f[k] += sum;
    }
  }

  // 1/2 sum_k weight[i][k] df[k]/dy of R neighbours
  template <int R>
  static MLMD_INLINE void slopes(const V* y, int n, const V* weight, int stride, V* slope) {
    V twice[R], before[R], root[R], change_before[R], change[R];
    half_wave<R, true>(y, before, change_before);
#pragma GCC unroll 4
    for (int i = 0; i < R; i++) {
      change_before[i] *= T(1.57079632679489661923);
      twice[i] = y[i] + y[i], root[i] = y[i] * before[i], change[i] = before[i] + y[i] * change_before[i];
      slope[i] = weight[i * stride] * (before[i] * change_before[i]);
      if (n > 1) slope[i] += weight[i * stride + 1] * (root[i] * change[i]);
    }
    for (int k = 2; k < n; k++)
#pragma GCC unroll 4
      for (int i = 0; i < R; i++) {
        const V next = twice[i] * root[i] - before[i];
        const V change_next = twice[i] * change[i] + (root[i] + root[i] - change_before[i]);
        before[i] = root[i], root[i] = next, change_before[i] = change[i], change[i] = change_next;
        slope[i] += weight[i * stride + k] * (next * change_next);
      }
  }

  // Calls function(R as a constant, first) for all of n in groups of R = GROUP, then one by one
  template <class F>
  static MLMD_INLINE void in_groups(int first, int end, F&& function) {
    for (; first + GROUP <= end; first += GROUP) function(std::integral_constant<int, GROUP>(), first);
    for (; first < end; first++) function(std::integral_constant<int, 1>(), first);
  }

  // -- the energy, and its gradient ---------------------------------------------------------------------------------

  template <int L>
  V whole(const Block<T>& block, Scratch& s) const {
    constexpr bool angular = L > 0;
    const bool together = angular && same_cutoffs_;  // one evaluation of the polynomials serves both kinds of features
    V* const q = s.features.data();
    std::fill(q, q + n_features_, V{});
    std::fill(s.basis.data(), s.basis.data() + s.basis.size(), V{});
    for (V* g : {block.gx, block.gy, block.gz}) std::fill(g, g + block.n_rows, V{});
    Rows rows{block.n_rows, block.begin, block.x, block.y, block.z, block.r};
    if (!together) add_radial(block, s);
    if constexpr (angular) {
      if (compact_) rows = moved_together(block, s);
      add_angular<L>(block.species, rows, together, s);
      invariants<L>(s.moments.data(), q + radial_.n);
    }
    for (int kind = 0; kind < n_species_; kind++)
      if (block.begin[kind] < block.begin[kind + 1])
        multiply_add<T>(radial_.basis_of(pair(block.species, kind)), radial_.n, radial_.n_basis,
                        &s.basis[std::size_t(kind) * radial_.n_basis], q);
    V energy = network(block.species, q, s.hidden.data());
    for (int kind = 0; kind < n_species_; kind++)
      if (block.begin[kind] < block.begin[kind + 1]) {
        V* const weights = &s.weights[std::size_t(kind) * radial_.n_basis];
        std::fill(weights, weights + radial_.n_basis, V{});
        multiply_add<T>(radial_.functions_of(pair(block.species, kind)), radial_.n_basis, radial_.n, q, weights);
      }
    if (!together) differentiate_radial(block, s);
    if constexpr (angular) {
      differentiate_invariants<L>(s.moments.data(), q + radial_.n);
      differentiate_angular<L>(block, rows, together, s);
    }
    if (repulsive_) energy += repel(block);
    return energy;
  }

  void add_radial(const Block<T>& block, Scratch& s) const {
    for (int kind = 0; kind < n_species_; kind++) {
      const T cutoff = T(radial_.cutoff[pair(block.species, kind)]);
      in_groups(block.begin[kind], block.begin[kind + 1], [&](auto group, int row) {
        constexpr int R = decltype(group)::value;
        V y[R];
        for (int i = 0; i < R; i++) y[i] = reduced(block.r[row + i], cutoff);
        add_values<R>(y, radial_.n_basis, &s.basis[std::size_t(kind) * radial_.n_basis]);
      });
    }
  }

  // Here all neighbours of a species have the same weights, so that sum_k w_k f_k = sin^2(pi y / 2) P(u), with
  // P = sum_k w_k (T_k(u) + 1) / 2 and u = 2 y^2 - 1, is a Chebyshev series whose derivative is another one: two sums by
  // Clenshaw's recursion cost half of what the roots and their derivatives do.
  void differentiate_radial(const Block<T>& block, Scratch& s) const {
    for (int kind = 0; kind < n_species_; kind++) {
      if (block.begin[kind] == block.begin[kind + 1]) continue;
      const T cutoff = T(radial_.cutoff[pair(block.species, kind)]), rate = T(-1) / cutoff;
      const int n = radial_.n_basis;
      V *const p = &s.weights[std::size_t(kind) * n], *const d = s.mixed.data();
      for (int k = n - 1; k >= 0; k--) p[k] *= T(0.5);
      for (int k = n - 1; k >= 0; k--) d[k] = (k + 2 < n ? d[k + 2] : V{}) + (k + 1 < n ? T(2 * k + 2) * p[k + 1] : V{});
      d[0] *= T(0.5);
      p[0] += std::accumulate(p, p + n, V{});
      in_groups(block.begin[kind], block.begin[kind + 1], [&](auto group, int first) {
        constexpr int R = decltype(group)::value;
        V y[R], sine[R], cosine[R], twice[R], value[R], value_before[R], change[R], change_before[R];
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
          y[i] = reduced(block.r[first + i], cutoff);
          twice[i] = T(4) * y[i] * y[i] - T(2);  // 2 u
          value[i] = value_before[i] = change[i] = change_before[i] = V{};
        }
        half_wave<R, true>(y, sine, cosine);
        for (int k = n - 1; k > 0; k--)
#pragma GCC unroll 4
          for (int i = 0; i < R; i++) {
            const V next = twice[i] * value[i] + (p[k] - value_before[i]);
            const V change_next = twice[i] * change[i] + (d[k] - change_before[i]);
            value_before[i] = value[i], value[i] = next, change_before[i] = change[i], change[i] = change_next;
          }
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
          const int row = first + i;
          const V half = T(0.5) * twice[i];
          const V sum = half * value[i] + (p[0] - value_before[i]), slope = half * change[i] + (d[0] - change_before[i]);
          const V by_y = sine[i] * (T(3.14159265358979323846) * cosine[i] * sum + T(4) * y[i] * sine[i] * slope);
          const V along = rate * by_y / block.r[row];
          block.gx[row] = along * block.x[row], block.gy[row] = along * block.y[row], block.gz[row] = along * block.z[row];
        }
      });
    }
  }

  // Every lane's neighbours within the angular cutoff, and in the same rows those of other lanes; what is left over is
  // padded as in a block.
  Rows moved_together(const Block<T>& block, Scratch& s) const {
    for (Buffer<V>& one : s.vector) one.reserve(block.n_rows);
    s.from.reserve((std::size_t(block.n_rows) + 1) * W);
    int to = 0;
    for (int kind = 0; kind < n_species_; kind++) {
      s.begin[kind] = to;
      const T cutoff = T(angular_.cutoff[pair(block.species, kind)]);
      int count[W] = {}, longest = 0;
      std::int32_t* const from = &s.from[std::size_t(to) * W];
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        const Mask<T> near = block.r[row] < cutoff;
        for (int lane = 0; lane < W; lane++) {  // written in any case and kept by going on
          from[count[lane] * W + lane] = row;
          count[lane] -= int(near[lane]);
        }
      }
      for (int lane = 0; lane < W; lane++) longest = std::max(longest, count[lane]);
      Mask<T> filled;
      for (int lane = 0; lane < W; lane++) filled[lane] = count[lane];
      for (int lane = 0; lane < W; lane++)
        for (int k = count[lane]; k < longest; k++) from[k * W + lane] = block.begin[kind];
      const T* const given[4] = {scalars(block.x), scalars(block.y), scalars(block.z), scalars(block.r)};
      for (int k = 0; k < longest; k++) {
        const Mask<T> real = filled > k;
        for (int a = 0; a < 4; a++) {
          V found;
          for (int lane = 0; lane < W; lane++) found[lane] = given[a][std::size_t(from[k * W + lane]) * W + lane];
          s.vector[a][to + k] = select(real, found, a == 0 || a == 3 ? broadcast<T>(cutoff) : V{});
        }
      }
      to += longest;
    }
    s.begin[n_species_] = to;
    return {to, s.begin.data(), s.vector[0].data(), s.vector[1].data(), s.vector[2].data(), s.vector[3].data()};
  }
  static const T* scalars(const V* vectors) { return reinterpret_cast<const T*>(vectors); }
  static T* scalars(V* vectors) { return reinterpret_cast<T*>(vectors); }

  // The moments, and the functions g_n of all rows
  template <int L>
  void add_angular(int species, const Rows& rows, bool together, Scratch& s) const {
    using H = Harmonics<T, L>;
    const int n = angular_.n, n_both = together ? longest_basis() : angular_.n_basis, stride = longest_basis() + 1;
    V *const a = s.moments.data(), *const f = s.values.data();
    std::fill(a, a + std::size_t(H::N) * n, V{});
    s.functions.reserve(std::size_t(rows.n) * n);
    s.inverse.reserve(rows.n);
    s.y.reserve(rows.n);
    for (int first = 0, kind = 0; first < rows.n; first += CHUNK) {
      const int end = std::min(first + CHUNK, rows.n);
      for (int row = first, of = kind; row < end; row++) {
        while (row >= rows.begin[of + 1]) of++;
        const V inverse = T(1) / rows.r[row];
        s.inverse[row] = inverse;
        s.y[row] = reduced(rows.r[row], T(angular_.cutoff[pair(species, of)]));
        const typename H::Parts parts(rows.x[row] * inverse, rows.y[row] * inverse, rows.z[row] * inverse);
        H::values(parts, &s.harmonics[std::size_t(row - first) * H::N]);
      }
      in_groups(first, end, [&](auto group, int row) {
        values<decltype(group)::value>(&s.y[row], n_both, f + (row - first) * stride, stride);
      });
      for (int row = first, last; row < end; row = last) {  // those of one species at once
        while (row >= rows.begin[kind + 1]) kind++;
        last = std::min(end, rows.begin[kind + 1]);
        const V* const own = f + (row - first) * stride;
        if (together) {
          V* const sum = &s.basis[std::size_t(kind) * radial_.n_basis];
          for (int k = 0; k < radial_.n_basis; k++)
            for (int i = 0; i < last - row; i++) sum[k] += own[i * stride + k];
        }
        multiply_rows<T>(angular_.basis_of(pair(species, kind)), n, angular_.n_basis, last - row, own, stride,
                         &s.functions[std::size_t(row) * n], n);
      }
      add_outer<T>(&s.functions[std::size_t(first) * n], s.harmonics.data(), end - first, n, H::N, a);
    }
  }

  template <int L>
  void differentiate_angular(const Block<T>& block, const Rows& rows, bool together, Scratch& s) const {
    using H = Harmonics<T, L>;
    const int n = angular_.n, n_both = together ? longest_basis() : angular_.n_basis;
    int kind = 0;
    in_groups(0, rows.n, [&](auto group, int first) {
      constexpr int R = decltype(group)::value;
      for (int i = 0; i < R; i++) {
        const int row = first + i;
        const V inverse = s.inverse[row];
        const typename H::Parts parts(rows.x[row] * inverse, rows.y[row] * inverse, rows.z[row] * inverse);
        H::values(parts, &s.harmonics[std::size_t(i) * H::N]);
      }
      multiply_both<T>(s.moments.data(), &s.functions[std::size_t(first) * n], s.harmonics.data(), R, n, H::N,
                       s.sums.data(), s.contracted.data());
      T rate[R];
      for (int i = 0, last; i < R; i = last) {  // neighbours of one species at once
        while (first + i >= rows.begin[kind + 1]) kind++;
        last = std::min(R, rows.begin[kind + 1] - first);
        const std::size_t which = pair(block.species, kind);
        V* const weight = &s.mixed[std::size_t(i) * n_both];
        multiply_rows<T>(angular_.functions_of(which), angular_.n_basis, n, last - i, &s.contracted[std::size_t(i) * n],
                         n, weight, n_both);
        if (together) add_radial_weights(&s.weights[std::size_t(kind) * radial_.n_basis], last - i, n_both, weight);
        std::fill(rate + i, rate + last, T(-2 / angular_.cutoff[which]));
      }
      V slope[R];
      slopes<R>(&s.y[first], n_both, s.mixed.data(), n_both, slope);
      for (int i = 0; i < R; i++) {
        const int row = first + i;
        const V inverse = s.inverse[row], x = rows.x[row] * inverse, y = rows.y[row] * inverse, z = rows.z[row] * inverse;
        V gx, gy, gz;
        H::gradient(typename H::Parts(x, y, z), &s.sums[std::size_t(i) * H::N], gx, gy, gz);
        const V along = rate[i] * slope[i] - (gx * x + gy * y + gz * z) * inverse;
        add_gradient(block, row, gx * inverse + along * x, gy * inverse + along * y, gz * inverse + along * z, s);
      }
    });
  }

  void add_radial_weights(const V* radial, int n_rows, int n_both, V* weight) const {
    for (int i = 0; i < n_rows; i++, weight += n_both) {
      std::fill(weight + angular_.n_basis, weight + n_both, V{});
      for (int k = 0; k < radial_.n_basis; k++) weight[k] += radial[k];
    }
  }

  void add_gradient(const Block<T>& block, int row, V gx, V gy, V gz, const Scratch& s) const {
    if (!compact_) {
      block.gx[row] += gx, block.gy[row] += gy, block.gz[row] += gz;
      return;
    }
    for (int lane = 0; lane < W; lane++) {
      const std::size_t to = std::size_t(s.from[std::size_t(row) * W + lane]) * W + lane;
      scalars(block.gx)[to] += gx[lane], scalars(block.gy)[to] += gy[lane], scalars(block.gz)[to] += gz[lane];
    }
  }

  // -- invariants ---------------------------------------------------------------------------------------------------

  // a[lm][n] to q[invariant][n]
  template <int L>
  void invariants(const V* a, V* q) const {
    using H = Harmonics<T, L>;
    const int n = angular_.n;
    for (int l = 1; l <= L; l++)
      for (int i = 0; i < n; i++) q[(l - 1) * n + i] = power<L>(l, a + i);
    V* next = q + L * n;
    if (four_body_) {
      if constexpr (L >= 2)
        for (int i = 0; i < n; i++) next[i] = -kappa_ * Traceless(a + (H::place(2, 0) * n + i), n).determinant();
      next += n;
    }
    if (five_body_)
      for (int i = 0; i < n; i++) next[i] = T(7. / 15) * q[i] * q[i];
  }

  // a[lm][n] to dE/da, from dE/dq
  template <int L>
  void differentiate_invariants(V* a, const V* dq) const {
    using H = Harmonics<T, L>;
    const int n = angular_.n;
    const V* const four = dq + L * n;
    const V* const five = four + (four_body_ ? n : 0);
    for (int i = 0; i < n; i++) {
      V by_two[5] = {}, by_one = dq[i];
      if constexpr (L >= 2)
        if (four_body_) Traceless(a + (H::place(2, 0) * n + i), n).gradient(-kappa_ * four[i], by_two);
      if (five_body_) by_one += T(14. / 15) * power<L>(1, a + i) * five[i];
      for (int l = 1; l <= L; l++) {
        const V twice = T(2) * (l == 1 ? by_one : dq[(l - 1) * n + i]);
        for (int k = 0; k < 2 * l + 1; k++) a[(l * l - 1 + k) * n + i] *= twice * H::WEIGHT.at[l * l - 1 + k];
      }
      if constexpr (L >= 2)
        for (int k = 0; k < 5; k++) a[(H::place(2, 0) + k) * n + i] += by_two[k];
    }
  }

  // sum_m weight_lm a_lm^2
  template <int L>
  MLMD_INLINE V power(int l, const V* a) const {
    V sum{};
    for (int k = 0; k < 2 * l + 1; k++) {
      const V one = a[(l * l - 1 + k) * angular_.n];
      sum += Harmonics<T, L>::WEIGHT.at[l * l - 1 + k] * (one * one);
    }
    return sum;
  }

  // sum_j g (u u - 1/3) from the moments of degree 2: (3 z^2 - 1) / 6, zx, zy, x^2 - y^2, 2 xy
  struct Traceless {
    V xx, yy, zz, xy, xz, yz;
    MLMD_INLINE Traceless(const V* a, int n) {
      const V half = T(0.5) * a[3 * n];
      xx = half - a[0], yy = -half - a[0], zz = a[0] + a[0];
      xz = a[n], yz = a[2 * n], xy = T(0.5) * a[4 * n];
    }
    MLMD_INLINE V determinant() const {
      return xx * (yy * zz - yz * yz) + xy * (yz * xz - xy * zz) + xz * (xy * yz - yy * xz);
    }
    // scale times its derivative by the five moments
    MLMD_INLINE void gradient(V scale, V* by) const {
      const V cxx = yy * zz - yz * yz, cyy = xx * zz - xz * xz, czz = xx * yy - xy * xy;
      by[0] = scale * (czz + czz - cxx - cyy);
      by[1] = T(2) * scale * (xy * yz - yy * xz), by[2] = T(2) * scale * (xy * xz - xx * yz);
      by[3] = T(0.5) * scale * (cxx - cyy), by[4] = scale * (yz * xz - xy * zz);
    }
  };

  // -- network and repulsion ----------------------------------------------------------------------------------------

  // The energy without the constant; q becomes dE/dq
  V network(int species, V* q, V* hidden) const {
    const std::size_t net = n_networks_ == 1 ? 0 : species, size = std::size_t(n_neurons_) * n_features_;
    const T *const bias = &biases_[net * n_neurons_], *const output = &output_[net * n_neurons_];
    for (int h = 0; h < n_neurons_; h++) hidden[h] = broadcast<T>(bias[h]);
    multiply_add<T>(&transposed_[net * size], n_neurons_, n_features_, q, hidden);
    V energy{};
    for (int h = 0; h < n_neurons_; h++) {
      // tanh x = 1 - s and its derivative s (2 - s), s = 2 / (e^2x + 1), which has no difference of squares
      const V s = T(2) / (exp<T>(T(2) * hidden[h]) + T(1));
      energy += output[h] * (T(1) - s);
      hidden[h] = output[h] * (s * (T(2) - s));
    }
    std::fill(q, q + n_features_, V{});
    multiply_add<T>(&weights_[net * size], n_features_, n_neurons_, hidden, q);
    return energy;
  }

  // Half of the repulsion of all pairs, and its gradient; hardly any pair is close enough
  V repel(const Block<T>& block) const {
    V energy{};
    for (int kind = 0; kind < n_species_; kind++) {
      const T* const table = &repulsion_[pair(block.species, kind) * (2 + 2 * TERMS)];
      const T inner = table[0], outer = table[1], rate = T(1) / (outer - inner);
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        const V r = block.r[row];
        const Mask<T> near = r < outer;
        if (!any(near)) continue;
        const V inverse = T(1) / r, way = min(max((r - inner) * rate, V{}), broadcast<T>(T(1)));
        V cosine, sine, screened{}, change{};
        cos_sin_pi<T>(way, cosine, sine);
        for (int k = 0; k < TERMS; k++) {
          const V term = table[2 + 2 * k] * exp<T>(-table[3 + 2 * k] * r);
          screened += term, change -= table[3 + 2 * k] * term;
        }
        const V phi = screened * inverse, step = T(0.5) * (T(1) + cosine);
        const V slope = select((r > inner), T(-0.5 * 3.14159265358979323846) * rate * sine, V{});
        const V along = (change * inverse - phi * inverse) * step + phi * slope;
        const V scale = select(near, T(0.5) * along * inverse, V{});
        energy += select(near, T(0.5) * phi * step, V{});
        block.gx[row] += scale * block.x[row], block.gy[row] += scale * block.y[row], block.gz[row] += scale * block.z[row];
      }
    }
    return energy;
  }

  int n_species_, l_max_, n_neurons_, n_networks_, n_features_;
  bool four_body_, five_body_, repulsive_, same_cutoffs_, compact_;
  double cutoff_;
  T kappa_;
  Functions radial_, angular_;
  std::vector<T> weights_, transposed_;  // [z or 1][h][d] and [z or 1][d][h], times the scaling of the features
  std::vector<T> biases_, output_;       // [z or 1][h]
  std::vector<double> constant_;         // [z]
  std::vector<T> repulsion_;             // [z_i][z_j][2 + 2 TERMS]
};

}  // namespace mlmd
