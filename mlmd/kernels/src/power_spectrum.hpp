// Power spectra of densities c_znlm of some species: products of two coefficients, summed over m,
//
//   p_l(zn, z'n') = w pi sqrt(8 / (2l + 1)) sum_m c_znlm c_z'n'lm,
//
// of all coefficients, of those of one species, or of those of a species with those of all species together. Where a
// product and the same with its factors exchanged both exist, one is left out and w is sqrt(2), else w is 1.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "reader.hpp"
#include "tiles.hpp"

namespace mlmd {

template <class T>
class PowerSpectrum {
 public:
  using V = Vector<T>;
  enum class Products { ALL, SAME_ELEMENT, WITH_SUM, COUNT };

  // Products of a density with row `i` of the functions n of one species and those from `from` on of another
  struct Row {
    int first, i, second, from;
    int column;      // of the first of them
    bool diagonal;   // whether the first of them is a square
  };

  // integers: products
  PowerSpectrum(Reader& reader, int n_species, int n_max, int l_max)
      : n_species_(n_species), n_(n_max), l_max_(l_max),
        products_(Products(reader.integer("products", 0, int(Products::COUNT) - 1))) {
    const std::int64_t n = std::int64_t(n_species) * n_max;
    n_columns_ = products_ == Products::ALL ? n * (n + 1) / 2 : products_ == Products::WITH_SUM ? n * n_max : n * (n_max + 1) / 2;
    for (int l = 0; l <= l_max; l++) norm_.push_back(3.14159265358979323846 * std::sqrt(8 / (2. * l + 1)));
  }

  int n_features() const { return int((l_max_ + 1) * n_columns_); }
  // Densities that are worked on: after those of the species perhaps their sum
  int n_densities() const { return n_species_ + (products_ == Products::WITH_SUM); }

  // Features [l][column] of c [z][lm][n], whose sum over species is written behind the last where it is needed
  void values(V* c, V* p) const {
    add_sum(c);
    product(c, c, p, false);
  }

  // How they change with a change of c, whose sum is there
  void push(const V* c, V* change, V* p) const {
    add_sum(change);
    product(c, change, p, false);
    product(change, c, p, true);
  }

  // dE/dc from dE/dp
  void pull(const V* c, const V* by_p, V* by_c) const {
    std::fill(by_c, by_c + n_densities() * stride(), V{});
    each_row([&](const Row& row) {
      for (int l = 0; l <= l_max_; l++) {
        const std::size_t at = std::size_t(l) * l * n_;
        const T norm = T(weight() * norm_[l]);
        const V* const q = by_p + l * n_columns_ + row.column;
        detail::in_tiles(n_ - row.from, [&](auto tile, int first) {
          constexpr int N = decltype(tile)::value;
          V rate[N];
          for (int j = 0; j < N; j++) rate[j] = norm * q[first + j];
          if (row.diagonal && first == 0) rate[0] *= T(std::sqrt(0.5));
          const std::size_t one = row.first * stride() + at + row.i, other = row.second * stride() + at + row.from + first;
          pull_tile<N>(c + one, c + other, rate, 2 * l + 1, by_c + one, by_c + other);
        });
      }
    });
    if (products_ != Products::WITH_SUM) return;
    const V* const sum = by_c + n_species_ * stride();
    for (int kind = 0; kind < n_species_; kind++)
      for (std::size_t k = 0; k < stride(); k++) by_c[kind * stride() + k] += sum[k];
  }

  // The rows of products of a degree
  template <class Work>
  MLMD_INLINE void each_row(const Work& work) const {
    int column = 0;
    for (int first = 0; first < n_species_; first++)
      for (int i = 0; i < n_; i++) {
        const auto row = [&](int second, int from, bool diagonal) {
          work(Row{first, i, second, from, column, diagonal});
          column += n_ - from;
        };
        if (products_ == Products::WITH_SUM) {
          row(n_species_, 0, false);
          continue;
        }
        row(first, i, true);
        if (products_ == Products::ALL)
          for (int second = first + 1; second < n_species_; second++) row(second, 0, false);
      }
  }

  std::int64_t n_columns() const { return n_columns_; }
  // What products are multiplied with, those on the diagonal with sqrt(1/2) besides
  double norm(int l) const { return weight() * norm_[l]; }

 private:
  std::size_t stride() const { return std::size_t(l_max_ + 1) * (l_max_ + 1) * n_; }  // of densities
  double weight() const { return products_ == Products::WITH_SUM ? 1 : std::sqrt(2.0); }

  void add_sum(V* c) const {
    if (products_ != Products::WITH_SUM) return;
    V* const sum = c + n_species_ * stride();
    std::copy(c, c + stride(), sum);
    for (int kind = 1; kind < n_species_; kind++)
      for (std::size_t k = 0; k < stride(); k++) sum[k] += c[kind * stride() + k];
  }

  void product(const V* a, const V* b, V* p, bool more) const {
    each_row([&](const Row& row) {
      for (int l = 0; l <= l_max_; l++) {
        const std::size_t at = std::size_t(l) * l * n_;
        const T norm = T(weight() * norm_[l]);
        V* const out = p + l * n_columns_ + row.column;
        const V *const one = a + row.first * stride() + at + row.i, *const other = b + row.second * stride() + at + row.from;
        detail::in_tiles(n_ - row.from, [&](auto tile, int first) {
          constexpr int N = decltype(tile)::value;
          V sum[N];
          multiply_tile<N>(one, other + first, 2 * l + 1, sum);
          if (row.diagonal && first == 0) sum[0] *= T(std::sqrt(0.5));
          for (int j = 0; j < N; j++) out[first + j] = more ? out[first + j] + norm * sum[j] : norm * sum[j];
        });
      }
    });
  }

  // sum[j] = sum_m a[m] b[m][j]
  template <int N>
  MLMD_INLINE void multiply_tile(const V* a, const V* b, int n_columns, V* sum) const {
    V own[N] = {};
    for (int m = 0; m < n_columns; m++, a += n_, b += n_) {
      const V one = *a;
#pragma GCC unroll 12
      for (int j = 0; j < N; j++) own[j] += one * b[j];
    }
#pragma GCC unroll 12
    for (int j = 0; j < N; j++) sum[j] = own[j];
  }

  // by_a[m] += sum_j rate[j] b[m][j],  by_b[m][j] += rate[j] a[m]; the two may overlap
  template <int N>
  MLMD_INLINE void pull_tile(const V* a, const V* b, const V* rate, int n_columns, V* by_a, V* by_b) const {
    V own[N];
#pragma GCC unroll 12
    for (int j = 0; j < N; j++) own[j] = rate[j];
    for (int m = 0; m < n_columns; m++, a += n_, b += n_, by_a += n_, by_b += n_) {
      const V one = *a;
      V sum{};
#pragma GCC unroll 12
      for (int j = 0; j < N; j++) {
        sum += own[j] * b[j];
        by_b[j] += own[j] * one;
      }
      *by_a += sum;
    }
  }

  int n_species_, n_, l_max_;
  Products products_;
  std::int64_t n_columns_;
  std::vector<double> norm_;
};

}  // namespace mlmd
