// Radial-angular features q of an atom, and the gradient of a function of them (Fan et al., Phys. Rev. B 104, 104309,
// 2021; J. Chem. Phys. 157, 114801, 2022):
//
//   q   = sum_j g_n(r_ij);  then invariants of a_nlm = sum_j g_n(r_ij) H_lm(r_ij / r)
//
// for g_n see squared_chebyshev.hpp, for the invariants invariants.hpp, for H_lm harmonics.hpp. The functions g_n and the
// cutoffs of the radial features (the first) and of the angular ones (the others) differ, and cutoffs depend on both
// species.
#pragma once

#include <algorithm>

#include "harmonics.hpp"
#include "invariants.hpp"
#include "kernel.hpp"
#include "near_rows.hpp"
#include "squared_chebyshev.hpp"
#include "tiles.hpp"

namespace mlmd {

template <class T>
class RadialAngularSums {
 public:
  using V = Vector<T>;
  using Basis = SquaredChebyshev<T>;
  static constexpr int CHUNK = 16;  // neighbours whose harmonics are added to the sums together
  static constexpr int GROUP = Basis::GROUP;
  static constexpr int L_MAX = 8;

  // integers: n_species, n_radial, n_radial_basis, n_angular, n_angular_basis, l_max, four_body, five_body.
  // numbers: radial and angular cutoffs [z], c of the radial and of the angular functions [z_i][z_j][n][k].
  explicit RadialAngularSums(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    const int n_radial = int(reader.integer("n_radial", 1, 1000)), n_radial_basis = int(reader.integer("basis", 1, 1000));
    const int n_angular = int(reader.integer("n_angular", 1, 1000)), n_angular_basis = int(reader.integer("basis", 1, 1000));
    l_max_ = int(reader.integer("l_max", 0, L_MAX));
    const bool four_body = reader.integer("four_body", 0, 1), five_body = reader.integer("five_body", 0, 1);
    if ((four_body && l_max_ < 2) || (five_body && l_max_ < 1)) throw BadParameters("invariants without harmonics");
    n_features_ = n_radial + n_angular * (l_max_ + four_body + five_body);
    invariants_ = Invariants<T>(n_angular, four_body, five_body);
    const std::vector<double> outer = reader.numbers("cutoffs", n_species_), inner = reader.numbers("cutoffs", n_species_);
    radial_.read(reader, outer, n_radial, n_radial_basis);
    angular_.read(reader, inner, n_angular, n_angular_basis);
    together_ = outer == inner && l_max_ > 0;
    compact_ = false;
    for (std::size_t pair = 0; pair < radial_.cutoff.size(); pair++) {
      if (angular_.cutoff[pair] > radial_.cutoff[pair]) throw BadParameters("an angular cutoff is above the radial one");
      compact_ = compact_ || angular_.cutoff[pair] < 0.97 * radial_.cutoff[pair];
    }
    cutoff_ = *std::max_element(outer.begin(), outer.end());
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  int n_features() const { return n_features_; }

  struct Scratch {
    explicit Scratch(const RadialAngularSums& f)
        : moments(std::size_t(f.angular_.n) * (f.n_harmonics() + 1)),
          basis(std::size_t(f.n_species_) * f.radial_.n_basis), weights(std::size_t(f.n_species_) * f.radial_.n_basis),
          values(CHUNK * (f.longest_basis() + 1)),
          mixed(GROUP * f.longest_basis()),
          harmonics(CHUNK * f.n_harmonics() + 1), sums(GROUP * f.n_harmonics() + 1), contracted(GROUP * f.angular_.n) {}
    Buffer<V> moments;             // [lm][n] a, then dE/da
    Buffer<V> basis, weights;      // [z_j][k] sums of f_k over neighbours, and dE/df_k
    Buffer<V> values;              // [CHUNK][k] f
    Buffer<V> mixed;               // [GROUP][k] dE/df
    Buffer<V> harmonics;           // [CHUNK][lm]
    Buffer<V> sums, contracted;    // [GROUP][lm] dE/dH and [GROUP][n] dE/dg
    Buffer<V> functions;           // [row][n] g of the angular rows
    Buffer<V> inverse, y;          // [row] 1/r and 1 - r / r_c of the angular rows
    NearRows<T> near;              // the angular rows, where they are others than those of the block
  };

 protected:
  // q [n_features] of a block; gives the rows of the angular features, for `differentiate`
  Rows<T> sum_up(const Block<T>& block, Scratch& s, V* q) const {
    std::fill(q, q + n_features_, V{});
    std::fill(s.basis.data(), s.basis.data() + s.basis.size(), V{});
    if (!together_) add_radial(block, s);
    const Rows<T> rows = angular_rows(block, s);
    in_degree([&](auto degree) {
      constexpr int L = decltype(degree)::value;
      add_angular<L>(block.species, rows, s);
      invariants_.template values<L>(s.moments.data(), q + radial_.n);
    });
    mix_radial(block, s.basis.data(), q);
    return rows;
  }

  // dE/dr of all rows, from dE/dq [n_features]; once after each `sum_up`, whose moments it uses up
  void differentiate(const Block<T>& block, const Rows<T>& rows, Scratch& s, const V* dq) const {
    for (V* g : {block.gx, block.gy, block.gz}) std::fill(g, g + block.n_rows, V{});
    for (int kind = 0; kind < n_species_; kind++)
      if (block.begin[kind] < block.begin[kind + 1]) {
        V* const weights = &s.weights[std::size_t(kind) * radial_.n_basis];
        std::fill(weights, weights + radial_.n_basis, V{});
        multiply_add<T>(radial_.functions_of(block.species, kind), radial_.n_basis, radial_.n, dq, weights);
      }
    if (!together_) differentiate_radial(block, s);
    in_degree([&](auto degree) {
      constexpr int L = decltype(degree)::value;
      invariants_.template pull<L>(s.moments.data(), dq + radial_.n);
      differentiate_angular<L>(block, rows, s);
    });
  }

  // Calls function(l_max as a constant), unless there are no angular features
  template <class F>
  MLMD_INLINE void in_degree(F&& function) const {
    switch (l_max_) {
      case 1: return function(std::integral_constant<int, 1>());
      case 2: return function(std::integral_constant<int, 2>());
      case 3: return function(std::integral_constant<int, 3>());
      case 4: return function(std::integral_constant<int, 4>());
      case 5: return function(std::integral_constant<int, 5>());
      case 6: return function(std::integral_constant<int, 6>());
      case 7: return function(std::integral_constant<int, 7>());
      case 8: return function(std::integral_constant<int, 8>());
    }
  }

  Rows<T> angular_rows(const Block<T>& block, Scratch& s) const {
    if (compact_ && l_max_) return s.near.move(block, n_species_, &angular_.cutoff[angular_.pair(block.species, 0)]);
    return {block.n_rows, block.begin, block.x, block.y, block.z, block.r};
  }

  // From sums of f_k, by species of the neighbours, to those of g_n
  void mix_radial(const Block<T>& block, const V* basis, V* q) const {
    for (int kind = 0; kind < n_species_; kind++)
      if (block.begin[kind] < block.begin[kind + 1])
        multiply_add<T>(radial_.basis_of(block.species, kind), radial_.n, radial_.n_basis,
                        basis + std::size_t(kind) * radial_.n_basis, q);
  }

  int n_harmonics() const { return l_max_ * l_max_ + 2 * l_max_; }
  int longest_basis() const { return std::max(radial_.n_basis, angular_.n_basis); }

  int n_species_, l_max_, n_features_;
  bool together_;  // the cutoffs are the same: one evaluation of the polynomials serves both kinds of features
  bool compact_;   // the angular cutoffs are so much smaller that their rows are moved together
  double cutoff_;
  RadialFunctions<T> radial_, angular_;
  Invariants<T> invariants_;

 private:
  void add_radial(const Block<T>& block, Scratch& s) const {
    for (int kind = 0; kind < n_species_; kind++) {
      const T cutoff = radial_.cutoff_of(block.species, kind);
      Basis::in_groups(block.begin[kind], block.begin[kind + 1], [&](auto group, int row) {
        constexpr int R = decltype(group)::value;
        V y[R];
        for (int i = 0; i < R; i++) y[i] = Basis::reduced(block.r[row + i], cutoff);
        Basis::template add_values<R>(y, radial_.n_basis, &s.basis[std::size_t(kind) * radial_.n_basis]);
      });
    }
  }

  void differentiate_radial(const Block<T>& block, Scratch& s) const {
    for (int kind = 0; kind < n_species_; kind++) {
      if (block.begin[kind] == block.begin[kind + 1]) continue;
      const T cutoff = radial_.cutoff_of(block.species, kind), rate = T(-1) / cutoff;
      V *const p = &s.weights[std::size_t(kind) * radial_.n_basis], *const d = s.mixed.data();
      Basis::as_series(radial_.n_basis, p, d);
      Basis::in_groups(block.begin[kind], block.begin[kind + 1], [&](auto group, int first) {
        constexpr int R = decltype(group)::value;
        V y[R], by_y[R];
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) y[i] = Basis::reduced(block.r[first + i], cutoff);
        Basis::template series_slopes<R>(y, radial_.n_basis, p, d, by_y);
#pragma GCC unroll 4
        for (int i = 0; i < R; i++) {
          const int row = first + i;
          const V along = rate * by_y[i] / block.r[row];
          block.gx[row] = along * block.x[row], block.gy[row] = along * block.y[row], block.gz[row] = along * block.z[row];
        }
      });
    }
  }

  // The moments, and the functions g_n of all rows
  template <int L>
  void add_angular(int species, const Rows<T>& rows, Scratch& s) const {
    using H = Harmonics<T, L>;
    const int n = angular_.n, n_both = together_ ? longest_basis() : angular_.n_basis, stride = longest_basis() + 1;
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
        s.y[row] = Basis::reduced(rows.r[row], angular_.cutoff_of(species, of));
        const typename H::Parts parts(rows.x[row] * inverse, rows.y[row] * inverse, rows.z[row] * inverse);
        H::values(parts, &s.harmonics[std::size_t(row - first) * H::N]);
      }
      Basis::in_groups(first, end, [&](auto group, int row) {
        Basis::template values<decltype(group)::value>(&s.y[row], n_both, f + (row - first) * stride, stride);
      });
      for (int row = first, last; row < end; row = last) {  // those of one species at once
        while (row >= rows.begin[kind + 1]) kind++;
        last = std::min(end, rows.begin[kind + 1]);
        const V* const own = f + (row - first) * stride;
        if (together_) {
          V* const sum = &s.basis[std::size_t(kind) * radial_.n_basis];
          for (int k = 0; k < radial_.n_basis; k++)
            for (int i = 0; i < last - row; i++) sum[k] += own[i * stride + k];
        }
        multiply_rows<T>(angular_.basis_of(species, kind), n, angular_.n_basis, last - row, own, stride,
                         &s.functions[std::size_t(row) * n], n);
      }
      add_outer<T>(&s.functions[std::size_t(first) * n], s.harmonics.data(), end - first, n, H::N, a);
    }
  }

  template <int L>
  void differentiate_angular(const Block<T>& block, const Rows<T>& rows, Scratch& s) const {
    using H = Harmonics<T, L>;
    const int n = angular_.n, n_both = together_ ? longest_basis() : angular_.n_basis;
    int kind = 0;
    Basis::in_groups(0, rows.n, [&](auto group, int first) {
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
        V* const weight = &s.mixed[std::size_t(i) * n_both];
        multiply_rows<T>(angular_.functions_of(block.species, kind), angular_.n_basis, n, last - i,
                         &s.contracted[std::size_t(i) * n], n, weight, n_both);
        if (together_) add_radial_weights(&s.weights[std::size_t(kind) * radial_.n_basis], last - i, n_both, weight);
        std::fill(rate + i, rate + last, T(-2 / angular_.cutoff[angular_.pair(block.species, kind)]));
      }
      V slope[R];
      Basis::template slopes<R>(&s.y[first], n_both, s.mixed.data(), n_both, slope);
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
    if (compact_) {
      s.near.add(gx, row, block.gx), s.near.add(gy, row, block.gy), s.near.add(gz, row, block.gz);
    } else {
      block.gx[row] += gx, block.gy[row] += gy, block.gz[row] += gz;
    }
  }
};

}  // namespace mlmd
