// Bispectrum components of the neighbours of an atom (Bartok et al., Phys. Rev. Lett. 104, 136403, 2010; Thompson et al.,
// J. Comput. Phys. 285, 316, 2015): put together from the density on the three-sphere (hyperspherical.hpp), its matrices
// (wigner.hpp) and the products of these (couplings.hpp).
#pragma once

#include "couplings.hpp"
#include "hyperspherical.hpp"
#include "wigner.hpp"

namespace mlmd {

template <class T>
class Bispectrum {
 public:
  using V = Vector<T>;

  // integers and numbers: those of the density, then of the matrices, then of the couplings
  explicit Bispectrum(Reader& reader)
      : density_(reader), wigner_(reader, density_.top(), density_.first_density()), couplings_(reader, density_.top()) {}

  double cutoff() const { return density_.cutoff(); }
  int n_species() const { return density_.n_species(); }

  struct Scratch : Hyperspherical<T>::Scratch {
    explicit Scratch(const Bispectrum& f)
        : Hyperspherical<T>::Scratch(f.density_), u(2 * first_matrix(f.density_.top() + 1)), y(u.size()),
          z(2 * f.couplings_.n_coupled()) {}
    Buffer<V> u, y, z;  // [][2] real and imaginary parts of U, of the adjoint and dE/dU, and of Z
  };

 protected:
  // U of all j
  void sum_up(const Block<T>& block, Scratch& s) const {
    density_.sum_up(block, s);
    wigner_.matrices(s.density.data(), T(1), s.u.data());
  }

  // dE/dr of all rows, from dE/dU in s.y
  void differentiate(const Block<T>& block, Scratch& s) const {
    wigner_.densities(s.y.data(), s.density.data());
    density_.differentiate(block, s);
  }

  Hyperspherical<T> density_;
  Wigner<T> wigner_;
  Couplings<T> couplings_;
};

}  // namespace mlmd
