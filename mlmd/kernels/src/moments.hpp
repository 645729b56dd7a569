// Moment tensor potentials (Shapeev, Multiscale Model. Simul. 14, 1153, 2016).
//
//   E_i = c0[z_i] + sum_alpha xi_alpha B_alpha,   m[mu, a, b, c] = sum_j f_mu(r_ij) x^a y^b z^c,   (x, y, z) = r_ij / r
//   f_mu(r; z_i, z_j) = s sum_beta c[z_i, z_j, mu, beta] T_beta((2r - r_min - r_c) / (r_c - r_min)) (r_c - r)^2
//
// The B_alpha are moments made by products, m[t] += c m[a] m[b]. With the coefficients known, the products whose target
// is used no further are one quadratic form, E = sum of c m[a] m[b], of which energy and derivatives are one pass; products
// that differ in such a target only are one. The others stand by their targets, so that a sum and, on the way back, the
// derivative by it stay in a register.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "kernel.hpp"
#include "moment_sums.hpp"

namespace mlmd {

template <class T>
class Moments {
 public:
  using V = Vector<T>;
  static constexpr int CHUNK = MomentSums<T>::CHUNK;

  // integers: n_species, n_functions, n_chebyshev, n_basic, n_products, n_scalars, then (mu, a, b, c) of the basic
  // moments, (first, second, c, target) of the products, scalars.
  // numbers: cutoff, r_min, s, c [z_i][z_j][mu][beta], xi [n_scalars], c0 [n_species].
  explicit Moments(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    n_functions_ = int(reader.integer("n_functions", 1, 64));
    n_chebyshev_ = int(reader.integer("n_chebyshev", 1, 256));
    const auto n_basic = reader.integer("n_basic", 1, 1 << 20), n_products = reader.integer("n_products", 0, 1 << 24),
               n_scalars = reader.integer("n_scalars", 1, 1 << 20);
    const std::vector<std::int64_t> place = read_basic(reader, n_basic);
    products_ = read_products(reader, n_products, n_basic, place);
    scalars_.resize(n_scalars);
    for (auto& one : scalars_) one = placed(reader.integer("scalar", 0, n_basic + n_products), n_basic, place);
    cutoff_ = reader.positive("cutoff");
    const double shortest = reader.number("min_distance"), scaling = reader.number("scaling");
    if (!(shortest < cutoff_)) throw BadParameters("min_distance is not below the cutoff");
    middle_ = T(shortest + cutoff_), rate_ = T(2 / (cutoff_ - shortest)), scaling_ = scaling;
    for (double c : reader.numbers("radial", std::int64_t(n_species_) * n_species_ * n_functions_ * n_chebyshev_))
      radial_.push_back(T(scaling * c));
    const std::vector<double> weights = reader.numbers("coefficients", n_scalars);
    for (double c : reader.numbers("constants", n_species_)) constant_.push_back(c);
    arrange(products_, scalars_, weights);
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  double constant(int species) const { return constant_[species]; }

  struct Scratch {
    explicit Scratch(const Moments& family)
        : moments(family.n_moments_), adjoints(family.n_moments_), sums(family.sums_.n_sums()),
          powers(std::size_t(family.sums_.n_values()) * CHUNK), rest(std::size_t(family.rank_ + 1) * CHUNK),
          heights(std::size_t(family.n_functions_) * CHUNK) {}
    Buffer<V> moments, adjoints;  // [n_moments]
    Buffer<V> sums;               // [n_sums] of the basic moments, then the derivatives by them
    Buffer<V> powers, rest;       // [n_values][CHUNK] products of unit vectors, and room for their derivatives
    Buffer<V> heights;            // [n_functions][CHUNK] the derivative by f
    Buffer<V> functions;          // [chunk of rows][f, df/dr][n_functions][CHUNK]
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    sum_up(block, s);
    const V energy = contract(s.moments.data(), s.adjoints.data());
    differentiate(block, s);
    return energy;
  }

 protected:  // what features and design rows are made of too
  struct Product {
    std::int64_t first, second, target;
    double coefficient;
  };

  // -- tables -------------------------------------------------------------------------------------------------------

  static int n_monomials(int rank) { return MomentSums<T>::n_powers(rank); }
  static int monomial(int a, int b, int c) { return MomentSums<T>::power(a, b, c); }

  // Every function gets all monomials up to its highest rank, so that rows are contiguous; gives the new places
  std::vector<std::int64_t> read_basic(Reader& reader, std::int64_t n_basic) {
    std::vector<std::array<int, 2>> basic;
    std::vector<int> rank(n_functions_, -1);
    for (std::int64_t k = 0; k < n_basic; k++) {
      const int mu = int(reader.integer("mu", 0, n_functions_ - 1));
      int power[3];
      for (int& one : power) one = int(reader.integer("power", 0, 40));
      if (power[0] + power[1] + power[2] > 40) throw BadParameters("a moment has a rank above 40");
      rank[mu] = std::max(rank[mu], power[0] + power[1] + power[2]);
      basic.push_back({mu, monomial(power[0], power[1], power[2])});
    }
    first_.push_back(0);
    for (int mu = 0; mu < n_functions_; mu++) {
      rank_ = std::max(rank_, rank[mu]);
      first_.push_back(first_.back() + n_monomials(rank[mu]));
    }
    n_basic_ = first_.back();
    n_monomials_ = n_monomials(rank_);
    sums_.plan(rank, first_);
    std::vector<std::int64_t> place;
    for (auto [mu, which] : basic) place.push_back(first_[mu] + which);
    return place;
  }

  std::int64_t placed(std::int64_t moment, std::int64_t n_basic, const std::vector<std::int64_t>& place) const {
    return moment < n_basic ? place[moment] : moment - n_basic + n_basic_;
  }

  std::vector<Product> read_products(Reader& reader, std::int64_t count, std::int64_t n_basic,
                                     const std::vector<std::int64_t>& place) {
    const std::int64_t last = n_basic + count;  // there cannot be more moments than that
    std::vector<Product> products(count);
    for (Product& one : products) {
      one.first = placed(reader.integer("first", 0, last), n_basic, place);
      one.second = placed(reader.integer("second", 0, last), n_basic, place);
      one.coefficient = double(reader.integer("coefficient", -(std::int64_t(1) << 40), std::int64_t(1) << 40));
      one.target = placed(reader.integer("target", n_basic, last), n_basic, place);
    }
    return products;
  }

  // Divide the products into those whose target goes on (inner) and the quadratic form of the last ones
  void arrange(std::vector<Product> products, const std::vector<std::int64_t>& scalars,
               const std::vector<double>& weights) {
    std::int64_t n_all = n_basic_;
    for (const Product& one : products) n_all = std::max({n_all, one.first + 1, one.second + 1, one.target + 1});
    for (std::int64_t one : scalars) n_all = std::max(n_all, one + 1);
    std::vector<double> weight(n_all, 0.0);
    for (std::size_t k = 0; k < scalars.size(); k++) weight[scalars[k]] += weights[k];
    std::vector<bool> is_operand(n_all, false), is_made(n_all, false);
    std::vector<int> depth(n_all, 0);
    for (const Product& one : products) {
      if (is_operand[one.target]) throw BadParameters("a moment is used before it is complete");
      is_operand[one.first] = is_operand[one.second] = is_made[one.target] = true;
      depth[one.target] = std::max(depth[one.target], 1 + std::max(depth[one.first], depth[one.second]));
    }
    for (std::int64_t k = n_basic_; k < n_all; k++)
      if (is_operand[k] && !is_made[k]) throw BadParameters("a moment is used that nothing makes");
    // moments that go on keep a place, the others only lend their weight to their products
    std::vector<std::int64_t> kept(n_all, -1);
    n_moments_ = n_basic_;
    for (std::int64_t k = 0; k < n_all; k++) kept[k] = k < n_basic_ ? k : is_operand[k] ? n_moments_++ : -1;
    std::map<std::pair<int, int>, double> form;
    std::vector<Product> inner;
    for (Product& one : products) {
      const std::int64_t target = one.target;
      one.first = kept[one.first], one.second = kept[one.second];
      if (kept[target] >= 0) {
        one.target = kept[target];
        inner.push_back(one);
      } else if (const double c = weight[target] * one.coefficient; c != 0) {
        form[std::minmax(int(one.first), int(one.second))] += c;
      }
    }
    std::vector<int> new_depth(n_moments_, 0);
    for (std::int64_t k = 0; k < n_all; k++)
      if (kept[k] >= 0) new_depth[kept[k]] = depth[k];
    std::stable_sort(inner.begin(), inner.end(), [&](const Product& a, const Product& b) {
      return std::make_tuple(new_depth[a.target], a.target) < std::make_tuple(new_depth[b.target], b.target);
    });
    for (const Product& one : inner) {
      if (targets_.empty() || targets_.back().moment != int(one.target)) targets_.push_back({int(one.target), 0});
      inner_.push_back({int(one.first), int(one.second), T(one.coefficient)});
      targets_.back().end = int(inner_.size());
    }
    // no moment twice in a row: a sum that was just stored takes long to load
    std::vector<std::tuple<int, int, int, double>> last;
    std::map<int, int> seen;
    for (const auto& [pair, c] : form) last.emplace_back(seen[pair.first]++, pair.first, pair.second, c);
    std::sort(last.begin(), last.end());
    for (const auto& [turn, a, b, c] : last) last_.push_back({a, b, T(c)});
    linear_.assign(n_moments_, T(0));
    for (std::int64_t k = 0; k < n_all; k++)
      if (kept[k] >= 0) linear_[kept[k]] += T(weight[k]);
  }

  // -- atoms --------------------------------------------------------------------------------------------------------

  // Energy of the moments, and its derivative by each of them
  V contract(V* m, V* adjoint) const {
    const Pair* one = inner_.data();
    for (const Target& target : targets_) {
      const Pair* const end = inner_.data() + target.end;
      V sum{}, other{};  // two, since an addition waits for the one before
      for (; one + 1 < end; one += 2) {
        sum += one[0].coefficient * (m[one[0].first] * m[one[0].second]);
        other += one[1].coefficient * (m[one[1].first] * m[one[1].second]);
      }
      if (one < end) sum += one->coefficient * (m[one->first] * m[one->second]), one++;
      m[target.moment] = sum + other;
    }
    V energy{};
    for (int k = 0; k < n_moments_; k++) {
      adjoint[k] = broadcast<T>(linear_[k]);
      energy += linear_[k] * m[k];
    }
    for (const Pair& pair : last_) {
      const V a = pair.coefficient * m[pair.first], b = m[pair.second];
      energy += a * b;
      adjoint[pair.first] += pair.coefficient * b;
      adjoint[pair.second] += a;
    }
    for (int t = int(targets_.size()) - 1; t >= 0; t--) {
      const V outer = adjoint[targets_[t].moment];
      const Pair* const end = inner_.data() + targets_[t].end;
      for (const Pair* pair = inner_.data() + (t ? targets_[t - 1].end : 0); pair < end; pair++) {
        const V scaled = pair->coefficient * outer;
        adjoint[pair->first] += scaled * m[pair->second];
        adjoint[pair->second] += scaled * m[pair->first];
      }
    }
    return energy;
  }

  // -- neighbours ---------------------------------------------------------------------------------------------------

  // The basic moments; functions of the distances are kept for `differentiate`
  void sum_up(const Block<T>& block, Scratch& s) const {
    const std::size_t n_chunks = (std::size_t(block.n_rows) + CHUNK - 1) / CHUNK, size = std::size_t(n_functions_) * CHUNK;
    s.functions.reserve(n_chunks * 2 * size);
    if (n_chunks) {  // behind the last row f is zero
      V* const last = &s.functions[(n_chunks - 1) * 2 * size];
      std::fill(last, last + 2 * size, V{});
    }
    for (int kind = 0; kind < n_species_; kind++) {
      const T* const c = &radial_[(std::size_t(block.species) * n_species_ + kind) * n_functions_ * n_chebyshev_];
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        V* const f = &s.functions[std::size_t(row / CHUNK) * 2 * size + row % CHUNK];
        radial(block.r[row], c, f, f + size);
      }
    }
    std::fill(s.sums.data(), s.sums.data() + sums_.n_sums(), V{});
    for (std::size_t chunk = 0; chunk < n_chunks; chunk++) {
      V unused[CHUNK];
      sums_.values(directions(block, int(chunk) * CHUNK, unused), s.powers.data());
      sums_.add(&s.functions[chunk * 2 * size], s.powers.data(), s.sums.data());
    }
    sums_.expand(s.sums.data(), s.moments.data());
  }

  // The gradient of the block from the adjoints of the basic moments, after `sum_up`
  void differentiate(const Block<T>& block, Scratch& s) const {
    const std::size_t size = std::size_t(n_functions_) * CHUNK;
    sums_.fold(s.adjoints.data(), s.sums.data());
    for (int row = 0; row < block.n_rows; row += CHUNK) {
      const V *const f = &s.functions[std::size_t(row / CHUNK) * 2 * size], *const rates = f + size;
      V inverse[CHUNK], gx[CHUNK], gy[CHUNK], gz[CHUNK], along[CHUNK] = {};
      const typename MomentSums<T>::Directions u = directions(block, row, inverse);
      sums_.values(u, s.powers.data());
      sums_.differentiate(u, f, s.powers.data(), s.sums.data(), s.heights.data(), s.rest.data(), gx, gy, gz);
      for (int mu = 0; mu < n_functions_; mu++)
#pragma GCC unroll 4
        for (int c = 0; c < CHUNK; c++) along[c] += rates[mu * CHUNK + c] * s.heights[mu * CHUNK + c];
      const int count = std::min(CHUNK, block.n_rows - row);
      for (int c = 0; c < count; c++) {
        // the derivative by the unit vector counts only at right angles to it, and 1/r times
        const V radially = gx[c] * u.x[c] + gy[c] * u.y[c] + gz[c] * u.z[c];
        const V rest = along[c] - radially * inverse[c];
        block.gx[row + c] = gx[c] * inverse[c] + rest * u.x[c];
        block.gy[row + c] = gy[c] * inverse[c] + rest * u.y[c];
        block.gz[row + c] = gz[c] * inverse[c] + rest * u.z[c];
      }
    }
  }

  // Unit vectors of CHUNK rows, zero behind the last, and 1/r
  static MLMD_INLINE typename MomentSums<T>::Directions directions(const Block<T>& block, int row, V* inverse) {
    typename MomentSums<T>::Directions u;
#pragma GCC unroll 4
    for (int c = 0; c < CHUNK; c++) {
      const bool there = row + c < block.n_rows;
      const int from = there ? row + c : row;
      inverse[c] = (there ? T(1) : T(0)) / block.r[from];
      u.x[c] = block.x[from] * inverse[c], u.y[c] = block.y[from] * inverse[c], u.z[c] = block.z[from] * inverse[c];
    }
    return u;
  }

  // f_mu and df_mu/dr at a distance, into every CHUNK-th place
  MLMD_INLINE void radial(V r, const T* c, V* f, V* rates) const {
    const V x = (T(2) * r - middle_) * (rate_ * T(0.5)), left = max(T(cutoff_) - r, V{});
    V value = left * left, slope = T(-2) * left;
    V next = value * x, next_slope = slope * x + rate_ * value;
    for (int mu = 0; mu < n_functions_; mu++) {
      const T* const row = c + std::size_t(mu) * n_chebyshev_;
      const T first = row[0], second = n_chebyshev_ > 1 ? row[1] : T(0);
      f[mu * CHUNK] = first * value + second * next;
      rates[mu * CHUNK] = first * slope + second * next_slope;
    }
    for (int beta = 2; beta < n_chebyshev_; beta++) {
      const V after = T(2) * x * next - value, after_slope = T(2) * (x * next_slope + rate_ * next) - slope;
      for (int mu = 0; mu < n_functions_; mu++) {
        const T weight = c[std::size_t(mu) * n_chebyshev_ + beta];
        f[mu * CHUNK] += weight * after;
        rates[mu * CHUNK] += weight * after_slope;
      }
      value = next, next = after, slope = next_slope, next_slope = after_slope;
    }
  }

  struct Pair {
    int first, second;
    T coefficient;
  };
  struct Target {
    int moment, end;  // of its pairs
  };

  std::vector<Product> products_;        // all, in an order in which operands are complete
  std::vector<std::int64_t> scalars_;    // moments that are the B_alpha
  int n_species_, n_functions_, n_chebyshev_, n_basic_ = 0, n_moments_ = 0, n_monomials_ = 0, rank_ = 0;
  double cutoff_, scaling_;
  T middle_, rate_;
  std::vector<T> radial_;
  std::vector<double> constant_;
  std::vector<int> first_;     // [n_functions + 1] where the moments of a function begin
  std::vector<T> linear_;      // [n_moments] weight of a moment in the energy
  std::vector<Target> targets_;  // moments that go on, by depth, and
  std::vector<Pair> inner_;      // the products they are sums of
  std::vector<Pair> last_;       // the quadratic form
  MomentSums<T> sums_;
};

}  // namespace mlmd
