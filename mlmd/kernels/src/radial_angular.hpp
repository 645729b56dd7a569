// Radial-angular networks, of which the neuroevolution potentials (NEP) of GPUMD are examples (Fan et al., Phys. Rev. B
// 104, 104309, 2021; J. Chem. Phys. 157, 114801, 2022; Song et al., Nat. Commun. 15, 10208, 2024).
//
//   E_i = network(q_i) + c[z_i] + 1/2 sum_j phi(r_ij)
//
// For the features q see radial_angular_sums.hpp, for the network network.hpp, for phi screened_repulsion.hpp.
#pragma once

#include "network.hpp"
#include "radial_angular_sums.hpp"
#include "screened_repulsion.hpp"

namespace mlmd {

template <class T>
class RadialAngular : public RadialAngularSums<T> {
 public:
  using Sums = RadialAngularSums<T>;
  using V = Vector<T>;

  // integers: those of the sums, then those of the network, repulsion.
  // numbers: those of the sums, scaling [d], those of the network, c [z], and with repulsion its own.
  explicit RadialAngular(Reader& reader)
      : Sums(reader), scaling_(reader.numbers("scaling", Sums::n_features_)),
        network_(reader, Sums::n_species_, scaling_) {
    constant_ = reader.numbers("constants", Sums::n_species_);
    repulsive_ = reader.integer("repulsion", 0, 1);
    if (repulsive_) repulsion_.read(reader, Sums::n_species_, Sums::cutoff_);
  }

  double constant(int species) const { return constant_[species]; }

  struct Scratch : Sums::Scratch {
    explicit Scratch(const RadialAngular& f)
        : Sums::Scratch(f), features(f.n_features_), hidden(f.network_.n_neurons()) {}
    Buffer<V> features;  // [d] q, then dE/dq
    Buffer<V> hidden;    // [h]
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    V* const q = s.features.data();
    const Rows<T> rows = Sums::sum_up(block, s, q);
    V energy = network_.energy(block.species, q, s.hidden.data());
    Sums::differentiate(block, rows, s, q);
    if (repulsive_) energy += repulsion_.add(block);
    return energy;
  }

 protected:
  std::vector<double> scaling_;  // [d] of the features

 private:
  Network<T> network_;
  bool repulsive_;
  ScreenedRepulsion<T> repulsion_;
  std::vector<double> constant_;  // [z]
};

}  // namespace mlmd
