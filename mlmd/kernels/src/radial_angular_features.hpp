// Radial-angular features of atoms, times their scaling, and their derivatives in both directions: see
// radial_angular_sums.hpp for the formulas and features.hpp for what is asked of a family. Network and repulsion of the
// potential are not looked at.
#pragma once

#include "features.hpp"
#include "radial_angular.hpp"

namespace mlmd {

class RadialAngularFeatures : public RadialAngular<double> {
 public:
  using Potential = RadialAngular<double>;

  explicit RadialAngularFeatures(Reader& reader) : Potential(reader) {}

  struct Scratch : Potential::Scratch {
    explicit Scratch(const RadialAngularFeatures& f)
        : Potential::Scratch(f), changes(std::size_t(f.angular_.n) * (f.n_harmonics() + 1)), rates(values.size()),
          turned(harmonics.size()), steps(2 * CHUNK * f.angular_.n) {}
    Buffer<V> changes;  // [lm][n] of the moments
    Buffer<V> rates;    // [CHUNK][k] of f
    Buffer<V> turned;   // [CHUNK][lm] of the harmonics
    Buffer<V> steps;    // [CHUNK][n] g, and then their changes
  };

  void features(const Block<double>& block, Scratch& s, V* out) const {
    sum_up(block, s, out);
    scale(out);
  }

  void pull(const Block<double>& block, Scratch& s, const V* weights) const {
    V* const q = s.features.data();
    const Rows<double> rows = sum_up(block, s, q);
    std::copy(weights, weights + n_features_, q);
    scale(q);
    differentiate(block, rows, s, q);
  }

  void push(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    std::fill(out, out + n_features_, V{});
    push_radial(block, s, dx, dy, dz, out);
    const Rows<double> rows = angular_rows(block, s);
    in_degree([&](auto degree) {
      constexpr int L = decltype(degree)::value;
      push_angular<L>(block.species, rows, s, dx, dy, dz);
      invariants_.push<L>(s.moments.data(), s.changes.data(), out + radial_.n);
    });
    scale(out);
  }

 private:
  void scale(V* q) const {
    for (int d = 0; d < n_features_; d++) q[d] *= scaling_[d];
  }

  void push_radial(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    const int n = radial_.n_basis, stride = longest_basis() + 1;
    V *const sums = s.basis.data(), *const f = s.values.data(), *const rate = s.rates.data();
    std::fill(sums, sums + std::size_t(n_species_) * n, V{});
    for (int kind = 0; kind < n_species_; kind++) {
      const double cutoff = radial_.cutoff_of(block.species, kind);
      Basis::in_groups(block.begin[kind], block.begin[kind + 1], [&](auto group, int first) {
        constexpr int R = decltype(group)::value;
        V y[R];
        for (int i = 0; i < R; i++) y[i] = Basis::reduced(block.r[first + i], cutoff);
        Basis::values_and_slopes<R>(y, n, f, rate, stride);
        for (int i = 0; i < R; i++) {
          const int row = first + i;
          const V longer = (dx[row] * block.x[row] + dy[row] * block.y[row] + dz[row] * block.z[row]) / block.r[row];
          for (int k = 0; k < n; k++) sums[std::size_t(kind) * n + k] -= rate[i * stride + k] * (longer / cutoff);
        }
      });
    }
    mix_radial(block, sums, out);
  }

  // The moments and their changes
  template <int L>
  void push_angular(int species, const Rows<double>& rows, Scratch& s, const V* dx, const V* dy, const V* dz) const {
    using H = Harmonics<double, L>;
    const int n = angular_.n, stride = longest_basis() + 1;
    V *const a = s.moments.data(), *const change = s.changes.data(), *const f = s.values.data(), *const rate = s.rates.data();
    V *const g = s.steps.data(), *const dg = g + CHUNK * n;
    std::fill(a, a + std::size_t(H::N) * n, V{});
    std::fill(change, change + std::size_t(H::N) * n, V{});
    for (int kind = 0; kind < n_species_; kind++) {
      const double cutoff = angular_.cutoff_of(species, kind);
      for (int first = rows.begin[kind], end; first < rows.begin[kind + 1]; first = end) {
        end = std::min(first + CHUNK, rows.begin[kind + 1]);
        V y[CHUNK], rise[CHUNK];  // 1 - r / r_c, and its change
        for (int row = first; row < end; row++) {
          const int i = row - first;
          const V inverse = 1 / rows.r[row];
          const V ux = rows.x[row] * inverse, uy = rows.y[row] * inverse, uz = rows.z[row] * inverse;
          const V mx = moved(dx, row, s), my = moved(dy, row, s), mz = moved(dz, row, s);
          const V longer = mx * ux + my * uy + mz * uz;
          y[i] = Basis::reduced(rows.r[row], cutoff);
          rise[i] = longer / -cutoff;
          const typename H::Parts parts(ux, uy, uz);
          H::values(parts, &s.harmonics[std::size_t(i) * H::N]);
          H::changes(parts, (mx - longer * ux) * inverse, (my - longer * uy) * inverse, (mz - longer * uz) * inverse,
                     &s.turned[std::size_t(i) * H::N]);
        }
        Basis::in_groups(0, end - first, [&](auto group, int i) {
          Basis::values_and_slopes<decltype(group)::value>(y + i, angular_.n_basis, f + i * stride, rate + i * stride, stride);
        });
        for (int i = 0; i < end - first; i++)
          for (int k = 0; k < angular_.n_basis; k++) rate[i * stride + k] *= rise[i];
        const double* const c = angular_.basis_of(species, kind);
        multiply_rows<double>(c, n, angular_.n_basis, end - first, f, stride, g, n);
        multiply_rows<double>(c, n, angular_.n_basis, end - first, rate, stride, dg, n);
        add_outer<double>(g, s.harmonics.data(), end - first, n, H::N, a);
        add_outer<double>(dg, s.harmonics.data(), end - first, n, H::N, change);
        add_outer<double>(g, s.turned.data(), end - first, n, H::N, change);
      }
    }
  }

  V moved(const V* change, int row, const Scratch& s) const {
    return compact_ ? s.near.taken(change, row) : change[row];
  }
};

}  // namespace mlmd
