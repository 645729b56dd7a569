// Networks of atom-centred symmetry functions (Behler and Parrinello, Phys. Rev. Lett. 98, 146401, 2007): E_i =
// network(G_i) + c[z_i]. For the features see symmetry_sums.hpp, for the network network.hpp.
#pragma once

#include "network.hpp"
#include "symmetry_sums.hpp"

namespace mlmd {

template <class T>
class Symmetry : public SymmetrySums<T> {
 public:
  using Sums = SymmetrySums<T>;
  using V = Vector<T>;

  // integers: those of the sums, then those of the network. numbers: those of the sums, scaling [d], those of the network,
  // c [z].
  explicit Symmetry(Reader& reader)
      : Sums(reader), scaling_(reader.numbers("scaling", Sums::n_features_)),
        network_(reader, Sums::n_species_, scaling_), constant_(reader.numbers("constants", Sums::n_species_)) {}

  double constant(int species) const { return constant_[species]; }

  struct Scratch : Sums::Scratch {
    explicit Scratch(const Symmetry& f) : Sums::Scratch(f), features(f.n_features_), hidden(f.network_.n_neurons()) {}
    Buffer<V> features;  // [d] q, then dE/dq
    Buffer<V> hidden;    // [h]
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    V* const q = s.features.data();
    const Rows<T> rows = Sums::sum_up(block, s, q);
    const V energy = network_.energy(block.species, q, s.hidden.data());
    Sums::differentiate(block, rows, s, q);
    return energy;
  }

 protected:
  std::vector<double> scaling_;  // [d] of the features

 private:
  Network<T> network_;
  std::vector<double> constant_;  // [z]
};

}  // namespace mlmd
