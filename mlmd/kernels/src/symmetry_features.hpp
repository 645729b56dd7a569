// Atom-centred symmetry functions, times their scaling, and their derivatives in both directions: see symmetry_sums.hpp
// for the formulas and features.hpp for what is asked of a family. The network of the potential is not looked at.
#pragma once

#include "features.hpp"
#include "symmetry.hpp"

namespace mlmd {

class SymmetryFeatures : public Symmetry<double> {
 public:
  using Potential = Symmetry<double>;

  explicit SymmetryFeatures(Reader& reader) : Potential(reader) {}

  using Scratch = Potential::Scratch;

  void features(const Block<double>& block, Scratch& s, V* out) const {
    sum_up(block, s, out);
    scale(out);
  }

  void push(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    const Rows<double> rows = sum_up(block, s, s.features.data());
    Sums::push(block, rows, s, dx, dy, dz, out);
    scale(out);
  }

  void pull(const Block<double>& block, Scratch& s, const V* weights) const {
    V* const q = s.features.data();
    const Rows<double> rows = sum_up(block, s, q);
    std::copy(weights, weights + n_features_, q);
    scale(q);
    differentiate(block, rows, s, q);
  }

 private:
  void scale(V* q) const {
    for (int d = 0; d < n_features_; d++) q[d] *= scaling_[d];
  }
};

}  // namespace mlmd
