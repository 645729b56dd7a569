// Atom-centred symmetry functions, centred and scaled, and their derivatives in both directions: see symmetry.hpp for the
// formulas and features.hpp for what is asked of a family. The network of the potential is not looked at.
#pragma once

#include "features.hpp"
#include "symmetry.hpp"

namespace mlmd {

class SymmetryFeatures : public Symmetry<double> {
 public:
  using Potential = Symmetry<double>;

  explicit SymmetryFeatures(Reader& reader) : Potential(reader) {}

  int n_features() const { return n_features_; }

  struct Scratch : Potential::Scratch {
    explicit Scratch(const SymmetryFeatures& f) : Potential::Scratch(f) {}
    Buffer<V> longer;  // [row of near] change of the length
  };

  void features(const Block<double>& block, Scratch& s, V* out) const {
    sum_up(block, s);
    std::copy(s.features.data(), s.features.data() + n_features_, out);
  }

  void pull(const Block<double>& block, Scratch& s, const V* weights) const {
    sum_up(block, s);
    std::copy(weights, weights + n_features_, s.features.data());
    differentiate(block, s);
  }

  void push(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    const Centre& c = centres_[block.species];
    sum_up(block, s);
    std::fill(out, out + n_features_, V{});
    push_radial(c, block, s, dx, dy, dz, out);
    if (!c.triplets.empty()) push_angular(c, s, dx, dy, dz, out);
    for (int d = 0; d < n_features_; d++) out[d] *= factors(block)[d];
  }

 private:
  void push_radial(const Centre& c, const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz,
                   V* out) const {
    s.longer.reserve(block.n_rows);
    for (int k = 0; k < block.n_rows; k++)
      s.longer[k] = (dx[k] * block.x[k] + dy[k] * block.y[k] + dz[k] * block.z[k]) / block.r[k];
    with_slopes(c, block, s, [&](const Radial& term, int begin, int n, auto&& slope) {
      V sum{};
      for (int k = 0; k < n; k++) sum += slope(k) * s.longer[begin + k];
      out[term.column] += term.weight * sum;
    });
  }

  void push_angular(const Centre& c, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    ReachedRows<double>& near = s.near;
    s.longer.reserve(near.n);
    for (int k = 0; k < near.n; k++) {  // changes of the vectors
      near.gx[k] = near.taken(dx, k), near.gy[k] = near.taken(dy, k), near.gz[k] = near.taken(dz, k);
      s.longer[k] = near.gx[k] * near.ux[k] + near.gy[k] * near.uy[k] + near.gz[k] * near.uz[k];
    }
    const int n_sides = int(c.sides.size());
    V* const sums = s.sums.data();
    std::fill(sums, sums + s.sums.size(), V{});
    for_triplets(c, near, sums, [&](const Triplets& t, V* of, int j, int k, int n) {
      work_out<true>(t, n_sides, j, k, n, s);
      change(t, n_sides, j, k, n, s);
      add_outer<double>(s.products.data(), s.by_power.data(), n, int(t.groups.size()), int(t.angles.size()), of);
      add_outer<double>(s.by_product.data(), s.powers.data(), n, int(t.groups.size()), int(t.angles.size()), of);
    });
    const V* of = sums;
    for (const Triplets& t : c.triplets) {
      for (const Member& m : t.members) out[m.column] += m.weight * of[m.angle * t.groups.size() + m.group];
      of += t.groups.size() * t.angles.size();
    }
  }

  // Changes of the powers and products of the triplets of j and n neighbours from k
  void change(const Triplets& t, int n_sides, int j, int k, int n, Scratch& s) const {
    const ReachedRows<double>& near = s.near;
    const int n_angles = int(t.angles.size()), n_groups = int(t.groups.size()), n_thirds = int(t.thirds.size());
    const V *const of_j = &s.side[std::size_t(j) * n_sides], *const slope_j = &s.dside[std::size_t(j) * n_sides];
    for (int i = 0; i < n; i++) {
      const int row = k + i;
      const V turned = (along(near, row, j) - s.cosine[i] * s.longer[j]) * near.inverse[j] +
                       (along(near, j, row) - s.cosine[i] * s.longer[row]) * near.inverse[row];
      for (int m = 0; m < n_angles; m++) s.by_power[i * n_angles + m] = s.turns[i * n_angles + m] * turned;
      V apart{};
      if (n_thirds)
        apart = ((near.gx[row] - near.gx[j]) * (near.x[row] - near.x[j]) +
                 (near.gy[row] - near.gy[j]) * (near.y[row] - near.y[j]) +
                 (near.gz[row] - near.gz[j]) * (near.z[row] - near.z[j])) / s.apart[i];
      const V *const of_k = &s.side[std::size_t(row) * n_sides], *const slope_k = &s.dside[std::size_t(row) * n_sides];
      for (int g = 0; g < n_groups; g++) {
        const auto [first, second, third] = t.groups[g];
        V by = slope_j[first] * s.longer[j] * of_k[second] + of_j[first] * slope_k[second] * s.longer[row];
        if (third >= 0)
          by = by * s.third[i * n_thirds + third] + of_j[first] * of_k[second] * s.dthird[i * n_thirds + third] * apart;
        s.by_product[i * n_groups + g] = by;
      }
    }
  }

  // The change of one neighbour's vector along the direction of another
  static V along(const ReachedRows<double>& near, int direction, int moved) {
    return near.ux[direction] * near.gx[moved] + near.uy[direction] * near.gy[moved] +
           near.uz[direction] * near.gz[moved];
  }
};

}  // namespace mlmd
