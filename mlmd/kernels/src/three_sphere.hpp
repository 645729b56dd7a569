// Where a neighbour stands on the unit sphere of four dimensions, and what it counts:
//
//   psi = rfac0 pi (r - rmin0) / (r_cut - rmin0),   f_c w,   f_c = (1 + cos(pi (r - rmin0) / (r_cut - rmin0))) / 2
//
// at the polar angle psi and in the direction of its vector. An inner switch takes f_c to zero inside as well; cutoffs and
// switches depend on both species.
#pragma once

#include <algorithm>
#include <vector>

#include "kernel.hpp"

namespace mlmd {

template <class T>
class ThreeSphere {
 public:
  using V = Vector<T>;

  // integers: n_species, switchflag, switchinnerflag. numbers: rfac0, rmin0, w [z], r_cut [z_i][z_j], and with the inner
  // switch its middles and half widths [z_i][z_j].
  explicit ThreeSphere(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    switched_ = reader.integer("switchflag", 0, 1);
    inner_ = reader.integer("switchinnerflag", 0, 1);
    part_ = T(reader.positive("rfac0"));
    rmin_ = T(reader.number("rmin0"));
    read_pairs(reader);
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }

  struct Place {  // of a neighbour
    V c, s, x, y, z, inverse, weight, slope;  // cos, sin of psi; unit vector; 1/r; f_c w and its derivative by r
    T turn;  // dpsi/dr
  };

  // Of a row with neighbours of a kind
  MLMD_INLINE Place place(const Block<T>& block, int kind, int row) const {
    constexpr T pi = T(3.14159265358979323846);
    const Pair& pair = pair_[block.species * n_species_ + kind];
    Place p;
    const V r = block.r[row], t = (r - rmin_) * pair.scale;
    p.turn = pi * part_ * pair.scale;
    p.inverse = T(1) / max(r, broadcast<T>(T(1e-10)));
    p.x = block.x[row] * p.inverse, p.y = block.y[row] * p.inverse, p.z = block.z[row] * p.inverse;
    const V angle = part_ * t;
    cos_sin_pi<T>(min(max(angle, -angle), broadcast<T>(T(1))), p.c, p.s);
    p.s = max(p.s, broadcast<T>(T(1e-20)));  // two atoms in one place have finite forces
    p.s = select(angle < V{}, -p.s, p.s);
    p.weight = broadcast<T>(T(1)), p.slope = V{};
    if (switched_) {
      V cosine, sine;
      cos_sin_pi<T>(min(max(t, V{}), broadcast<T>(T(1))), cosine, sine);
      p.weight = T(0.5) * (T(1) + cosine);
      p.slope = select(t > V{}, T(-0.5) * pi * pair.scale * sine, V{});
    }
    if (inner_) {
      const V u = (r - pair.middle) * pair.inverse_width;
      V cosine, sine;
      cos_sin_pi<T>(min(max(T(0.5) * (u + T(1)), V{}), broadcast<T>(T(1))), cosine, sine);
      const V step = T(0.5) * (T(1) - cosine);
      const V rate = select((u > T(-1)) & (u < T(1)), T(0.25) * pi * pair.inverse_width * sine, V{});
      p.slope = p.slope * step + p.weight * rate;
      p.weight *= step;
    }
    const auto near = r < pair.cutoff;
    p.weight = select(near, p.weight * pair.weight, V{});
    p.slope = select(near, p.slope * pair.weight, V{});
    return p;
  }

 private:
  struct Pair {  // of species
    T cutoff, scale, weight, middle, inverse_width;
  };

  void read_pairs(Reader& reader) {
    const int n = n_species_;
    std::vector<double> weights = reader.numbers("weights", n), middles(n * n), widths(n * n);
    const std::vector<double> cutoffs = reader.numbers("cutoffs", n * n);
    if (inner_) middles = reader.numbers("sinner", n * n), widths = reader.numbers("dinner", n * n);
    for (int k = 0; k < n * n; k++) {
      if (!(cutoffs[k] > double(rmin_)) || (inner_ && !(widths[k] > 0))) throw BadParameters("a cutoff or width is too small");
      cutoff_ = std::max(cutoff_, cutoffs[k]);
      pair_.push_back({T(cutoffs[k]), T(1 / (cutoffs[k] - double(rmin_))), T(weights[k % n]), T(middles[k]),
                       inner_ ? T(1 / widths[k]) : T(0)});
    }
  }

  int n_species_;
  bool switched_, inner_;
  double cutoff_ = 0;
  T part_, rmin_;
  std::vector<Pair> pair_;
};

}  // namespace mlmd
