// Power spectra as features of atoms, and their derivatives in both directions: see soap_density.hpp and
// power_spectrum.hpp for the formulas and features.hpp for what is asked of a family. The coefficients of the potential are
// not looked at.
#pragma once

#include "features.hpp"
#include "soap.hpp"

namespace mlmd {

class SoapFeatures : public Soap<double> {
 public:
  using V = Vector<double>;

  explicit SoapFeatures(Reader& reader) : Soap<double>(reader) {}

  struct Scratch : Soap<double>::Scratch {
    explicit Scratch(const SoapFeatures& f)
        : Soap<double>::Scratch(f), terms(f.density_), with(4 * f.channels()) {}
    SoapDensity<double>::Terms terms;
    Buffer<V> with;  // [4][z][l][n] sums over m of the density times Y and times its derivatives
  };

  void features(const Block<double>& block, Scratch& s, V* out) const {
    sum_up(block, s);
    std::copy(s.p.data(), s.p.data() + n_features(), out);
  }

  void push(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    sum_up(block, s);
    density_.push(block, dx, dy, dz, s, s.by_c.data());
    spectrum_.push(s.c.data(), s.by_c.data(), out);
    if (normalised_) turn(s, out);
  }

  void pull(const Block<double>& block, Scratch& s, const V* weights) const {
    sum_up(block, s);
    std::copy(weights, weights + n_features(), s.by_p.data());
    differentiate(block, s);
  }

  // Derivatives of all features by the vectors of rows: to [row][axis][feature]
  void slopes(const Block<double>& block, Scratch& s, int begin, int end, V* to) const {
    sum_up(block, s);
    for (int row = begin; row < end; row++) {
      int kind = 0;
      while (row >= block.begin[kind + 1]) kind++;
      density_.terms(block, row, s.terms);
      for (int k = 0; k < 4; k++) contract(s, k);
      for (int axis = 0; axis < 3; axis++, to += n_features()) {
        slopes_of_row(s, kind, axis, to);
        if (normalised_) turn(s, to);
      }
    }
  }

 private:
  std::size_t channels() const { return std::size_t(spectrum_.n_densities()) * (density_.l_max() + 1) * density_.n_max(); }

  void contract(Scratch& s, int which) const {
    const V* const waves = s.terms.waves[which].data();
    V* to = s.with.data() + which * channels();
    for (int kind = 0; kind < spectrum_.n_densities(); kind++) {
      const V* c = s.c.data() + kind * density_.size();
      for (int l = 0; l <= density_.l_max(); l++)
        for (int i = 0; i < density_.n_max(); i++, to++) {
          const V* own = c + l * l * density_.n_max() + i;
          V sum{};
          for (int m = l * l; m < (l + 1) * (l + 1); m++, own += density_.n_max()) sum += waves[m] * *own;
          *to = sum;
        }
    }
  }

  // d(c_1 c_2) = dc_1 c_2 + c_1 dc_2, where the density of the species of the row changes and the sum over all species
  void slopes_of_row(Scratch& s, int kind, int axis, V* to) const {
    const int n = density_.n_max(), per_density = (density_.l_max() + 1) * n;
    const V *const value = s.with.data(), *const turned = s.with.data() + (1 + axis) * channels();
    const V direction = s.terms.direction[axis];
    spectrum_.each_row([&](const auto& row) {
      const bool first = row.first == kind, second = row.second == kind || row.second == n_species();
      for (int l = 0; l <= density_.l_max(); l++) {
        V* const out = to + l * spectrum_.n_columns() + row.column - row.from;
        const double norm = spectrum_.norm(l);
        const V *const radial = s.terms.radial.data() + l * n, *const slope = s.terms.slopes.data() + l * n;
        const int one = row.first * per_density + l * n + row.i, other = row.second * per_density + l * n;
        const V by_value = norm * (slope[row.i] * direction), by_turned = norm * radial[row.i];
        const V along = norm * (direction * value[one]), around = norm * turned[one];
        for (int j = row.from; j < n; j++) {
          V sum{};
          if (first) sum += by_value * value[other + j] + by_turned * turned[other + j];
          if (second) sum += along * slope[j] + around * radial[j];
          out[j] = sum;
        }
        if (row.diagonal) out[row.i] *= std::sqrt(0.5);
      }
    });
  }
};

}  // namespace mlmd
