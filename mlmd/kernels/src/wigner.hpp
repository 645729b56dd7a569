// Wigner's matrices of a density on the three-sphere. Their elements are combinations, the same for all neighbours, of
// hyperspherical harmonics (Varshalovich et al., Quantum Theory of Angular Momentum, 4.7),
//
//   U_j[m'][m] = pole + sum_l (-i)^l w_{j m' m l} A_{j l m'-m},      A_{j l -m} = conj(A_jlm),
//
// for the A_jlm of hyperspherical.hpp. U_j[j - m'][j - m] = (-1)^(m - m') conj(U_j[m'][m]): independent are the rows above
// the middle, and the middle one up to its middle.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "kernel.hpp"

namespace mlmd {

// Where U_j begins, counted in complex numbers, when they stand one after the other; all elements of each
constexpr int first_matrix(int j) { return j * (j + 1) * (2 * j + 1) / 6; }
// Independent elements in a row, and in all: the first ones of the matrix
constexpr int n_columns(int j, int row) { return 2 * row == j ? row + 1 : j + 1; }
constexpr int n_independent(int j) { return ((j + 1) * (j + 1) + 1) / 2; }

template <class T>
class Wigner {
 public:
  using V = Vector<T>;

  // 2J, where the A_jlm of each l begin (by m, then j), and numbers w_{j m' m l} of the independent elements,
  // l = |m' - m| ... j
  Wigner(Reader& reader, int top, const std::vector<int>& first_density) : top_(top), first_density_(first_density) {
    for (int j = 0; j <= top_; j++)
      for (int row = 0; 2 * row <= j; row++)
        for (int column = 0; column < n_columns(j, row); column++) {
          const int m = std::abs(row - column);
          const std::vector<double> weights = reader.numbers("wigner", j - m + 1);
          for (int l = m; l <= j; l++) wigner_.push_back(T((l / 2) % 2 ? -weights[l - m] : weights[l - m]));
        }
    n_real_ = first_density_[top_] + 2 * top_ + 1;
  }

  // From A_jlm to all elements of U_j; the pole is 1 for a density with its centre, 0 for a change of one
  void matrices(const V* density, T pole, V* matrix) const {
    const T* w = wigner_.data();
    for (int j = 0; j <= top_; j++) {
      V* const u = matrix + 2 * first_matrix(j);
      for (int row = 0; 2 * row <= j; row++)
        for (int column = 0; column < n_columns(j, row); column++) {
          const int m = std::abs(row - column);
          V even[2] = {}, odd[2] = {};
          for (int l = m; l <= j; l++) {
            const int n = top_ - l + 1;
            const V* const a = density + first_density_[l] + (j - l);
            V* const to = l % 2 ? odd : even;
            if (m) to[0] += *w * a[(2 * m - 1) * n], to[1] += *w * a[2 * m * n];
            else to[0] += *w * a[0];
            w++;
          }
          const V sign = broadcast<T>(row < column ? T(-1) : T(1));
          V re = even[0] + sign * odd[1], im = sign * even[1] - odd[0];
          if (row == column) re += pole;
          V *const here = u + 2 * (row * (j + 1) + column), *const there = u + 2 * ((j + 1) * (j + 1) - 1) - (here - u);
          const T parity = m % 2 ? T(-1) : T(1);
          here[0] = re, here[1] = im;
          if (here != there) there[0] = parity * re, there[1] = -parity * im;
        }
    }
  }

  // The way back: from dE/dU of the independent elements to dE/dA
  void densities(const V* adjoint, V* density) const {
    std::fill(density, density + n_real_, V{});
    const T* w = wigner_.data();
    for (int j = 0; j <= top_; j++) {
      const V* const y = adjoint + 2 * first_matrix(j);
      for (int row = 0; 2 * row <= j; row++)
        for (int column = 0; column < n_columns(j, row); column++) {
          const int m = std::abs(row - column);
          const V* const here = y + 2 * (row * (j + 1) + column);
          const V sign = broadcast<T>(row < column ? T(-1) : T(1));
          const V even[2] = {here[0], sign * here[1]}, odd[2] = {-here[1], sign * here[0]};
          for (int l = m; l <= j; l++) {
            const int n = top_ - l + 1;
            V* const a = density + first_density_[l] + (j - l);
            const V* const from = l % 2 ? odd : even;
            if (m) a[(2 * m - 1) * n] += *w * from[0], a[2 * m * n] += *w * from[1];
            else a[0] += *w * from[0];
            w++;
          }
        }
    }
  }

 private:
  int top_, n_real_;
  std::vector<int> first_density_;
  std::vector<T> wigner_;
};

}  // namespace mlmd
