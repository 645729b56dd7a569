// Pair potentials: Lennard-Jones, Morse and ZBL, brought to zero at the cutoff by a quintic step.
//
//   E_i = 1/2 sum_j phi(r_ij) s(r_ij),   s = y^3 (6 y^2 - 15 y + 10),  y = (cutoff - r) / (cutoff - onset) within [0, 1]
//
//   Lennard-Jones  phi = a / r^12 - b / r^6,  a = 4 epsilon sigma^12, b = 4 epsilon sigma^6   (Proc. R. Soc. A 106, 463, 1924)
//   Morse          phi = D u (u - 2),  u = exp((r0 - r) / width)                               (Phys. Rev. 34, 57, 1929)
//   ZBL            phi = q / r sum_k c_k exp(-d_k r / a)   (Ziegler, Biersack, Littmark, The Stopping and Range of Ions, 1985)
//
// Or ZBL as LAMMPS switches it, phi + S without the step: S = C + A/3 t^3 + B/4 t^4, t = max(r - onset, 0).
//
// In powers of y, the distance from the cutoff, the step has no cancellation where it is small.
#pragma once

#include "kernel.hpp"

namespace mlmd {

template <class T>
class Pair {
 public:
  using V = Vector<T>;
  static constexpr bool symmetric = true;

  enum Form { LENNARD_JONES, MORSE, ZBL, ZBL_OF_LAMMPS };
  struct Scratch {
    explicit Scratch(const Pair&) {}
  };

  // integers: form, n_species; numbers: cutoff, onset, then of every ordered pair of species its parameters:
  // (a, b, 0), (D, 1 / width, r0), (q, 1 / screening length, 0) or, of LAMMPS, the last and (C, A / 3, B / 4)
  explicit Pair(Reader& reader)
      : form_(Form(reader.integer("form of the pair potential", LENNARD_JONES, ZBL_OF_LAMMPS))),
        n_parameters_(form_ == ZBL_OF_LAMMPS ? 6 : 3),
        n_species_(int(reader.integer("number of species", 1, 1000))),
        cutoff_(reader.positive("cutoff")),
        onset_(reader.number("onset")) {
    if (!(onset_ < cutoff_)) throw BadParameters("the onset is not below the cutoff");
    for (double one : reader.numbers("parameters", n_parameters_ * n_species_ * n_species_)) parameters_.push_back(T(one));
    for (int i = 0; i < n_species_; i++)
      for (int j = 0; j < i; j++)
        if (!std::equal(parameters(i, j), parameters(i, j) + n_parameters_, parameters(j, i)))
          throw BadParameters("parameters of a pair of species are not those of the same pair in the other order");
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }

  V atomic(const Block<T>& block, Scratch&) const {
    switch (form_) {
      case LENNARD_JONES: return sum<LENNARD_JONES>(block);
      case MORSE: return sum<MORSE>(block);
      case ZBL: return sum<ZBL>(block);
      default: return sum<ZBL_OF_LAMMPS>(block);
    }
  }

 private:
  const T* parameters(int i, int j) const { return &parameters_[n_parameters_ * (std::size_t(i) * n_species_ + j)]; }

  template <Form form>
  V sum(const Block<T>& block) const {
    const T cutoff = T(cutoff_), inverse = T(1 / (cutoff_ - onset_));
    const V one = broadcast<T>(1);
    V energy{};
    for (int kind = 0; kind < n_species_; kind++) {
      const T* const p = parameters(block.species, kind);
      for (int k = block.begin[kind]; k < block.begin[kind + 1]; k++) {
        const V r = block.r[k], over = T(1) / r;
        V phi, dphi, along;
        pair<form>(r, over, p, phi, dphi);
        if constexpr (form == ZBL_OF_LAMMPS) {
          const V t = max(r - T(onset_), V{});
          const auto inside = r < cutoff;
          energy += select(inside, V(phi + p[3] + t * t * t * (p[4] + p[5] * t)), V{});
          along = select(inside, V(T(0.5) * over * (dphi + t * t * (T(3) * p[4] + T(4) * p[5] * t))), V{});
        } else {
          const V y = min(max((cutoff - r) * inverse, V{}), one), left = y * (one - y);
          const V step = y * y * y * (y * (T(6) * y - T(15)) + T(10)), slope = T(-30) * inverse * left * left;
          energy += phi * step;
          along = T(0.5) * (dphi * step + phi * slope) * over;
        }
        block.gx[k] = along * block.x[k], block.gy[k] = along * block.y[k], block.gz[k] = along * block.z[k];
      }
    }
    return T(0.5) * energy;
  }

  // phi and dphi/dr without the step, with 1 / r at hand
  template <Form form>
  static MLMD_INLINE void pair(V r, V over, const T* p, V& phi, V& dphi) {
    if constexpr (form == LENNARD_JONES) {
      const V square = over * over, sixth = square * square * square;
      phi = sixth * (p[0] * sixth - p[1]);
      dphi = sixth * over * (T(6) * p[1] - T(12) * p[0] * sixth);
    } else if constexpr (form == MORSE) {
      const V u = exp<T>((p[2] - r) * p[1]);
      phi = p[0] * u * (u - T(2));
      dphi = T(-2) * p[0] * p[1] * u * (u - T(1));
    } else {
      constexpr double weight[4] = {0.18175, 0.50986, 0.28022, 0.02817};
      constexpr double decay[4] = {3.19980, 0.94229, 0.40290, 0.20162};
      const V x = r * p[1], bare = p[0] * over;
      V screening{}, change{};
      for (int k = 0; k < 4; k++) {
        const V term = T(weight[k]) * exp<T>(T(-decay[k]) * x);
        screening += term;
        change -= T(decay[k]) * term;
      }
      phi = bare * screening;
      dphi = bare * (change * p[1] - screening * over);
    }
  }

  Form form_;
  int n_parameters_, n_species_;
  double cutoff_, onset_;
  std::vector<T> parameters_;
};

}  // namespace mlmd
