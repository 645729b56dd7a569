// The embedded-atom method (Daw and Baskes, Phys. Rev. B 29, 6443, 1984; Finnis and Sinclair, Philos. Mag. A 50, 45, 1984).
//
//   E_i = F(rho_i) + 1/2 sum_j phi(r_ij),   rho_i = sum_j rho_j(r_ij)
//   dE_i / dr_ij = F'(rho_i) rho_j'(r_ij) + 1/2 phi'(r_ij)
//
// The functions are cubics between equidistant knots: of rho and of z = r phi, side by side for every pair of species, so
// that a lane reads one line of cache for a neighbour; and of F, which goes on as a straight line above the last knot.
#pragma once

#include "kernel.hpp"

namespace mlmd {

template <class T>
class Eam {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  struct Scratch {
    explicit Scratch(const Eam&) {}
    Buffer<V> drho, dphi;  // [n_rows] derivatives by the distance, divided by it
  };

  // integers: n_species, n_rho and n_r (intervals); numbers: cutoff, distance of the knots of F and of the knots in r;
  // F [n_species][n_rho][4], rho and r phi [n_species of the centre][n_species of the neighbour][n_r][8]: coefficients of
  // powers of p = 0 ... 1 in each interval
  explicit Eam(Reader& reader)
      : n_species_(int(reader.integer("number of species", 1, 1000))),
        n_rho_(int(reader.integer("intervals of F", 1, 100000000))),
        n_r_(int(reader.integer("intervals of r", 1, 100000000))),
        cutoff_(reader.positive("cutoff")),
        per_rho_(T(1 / reader.positive("distance of the knots of F"))),
        per_r_(T(1 / reader.positive("distance of the knots of r"))) {
    read(reader, "F", std::int64_t(n_species_) * n_rho_ * 4, embedding_);
    read(reader, "rho and r phi", std::int64_t(n_species_) * n_species_ * n_r_ * 8, pair_);
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }

  V atomic(const Block<T>& block, Scratch& scratch) const {
    scratch.drho.reserve(block.n_rows);
    scratch.dphi.reserve(block.n_rows);
    V rho{}, bound{};
    for (int kind = 0; kind < n_species_; kind++) {
      const T* const table = pair_.data() + std::size_t(block.species * n_species_ + kind) * n_r_ * 8;
      for (int k = block.begin[kind]; k < block.begin[kind + 1]; k++) {
        const V r = block.r[k], inverse = T(1) / r;
        V p, c[8];
        gather<8>(table, n_r_, r * per_r_, p, c);
        p = min(p, broadcast<T>(1));
        const auto near = r < T(cutoff_);
        const V z = ((c[7] * p + c[6]) * p + c[5]) * p + c[4];
        const V dz = ((T(3) * c[7] * p + T(2) * c[6]) * p + c[5]) * per_r_;
        const V phi = select(near, z * inverse, V{});
        rho += select(near, ((c[3] * p + c[2]) * p + c[1]) * p + c[0], V{});
        bound += phi;
        scratch.drho[k] = ((T(3) * c[3] * p + T(2) * c[2]) * p + c[1]) * (per_r_ * inverse);
        scratch.dphi[k] = T(0.5) * (dz - z * inverse) * inverse * inverse;
      }
    }
    V slope;
    const V embedded = embed(block.species, rho, slope);
    for (int k = 0; k < block.n_rows; k++) {
      const V along = select(block.r[k] < T(cutoff_), slope * scratch.drho[k] + scratch.dphi[k], V{});
      block.gx[k] = along * block.x[k], block.gy[k] = along * block.y[k], block.gz[k] = along * block.z[k];
    }
    return embedded + T(0.5) * bound;
  }

 private:
  // F(rho) and its slope
  V embed(int species, V rho, V& slope) const {
    V p, c[4];
    gather<4>(embedding_.data() + std::size_t(species) * n_rho_ * 4, n_rho_, rho * per_rho_, p, c);
    const V above = max(p - T(1), V{});
    p = min(p, broadcast<T>(1));
    slope = ((T(3) * c[3] * p + T(2) * c[2]) * p + c[1]);
    const V value = ((c[3] * p + c[2]) * p + c[1]) * p + c[0] + slope * above;
    slope *= per_rho_;
    return value;
  }

  // The N coefficients of the interval that x falls into, lane by lane, and the way p into it: above the last knot more
  // than 1, below zero less than 0
  template <int N>
  static MLMD_INLINE void gather(const T* table, int n_intervals, V x, V& p, V* c) {
    alignas(sizeof(V)) T row[N][W], way[W];
    for (int lane = 0; lane < W; lane++) {
      // NaN and what is too large for an integer end at the last interval
      const T bounded = x[lane] < T(n_intervals) ? (x[lane] > 0 ? x[lane] : T(0)) : T(n_intervals);
      const int interval = std::min(int(bounded), n_intervals - 1);
      way[lane] = x[lane] - T(interval);
      const T* const from = table + std::size_t(interval) * N;
      for (int n = 0; n < N; n++) row[n][lane] = from[n];
    }
    std::memcpy(&p, way, sizeof p);
    for (int n = 0; n < N; n++) std::memcpy(&c[n], row[n], sizeof(V));
  }

  static void read(Reader& reader, const char* name, std::int64_t count, Buffer<T>& to) {
    const std::vector<double> numbers = reader.numbers(name, count);
    to.reserve(numbers.size());
    for (std::size_t k = 0; k < numbers.size(); k++) to[k] = T(numbers[k]);
  }

  int n_species_, n_rho_, n_r_;
  double cutoff_;
  T per_rho_, per_r_;
  Buffer<T> embedding_, pair_;
};

}  // namespace mlmd
