// SNAP: the energy of an atom is a linear or quadratic function of bispectrum components (Thompson et al., J. Comput.
// Phys. 285, 316, 2015; Wood and Thompson, J. Chem. Phys. 148, 241721, 2018),
//
//   E_i = c[z_i] + sum_k beta_k B_k + 1/2 sum_kl alpha_kl B_k B_l
#pragma once

#include "bispectrum.hpp"

namespace mlmd {

template <class T>
class Snap : public Bispectrum<T> {
 public:
  using V = Vector<T>;
  using Components = Bispectrum<T>;
  using Coupling = typename Couplings<T>::Coupling;

  // integers: those of the components, bzeroflag, bnormflag, quadratic. numbers: those of the components, then for every
  // species c, beta [k] and if quadratic alpha [k][l], of the sums conj(U) Z as they are: without subtraction and division.
  explicit Snap(Reader& reader) : Components(reader) {
    zeroed_ = reader.integer("bzeroflag", 0, 1);
    normed_ = reader.integer("bnormflag", 0, 1);
    quadratic_ = reader.integer("quadratic", 0, 1);
    const int n = n_components_ = couplings_.n_components();
    for (int kind = 0; kind < Components::n_species(); kind++) {
      constant_.push_back(reader.number("constant"));
      for (double value : reader.numbers("linear", n)) linear_.push_back(T(value));
      if (quadratic_)
        for (double value : reader.numbers("quadratic", std::int64_t(n) * n)) product_.push_back(T(value));
    }
  }

  double constant(int species) const { return constant_[species]; }

  struct Scratch : Components::Scratch {
    explicit Scratch(const Snap& f)
        : Components::Scratch(f), components(f.n_components_), rates(f.n_components_) {}
    Buffer<V> components, rates;  // [n_components] B, dE/dB
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    Components::sum_up(block, s);
    const V energy = quadratic_ ? couple_quadratic(block.species, s) : couple_linear(block.species, s);
    Components::differentiate(block, s);
    return energy;
  }

 protected:
  using Components::couplings_;

  int n_components_;
  bool zeroed_, normed_;  // whether features are less those of an atom on its own, and divided by j + 1

 private:
  // dE/dU, in s.y
  V couple_linear(int species, Scratch& s) const {
    const T* const beta = &linear_[std::size_t(species) * n_components_];
    couplings_.adjoint(s.u.data(), s.z.data(), s.y.data(), [&](int k) { return beta[k]; });
    return T(1. / 3) * couplings_.weigh(s.u.data(), s.y.data());  // the energy is homogeneous of degree three
  }

  V couple_quadratic(int species, Scratch& s) const {
    const V* const u = s.u.data();
    V *const z = s.z.data(), *const y = s.y.data(), *const b = s.components.data(), *const rate = s.rates.data();
    for (const Coupling& c : couplings_.all()) {
      couplings_.couple(c, u, z + 2 * c.first_z[0], c.first_z[0]);
      for (int k = 0; k < c.n_j; k++)
        if (c.j[k] >= c.j1) b[c.component[k]] = couplings_.component(c.j[k], u, z + 2 * c.first_z[k]);
    }
    const int n = n_components_;
    const T *const linear = &linear_[std::size_t(species) * n], *product = &product_[std::size_t(species) * n * n];
    V energy{};
    for (int k = 0; k < n; k++, product += n) {
      V sum{};
      for (int other = 0; other < n; other++) sum += product[other] * b[other];
      rate[k] = linear[k] + sum;
      energy += b[k] * (linear[k] + T(0.5) * sum);
    }
    std::fill(y, y + s.y.size(), V{});
    for (const Coupling& c : couplings_.all())
      for (int k = 0; k < c.n_j; k++)
        couplings_.add_to_slope(c.j[k], rate[c.component[k]] * c.multiplicity[k], z + 2 * c.first_z[k], y);
    couplings_.weigh(u, y);
    return energy;
  }

  bool quadratic_;
  std::vector<double> constant_;
  std::vector<T> linear_, product_;
};

}  // namespace mlmd
