// The density of the neighbours of an atom in radial functions and spherical harmonics (Bartok, Kondor and Csanyi, Phys.
// Rev. B 87, 184115, 2013),
//
//   c_znlm = sum_j f(r_ij) R_nl(r_ij) Y_lm(direction_ij) over the neighbours of species z
//
// and what the centre, of its own species, adds to c_n00.
#pragma once

#include <algorithm>
#include <vector>

#include "kernel.hpp"
#include "piecewise_functions.hpp"
#include "spherical_harmonics.hpp"
#include "tapers.hpp"
#include "tiles.hpp"

namespace mlmd {

template <class T>
class SoapDensity {
 public:
  using V = Vector<T>;
  static constexpr int MOST = 20;  // radial functions, and degrees

  // integers: n_species, n_max, l_max, taper (0 for none), then those of the radial functions.
  // numbers: cutoff, onset, what the centre adds [n], then those of the radial functions, by degree, then n.
  explicit SoapDensity(Reader& reader)
      : n_species_(int(reader.integer("n_species", 1, 200))), n_max_(int(reader.integer("n_max", 1, MOST))),
        l_max_(int(reader.integer("l_max", 0, MOST))), taper_(int(reader.integer("taper", 0, int(Taper::COUNT)))),
        cutoff_(reader.positive("cutoff")), onset_(reader.number("onset")), own_(reader.numbers("own", n_max_)),
        radial_(reader, (l_max_ + 1) * n_max_, cutoff_), harmonics_(l_max_) {
    if (!(onset_ < cutoff_)) throw BadParameters("the onset is not below the cutoff");
    for (int f = 0; f < radial_.n_padded(); f++) {
      const int l = f / n_max_;  // what is behind the last goes behind the last
      where_.push_back(l * CHUNK * n_max_ + f % n_max_);
    }
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  int n_max() const { return n_max_; }
  int l_max() const { return l_max_; }
  int n_harmonics() const { return (l_max_ + 1) * (l_max_ + 1); }
  std::size_t size() const { return std::size_t(n_harmonics()) * n_max_; }  // of the density of one species, [lm][n]

  struct Scratch {
    explicit Scratch(const SoapDensity& f)
        : radial((f.l_max_ + 2 + f.radial_.n_padded() / f.n_max_) * CHUNK * f.n_max_), slopes(radial.size()),
          by_radial(radial.size()), waves(CHUNK * f.n_harmonics()), by_wave(waves.size()), q(f.harmonics_.n_triangle()) {}
    Buffer<V> radial, slopes;    // [l][CHUNK][n] R and dR/dr
    Buffer<V> by_radial;         // [l][CHUNK][n] dE/d(f R)
    Buffer<V> waves, by_wave;    // [l][CHUNK][m] Y, and dE/dY
    Buffer<V> q;
  };

  // The density c [z][lm][n]
  void sum_up(const Block<T>& block, Scratch& s, V* c) const {
    std::fill(c, c + n_species_ * size(), V{});
    V* const centre = c + block.species * size();
    for (int i = 0; i < n_max_; i++) centre[i] += T(own_[i]);
    in_chunks(block, [&](int kind, int first, int count) {
      Places p(*this, block, first, count);
      for (int k = 0; k < count; k++) {
        radial_.template evaluate<false>(block.r[first + k], where_.data(), s.radial.data() + k * n_max_, nullptr);
        harmonics_.polynomials(p.z[k], p.weight[k], s.q.data());
        harmonics_.values(p.x[k], p.y[k], s.q.data(), waves(s.waves.data(), k));
      }
      add(count, s.radial.data(), s.waves.data(), c + kind * size());
    });
  }

  // How it changes with changes of the vectors
  void push(const Block<T>& block, const V* dx, const V* dy, const V* dz, Scratch& s, V* change) const {
    std::fill(change, change + n_species_ * size(), V{});
    in_chunks(block, [&](int kind, int first, int count) {
      Places p(*this, block, first, count);
      for (int k = 0; k < count; k++) {
        const int row = first + k;
        const V longer = select(block.real[row], dx[row] * p.x[k] + dy[row] * p.y[k] + dz[row] * p.z[k], V{});
        evaluate(block.r[row], k, s);
        const V by_value = p.fall[k] * longer, by_slope = p.weight[k] * longer;
        for (int l = 0; l <= l_max_; l++)
          for (int i = l * CHUNK * n_max_ + k * n_max_, n = 0; n < n_max_; n++, i++)
            s.slopes[i] = by_value * s.radial[i] + by_slope * s.slopes[i];
        const V around = p.weight[k] * p.inverse[k];
        harmonics_.polynomials(p.z[k], broadcast<T>(T(1)), s.q.data());
        harmonics_.values(p.x[k], p.y[k], s.q.data(), waves(s.waves.data(), k));
        harmonics_.changes(p.x[k], p.y[k], around * (dx[row] - longer * p.x[k]), around * (dy[row] - longer * p.y[k]),
                           around * (dz[row] - longer * p.z[k]), s.q.data(), waves(s.by_wave.data(), k));
      }
      add(count, s.slopes.data(), s.waves.data(), change + kind * size());
      add(count, s.radial.data(), s.by_wave.data(), change + kind * size());
    });
  }

  // dE/dr of all rows, from dE/dc
  void differentiate(const Block<T>& block, const V* by_c, Scratch& s) const {
    in_chunks(block, [&](int kind, int first, int count) {
      Places p(*this, block, first, count);
      for (int k = 0; k < count; k++) {
        evaluate(block.r[first + k], k, s);
        harmonics_.polynomials(p.z[k], broadcast<T>(T(1)), s.q.data());
        harmonics_.values(p.x[k], p.y[k], s.q.data(), waves(s.waves.data(), k));
      }
      for (int l = 0; l <= l_max_; l++)
        multiply_both<T>(by_c + kind * size() + l * l * n_max_, s.radial.data() + l * CHUNK * n_max_,
                         s.waves.data() + l * l * CHUNK, count, n_max_, 2 * l + 1, s.by_wave.data() + l * l * CHUNK,
                         s.by_radial.data() + l * CHUNK * n_max_);
      for (int k = 0; k < count; k++) {
        V value{}, slope{}, gx, gy, gz;  // of the energy by f, by r in R times f, and by the direction
        for (int l = 0; l <= l_max_; l++)
          for (int i = l * CHUNK * n_max_ + k * n_max_, n = 0; n < n_max_; n++, i++)
            value += s.radial[i] * s.by_radial[i], slope += s.slopes[i] * s.by_radial[i];
        const V x = p.x[k], y = p.y[k], z = p.z[k], around = p.weight[k] * p.inverse[k];
        harmonics_.polynomials(z, broadcast<T>(T(1)), s.q.data());
        harmonics_.gradient(x, y, s.q.data(), waves(s.by_wave.data(), k), gx, gy, gz);
        const V along = p.fall[k] * value + p.weight[k] * slope - around * (gx * x + gy * y + gz * z);
        block.gx[first + k] = around * gx + along * x;
        block.gy[first + k] = around * gy + along * y;
        block.gz[first + k] = around * gz + along * z;
      }
    });
  }

  // What a row adds to the density: f R [l][n] and its derivative by r, Y and its derivatives by the vector [lm]
  struct Terms {
    explicit Terms(const SoapDensity& f)
        : radial(f.radial_.n_padded()), slopes(radial.size()), q(f.harmonics_.n_triangle()) {
      for (Buffer<V>& one : waves) one.reserve(f.n_harmonics());
      for (int k = 0; k < f.radial_.n_padded(); k++) where.push_back(k);
    }
    Buffer<V> radial, slopes, q, waves[4];
    V direction[3];
    std::vector<int> where;
  };
  void terms(const Block<T>& block, int row, Terms& t) const {
    const Places p(*this, block, row, 1);
    const V direction[3] = {p.x[0], p.y[0], p.z[0]};
    radial_.template evaluate<true>(block.r[row], t.where.data(), t.radial.data(), t.slopes.data());
    for (int i = 0; i < (l_max_ + 1) * n_max_; i++) {
      t.slopes[i] = p.fall[0] * t.radial[i] + p.weight[0] * t.slopes[i];
      t.radial[i] *= p.weight[0];
    }
    harmonics_.polynomials(p.z[0], broadcast<T>(T(1)), t.q.data());
    harmonics_.values(p.x[0], p.y[0], t.q.data(), [&](int l) { return t.waves[0].data() + l * l; });
    for (int a = 0; a < 3; a++) {
      V d[3];  // of the direction with the component a of the vector
      for (int b = 0; b < 3; b++) d[b] = p.inverse[0] * (T(a == b) - direction[a] * direction[b]);
      harmonics_.changes(p.x[0], p.y[0], d[0], d[1], d[2], t.q.data(), [&](int l) { return t.waves[1 + a].data() + l * l; });
      t.direction[a] = direction[a];
    }
  }

 private:
  static constexpr int CHUNK = 4;  // rows that share a pass over the density

  // Directions of some rows and their cutoff function, which is zero where there is no neighbour
  struct Places {
    V x[CHUNK], y[CHUNK], z[CHUNK], inverse[CHUNK], weight[CHUNK], fall[CHUNK];  // fall: df/dr
    MLMD_INLINE Places(const SoapDensity& f, const Block<T>& block, int first, int count) {
      if (f.taper_)
        tapers<T>(Taper(f.taper_ - 1), block.r + first, count, T(f.cutoff_), T(1 / (f.cutoff_ - f.onset_)), weight, fall);
      for (int k = 0; k < count; k++) {
        const int row = first + k;
        inverse[k] = T(1) / block.r[row];
        x[k] = block.x[row] * inverse[k], y[k] = block.y[row] * inverse[k], z[k] = block.z[row] * inverse[k];
        if (!f.taper_) weight[k] = select(block.real[row], broadcast<T>(T(1)), V{}), fall[k] = V{};
      }
    }
  };

  template <class Work>
  MLMD_INLINE void in_chunks(const Block<T>& block, const Work& work) const {
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row += CHUNK)
        work(kind, row, std::min(CHUNK, block.begin[kind + 1] - row));
  }

  // Where the harmonics of a degree of a row of a chunk are
  static MLMD_INLINE auto waves(V* first, int row) {
    return [=](int l) { return first + l * l * CHUNK + row * (2 * l + 1); };
  }

  MLMD_INLINE void evaluate(V r, int row, Scratch& s) const {
    radial_.template evaluate<true>(r, where_.data(), s.radial.data() + row * n_max_, s.slopes.data() + row * n_max_);
  }

  // Products of radial functions and harmonics of a chunk
  MLMD_INLINE void add(int count, const V* radial, const V* waves, V* c) const {
    for (int l = 0; l <= l_max_; l++)
      add_outer<T>(radial + l * CHUNK * n_max_, waves + l * l * CHUNK, count, n_max_, 2 * l + 1, c + l * l * n_max_);
  }

  int n_species_, n_max_, l_max_, taper_;
  double cutoff_, onset_;
  std::vector<double> own_;  // [n]
  PiecewiseFunctions<T> radial_;
  SphericalHarmonics<T> harmonics_;
  std::vector<int> where_;   // [l n] in the radial functions of the first row of a chunk
};

}  // namespace mlmd
