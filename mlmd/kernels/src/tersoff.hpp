// Tersoff's potential (Phys. Rev. B 37, 6991, 1988; several elements 39, 5566, 1989), with LAMMPS' parameters by triplet.
//
//   E_i = 1/2 sum_j f(r_ij) [A exp(-l1 r_ij) - b_ij B exp(-l2 r_ij)],   b = (1 + (beta zeta)^n)^(-1/2n)
//   zeta_ij = sum_{k != j} f(r_ik) g(cos theta_jk) e(r_ij - r_ik),   e(x) = exp((l3 x)^m)
//   g(c) = gamma [1 + (c0 / d)^2 u^2 / (d^2 + u^2)],   u = c - cos theta0
//
// g is written so that it is no difference of large numbers, and f as cos^2 (pi x), x from 0 at R - D to 1/2 at R + D, so
// that it is accurate where it is small.
#pragma once

#include "close_rows.hpp"
#include "logarithm.hpp"

namespace mlmd {

template <class T>
class Tersoff {
 public:
  using V = Vector<T>;

  struct Scratch {
    explicit Scratch(const Tersoff&) {}
    CloseRows<T> close;
    Buffer<V> taper, dtaper;          // [close.n] f and f' of the rows as third atoms
    Buffer<V> cosine, turn, radial;   // [close.n] of zeta: cos theta, derivative by it, and by the distance of k
  };

  // integers: n_species; numbers: cutoff; of every ordered pair of species A, l1, B, l2, n, beta, R, D; by centre,
  // neighbour and third atom gamma, l3, c, d, cos theta0, m, R, D
  explicit Tersoff(Reader& reader)
      : n_species_(int(reader.integer("number of species", 1, 200))), cutoff_(reader.positive("cutoff")) {
    const int n = n_species_;
    for (int k = 0; k < n * n; k++) {
      const std::vector<double> p = reader.numbers("pair", 8);
      pairs_.push_back({T(p[0]), T(p[1]), T(p[2]), T(p[3]), T(p[4]), T(p[5]), Taper(p[6], p[7])});
      reach_.push_back(T(p[6] + p[7]));
    }
    for (int k = 0; k < n * n * n; k++) {
      const std::vector<double> p = reader.numbers("triplet", 8);
      const double ratio = p[2] > 0 ? p[2] / p[3] : 0;
      triplets_.push_back({T(p[0]), T(p[1]), T(ratio * ratio), T(p[2] > 0 ? p[3] * p[3] : 1), T(p[4]), p[5] == 3,
                           Taper(p[6], p[7])});
      T& reach = reach_[k / (n * n) * n + k % n];  // of centre and third atom, whatever the other
      reach = std::max(reach, T(p[6] + p[7]));
    }
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }

  V atomic(const Block<T>& block, Scratch& s) const {
    s.close.keep(block, n_species_, &reach_[block.species * n_species_], T(cutoff_));
    for (Buffer<V>* one : {&s.taper, &s.dtaper, &s.cosine, &s.turn, &s.radial}) one->reserve(s.close.n);
    V energy{};
    for (int kind = 0; kind < n_species_; kind++) {
      if (s.close.begin[kind] == s.close.begin[kind + 1]) continue;
      third_atoms(block.species, kind, s);
      for (int j = s.close.begin[kind]; j < s.close.begin[kind + 1]; j++) energy += bond(block, kind, j, s);
    }
    return energy;
  }

 private:
  struct Taper {
    Taper(double middle, double half_width)
        : end(T(middle + half_width)), rate(half_width > 0 ? T(0.25 / half_width) : T(0)) {}
    // f and df/dr
    MLMD_INLINE void at(V r, V& value, V& slope) const {
      const V x = min(max(T(0.5) - (end - r) * rate, V{}), broadcast<T>(0.5));
      V c, s;
      cos_sin_pi<T>(x, c, s);
      const auto inside = r < end;
      value = select(inside, c * c, V{});
      slope = select(inside, T(-6.283185307179586) * rate * (c * s), V{});
      slope = select(x > T(0), slope, V{});
    }
    T end, rate;
  };
  struct Pair {
    T a, lambda1, b, lambda2, n, beta;
    Taper taper;
  };
  struct Triplet {
    T gamma, lambda3, ratio, square, cosine;  // ratio = (c / d)^2, square = d^2
    bool cubic;
    Taper taper;
  };

  // f of all rows as third atoms beside a neighbour of a species
  void third_atoms(int centre, int neighbour, Scratch& s) const {
    for (int kind = 0; kind < n_species_; kind++) {
      const Triplet& c = triplets_[(centre * n_species_ + neighbour) * n_species_ + kind];
      for (int k = s.close.begin[kind]; k < s.close.begin[kind + 1]; k++) c.taper.at(s.close.r[k], s.taper[k], s.dtaper[k]);
    }
  }

  // Half of the energy of a bond, with all gradients
  V bond(const Block<T>& block, int kind, int j, Scratch& s) const {
    const CloseRows<T>& close = s.close;
    const Pair& c = pairs_[block.species * n_species_ + kind];
    const V r = close.r[j], x = close.x[j], y = close.y[j], z = close.z[j];
    V taper, dtaper;
    c.taper.at(r, taper, dtaper);
    Sums sums{};
    for (int third = 0; third < n_species_; third++) {
      const Triplet& t = triplets_[(block.species * n_species_ + kind) * n_species_ + third];
      const int from = close.begin[third], to = close.begin[third + 1];
      if (kind != third) add(t, j, from, to, s, sums);
      else add(t, j, from, j, s, sums), add(t, j, j + 1, to, s, sums);
    }
    V order, dorder;
    bond_order(c, sums.zeta, order, dorder);
    const V repulsion = T(0.5) * c.a * exp<T>(-c.lambda1 * r), attraction = T(0.5) * c.b * exp<T>(-c.lambda2 * r);
    const V inside = repulsion - order * attraction;
    const V weight = -taper * attraction * dorder;  // dE / dzeta
    const V along = dtaper * inside + taper * (order * attraction * c.lambda2 - repulsion * c.lambda1) + weight * sums.radial;
    const V turn = weight / r, straight = along - turn * sums.turn_cosine;
    const int row = close.row[j];
    block.gx[row] += straight * x + turn * sums.x;
    block.gy[row] += straight * y + turn * sums.y;
    block.gz[row] += straight * z + turn * sums.z;
    for (int k = 0; k < close.n; k++) {
      if (k == j) continue;
      const V aside = weight * s.turn[k] / close.r[k], forward = weight * s.radial[k] - aside * s.cosine[k];
      const int other = close.row[k];
      block.gx[other] += forward * close.x[k] + aside * x;
      block.gy[other] += forward * close.y[k] + aside * y;
      block.gz[other] += forward * close.z[k] + aside * z;
    }
    return taper * inside;
  }

  struct Sums {
    V zeta, radial;          // and its derivative by the distance of j
    V x, y, z, turn_cosine;  // sums over k of the derivative by cos theta, times the direction of k, times cos theta
  };

  // Third atoms of one species, with the derivatives of zeta
  static MLMD_INLINE void add(const Triplet& c, int j, int from, int to, Scratch& s, Sums& sums) {
    const CloseRows<T>& close = s.close;
    const V x = close.x[j], y = close.y[j], z = close.z[j], r = close.r[j];
    for (int k = from; k < to; k++) {
      const V cosine = x * close.x[k] + y * close.y[k] + z * close.z[k], u = cosine - c.cosine;
      const V inverse = T(1) / (c.square + u * u), part = c.ratio * u * inverse;
      const V g = c.gamma * (T(1) + part * u), dg = T(2) * c.gamma * c.square * part * inverse;
      V taper = s.taper[k], dtaper = s.dtaper[k], rate{};
      if (c.lambda3 != 0) {
        const V way = c.lambda3 * (r - close.r[k]), square = way * way;
        const V exponent = c.cubic ? V(square * way) : way;
        const V growth = exp<T>(min(exponent, broadcast<T>(LARGEST_EXPONENT)));
        rate = c.cubic ? V(T(3) * c.lambda3 * square) : broadcast<T>(c.lambda3);
        rate = select(exponent < LARGEST_EXPONENT, rate, V{});
        taper *= growth, dtaper *= growth;
      }
      const V term = taper * g, turn = taper * dg;
      sums.zeta += term;
      sums.radial += term * rate;
      sums.x += turn * close.x[k], sums.y += turn * close.y[k], sums.z += turn * close.z[k];
      sums.turn_cosine += turn * cosine;
      s.cosine[k] = cosine, s.turn[k] = turn, s.radial[k] = dtaper * g - term * rate;
    }
  }

  // b and db/dzeta. With y = n ln(beta zeta): b = exp(-ln(1 + e^y) / 2n), and no power can overflow
  static MLMD_INLINE void bond_order(const Pair& c, V zeta, V& order, V& slope) {
    const V x = c.beta * zeta, one = broadcast<T>(1);
    const auto bound = x > (sizeof(T) == 8 ? T(1e-300) : T(1e-37));
    const V y = c.n * log<T>(select(bound, x, one)), small = exp<T>(select(y > T(0), -y, y));
    const V large = max(y, V{}) + log<T>(T(1) + small);
    const V share = select(y > T(0), one, small) / (T(1) + small);  // e^y / (1 + e^y)
    order = select(bound, exp<T>(large * (T(-0.5) / (c.n > 0 ? c.n : T(1)))), one);
    slope = select(bound, T(-0.5) * order * share / select(bound, zeta, one), V{});
  }

  static constexpr T LARGEST_EXPONENT = T(69.0776);  // ln 1e30, as in LAMMPS

  int n_species_;
  double cutoff_;
  std::vector<Pair> pairs_;
  std::vector<Triplet> triplets_;
  std::vector<T> reach_;
};

}  // namespace mlmd
