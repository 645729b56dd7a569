// Networks of atom-centred symmetry functions (Behler, J. Chem. Phys. 134, 074106, 2011), as n2p2 counts them: every pair
// of neighbours once.
//
//   E_i = network of x,  x = (G - offset) factor
//   G1 = sum_j f,  G2 = sum_j exp(-eta (r_ij - r_s)^2) f,  G3 = sum_j cos(kappa r_ij) f
//   G4 = 2^(1 - zeta) sum_{j < k} (1 + lambda cos theta)^zeta A(r_ij) A(r_ik) A(r_jk),  A(r) = exp(-eta (r - r_s)^2) f(r)
//   G5 = the same without A(r_jk)
//
// with an eta for each side, and each over neighbours of one species or pair of species, with a weight; a feature may have
// several such terms.
//
// Of the triplets of a pair of species, the products of A are worked out once for every (cutoff, etas, r_s) and kind of
// function, and the powers once for every (lambda, zeta). For neighbours j and 16 k, the sums over k for all products and
// powers are then one small product of matrices, and so is the derivative by both.
#pragma once

#include <algorithm>
#include <cmath>

#include "layers.hpp"
#include "reached_rows.hpp"
#include "tapers.hpp"

namespace mlmd {

template <class T>
class Symmetry {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;
  static constexpr int CHUNK = 16;  // neighbours k that are worked on together

  // integers: n_species, n_features, taper; n_radial, of each its centre, neighbour, column and kind (1, 2, 3);
  // n_angular, of each its centre, two neighbours (ascending), column, narrow; then those of the network.
  // numbers: cutoff, onset as a fraction; of each radial term cutoff, eta or kappa, r_s, weight; of each angular one
  // cutoff, eta of ij, of ik and of jk, r_s, zeta, lambda, weight; offset [z][d], factor [z][d]; then those of the network.
  explicit Symmetry(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    n_features_ = int(reader.integer("n_features", 1, 100000));
    taper_ = Taper(reader.integer("taper", 0, int(Taper::COUNT) - 1));
    cutoff_ = reader.positive("cutoff");
    onset_ = reader.number("onset");
    if (!(onset_ >= 0 && onset_ < 1)) throw BadParameters("the onset of the cutoff function is not a fraction");
    centres_.resize(n_species_);
    for (Centre& one : centres_) one.radial.resize(n_species_), one.reach.resize(n_species_);
    for (std::int64_t left = reader.integer("radial terms", 0, 1000000); left > 0; left--) read_radial(reader);
    for (std::int64_t left = reader.integer("angular terms", 0, 1000000); left > 0; left--) read_angular(reader);
    const std::int64_t size = std::int64_t(n_species_) * n_features_;
    for (double one : reader.numbers("offset", size)) offset_.push_back(T(one));
    for (double one : reader.numbers("factor", size)) factor_.push_back(T(one));
    network_.read(reader, n_species_, n_features_);
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  double constant(int species) const { return network_.constant(species); }

  struct Scratch {
    explicit Scratch(const Symmetry& f) : features(f.n_features_), hidden(f.network_.n_scratch()) {
      std::size_t groups = 1, angles = 1, thirds = 1, sums = 1;
      for (const Centre& c : f.centres_) {
        std::size_t own = 0;
        for (const Triplets& t : c.triplets) {
          groups = std::max(groups, t.groups.size()), angles = std::max(angles, t.angles.size());
          thirds = std::max(thirds, t.thirds.size());
          own += t.groups.size() * t.angles.size();
        }
        sums = std::max(sums, own);
      }
      for (Buffer<V>* one : {&products, &by_product}) one->reserve(CHUNK * groups);
      for (Buffer<V>* one : {&powers, &turns, &by_power}) one->reserve(CHUNK * angles);
      for (Buffer<V>* one : {&third, &dthird}) one->reserve(CHUNK * thirds);
      this->sums.reserve(sums);
    }
    Buffer<V> features, hidden;        // [d] G, x, then dE/dG; of the network
    Buffer<V> gaussians;               // of the radial terms [term][row]
    Buffer<V> taper, dtaper;           // [row] f and f'
    ReachedRows<T> near;
    Buffer<V> side, dside;             // [row of near][side] A and A'
    Buffer<V> cosine, apart;           // [CHUNK] cos theta, and r_jk
    Buffer<V> powers, turns;           // [CHUNK][angle] 2 ((1 + lambda cos theta) / 2)^zeta, and its derivative
    Buffer<V> products;                // [CHUNK][group] products of A
    Buffer<V> third, dthird;           // [CHUNK][third] A(r_jk), A'(r_jk)
    Buffer<V> by_power, by_product;    // derivatives of the energy by these
    Buffer<V> sums;                    // of all pairs of species [angle][group], then the derivative by them
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    sum_up(block, s);
    const V energy = network_.energy(block.species, s.features.data(), s.hidden.data());
    differentiate(block, s);
    return energy;
  }

 protected:
  struct Radial {
    int kind, column;
    T parameter, shift, weight;  // parameter: eta, or kappa
  };
  struct SameCutoff {
    T cutoff, rate;
    std::vector<Radial> terms;
  };
  struct Side {  // A(r)
    T cutoff, eta, shift, rate;
    bool operator==(const Side& o) const { return cutoff == o.cutoff && eta == o.eta && shift == o.shift; }
  };
  struct Group {
    int first, second, third;  // places among the sides of the centre, and among the thirds or -1
    bool operator==(const Group& o) const { return first == o.first && second == o.second && third == o.third; }
  };
  struct Angle {
    T sign, zeta;
    bool operator==(const Angle& o) const { return sign == o.sign && zeta == o.zeta; }
  };
  struct Member {
    int group, angle, column;
    T weight;
  };
  struct Triplets {  // of neighbours of two species
    int first, second;
    std::vector<Group> groups;
    std::vector<Angle> angles;
    std::vector<Side> thirds;
    std::vector<Member> members;
  };
  struct Centre {
    std::vector<std::vector<SameCutoff>> radial;  // [neighbour]
    std::vector<double> reach;                    // [neighbour] of the triplets
    std::vector<Side> sides;                      // those of one cutoff one after the other
    std::vector<Triplets> triplets;
  };

  // The features x of a block
  void sum_up(const Block<T>& block, Scratch& s) const {
    const Centre& c = centres_[block.species];
    V* const q = s.features.data();
    std::fill(q, q + n_features_, V{});
    add_radial(c, block, s);
    if (!c.triplets.empty()) add_angular(c, block, s);
    const T *const offset = &offset_[std::size_t(block.species) * n_features_], *const factor = factors(block);
    for (int d = 0; d < n_features_; d++) q[d] = (q[d] - offset[d]) * factor[d];
  }

  // The gradients of a block, from those by its features, which stand in their place; after `sum_up`
  void differentiate(const Block<T>& block, Scratch& s) const {
    const Centre& c = centres_[block.species];
    const T* const factor = factors(block);
    for (int d = 0; d < n_features_; d++) s.features[d] *= factor[d];
    differentiate_radial(c, block, s);
    if (!c.triplets.empty()) differentiate_angular(c, block, s);
  }

  const T* factors(const Block<T>& block) const { return &factor_[std::size_t(block.species) * n_features_]; }

  // -- parameters ---------------------------------------------------------------------------------------------------

  template <class List>
  static int place(List& list, const typename List::value_type& one) {
    const auto found = std::find(list.begin(), list.end(), one);
    if (found != list.end()) return int(found - list.begin());
    list.push_back(one);
    return int(list.size()) - 1;
  }

  T rate_of(T cutoff) const { return T(1 / (double(cutoff) * (1 - onset_))); }

  T read_cutoff(Reader& reader) const {
    const double cutoff = reader.positive("cutoff of a term");
    if (cutoff > cutoff_) throw BadParameters("the cutoff of a term is above that of all");
    return T(cutoff);
  }

  void read_radial(Reader& reader) {
    Centre& centre = centres_[reader.integer("centre", 0, n_species_ - 1)];
    auto& of = centre.radial[reader.integer("neighbour", 0, n_species_ - 1)];
    Radial term;
    term.column = int(reader.integer("column", 0, n_features_ - 1)), term.kind = int(reader.integer("kind", 1, 3));
    const T cutoff = read_cutoff(reader);
    term.parameter = T(reader.number("eta")), term.shift = T(reader.number("shift"));
    term.weight = T(reader.number("weight"));
    auto found = std::find_if(of.begin(), of.end(), [&](const SameCutoff& one) { return one.cutoff == cutoff; });
    if (found == of.end()) found = of.insert(of.end(), SameCutoff{cutoff, rate_of(cutoff), {}});
    found->terms.push_back(term);
  }

  void read_angular(Reader& reader) {
    Centre& centre = centres_[reader.integer("centre", 0, n_species_ - 1)];
    const int first = int(reader.integer("neighbour", 0, n_species_ - 1));
    const int second = int(reader.integer("neighbour", first, n_species_ - 1));
    Member member;
    member.column = int(reader.integer("column", 0, n_features_ - 1));
    const bool narrow = reader.integer("narrow", 0, 1);
    Side of_j;
    of_j.cutoff = read_cutoff(reader), of_j.rate = rate_of(of_j.cutoff), of_j.eta = T(reader.number("eta"));
    Side of_k = of_j, between = of_j;
    of_k.eta = T(reader.number("eta")), between.eta = T(reader.number("eta"));
    of_j.shift = of_k.shift = between.shift = T(reader.number("shift"));
    if (first == second && of_j.eta != of_k.eta) throw BadParameters("sides to one species with different eta");
    Angle angle;
    angle.zeta = T(reader.number("zeta")), angle.sign = T(reader.number("lambda"));
    if (!(angle.zeta >= 1 && angle.zeta <= 1024 && angle.sign >= -1 && angle.sign <= 1))
      throw BadParameters("zeta or lambda out of range");
    member.weight = T(reader.number("weight"));
    auto found = std::find_if(centre.triplets.begin(), centre.triplets.end(),
                              [&](const Triplets& one) { return one.first == first && one.second == second; });
    if (found == centre.triplets.end())
      found = centre.triplets.insert(centre.triplets.end(), Triplets{first, second, {}, {}, {}, {}});
    const int side = place(centre.sides, of_j);
    const Group group{side, place(centre.sides, of_k), narrow ? place(found->thirds, between) : -1};
    member.group = place(found->groups, group), member.angle = place(found->angles, angle);
    found->members.push_back(member);
    for (int kind : {first, second}) centre.reach[kind] = std::max(centre.reach[kind], double(of_j.cutoff));
  }

  // -- radial terms -------------------------------------------------------------------------------------------------

  // cos(x) and sin(x) of any x
  static MLMD_INLINE V cosine_of(V x) { return by_lane(x, [](T one) { return std::cos(one); }); }
  static MLMD_INLINE V sine_of(V x) { return by_lane(x, [](T one) { return std::sin(one); }); }

  void add_radial(const Centre& c, const Block<T>& block, Scratch& s) const {
    std::size_t size = 0;
    for (int kind = 0; kind < n_species_; kind++)
      for (const SameCutoff& of : c.radial[kind])
        size += of.terms.size() * std::size_t(block.begin[kind + 1] - block.begin[kind]);
    s.gaussians.reserve(size);
    s.taper.reserve(block.n_rows), s.dtaper.reserve(block.n_rows);
    V* values = s.gaussians.data();
    for (int kind = 0; kind < n_species_; kind++) {
      const int begin = block.begin[kind], n = block.begin[kind + 1] - begin;
      if (!n) continue;
      const V* const r = block.r + begin;
      for (const SameCutoff& of : c.radial[kind]) {
        V* const f = s.taper.data();
        tapers<T>(taper_, r, n, of.cutoff, of.rate, f, s.dtaper.data());
        for (const Radial& term : of.terms) {
          V sum{};
          if (term.kind == 2)
            for (int k = 0; k < n; k++) {
              const V way = r[k] - term.shift;
              values[k] = decay<T>(term.parameter * way * way);
              sum += values[k] * f[k];
            }
          else
            for (int k = 0; k < n; k++) {
              values[k] = term.kind == 3 ? cosine_of(term.parameter * r[k]) : broadcast<T>(T(1));
              sum += values[k] * f[k];
            }
          s.features[term.column] += term.weight * sum;
          values += n;
        }
      }
    }
  }

  // Calls function(term, first row, number of rows, k -> slope of its part of the k-th of them); after `add_radial`
  template <class F>
  MLMD_INLINE void with_slopes(const Centre& c, const Block<T>& block, Scratch& s, F&& function) const {
    const V* values = s.gaussians.data();
    for (int kind = 0; kind < n_species_; kind++) {
      const int begin = block.begin[kind], n = block.begin[kind + 1] - begin;
      if (!n) continue;
      const V* const r = block.r + begin;
      for (const SameCutoff& of : c.radial[kind]) {
        V *const f = s.taper.data(), *const df = s.dtaper.data();
        tapers<T>(taper_, r, n, of.cutoff, of.rate, f, df);
        for (const Radial& term : of.terms) {
          const T parameter = term.parameter, shift = term.shift, rate = term.kind == 2 ? T(-2) * parameter : T(0);
          if (term.kind == 3)
            function(term, begin, n, [&](int k) { return values[k] * df[k] - parameter * sine_of(parameter * r[k]) * f[k]; });
          else
            function(term, begin, n, [&](int k) { return values[k] * (df[k] + rate * (r[k] - shift) * f[k]); });
          values += n;
        }
      }
    }
  }

  void differentiate_radial(const Centre& c, const Block<T>& block, Scratch& s) const {
    for (V* g : {block.gx, block.gy, block.gz}) std::fill(g, g + block.n_rows, V{});
    V* const along = block.gx;  // dE/dr first
    with_slopes(c, block, s, [&](const Radial& term, int begin, int n, auto&& slope) {
      const V weight = term.weight * s.features[term.column];
      for (int k = 0; k < n; k++) along[begin + k] += weight * slope(k);
    });
    for (int k = 0; k < block.n_rows; k++) {
      const V scale = along[k] / block.r[k];
      block.gx[k] = scale * block.x[k], block.gy[k] = scale * block.y[k], block.gz[k] = scale * block.z[k];
    }
  }

  // -- angular terms ------------------------------------------------------------------------------------------------

  // A and A' of some sides at n distances, [distance][side]
  template <bool SLOPES>
  void sides_at(const std::vector<Side>& sides, const V* r, int n, V* f, V* df, V* value, V* slope) const {
    const int n_sides = int(sides.size());
    for (int i = 0; i < n_sides; i++) {
      const T eta = sides[i].eta, shift = sides[i].shift;
      if (i == 0 || sides[i].cutoff != sides[i - 1].cutoff)
        tapers<T>(taper_, r, n, sides[i].cutoff, sides[i].rate, f, df);
      for (int k = 0; k < n; k++) {
        const V way = r[k] - shift, scaled = eta * way, gauss = decay<T>(scaled * way);
        value[k * n_sides + i] = gauss * f[k];
        if (SLOPES) slope[k * n_sides + i] = gauss * (df[k] - T(2) * scaled * f[k]);
      }
    }
  }

  // Calls function(pair of species, sums of it, j, first k, number of k) for all triplets
  template <class F>
  MLMD_INLINE void for_triplets(const Centre& c, const ReachedRows<T>& near, V* sums, F&& function) const {
    for (const Triplets& t : c.triplets) {
      const bool same = t.first == t.second;
      for (int j = near.begin[t.first]; j < near.begin[t.first + 1]; j++)
        for (int k = same ? j + 1 : near.begin[t.second], end = near.begin[t.second + 1]; k < end; k += CHUNK)
          function(t, sums, j, k, std::min(CHUNK, end - k));
      sums += t.groups.size() * t.angles.size();
    }
  }

  // Angles, products and powers of the triplets of j and n neighbours from k
  template <bool SLOPES>
  void work_out(const Triplets& t, int n_sides, int j, int k, int n, Scratch& s) const {
    const ReachedRows<T>& near = s.near;
    const int n_angles = int(t.angles.size()), n_groups = int(t.groups.size()), n_thirds = int(t.thirds.size());
    V* const cosine = s.cosine.data();
    const V ux = near.ux[j], uy = near.uy[j], uz = near.uz[j];
    for (int i = 0; i < n; i++) cosine[i] = ux * near.ux[k + i] + uy * near.uy[k + i] + uz * near.uz[k + i];
    for (int m = 0; m < n_angles; m++) {
      const T half = T(0.5) * t.angles[m].sign, zeta = t.angles[m].zeta, rate = t.angles[m].sign * zeta;
      V *const power = s.powers.data() + m, *const turn = s.turns.data() + m;
      with_power(zeta - T(1), [&](auto raised) {
        for (int i = 0; i < n; i++) {
          const V base = max(T(0.5) + half * cosine[i], V{}), lower = raised(base);
          power[i * n_angles] = T(2) * base * lower;
          if (SLOPES) turn[i * n_angles] = rate * lower;
        }
      });
    }
    if (n_thirds) {
      const V x = near.x[j], y = near.y[j], z = near.z[j];
      for (int i = 0; i < n; i++) {
        const V dx = near.x[k + i] - x, dy = near.y[k + i] - y, dz = near.z[k + i] - z;
        s.apart[i] = sqrt(max(dx * dx + dy * dy + dz * dz, broadcast<T>(T(1e-12))));  // padding is in one place
      }
      sides_at<SLOPES>(t.thirds, s.apart.data(), n, s.taper.data(), s.dtaper.data(), s.third.data(), s.dthird.data());
    }
    const V* const of_j = &s.side[std::size_t(j) * n_sides];
    for (int g = 0; g < n_groups; g++) {
      const Group& group = t.groups[g];
      const V* const of_k = &s.side[std::size_t(k) * n_sides] + group.second;
      const V own = of_j[group.first];
      V* const product = s.products.data() + g;
      if (group.third < 0)
        for (int i = 0; i < n; i++) product[i * n_groups] = own * of_k[i * n_sides];
      else
        for (int i = 0; i < n; i++) product[i * n_groups] = own * of_k[i * n_sides] * s.third[i * n_thirds + group.third];
    }
  }

  // Calls function(x -> x^p) for x from 0 to 1; products where p is a whole number, without a loop where it is small
  template <int P = 15, class F>
  static MLMD_INLINE void with_power(T p, F&& function) {
    if constexpr (P >= 0) {
      if (p == T(P)) return function([](V x) { return raised(x, P); });
      with_power<P - 1>(p, std::forward<F>(function));
    } else if (p == T(int(p)))
      function([n = int(p)](V x) { return raised(x, n); });
    else
      function([p](V x) { return exp<T>(p * log<T>(x)); });
  }
  static MLMD_INLINE V raised(V x, int p) {
    V value = broadcast<T>(T(1));
#pragma GCC unroll 4
    for (; p; p >>= 1, x *= x)
      if (p & 1) value *= x;
    return value;
  }

  void add_angular(const Centre& c, const Block<T>& block, Scratch& s) const {
    const int n_sides = int(c.sides.size());
    s.near.keep(block, n_species_, c.reach.data());
    for (Buffer<V>* one : {&s.side, &s.dside}) one->reserve(std::size_t(s.near.n) * n_sides);
    for (Buffer<V>* one : {&s.cosine, &s.apart}) one->reserve(CHUNK);
    for (Buffer<V>* one : {&s.taper, &s.dtaper}) one->reserve(std::max(s.near.n, CHUNK));
    sides_at<true>(c.sides, s.near.r, s.near.n, s.taper.data(), s.dtaper.data(), s.side.data(), s.dside.data());
    V* sums = s.sums.data();
    std::fill(sums, sums + s.sums.size(), V{});
    for_triplets(c, s.near, sums, [&](const Triplets& t, V* of, int j, int k, int n) {
      work_out<false>(t, n_sides, j, k, n, s);
      add_outer<T>(s.products.data(), s.powers.data(), n, int(t.groups.size()), int(t.angles.size()), of);
    });
    for (const Triplets& t : c.triplets) {
      for (const Member& m : t.members)
        s.features[m.column] += m.weight * sums[m.angle * t.groups.size() + m.group];
      sums += t.groups.size() * t.angles.size();
    }
  }

  void differentiate_angular(const Centre& c, const Block<T>& block, Scratch& s) const {
    const int n_sides = int(c.sides.size());
    V* sums = s.sums.data();
    std::fill(sums, sums + s.sums.size(), V{});
    for (const Triplets& t : c.triplets) {
      for (const Member& m : t.members)
        sums[m.angle * t.groups.size() + m.group] += m.weight * s.features[m.column];
      sums += t.groups.size() * t.angles.size();
    }
    for_triplets(c, s.near, s.sums.data(), [&](const Triplets& t, V* of, int j, int k, int n) {
      work_out<true>(t, n_sides, j, k, n, s);
      multiply_both<T>(of, s.products.data(), s.powers.data(), n, int(t.groups.size()), int(t.angles.size()),
                       s.by_power.data(), s.by_product.data());
      differentiate_chunk(t, n_sides, j, k, n, s);
    });
    s.near.give_back(block);
  }

  // Gradients of the triplets of j and n neighbours from k
  void differentiate_chunk(const Triplets& t, int n_sides, int j, int k, int n, Scratch& s) const {
    ReachedRows<T>& near = s.near;
    const int n_angles = int(t.angles.size()), n_groups = int(t.groups.size()), n_thirds = int(t.thirds.size());
    const V *const of_j = &s.side[std::size_t(j) * n_sides], *const slope_j = &s.dside[std::size_t(j) * n_sides];
    const V ux = near.ux[j], uy = near.uy[j], uz = near.uz[j], inverse = near.inverse[j];
    V gx{}, gy{}, gz{};
    for (int i = 0; i < n; i++) {
      const int row = k + i;
      V turn{}, by_j{}, by_k{}, between{};
      for (int m = 0; m < n_angles; m++) turn += s.by_power[i * n_angles + m] * s.turns[i * n_angles + m];
      const V *const of_k = &s.side[std::size_t(row) * n_sides], *const slope_k = &s.dside[std::size_t(row) * n_sides];
      for (int g = 0; g < n_groups; g++) {
        const Group& group = t.groups[g];
        V weight = s.by_product[i * n_groups + g];
        if (group.third >= 0) {
          between += weight * of_j[group.first] * of_k[group.second] * s.dthird[i * n_thirds + group.third];
          weight *= s.third[i * n_thirds + group.third];
        }
        by_j += weight * slope_j[group.first] * of_k[group.second];
        by_k += weight * of_j[group.first] * slope_k[group.second];
      }
      const V vx = near.ux[row], vy = near.uy[row], vz = near.uz[row], cosine = s.cosine[i];
      const V turn_j = turn * inverse, turn_k = turn * near.inverse[row];
      by_j -= turn_j * cosine, by_k -= turn_k * cosine;
      V jx = turn_j * vx + by_j * ux, jy = turn_j * vy + by_j * uy, jz = turn_j * vz + by_j * uz;
      V kx = turn_k * ux + by_k * vx, ky = turn_k * uy + by_k * vy, kz = turn_k * uz + by_k * vz;
      if (n_thirds) {
        between /= s.apart[i];
        const V dx = between * (near.x[row] - near.x[j]), dy = between * (near.y[row] - near.y[j]),
                dz = between * (near.z[row] - near.z[j]);
        jx -= dx, jy -= dy, jz -= dz, kx += dx, ky += dy, kz += dz;
      }
      gx += jx, gy += jy, gz += jz;
      near.gx[row] += kx, near.gy[row] += ky, near.gz[row] += kz;
    }
    near.gx[j] += gx, near.gy[j] += gy, near.gz[j] += gz;
  }

  int n_species_, n_features_;
  Taper taper_;
  double cutoff_, onset_;
  std::vector<Centre> centres_;      // [z]
  std::vector<T> offset_, factor_;   // [z][d]
  Layers<T> network_;
};

}  // namespace mlmd
