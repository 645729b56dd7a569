// SNAP: the energy of an atom is a linear or quadratic function of bispectrum components (Thompson et al., J. Comput.
// Phys. 285, 316, 2015; Wood and Thompson, J. Chem. Phys. 148, 241721, 2018).
//
// With the neighbours on the three-sphere at the polar angle psi = rfac0 pi (r - rmin0) / (r_cut - rmin0), and j twice
// the angular momentum,
//
//   U_j = 1 + sum_k f_c(r_k) w_k u_j(psi_k, direction_k),         B_{j1 j2 j} = sum conj(U_j) Z^j_{j1 j2},
//   Z^j_{j1 j2}[m'][m] = sum C^{j1 j2 j}_{m1' m2' m'} C^{j1 j2 j}_{m1 m2 m} U_j1[m1'][m1] U_j2[m2'][m2].
//
// Neighbours. Wigner's matrices are hyperspherical harmonics: their elements are combinations, the same for all
// neighbours, of products of a radial function and a spherical harmonic (Varshalovich et al., Quantum Theory of Angular
// Momentum, 4.7),
//
//   R_jl = sin^l(psi) G_{j-l}^{(l+1)}(cos psi),      Y_lm = G_{l-m}^{(m+1/2)}(z/r) (x + iy)^m / r^m,
//   u_j[m'][m] = sum_l (-i)^l w_{j m' m l} R_jl Y_{l, m'-m},      Y_{l,-m} = conj(Y_lm),
//
// with G Gegenbauer's polynomials whose highest power has the coefficient one. The loops over neighbours therefore sum
// A_jlm = sum_k f_c w R_jl Y_lm, one multiplication with addition for each of the sum_j (j+1)^2 real numbers, which is a
// fifth of what the recursion for u_j takes; and the way back, from dE/dA to dE/dr, takes two.
//
// Atoms. B_{j1 j2 j} / (j + 1) does not change when its indices change places, so that the derivative of the energy is a
// sum over Z again: Y_j = sum_{j1 >= j2} beta Z^j_{j1 j2} (Bachmayr et al. call it the adjoint; Gayatri et al.,
// arXiv:2011.12875). The products U_j1[m1'][m1] U_j2[m2'][m2] do not depend on j: each is formed once and serves all j.
// U_j[j - m'][j - m] = (-1)^(m - m') conj(U_j[m'][m]) halves the work.
#pragma once

#include <algorithm>
#include <array>
#include <map>

#include "kernel.hpp"

namespace mlmd {

template <class T>
class Snap {
 public:
  using V = Vector<T>;
  static constexpr int HIGHEST = 16;  // 2J

  explicit Snap(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    top_ = int(reader.integer("twojmax", 0, HIGHEST));
    quadratic_ = reader.integer("quadratic", 0, 1);
    switched_ = reader.integer("switchflag", 0, 1);
    inner_ = reader.integer("switchinnerflag", 0, 1);
    part_ = T(reader.positive("rfac0"));
    rmin_ = T(reader.number("rmin0"));
    read_pairs(reader);
    lay_out();
    read_coefficients(reader);
    read_wigner(reader);
    read_couplings(reader);
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  double constant(int species) const { return constant_[species]; }

  struct Scratch {
    explicit Scratch(const Snap& f)
        : density(f.n_real_), radial(CHUNK * f.n_triangle_), slopes(f.n_triangle_), harmonics(CHUNK * f.n_harmonics_),
          legendre(f.n_triangle_), by_value(f.n_harmonics_), by_slope(f.n_harmonics_), u(2 * f.n_matrix_),
          y(2 * f.n_matrix_), z(2 * f.n_coupled_), components(f.n_components_), rates(f.n_components_) {}
    Buffer<V> density;              // [n_real] A_jlm, then dE/dA
    Buffer<V> radial, slopes;       // [chunk][n_triangle] R_jl, dR_jl/dpsi, by l, then j
    Buffer<V> harmonics;            // [chunk][n_harmonics] by l: m = 0, real and imaginary parts of m = 1, 2, ...
    Buffer<V> legendre;             // [n_triangle] G_{l-m}, by m, then l
    Buffer<V> by_value, by_slope;   // [n_harmonics] sums over j of dE/dA times R and dR/dpsi
    Buffer<V> u, y, z;              // [][2] real and imaginary parts
    Buffer<V> components, rates;    // [n_components] B, dE/dB
  };

  V atomic(const Block<T>& block, Scratch& s) const {
    std::fill(s.density.data(), s.density.data() + n_real_, V{});
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row += CHUNK)
        add_rows(block, kind, row, std::min(CHUNK, block.begin[kind + 1] - row), s);
    to_wigner(s);
    const V energy = quadratic_ ? couple_quadratic(block.species, s) : couple_linear(block.species, s);
    from_wigner(s);
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) differentiate_row(block, kind, row, s);
    return energy;
  }

 private:
  static constexpr int CHUNK = 2;   // rows that share a pass over the densities
  static constexpr int UNROLLED = 9;

  struct Pair {  // of species
    T cutoff, scale, weight, middle, inverse_width;
  };
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

  // -- tables -------------------------------------------------------------------------------------------------------

  void read_pairs(Reader& reader) {
    const int n = n_species_;
    std::vector<double> weights = reader.numbers("weights", n), middles(n * n), widths(n * n);
    const std::vector<double> cutoffs = reader.numbers("cutoffs", n * n);
    if (inner_) middles = reader.numbers("sinner", n * n), widths = reader.numbers("dinner", n * n);
    for (int k = 0; k < n * n; k++) {
      if (!(cutoffs[k] > double(rmin_)) || (inner_ && !(widths[k] > 0))) throw BadParameters("a cutoff or width is too small");
      cutoff_ = std::max(cutoff_, cutoffs[k]);
      pair_.push_back({T(cutoffs[k]), T(1 / (cutoffs[k] - double(rmin_))), T(weights[k % n]), T(middles[k]),
                       inner_ ? T(1 / widths[k]) : T(0)});
    }
  }

  void lay_out() {
    const int n = top_ + 1;
    n_triangle_ = n * (n + 1) / 2, n_harmonics_ = n * n;
    for (int l = 0; l <= top_; l++) {
      triangle_.push_back(l * n - l * (l - 1) / 2);
      first_density_.push_back(n_real_);
      n_real_ += (2 * l + 1) * (n - l);
      first_matrix_.push_back(n_matrix_);
      n_matrix_ += (l + 1) * (l + 1);
      for (int k = 0; k <= top_ - l; k++) {  // G_{k+1} = x G_k - step G_{k-1}
        radial_step_.push_back(k ? T(k * (k + 2. * l + 1) / (4. * (k + l + 1) * (k + l))) : T(0));
        legendre_step_.push_back(k ? T(k * (k + 2. * l) / ((2. * k + 2 * l + 1) * (2. * k + 2 * l - 1))) : T(0));
      }
    }
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
        if (j >= c.j1) component_[{c.j1, c.j2, j}] = n_components_++;
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

  // Rows above the middle, and the middle one up to its middle: the other elements follow from these
  static int n_columns(int j, int row) { return 2 * row == j ? row + 1 : j + 1; }
  static int n_independent(int j) { return ((j + 1) * (j + 1) + 1) / 2; }

  void read_coefficients(Reader& reader) {
    const int n = n_components_;
    for (int kind = 0; kind < n_species_; kind++) {
      constant_.push_back(reader.number("constant"));
      for (double value : reader.numbers("linear", n)) linear_.push_back(T(value));
      if (quadratic_)
        for (double value : reader.numbers("quadratic", std::int64_t(n) * n)) product_.push_back(T(value));
    }
  }

  // w_{j m' m l} of the independent elements, l = |m' - m| ... j
  void read_wigner(Reader& reader) {
    for (int j = 0; j <= top_; j++)
      for (int row = 0; 2 * row <= j; row++)
        for (int column = 0; column < n_columns(j, row); column++) {
          const int m = std::abs(row - column);
          const std::vector<double> weights = reader.numbers("wigner", j - m + 1);
          for (int l = m; l <= j; l++) wigner_.push_back(T((l / 2) % 2 ? -weights[l - m] : weights[l - m]));
        }
  }

  // <j1 m1 j2 m2 | j m> for every coupling and j, by m1, then m2
  void read_couplings(Reader& reader) {
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

  // -- neighbours ---------------------------------------------------------------------------------------------------

  struct Place {  // of a neighbour on the sphere
    V c, s, x, y, z, inverse, weight, slope;  // cos, sin of psi; unit vector; 1/r; f_c w and its derivative by r
  };

  MLMD_INLINE Place place(const Block<T>& block, const Pair& pair, int row) const {
    constexpr T pi = T(3.14159265358979323846);
    Place p;
    const V r = block.r[row], t = (r - rmin_) * pair.scale;
    p.inverse = T(1) / max(r, broadcast<T>(T(1e-10)));
    p.x = block.x[row] * p.inverse, p.y = block.y[row] * p.inverse, p.z = block.z[row] * p.inverse;
    const V angle = part_ * t;
    cos_sin_pi<T>(min(max(angle, -angle), broadcast<T>(T(1))), p.c, p.s);
    p.s = max(p.s, broadcast<T>(T(1e-20)));  // two atoms in one place have finite forces
    p.s = select(angle < V{}, -p.s, p.s);
    p.weight = broadcast<T>(T(1)), p.slope = V{};
    if (switched_) {
      V cosine, sine;
      cos_sin_pi<T>(min(max(t, V{}), broadcast<T>(T(1))), cosine, sine);
      p.weight = T(0.5) * (T(1) + cosine);
      p.slope = select(t > V{}, T(-0.5) * pi * pair.scale * sine, V{});
    }
    if (inner_) {
      const V u = (r - pair.middle) * pair.inverse_width;
      V cosine, sine;
      cos_sin_pi<T>(min(max(T(0.5) * (u + T(1)), V{}), broadcast<T>(T(1))), cosine, sine);
      const V step = T(0.5) * (T(1) - cosine);
      const V rate = select((u > T(-1)) & (u < T(1)), T(0.25) * pi * pair.inverse_width * sine, V{});
      p.slope = p.slope * step + p.weight * rate;
      p.weight *= step;
    }
    const auto near = r < pair.cutoff;
    p.weight = select(near, p.weight * pair.weight, V{});
    p.slope = select(near, p.slope * pair.weight, V{});
    return p;
  }

  // G_{l-m}(z) for all m and l
  MLMD_INLINE void legendre(V z, V* g) const {
    const T* step = legendre_step_.data();
    for (int m = 0; m <= top_; m++) {
      const int n = top_ - m + 1;
      g[0] = broadcast<T>(T(1));
      if (n > 1) g[1] = z;
      for (int k = 1; k + 1 < n; k++) g[k + 1] = z * g[k] - step[k] * g[k - 1];
      g += n, step += n;
    }
  }

  // factor R_jl for all l and j
  MLMD_INLINE void radial(V c, V s, V factor, V* r) const {
    const T* step = radial_step_.data();
    for (int l = 0; l <= top_; l++) {
      const int n = top_ - l + 1;
      r[0] = factor;
      if (n > 1) r[1] = c * factor;
      for (int k = 1; k + 1 < n; k++) r[k + 1] = c * r[k] - step[k] * r[k - 1];
      r += n, step += n, factor *= s;
    }
  }

  void add_rows(const Block<T>& block, int kind, int row, int count, Scratch& s) const {
    const Pair& pair = pair_[block.species * n_species_ + kind];
    for (int k = 0; k < CHUNK; k++) {
      V* const r = s.radial.data() + k * n_triangle_;
      V* const y = s.harmonics.data() + k * n_harmonics_;
      if (k >= count) {
        std::fill(r, r + n_triangle_, V{});
        std::fill(y, y + n_harmonics_, V{});
        continue;
      }
      const Place p = place(block, pair, row + k);
      radial(p.c, p.s, p.weight, r);
      V* const g = s.legendre.data();
      legendre(p.z, g);
      for (int l = 0; l <= top_; l++) y[l * l] = g[l];
      V re = p.x, im = p.y;
      for (int m = 1; m <= top_; m++) {
        const V* const own = g + triangle_[m];
        for (int l = m; l <= top_; l++) {
          y[l * l + 2 * m - 1] = own[l - m] * re;
          y[l * l + 2 * m] = own[l - m] * im;
        }
        const V next = re * p.x - im * p.y;
        im = re * p.y + im * p.x, re = next;
      }
    }
    for (int l = 0; l <= top_; l++) {
      const int n = top_ - l + 1;
      V* a = s.density.data() + first_density_[l];
      const V* const r = s.radial.data() + triangle_[l];
      const V* const y = s.harmonics.data() + l * l;
      for (int from = 0; from < n; from += UNROLLED) {
        unrolled(std::min(UNROLLED, n - from), [&](auto size) {
          outer<decltype(size)::value>(a + from, n, r + from, y, 2 * l + 1);
        });
      }
    }
  }

  // a[c][0 ... N - 1] += sum over the rows of the chunk of r[.] y[c]
  template <int N>
  MLMD_INLINE void outer(V* a, int stride, const V* r, const V* y, int n_columns) const {
    V own[CHUNK][N];
    for (int k = 0; k < CHUNK; k++)
      for (int n = 0; n < N; n++) own[k][n] = r[k * n_triangle_ + n];
    for (int c = 0; c < n_columns; c++, a += stride) {
      V factor[CHUNK];
      for (int k = 0; k < CHUNK; k++) factor[k] = y[k * n_harmonics_ + c];
      for (int n = 0; n < N; n++) {
        V sum = a[n];
        for (int k = 0; k < CHUNK; k++) sum += own[k][n] * factor[k];
        a[n] = sum;
      }
    }
  }

  // values[c] (+)= sum a[c][.] r[.], and slopes[c] the same with d
  template <int N>
  static MLMD_INLINE void inner(const V* a, int stride, const V* r, const V* d, V* values, V* slopes, int n_columns,
                                bool more) {
    V own[N], rate[N];
    for (int n = 0; n < N; n++) own[n] = r[n], rate[n] = d[n];
    for (int c = 0; c < n_columns; c++, a += stride) {
      V value = a[0] * own[0], slope = a[0] * rate[0];
      for (int n = 1; n < N; n++) value += a[n] * own[n], slope += a[n] * rate[n];
      values[c] = more ? values[c] + value : value;
      slopes[c] = more ? slopes[c] + slope : slope;
    }
  }

  void differentiate_row(const Block<T>& block, int kind, int row, Scratch& s) const {
    const Pair& pair = pair_[block.species * n_species_ + kind];
    const Place p = place(block, pair, row);
    V *const r = s.radial.data(), *const d = s.slopes.data(), *const g = s.legendre.data();
    radial(p.c, p.s, broadcast<T>(T(1)), r);
    legendre(p.z, g);
    const V cotangent = p.c / p.s;
    for (int l = 0; l <= top_; l++) {  // dR_jl/dpsi = l cot(psi) R_jl - (j - l) R_{j,l+1}
      const V* const own = r + triangle_[l];
      const V* const next = own + (top_ - l);  // R_{j,l+1} is at next[j - l]
      V* const slope = d + triangle_[l];
      const V scale = T(l) * cotangent;
      slope[0] = scale * own[0];
      for (int k = 1; k <= top_ - l; k++) slope[k] = scale * own[k] - T(k) * next[k];
    }
    V *const values = s.by_value.data(), *const slopes = s.by_slope.data();
    for (int l = 0; l <= top_; l++) {
      const int n = top_ - l + 1, at = triangle_[l];
      const V* const a = s.density.data() + first_density_[l];
      for (int from = 0; from < n; from += UNROLLED)
        unrolled(std::min(UNROLLED, n - from), [&](auto size) {
          inner<decltype(size)::value>(a + from, n, r + at + from, d + at + from, values + l * l, slopes + l * l,
                                       2 * l + 1, from > 0);
        });
    }
    // value, slope: of the energy by f_c w and psi; gx, gy, gz: by the unit vector
    V value{}, slope{}, gx{}, gy{}, gz{};
    for (int l = 0; l <= top_; l++) {
      value += g[l] * values[l * l], slope += g[l] * slopes[l * l];
      if (l) gz += T(l) * (g[triangle_[1] + l - 1] * values[l * l]);
    }
    V re = broadcast<T>(T(1)), im{};
    for (int m = 1; m <= top_; m++) {
      const V *const own = g + triangle_[m], *const next = own + (top_ - m);  // G_{l-m-1}^{(m+3/2)} is at next[l - m]
      V a{}, b{}, a_slope{}, b_slope{}, a_z{}, b_z{};
      for (int l = m; l <= top_; l++) {
        const V *const v = values + l * l + 2 * m - 1, *const w = slopes + l * l + 2 * m - 1;
        a += own[l - m] * v[0], b += own[l - m] * v[1];
        a_slope += own[l - m] * w[0], b_slope += own[l - m] * w[1];
        if (l > m) {
          const V rate = T(l - m) * next[l - m];
          a_z += rate * v[0], b_z += rate * v[1];
        }
      }
      gx += T(m) * (a * re + b * im), gy += T(m) * (b * re - a * im);
      const V power = re * p.x - im * p.y;
      im = re * p.y + im * p.x, re = power;
      value += a * re + b * im, slope += a_slope * re + b_slope * im, gz += a_z * re + b_z * im;
    }
    const V radially = gx * p.x + gy * p.y + gz * p.z, around = p.weight * p.inverse;
    constexpr T pi = T(3.14159265358979323846);
    const V along = p.slope * value + p.weight * (pi * part_ * pair.scale) * slope - around * radially;
    block.gx[row] = around * gx + along * p.x;
    block.gy[row] = around * gy + along * p.y;
    block.gz[row] = around * gz + along * p.z;
  }

  template <class F>
  static MLMD_INLINE void unrolled(int n, F&& body) {
    switch (n) {
      case 1: return body(std::integral_constant<int, 1>());
      case 2: return body(std::integral_constant<int, 2>());
      case 3: return body(std::integral_constant<int, 3>());
      case 4: return body(std::integral_constant<int, 4>());
      case 5: return body(std::integral_constant<int, 5>());
      case 6: return body(std::integral_constant<int, 6>());
      case 7: return body(std::integral_constant<int, 7>());
      case 8: return body(std::integral_constant<int, 8>());
      case 9: return body(std::integral_constant<int, 9>());
    }
  }

  // -- atoms --------------------------------------------------------------------------------------------------------

  // From A_jlm to all elements of U_j, with the centre at the pole
  void to_wigner(Scratch& s) const {
    const V* const density = s.density.data();
    const T* w = wigner_.data();
    for (int j = 0; j <= top_; j++) {
      V* const u = s.u.data() + 2 * first_matrix_[j];
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
          if (row == column) re += T(1);
          V *const here = u + 2 * (row * (j + 1) + column), *const there = u + 2 * ((j + 1) * (j + 1) - 1) - (here - u);
          const T parity = m % 2 ? T(-1) : T(1);
          here[0] = re, here[1] = im;
          if (here != there) there[0] = parity * re, there[1] = -parity * im;
        }
    }
  }

  // The way back: from dE/dU of the independent elements, in s.y, to dE/dA
  void from_wigner(Scratch& s) const {
    V* const density = s.density.data();
    std::fill(density, density + n_real_, V{});
    const T* w = wigner_.data();
    for (int j = 0; j <= top_; j++) {
      const V* const y = s.y.data() + 2 * first_matrix_[j];
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

  V couple_linear(int species, Scratch& s) const {
    V* const y = s.y.data();
    std::fill(y, y + 2 * n_matrix_, V{});
    const T* const beta = &linear_[std::size_t(species) * n_components_];
    for (const Coupling& c : coupling_) {
      V* const z = s.z.data();  // one coupling after the other in the same place, which stays in the cache
      couple(c, s.u.data(), z, c.first_z[0]);
      for (int k = 0; k < c.n_j; k++) {
        const V factor = broadcast<T>(beta[c.component[k]] * c.multiplicity[k]);
        add_to_slope(c.j[k], factor, z + 2 * (c.first_z[k] - c.first_z[0]), y);
      }
    }
    return T(1. / 3) * weigh(s);  // the energy is homogeneous of degree three
  }

  V couple_quadratic(int species, Scratch& s) const {
    V *const z = s.z.data(), *const y = s.y.data(), *const b = s.components.data(), *const rate = s.rates.data();
    for (const Coupling& c : coupling_) {
      couple(c, s.u.data(), z + 2 * c.first_z[0], c.first_z[0]);
      for (int k = 0; k < c.n_j; k++)
        if (c.j[k] >= c.j1) b[c.component[k]] = component(c.j[k], s.u.data(), z + 2 * c.first_z[k]);
    }
    const int n = n_components_;
    const T *const linear = &linear_[std::size_t(species) * n], *product = &product_[std::size_t(species) * n * n];
    V energy{};
    for (int k = 0; k < n; k++, product += n) {
      V sum{};
      for (int other = 0; other < n; other++) sum += product[other] * b[other];
      rate[k] = linear[k] + sum;
      energy += b[k] * (linear[k] + T(0.5) * sum);
    }
    std::fill(y, y + 2 * n_matrix_, V{});
    for (const Coupling& c : coupling_)
      for (int k = 0; k < c.n_j; k++)
        add_to_slope(c.j[k], rate[c.component[k]] * c.multiplicity[k], z + 2 * c.first_z[k], y);
    weigh(s);
    return energy;
  }

  // Independent elements of Z^j_{j1 j2} for all j, from `origin` on
  void couple(const Coupling& c, const V* u, V* z, int origin) const {
    const int j1 = c.j1, j2 = c.j2, n_j = c.n_j;
    const V *const u1 = u + 2 * first_matrix_[j1], *const u2 = u + 2 * first_matrix_[j2];
    std::fill(z, z + 2 * (c.first_z[n_j - 1] - origin + n_independent(c.j[n_j - 1])), V{});
    for (int row1 = 0; row1 <= j1; row1++)
      for (int row2 = j1 == j2 ? row1 : 0; row2 <= j2 && 2 * (row1 + row2) <= j1 + j2; row2++) {
        const int row = row1 + row2, first = first_j(c, row);
        V* target[HIGHEST + 1];  // where M = 0 would stand in the row of Z^j
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

  // Sum of conj(U_j) Z^j over all elements
  V component(int j, const V* u, const V* z) const {
    const V* const own = u + 2 * first_matrix_[j];
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
    V* const own = y + 2 * first_matrix_[j];
    for (int k = 0; k < 2 * n_independent(j); k++) own[k] += factor * z[k];
  }

  // From the adjoint to dE/d(independent elements), each of which stands for two but the one in the middle; gives the sum
  // of elements times slopes
  V weigh(Scratch& s) const {
    V total{};
    for (int j = 0; j <= top_; j++) {
      V* const y = s.y.data() + 2 * first_matrix_[j];
      const V* const u = s.u.data() + 2 * first_matrix_[j];
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

  int n_species_, top_, n_real_ = 0, n_triangle_ = 0, n_harmonics_ = 0, n_matrix_ = 0, n_coupled_ = 0, n_components_ = 0;
  bool quadratic_, switched_, inner_;
  double cutoff_ = 0;
  T part_, rmin_;
  std::vector<Pair> pair_;
  std::vector<int> triangle_;       // [2J + 1] where the R_jl of an l, or the G of an m, begin
  std::vector<int> first_density_;  // [2J + 1] where the A_jlm of an l begin; by m, then j
  std::vector<int> first_matrix_;   // [2J + 1] where U_j begins, counted in complex numbers
  std::vector<T> radial_step_, legendre_step_;
  std::map<std::array<int, 3>, int> component_;
  std::vector<double> constant_;
  std::vector<T> linear_, product_, wigner_;
  std::vector<Coupling> coupling_;
};

}  // namespace mlmd
