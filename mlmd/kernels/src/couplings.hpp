// Products of three Wigner matrices that no rotation changes, and their derivatives:
//
//   B_{j1 j2 j} = sum conj(U_j) Z^j_{j1 j2},
//   Z^j_{j1 j2}[m'][m] = sum C^{j1 j2 j}_{m1' m2' m'} C^{j1 j2 j}_{m1 m2 m} U_j1[m1'][m1] U_j2[m2'][m2].
//
// B_{j1 j2 j} / (j + 1) does not change when its indices change places, so that the derivative of a function of them is a
// sum over Z again: Y_j = sum_{j1 >= j2} beta Z^j_{j1 j2} (Bachmayr et al. call it the adjoint; Gayatri et al.,
// arXiv:2011.12875). The products U_j1[m1'][m1] U_j2[m2'][m2] do not depend on j: each is formed once and serves all j.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <vector>

#include "hyperspherical.hpp"
#include "kernel.hpp"
#include "unrolled.hpp"
#include "wigner.hpp"

namespace mlmd {

template <class T>
class Couplings {
 public:
  using V = Vector<T>;

  // Couplings of j1 and j2 to all j. The products of row m1' of U_j1 and row m2' of U_j2 with m1 + m2 = M contribute to
  // the j not below |2 M - j1 - j2|, which are the last ones.
  struct Coupling {
    int j1, j2, n_j;
    std::vector<int> j, first_z;      // [n_j] first_z: where Z^j begins, counted in complex numbers
    std::vector<T> weight_table;      // [M][m1][n_j] Clebsch-Gordan coefficients, for the sums over columns
    std::vector<int> first_weight;    // [M]
    std::vector<T> row_weight;        // [m1'][m2'][n_j]
    std::vector<int> component;       // [n_j] which B
    std::vector<T> multiplicity;      // [n_j] of beta in dE/dU_j
  };

  // 2J; numbers <j1 m1 j2 m2 | j m> for every coupling and j, by m1, then m2
  Couplings(Reader& reader, int top) : top_(top) {
    lay_out();
    read(reader);
  }

  int n_components() const { return int(component_.size()); }
  int n_coupled() const { return n_coupled_; }  // complex numbers of all Z
  const std::vector<Coupling>& all() const { return coupling_; }
  // [n_components] the last of the three j, the largest
  std::vector<int> last() const {
    std::vector<int> found(component_.size());
    for (const auto& one : component_) found[one.second] = one.first[2];
    return found;
  }

  // Independent elements of Z^j_{j1 j2} for all j, from `origin` on
  void couple(const Coupling& c, const V* u, V* z, int origin) const {
    const int j1 = c.j1, j2 = c.j2, n_j = c.n_j;
    const V *const u1 = u + 2 * first_matrix(j1), *const u2 = u + 2 * first_matrix(j2);
    std::fill(z, z + 2 * (c.first_z[n_j - 1] - origin + n_independent(c.j[n_j - 1])), V{});
    for (int row1 = 0; row1 <= j1; row1++)
      for (int row2 = j1 == j2 ? row1 : 0; row2 <= j2 && 2 * (row1 + row2) <= j1 + j2; row2++) {
        const int row = row1 + row2, first = first_j(c, row);
        V* target[Hyperspherical<T>::HIGHEST + 1];  // where M = 0 would stand in the row of Z^j
        for (int k = first; k < n_j; k++) {
          const int shift = (j1 + j2 - c.j[k]) / 2;
          target[k] = z + 2 * (c.first_z[k] - origin + (row - shift) * (c.j[k] + 1) - shift);
        }
        const V *const left = u1 + 2 * row1 * (j1 + 1), *const right = u2 + 2 * row2 * (j2 + 1);
        const T* const weight = &c.row_weight[std::size_t(row1 * (j2 + 1) + row2) * n_j];
        const int last = 2 * row == j1 + j2 ? row : j1 + j2;  // half of the middle row is enough
        for (int sum = 0; sum <= last; sum++) {
          const int lowest = std::max(0, sum - j2), n_terms = std::min(j1, sum) - lowest + 1;
          const int from = first_j(c, sum);
          const T* table = &c.weight_table[c.first_weight[sum]];
          const int start = std::max(from, first);
          table += (start - from) * n_terms;
          const V *const a = left + 2 * lowest, *const b = right + 2 * (sum - lowest);
          if (n_terms <= UNROLLED)
            unrolled(n_terms, [&](auto size) {
              products<decltype(size)::value>(a, b, table, weight, target, start, n_j, sum);
            });
          else
            many_products(n_terms, a, b, table, weight, target, start, n_j, sum);
        }
      }
  }

  // Sum of conj(U_j) Z^j over all elements
  V component(int j, const V* u, const V* z) const {
    const V* const own = u + 2 * first_matrix(j);
    V twice{}, once{};
    for (int k = 0; k < n_independent(j); k++) {
      const V term = own[2 * k] * z[2 * k] + own[2 * k + 1] * z[2 * k + 1];
      if (j % 2 == 0 && k == n_independent(j) - 1) once = term;
      else twice += term;
    }
    return T(2) * twice + once;
  }

  // y += factor z; independent elements are the first ones of a matrix
  void add_to_slope(int j, V factor, const V* z, V* y) const {
    V* const own = y + 2 * first_matrix(j);
    for (int k = 0; k < 2 * n_independent(j); k++) own[k] += factor * z[k];
  }

  // The adjoint of sum_k rate(k) B_k in y, which `weigh` makes a derivative of. Couplings have their Z one after the other
  // in the same place, which stays in the cache.
  template <class Rate>
  MLMD_INLINE void adjoint(const V* u, V* z, V* y, const Rate& rate) const {
    std::fill(y, y + 2 * first_matrix(top_ + 1), V{});
    for (const Coupling& c : coupling_) {
      couple(c, u, z, c.first_z[0]);
      for (int k = 0; k < c.n_j; k++)
        add_to_slope(c.j[k], V{} + rate(c.component[k]) * c.multiplicity[k], z + 2 * (c.first_z[k] - c.first_z[0]), y);
    }
  }

  // From the adjoint to dE/d(independent elements), each of which stands for two but the one in the middle; gives the sum
  // of elements times slopes
  V weigh(const V* matrix, V* adjoint) const {
    V total{};
    for (int j = 0; j <= top_; j++) {
      V* const y = adjoint + 2 * first_matrix(j);
      const V* const u = matrix + 2 * first_matrix(j);
      const int n = n_independent(j), n_pairs = j % 2 ? n : n - 1;
      V sum{};
      for (int k = 0; k < 2 * n_pairs; k++) {
        y[k] *= T(2);
        sum += u[k] * y[k];
      }
      if (n_pairs < n) {
        y[2 * n_pairs + 1] = V{};
        sum += u[2 * n_pairs] * y[2 * n_pairs];
      }
      total += sum;
    }
    return total;
  }

 private:
  void lay_out() {
    for (int j1 = 0; j1 <= top_; j1++)
      for (int j2 = 0; j2 <= j1; j2++) {
        Coupling c;
        c.j1 = j1, c.j2 = j2;
        for (int j = j1 - j2; j <= std::min(top_, j1 + j2); j += 2) c.j.push_back(j);
        c.n_j = int(c.j.size());
        coupling_.push_back(c);
      }
    for (Coupling& c : coupling_)
      for (int j : c.j) {
        c.first_z.push_back(n_coupled_);
        n_coupled_ += n_independent(j);
        if (j >= c.j1) component_.emplace(std::array<int, 3>{c.j1, c.j2, j}, n_components());
      }
    for (Coupling& c : coupling_)
      for (int j : c.j) {
        std::array<int, 3> sorted{c.j1, c.j2, j};
        std::sort(sorted.begin(), sorted.end());
        c.component.push_back(component_.at({sorted[1], sorted[0], sorted[2]}));
        const int times = 1 + (j == c.j1) + (j == c.j2);
        c.multiplicity.push_back(T(double(times) * (sorted[2] + 1) / (j + 1)));
      }
  }

  void read(Reader& reader) {
    for (Coupling& c : coupling_) {
      const int width = c.j2 + 1;
      std::vector<std::vector<double>> tables;
      for (int k = 0; k < c.n_j; k++) tables.push_back(reader.numbers("coupling", (c.j1 + 1) * width));
      for (int sum = 0; sum <= c.j1 + c.j2; sum++) {
        c.first_weight.push_back(int(c.weight_table.size()));
        for (int k = first_j(c, sum); k < c.n_j; k++)
          for (int m1 = std::max(0, sum - c.j2); m1 <= std::min(c.j1, sum); m1++)
            c.weight_table.push_back(T(tables[k][m1 * width + sum - m1]));
      }
      for (int m1 = 0; m1 <= c.j1; m1++)
        for (int m2 = 0; m2 <= c.j2; m2++)
          for (int k = 0; k < c.n_j; k++)
            // equal factors: rows in either order give the same
            c.row_weight.push_back(T(tables[k][m1 * width + m2] * (c.j1 == c.j2 && m1 != m2 ? 2 : 1)));
    }
  }

  // The first of the j that the sum of two indices can belong to
  static int first_j(const Coupling& c, int sum) {
    const int lowest = std::abs(2 * sum - c.j1 - c.j2);
    return std::max(0, (lowest - (c.j1 - c.j2)) / 2);
  }

  template <int N>
  static MLMD_INLINE void products(const V* a, const V* b, const T* table, const T* weight, V* const* target, int start,
                                   int n_j, int sum) {
    V re[N], im[N];
    for (int n = 0; n < N; n++) {
      const V *const p = a + 2 * n, *const q = b - 2 * n;
      re[n] = p[0] * q[0] - p[1] * q[1];
      im[n] = p[0] * q[1] + p[1] * q[0];
    }
    for (int k = start; k < n_j; k++, table += N) {
      V x = table[0] * re[0], y = table[0] * im[0];
      for (int n = 1; n < N; n++) x += table[n] * re[n], y += table[n] * im[n];
      V* const to = target[k] + 2 * sum;
      to[0] += weight[k] * x, to[1] += weight[k] * y;
    }
  }

  static void many_products(int n_terms, const V* a, const V* b, const T* table, const T* weight, V* const* target,
                            int start, int n_j, int sum) {
    for (int from = 0; from < n_terms; from += UNROLLED) {
      const int size = std::min(UNROLLED, n_terms - from);
      for (int k = start; k < n_j; k++)
        unrolled(size, [&](auto n) {
          products<decltype(n)::value>(a + 2 * from, b - 2 * from, table + (k - start) * n_terms + from, weight, target,
                                       k, k + 1, sum);
        });
    }
  }

  int top_, n_coupled_ = 0;
  std::map<std::array<int, 3>, int> component_;
  std::vector<Coupling> coupling_;
};

}  // namespace mlmd
