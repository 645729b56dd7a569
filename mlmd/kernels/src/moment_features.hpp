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
        : Moments<double>::Scratch(family), changes(std::size_t(family.n_all_)) {
      moments.reserve(family.n_all_);
      adjoints.reserve(family.n_all_);
    }
    Buffer<V> changes;  // [n_all] of the moments
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
    in_chunks(block, [&](int kind, int row, int count) { differentiate_rows(block, kind, row, count, s); });
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
    in_chunks(block, [&](int kind, int row, int count) { add_rows(block, kind, row, count, s); });
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

  std::int64_t n_all_;  // moments, basic ones and those by products

 private:
  void push_rows(const Block<double>& block, int kind, int row, int count, const V* dx, const V* dy, const V* dz,
                 Scratch& s) const {
    Chunk q;
    prepare<true>(block, kind, row, count, q, s);
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
