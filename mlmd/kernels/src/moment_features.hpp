// The B_alpha of moment tensors as features of atoms, and their derivatives: see moments.hpp for the formulas and
// features.hpp for what is asked of a family. The weights of the potential are not looked at.
#pragma once

#include "features.hpp"
#include "moments.hpp"

namespace mlmd {

class MomentFeatures : public Moments<double> {
 public:
  static constexpr int W = WIDTH<double>;

  explicit MomentFeatures(Reader& reader) : Moments<double>(reader), n_all_(n_basic_) {
    for (const Product& one : products_) n_all_ = std::max({n_all_, one.first + 1, one.second + 1, one.target + 1});
    for (std::int64_t one : scalars_) n_all_ = std::max(n_all_, one + 1);
  }

  int n_features() const { return int(scalars_.size()); }

  struct Scratch : Moments<double>::Scratch {
    explicit Scratch(const MomentFeatures& family)
        : Moments<double>::Scratch(family), changes(std::size_t(family.n_all_)),
          monomials(std::size_t(family.n_monomials_) * CHUNK), slopes(std::size_t(family.n_monomials_) * CHUNK),
          values(std::size_t(family.n_functions_) * CHUNK), rates(std::size_t(family.n_functions_) * CHUNK) {
      moments.reserve(family.n_all_);
      adjoints.reserve(family.n_all_);
    }
    Buffer<V> changes;            // [n_all] of the moments
    Buffer<V> monomials, slopes;  // [n_monomials][CHUNK] x^a y^b z^c and their changes
    Buffer<V> values, rates;      // [n_functions][CHUNK] f and df/dr
  };

  void features(const Block<double>& block, Scratch& s, V* out) const {
    sum_up(block, s);
    multiply(s.moments.data());
    for (std::size_t a = 0; a < scalars_.size(); a++) out[a] = s.moments[scalars_[a]];
  }

  void push(const Block<double>& block, Scratch& s, const V* dx, const V* dy, const V* dz, V* out) const {
    sum_up(block, s);
    V *const m = s.moments.data(), *const change = s.changes.data();
    std::fill(change, change + n_all_, V{});
    in_chunks(block, [&](int kind, int row, int count) { push_rows(block, kind, row, count, dx, dy, dz, s); });
    for (const Product& one : products_) {
      change[one.target] += one.coefficient * (m[one.first] * change[one.second] + change[one.first] * m[one.second]);
      m[one.target] += one.coefficient * (m[one.first] * m[one.second]);
    }
    for (std::size_t a = 0; a < scalars_.size(); a++) out[a] = change[scalars_[a]];
  }

  void pull(const Block<double>& block, Scratch& s, const V* weights) const {
    sum_up(block, s);
    V *const m = s.moments.data(), *const adjoint = s.adjoints.data();
    multiply(m);
    std::fill(adjoint, adjoint + n_all_, V{});
    for (std::size_t a = 0; a < scalars_.size(); a++) adjoint[scalars_[a]] += weights[a];
    multiply_back(m, adjoint);
    differentiate(block, s);
  }

 protected:
  // `work(species of the neighbours, first row, number of rows)` for at most CHUNK rows at a time
  template <class Work>
  MLMD_INLINE void in_chunks(const Block<double>& block, const Work& work) const {
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row += CHUNK)
        work(kind, row, std::min(CHUNK, block.begin[kind + 1] - row));
  }

  // Basic moments; the products are zero
  void sum_up(const Block<double>& block, Scratch& s) const {
    std::fill(s.moments.data(), s.moments.data() + n_all_, V{});
    Moments<double>::sum_up(block, s);
  }

  void multiply(V* m) const {
    for (const Product& one : products_) m[one.target] += one.coefficient * (m[one.first] * m[one.second]);
  }

  void multiply_back(const V* m, V* adjoint) const {
    for (auto one = products_.rbegin(); one != products_.rend(); ++one) {
      const V outer = one->coefficient * adjoint[one->target];
      adjoint[one->first] += outer * m[one->second];
      adjoint[one->second] += outer * m[one->first];
    }
  }

  struct Chunk {
    V x[CHUNK], y[CHUNK], z[CHUNK], inverse[CHUNK];
  };
  // Unit vectors of some rows, their powers and functions of the distance; places behind the last are filled with
  // something harmless whose functions are zero
  void prepare(const Block<double>& block, int kind, int row, int count, Chunk& q, Scratch& s) const {
    const double* const c = &radial_[(std::size_t(block.species) * n_species_ + kind) * n_functions_ * n_chebyshev_];
    for (int k = 0; k < CHUNK; k++) {
      if (k < count) {
        q.inverse[k] = 1.0 / block.r[row + k];
        q.x[k] = block.x[row + k] * q.inverse[k];
        q.y[k] = block.y[row + k] * q.inverse[k];
        q.z[k] = block.z[row + k] * q.inverse[k];
        radial(block.r[row + k], c, &s.values[k], &s.rates[k]);
      } else {
        q.inverse[k] = q.x[k] = q.y[k] = q.z[k] = V{};
        for (int mu = 0; mu < n_functions_; mu++) s.values[mu * CHUNK + k] = s.rates[mu * CHUNK + k] = V{};
      }
    }
    monomials(q, s.monomials.data());
  }

  // The monomials of rank n are x times all of rank n - 1, y times the last n of them, and z times the last
  void monomials(const Chunk& q, V* values) const {
    for (int c = 0; c < CHUNK; c++) values[c] = broadcast<double>(1.0);
    int start = 0, end = 1;
    for (int n = 1; n <= rank_; n++) {
      int to = end;
      const auto extend = [&](int from, const V* direction) {
        for (int c = 0; c < CHUNK; c++) values[to * CHUNK + c] = values[from * CHUNK + c] * direction[c];
        to++;
      };
      for (int from = start; from < end; from++) extend(from, q.x);
      for (int from = end - n; from < end; from++) extend(from, q.y);
      extend(end - 1, q.z);
      start = end, end = to;
    }
  }

  std::int64_t n_all_;  // moments, basic ones and those by products

 private:
  void push_rows(const Block<double>& block, int kind, int row, int count, const V* dx, const V* dy, const V* dz,
                 Scratch& s) const {
    Chunk q;
    prepare(block, kind, row, count, q, s);
    Chunk turned{};  // change of the unit vectors; that of the length is `longer`
    V longer[CHUNK] = {};
    for (int c = 0; c < count; c++) {
      const V along = longer[c] = dx[row + c] * q.x[c] + dy[row + c] * q.y[c] + dz[row + c] * q.z[c];
      turned.x[c] = (dx[row + c] - along * q.x[c]) * q.inverse[c];
      turned.y[c] = (dy[row + c] - along * q.y[c]) * q.inverse[c];
      turned.z[c] = (dz[row + c] - along * q.z[c]) * q.inverse[c];
    }
    const V* const values = s.monomials.data();
    V* const changes = s.slopes.data();
    change_monomials(q, turned, values, changes);
    for (int mu = 0; mu < n_functions_; mu++)
      for (int k = first_[mu]; k < first_[mu + 1]; k++) {
        const std::size_t at = std::size_t(k - first_[mu]) * CHUNK;
        V sum = s.changes[k];
        for (int c = 0; c < CHUNK; c++)
          sum += s.values[mu * CHUNK + c] * changes[at + c] + s.rates[mu * CHUNK + c] * longer[c] * values[at + c];
        s.changes[k] = sum;
      }
  }

  // d(x m) = dx m + x dm, in the order of `monomials`
  void change_monomials(const Chunk& q, const Chunk& turned, const V* values, V* changes) const {
    std::fill(changes, changes + CHUNK, V{});
    int start = 0, end = 1;
    for (int n = 1; n <= rank_; n++) {
      int to = end;
      const auto extend = [&](int from, const V* direction, const V* turn) {
        for (int c = 0; c < CHUNK; c++)
          changes[to * CHUNK + c] = changes[from * CHUNK + c] * direction[c] + values[from * CHUNK + c] * turn[c];
        to++;
      };
      for (int from = start; from < end; from++) extend(from, q.x, turned.x);
      for (int from = end - n; from < end; from++) extend(from, q.y, turned.y);
      extend(end - 1, q.z, turned.z);
      start = end, end = to;
    }
  }
};

}  // namespace mlmd
