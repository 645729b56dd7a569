// SOAP: the energy of an atom is linear in its power spectrum, or in the power spectrum of length one,
//
//   E_i = c[z_i] + sum_f w[z_i, f] p_f   or   c[z_i] + sum_f w[z_i, f] p_f / |p|
//
// (Bartok, Kondor and Csanyi, Phys. Rev. B 87, 184115, 2013): soap_density.hpp and power_spectrum.hpp.
#pragma once

#include "power_spectrum.hpp"
#include "soap_density.hpp"

namespace mlmd {

template <class T>
class SoapSpectrum {
 public:
  using V = Vector<T>;

  // integers: those of the density, products, normalised. numbers: those of the density
  explicit SoapSpectrum(Reader& reader)
      : density_(reader), spectrum_(reader, density_.n_species(), density_.n_max(), density_.l_max()) {
    normalised_ = reader.integer("normalised", 0, 1);
  }

  double cutoff() const { return density_.cutoff(); }
  int n_species() const { return density_.n_species(); }
  int n_features() const { return spectrum_.n_features(); }

  struct Scratch : SoapDensity<T>::Scratch {
    explicit Scratch(const SoapSpectrum& f)
        : SoapDensity<T>::Scratch(f.density_), c(f.spectrum_.n_densities() * f.density_.size()), by_c(c.size()),
          p(f.n_features()), by_p(f.n_features()) {}
    Buffer<V> c, by_c;  // [z][lm][n] the density and dE/dc, or its change
    Buffer<V> p, by_p;  // [f] the spectrum, of length one where it is so, and dE/dp
    V inverse;          // 1 / |p| before
  };

 protected:
  // Density and spectrum
  void sum_up(const Block<T>& block, Scratch& s) const {
    density_.sum_up(block, s, s.c.data());
    spectrum_.values(s.c.data(), s.p.data());
    if (!normalised_) return;
    s.inverse = T(1) / sqrt(dot(s.p.data(), s.p.data()));
    for (int f = 0; f < n_features(); f++) s.p[f] *= s.inverse;
  }

  // dE/dr of all rows from dE/dp in s.by_p, which it changes
  void differentiate(const Block<T>& block, Scratch& s) const {
    if (normalised_) turn(s, s.by_p.data());
    spectrum_.pull(s.c.data(), s.by_p.data(), s.by_c.data());
    density_.differentiate(block, s.by_c.data(), s);
  }

  // Of a change of the spectrum that of the spectrum of length one; and the same for derivatives by one and the other
  void turn(const Scratch& s, V* change) const {
    const V along = dot(s.p.data(), change);
    for (int f = 0; f < n_features(); f++) change[f] = s.inverse * (change[f] - along * s.p[f]);
  }

  V dot(const V* a, const V* b) const {
    V sum[2] = {};
    for (int f = 0; f < n_features(); f++) sum[f % 2] += a[f] * b[f];
    return sum[0] + sum[1];
  }

  SoapDensity<T> density_;
  PowerSpectrum<T> spectrum_;
  bool normalised_;
};

template <class T>
class Soap : public SoapSpectrum<T> {
 public:
  using V = Vector<T>;
  using Spectrum = SoapSpectrum<T>;
  using Scratch = typename Spectrum::Scratch;

  // integers: those of the spectrum. numbers: those of the spectrum, w [z][f], c [z].
  explicit Soap(Reader& reader) : Spectrum(reader) {
    const std::int64_t n = Spectrum::n_features();
    for (double one : reader.numbers("coefficients", n * Spectrum::n_species())) coefficients_.push_back(T(one));
    constants_ = reader.numbers("constants", Spectrum::n_species());
  }

  double constant(int species) const { return constants_[species]; }

  V atomic(const Block<T>& block, Scratch& s) const {
    Spectrum::sum_up(block, s);
    const int n = Spectrum::n_features();
    const T* const w = &coefficients_[std::size_t(block.species) * n];
    V energy{};
    for (int f = 0; f < n; f++) {
      s.by_p[f] = broadcast<T>(w[f]);
      energy += w[f] * s.p[f];
    }
    Spectrum::differentiate(block, s);
    return energy;
  }

 private:
  std::vector<T> coefficients_;    // [z][f]
  std::vector<double> constants_;  // [z]
};

}  // namespace mlmd
