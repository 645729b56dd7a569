// The potential of Stillinger and Weber (Phys. Rev. B 31, 5262, 1985), for several elements as in LAMMPS.
//
//   E_i = 1/2 sum_j phi2(r_ij) + sum_{j<k} S_jk (cos theta_jk - c_jk)^2 w_j w_k
//   phi2(r) = A eps [B (sigma / r)^p - (sigma / r)^q] exp(-sigma / (a sigma - r)),   w(r) = exp(-gamma sigma / (a sigma - r))
//
// With A_j = sum_k S_jk w_k (cos - c)^2 and the vector B_j = sum_k 2 S_jk w_k (cos - c) u_k, u = r / |r|, the angles
// give the gradient  w_j' A_j u_j + w_j (B_j - (B_j . u_j) u_j) / r_j  of neighbour j, and the energy 1/2 sum_j w_j A_j.
#pragma once

#include "close_rows.hpp"
#include "logarithm.hpp"

namespace mlmd {

template <class T>
class StillingerWeber {
 public:
  using V = Vector<T>;

  struct Scratch {
    explicit Scratch(const StillingerWeber&) {}
    CloseRows<T> close;
    Buffer<V> w, dw, radial;     // [close.n] w, w', and A
    Buffer<V> across[3];         // [close.n] B
  };

  // integers: n_species; numbers: cutoff, of every ordered pair of species A eps, B, p, q, sigma, gamma sigma, a sigma
  // and the distance from which all is left out; S and c by centre, neighbour, neighbour
  explicit StillingerWeber(Reader& reader)
      : n_species_(int(reader.integer("number of species", 1, 200))), cutoff_(reader.positive("cutoff")) {
    const std::int64_t n = n_species_;
    for (int k = 0; k < n * n; k++) {
      const std::vector<double> p = reader.numbers("pair", 8);
      pairs_.push_back({T(p[0]), T(p[1]), T(p[2]), T(p[3]), T(p[4]), T(p[5]), T(p[6]), T(p[7])});
      reach_.push_back(T(p[7]));
    }
    for (double one : reader.numbers("strengths", n * n * n)) strengths_.push_back(T(one));
    for (double one : reader.numbers("cosines", n * n * n)) cosines_.push_back(T(one));
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }

  V atomic(const Block<T>& block, Scratch& s) const {
    s.close.keep(block, n_species_, &reach_[block.species * n_species_], T(cutoff_));
    for (Buffer<V>* one : {&s.w, &s.dw, &s.radial, &s.across[0], &s.across[1], &s.across[2]}) one->reserve(s.close.n);
    V energy{};
    for (int kind = 0; kind < n_species_; kind++)
      for (int j = s.close.begin[kind]; j < s.close.begin[kind + 1]; j++)
        energy += bond(block, pairs_[block.species * n_species_ + kind], j, s);
    for (int one = 0; one < n_species_; one++)
      for (int other = one; other < n_species_; other++) angles(block.species, one, other, s);
    for (int j = 0; j < s.close.n; j++) energy += T(0.5) * s.w[j] * finish(block, j, s);
    return energy;
  }

 private:
  struct Parameters {
    T strength, b, p, q, sigma, decay, cutoff, reach;
  };

  // Half of phi2, with its gradient; w and w' of the row, for the angles
  static MLMD_INLINE V bond(const Block<T>& block, const Parameters& c, int j, Scratch& s) {
    const V r = s.close.r[j], zero{};
    const auto near = r < c.reach;
    // so near to the cutoff both exponentials are zero, and no division is
    const V inverse = T(1) / max(c.cutoff - r, broadcast<T>(T(1e-3) * c.sigma)), x = c.sigma / r;
    const V decay = exp<T>(-c.sigma * inverse), first = c.b * power<T>(x, c.p), second = power<T>(x, c.q);
    const V phi = c.strength * (first - second) * decay;
    const V dphi = c.strength * (c.q * second - c.p * first) * decay / r - phi * c.sigma * inverse * inverse;
    const V w = exp<T>(-c.decay * inverse);
    s.w[j] = select(near, w, zero);
    s.dw[j] = select(near, -c.decay * inverse * inverse * w, zero);
    s.radial[j] = s.across[0][j] = s.across[1][j] = s.across[2][j] = zero;
    const V along = select(near, T(0.5) * dphi, zero);
    const int k = s.close.row[j];
    block.gx[k] = along * s.close.x[j], block.gy[k] = along * s.close.y[j], block.gz[k] = along * s.close.z[j];
    return select(near, T(0.5) * phi, zero);
  }

  // Sums over the angles between neighbours of two species
  void angles(int centre, int one, int other, Scratch& s) const {
    const int which = (centre * n_species_ + one) * n_species_ + other;
    const T strength = strengths_[which], ideal = cosines_[which];
    if (strength == 0) return;
    const CloseRows<T>& close = s.close;
    V *const radial = s.radial.data(), *const ax = s.across[0].data(), *const ay = s.across[1].data(),
            *const az = s.across[2].data();
    for (int j = close.begin[one]; j < close.begin[one + 1]; j++) {
      const V x = close.x[j], y = close.y[j], z = close.z[j], w = s.w[j];
      V sum = radial[j], sx = ax[j], sy = ay[j], sz = az[j];
      for (int k = one == other ? j + 1 : close.begin[other]; k < close.begin[other + 1]; k++) {
        const V deviation = x * close.x[k] + y * close.y[k] + z * close.z[k] - ideal;
        const V slope = strength * deviation, square = slope * deviation;
        const V of_k = T(2) * slope * s.w[k], of_j = T(2) * slope * w;
        sum += square * s.w[k], radial[k] += square * w;
        sx += of_k * close.x[k], sy += of_k * close.y[k], sz += of_k * close.z[k];
        ax[k] += of_j * x, ay[k] += of_j * y, az[k] += of_j * z;
      }
      radial[j] = sum, ax[j] = sx, ay[j] = sy, az[j] = sz;
    }
  }

  // Adds the gradient of the angles at neighbour j; gives A_j
  static MLMD_INLINE V finish(const Block<T>& block, int j, Scratch& s) {
    const V x = s.close.x[j], y = s.close.y[j], z = s.close.z[j];
    const V bx = s.across[0][j], by = s.across[1][j], bz = s.across[2][j];
    const V turn = s.w[j] / s.close.r[j], along = s.dw[j] * s.radial[j] - turn * (bx * x + by * y + bz * z);
    const int k = s.close.row[j];
    block.gx[k] += along * x + turn * bx, block.gy[k] += along * y + turn * by, block.gz[k] += along * z + turn * bz;
    return s.radial[j];
  }

  int n_species_;
  double cutoff_;
  std::vector<Parameters> pairs_;
  std::vector<T> reach_, strengths_, cosines_;
};

}  // namespace mlmd
