// The density of neighbours on the three-sphere, in hyperspherical harmonics.
//
// With neighbours at polar angles psi and with weights f_c w (three_sphere.hpp), and j twice the angular momentum,
//
//   A_jlm = sum_k f_c(r_k) w_k R_jl(psi_k) Y_lm(direction_k),
//   R_jl = sin^l(psi) G_{j-l}^{(l+1)}(cos psi),      Y_lm = G_{l-m}^{(m+1/2)}(z/r) (x + iy)^m / r^m,
//
// with G Gegenbauer's polynomials whose highest power has the coefficient one. These are one multiplication with addition
// for each of the sum_j (j+1)^2 real numbers of a neighbour, which is a fifth of what the recursion for Wigner's matrices
// takes; and the way back, from dE/dA to dE/dr, takes two.
#pragma once

#include <algorithm>
#include <vector>

#include "kernel.hpp"
#include "three_sphere.hpp"
#include "unrolled.hpp"

namespace mlmd {

template <class T>
class Hyperspherical {
 public:
  using V = Vector<T>;
  static constexpr int HIGHEST = 16;  // 2J

  // integers and numbers: those of the sphere, then the integer twojmax
  explicit Hyperspherical(Reader& reader) : sphere_(reader), top_(int(reader.integer("twojmax", 0, HIGHEST))) { lay_out(); }

  double cutoff() const { return sphere_.cutoff(); }
  int n_species() const { return sphere_.n_species(); }
  int top() const { return top_; }  // 2J
  const std::vector<int>& first_density() const { return first_density_; }

  struct Scratch {
    explicit Scratch(const Hyperspherical& f)
        : density(f.n_real_), radial(CHUNK * f.n_triangle_), slopes(f.n_triangle_), harmonics(CHUNK * f.n_harmonics_),
          legendre(f.n_triangle_), by_value(f.n_harmonics_), by_slope(f.n_harmonics_) {}
    Buffer<V> density;              // [n_real] A_jlm, or dE/dA, or changes of A
    Buffer<V> radial, slopes;       // [chunk][n_triangle] R_jl, dR_jl/dpsi, by l, then j
    Buffer<V> harmonics;            // [chunk][n_harmonics] by l: m = 0, real and imaginary parts of m = 1, 2, ...
    Buffer<V> legendre;             // [n_triangle] G_{l-m}, by m, then l
    Buffer<V> by_value, by_slope;   // [n_harmonics] sums over j of dE/dA times R and dR/dpsi
  };

  // The density
  void sum_up(const Block<T>& block, Scratch& s) const {
    std::fill(s.density.data(), s.density.data() + n_real_, V{});
    for (int kind = 0; kind < n_species(); kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row += CHUNK)
        add_rows(block, kind, row, std::min(CHUNK, block.begin[kind + 1] - row), s);
  }

  // dE/dr of all rows, from dE/dA in the place of the density
  void differentiate(const Block<T>& block, Scratch& s) const {
    for (int kind = 0; kind < n_species(); kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) differentiate_row(block, kind, row, s);
  }

  // How the density changes with changes of the vectors; in its place
  void push(const Block<T>& block, const V* dx, const V* dy, const V* dz, Scratch& s) const {
    std::fill(s.density.data(), s.density.data() + n_real_, V{});
    for (int kind = 0; kind < n_species(); kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++)
        push_row(block, kind, row, dx[row], dy[row], dz[row], s);
  }

 private:
  using Place = typename ThreeSphere<T>::Place;
  static constexpr int CHUNK = 2;   // rows that share a pass over the densities

  void lay_out() {
    const int n = top_ + 1;
    n_triangle_ = n * (n + 1) / 2, n_harmonics_ = n * n;
    for (int l = 0; l <= top_; l++) {
      triangle_.push_back(l * n - l * (l - 1) / 2);
      first_density_.push_back(n_real_);
      n_real_ += (2 * l + 1) * (n - l);
      for (int k = 0; k <= top_ - l; k++) {  // G_{k+1} = x G_k - step G_{k-1}
        radial_step_.push_back(k ? T(k * (k + 2. * l + 1) / (4. * (k + l + 1) * (k + l))) : T(0));
        legendre_step_.push_back(k ? T(k * (k + 2. * l) / ((2. * k + 2 * l + 1) * (2. * k + 2 * l - 1))) : T(0));
      }
    }
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

  // Y_lm, and the G_{l-m} that they are made of
  MLMD_INLINE void spherical(const Place& p, V* g, V* y) const {
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

  void add_rows(const Block<T>& block, int kind, int row, int count, Scratch& s) const {
    for (int k = 0; k < CHUNK; k++) {
      V* const r = s.radial.data() + k * n_triangle_;
      V* const y = s.harmonics.data() + k * n_harmonics_;
      if (k >= count) {
        std::fill(r, r + n_triangle_, V{});
        std::fill(y, y + n_harmonics_, V{});
        continue;
      }
      const Place p = sphere_.place(block, kind, row + k);
      radial(p.c, p.s, p.weight, r);
      spherical(p, s.legendre.data(), y);
    }
    add_chunk(s);
  }

  // The product of radial parts and harmonics of a chunk
  MLMD_INLINE void add_chunk(Scratch& s) const {
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

  // dR_jl/dpsi = l cot(psi) R_jl - (j - l) R_{j,l+1}
  MLMD_INLINE void radial_slopes(const Place& p, const V* r, V* d) const {
    const V cotangent = p.c / p.s;
    for (int l = 0; l <= top_; l++) {
      const V* const own = r + triangle_[l];
      const V* const next = own + (top_ - l);  // R_{j,l+1} is at next[j - l]
      V* const slope = d + triangle_[l];
      const V scale = T(l) * cotangent;
      slope[0] = scale * own[0];
      for (int k = 1; k <= top_ - l; k++) slope[k] = scale * own[k] - T(k) * next[k];
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
    const Place p = sphere_.place(block, kind, row);
    V *const r = s.radial.data(), *const d = s.slopes.data(), *const g = s.legendre.data();
    radial(p.c, p.s, broadcast<T>(T(1)), r);
    legendre(p.z, g);
    radial_slopes(p, r, d);
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
    const V along = p.slope * value + p.weight * p.turn * slope - around * radially;
    block.gx[row] = around * gx + along * p.x;
    block.gy[row] = around * gy + along * p.y;
    block.gz[row] = around * gz + along * p.z;
  }

  // d(f_c w R) Y + f_c w R dY: the product of a chunk of two
  void push_row(const Block<T>& block, int kind, int row, V dx, V dy, V dz, Scratch& s) const {
    static_assert(CHUNK == 2, "the two terms of a product");
    const Place p = sphere_.place(block, kind, row);
    const V longer = dx * p.x + dy * p.y + dz * p.z;
    V *const change = s.radial.data(), *const r = change + n_triangle_, *const slope = s.slopes.data();
    radial(p.c, p.s, broadcast<T>(T(1)), r);
    radial_slopes(p, r, slope);
    const V by_value = p.slope * longer, by_slope = p.weight * p.turn * longer;
    for (int k = 0; k < n_triangle_; k++) {
      change[k] = by_value * r[k] + by_slope * slope[k];
      r[k] *= p.weight;
    }
    V *const g = s.legendre.data(), *const y = s.harmonics.data();
    spherical(p, g, y);
    push_spherical(p, (dx - longer * p.x) * p.inverse, (dy - longer * p.y) * p.inverse, (dz - longer * p.z) * p.inverse,
                   g, y + n_harmonics_);
    add_chunk(s);
  }

  // Changes of Y_lm with a change (dx, dy, dz) of the unit vector
  MLMD_INLINE void push_spherical(const Place& p, V dx, V dy, V dz, const V* g, V* y) const {
    V re = broadcast<T>(T(1)), im{}, re_change{}, im_change{};  // of (x + iy)^m
    for (int m = 0; m <= top_; m++) {
      const V *const own = g + triangle_[m], *const next = own + (top_ - m);  // G_{l-m-1}^{(m+3/2)} is at next[l - m]
      for (int l = m; l <= top_; l++) {
        const V rise = l > m ? T(l - m) * next[l - m] * dz : V{};
        if (m) {
          y[l * l + 2 * m - 1] = rise * re + own[l - m] * re_change;
          y[l * l + 2 * m] = rise * im + own[l - m] * im_change;
        } else {
          y[l * l] = rise;
        }
      }
      const V re_next = re * p.x - im * p.y, im_next = re * p.y + im * p.x;
      const V change_next = re_change * p.x + re * dx - (im_change * p.y + im * dy);
      im_change = re_change * p.y + re * dy + im_change * p.x + im * dx;
      re = re_next, im = im_next, re_change = change_next;
    }
  }

  ThreeSphere<T> sphere_;
  int top_, n_real_ = 0, n_triangle_ = 0, n_harmonics_ = 0;
  std::vector<int> triangle_;       // [2J + 1] where the R_jl of an l, or the G of an m, begin
  std::vector<int> first_density_;  // [2J + 1] where the A_jlm of an l begin; by m, then j
  std::vector<T> radial_step_, legendre_step_;
};

}  // namespace mlmd
