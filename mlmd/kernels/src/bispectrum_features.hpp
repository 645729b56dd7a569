// Bispectrum components as features of atoms, and their derivatives in both directions: see couplings.hpp for the formulas
// and features.hpp for what is asked of a family. The coefficients of the potential are not looked at.
#pragma once

#include "features.hpp"
#include "snap.hpp"

namespace mlmd {

class BispectrumFeatures : public Snap<double> {
 public:
  using V = Vector<double>;

  explicit BispectrumFeatures(Reader& reader) : Snap<double>(reader) {
    for (int j : couplings_.last()) {
      scale_.push_back(normed_ ? 1 / (j + 1.0) : 1.0);
      alone_.push_back(zeroed_ ? (normed_ ? 1.0 : j + 1.0) : 0.0);
    }
  }

  int n_features() const { return n_components_; }

  struct Scratch : Snap<double>::Scratch {
    explicit Scratch(const BispectrumFeatures& f) : Snap<double>::Scratch(f) {}
  };

  void features(const Block<double>& block, Scratch& s, V* out) const {
    sum_up(block, s);
    for (const Coupling& c : couplings_.all()) {
      if (c.j.back() < c.j1) continue;
      couplings_.couple(c, s.u.data(), s.z.data(), c.first_z[0]);
      for (int k = 0; k < c.n_j; k++)
        if (c.j[k] >= c.j1) out[c.component[k]] = couplings_.component(c.j[k], s.u.data(), z_of(c, k, s));
    }
    for (int k = 0; k < n_components_; k++) out[k] = scale_[k] * out[k] - alone_[k];
  }

  // B is symmetric in its matrices up to a factor: its change is the sum over which of them changes
  void push(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    sum_up(block, s);
    density_.push(block, dx, dy, dz, s);
    V* const change = s.y.data();
    wigner_.matrices(s.density.data(), 0, change);
    std::fill(out, out + n_components_, V{});
    for (const Coupling& c : couplings_.all()) {
      couplings_.couple(c, s.u.data(), s.z.data(), c.first_z[0]);
      for (int k = 0; k < c.n_j; k++)
        out[c.component[k]] += c.multiplicity[k] * couplings_.component(c.j[k], change, z_of(c, k, s));
    }
    for (int k = 0; k < n_components_; k++) out[k] *= scale_[k];
  }

  void pull(const Block<double>& block, Scratch& s, const V* weights) const {
    sum_up(block, s);
    couplings_.adjoint(s.u.data(), s.z.data(), s.y.data(), [&](int k) { return scale_[k] * weights[k]; });
    couplings_.weigh(s.u.data(), s.y.data());
    differentiate(block, s);
  }

 private:
  static const V* z_of(const Coupling& c, int k, const Scratch& s) { return s.z.data() + 2 * (c.first_z[k] - c.first_z[0]); }

  std::vector<double> scale_, alone_;  // [n_components] a feature is scale times the sum, less that of an atom alone
};

}  // namespace mlmd
