// Atom-centred symmetry functions (Behler, J. Chem. Phys. 134, 074106, 2011), and their derivatives.
//
//   radial, of species a:      G = sum_j e^(-eta (r_j - r_s)^2) f(r_j)
//   angular, of species a, b:  G = 2 sum_{j<k} x^zeta E_j E_k [E_jk],   x = (1 + lambda u_j . u_k) / 2,   u = r / |r|,
//                              E = e^(-eta r^2) f(r)
//
// with the factor of the distance of the two neighbours (G4) or without it (G5), and with the weight
// f = sin^2(pi y / 2), y = 1 - r / r_c, which is the usual (1 + cos(pi r / r_c)) / 2, or 1 + t^3 (-6 t^2 + 15 t - 10),
// t = r / r_c. What functions have in common is worked out once: E for each eta ("width") and each neighbour, x^zeta for
// each pair (zeta, lambda) ("shape") and each two neighbours.
#pragma once

#include <algorithm>
#include <vector>

#include "near_rows.hpp"
#include "squared_chebyshev.hpp"

namespace mlmd {

template <class T>
class SymmetrySums {
 public:
  using V = Vector<T>;

  // integers: n_species, n_radial, n_angular, n_widths, n_shapes, G4, quintic weight, then (width, shape) of the angular
  // functions and (zeta, lambda) of the shapes.
  // numbers: radial and angular cutoff, (eta, r_s) of the radial functions, eta of the widths.
  explicit SymmetrySums(Reader& reader) {
    n_species_ = int(reader.integer("n_species", 1, 200));
    n_radial_ = int(reader.integer("n_radial", 0, 10000)), n_angular_ = int(reader.integer("n_angular", 0, 10000));
    n_widths_ = int(reader.integer("n_widths", 0, 10000));
    const int n_shapes = int(reader.integer("n_shapes", 0, 10000));
    narrow_ = reader.integer("narrow", 0, 1), quintic_ = reader.integer("quintic", 0, 1);
    if (n_angular_ && !(n_widths_ && n_shapes)) throw BadParameters("angular functions without widths or shapes");
    for (int s = 0; s < n_angular_; s++) {
      const int width = int(reader.integer("width", 0, n_widths_ - 1));
      angular_.push_back({width, int(reader.integer("shape", 0, n_shapes - 1))});
    }
    for (int s = 0; s < n_shapes; s++) {
      const int zeta = int(reader.integer("zeta", 1, 1024)), sign = int(reader.integer("lambda", -1, 1));
      if (!sign) throw BadParameters("lambda is neither 1 nor -1");
      shapes_.push_back({zeta, T(sign)});
    }
    cutoff_ = reader.positive("cutoff"), inner_ = reader.positive("angular cutoff");
    if (inner_ > cutoff_) throw BadParameters("the angular cutoff is above the radial one");
    for (int n = 0; n < n_radial_; n++) {
      const double eta = reader.number("eta");
      radial_.push_back({T(eta), T(reader.number("r_s"))});
    }
    for (double eta : reader.numbers("widths", n_widths_)) widths_.push_back(T(eta));
    inner_cutoffs_.assign(n_species_, inner_);
    n_features_ = n_species_ * n_radial_ + n_species_ * (n_species_ + 1) / 2 * n_angular_;
  }

  double cutoff() const { return cutoff_; }
  int n_species() const { return n_species_; }
  int n_features() const { return n_features_; }

  struct Scratch {
    explicit Scratch(const SymmetrySums& f)
        : third(2 * f.n_widths_ + 1), powers(2 * f.shapes_.size() + 1), by_width(2 * f.n_widths_ + 1) {}
    NearRows<T> near;               // the angular rows, where they are others than those of the block
    Buffer<V> x, y, z, inverse;     // [row] unit vectors and 1/r of the angular rows
    Buffer<V> gx, gy, gz;           // [row] gradient by the vector, or the changes of unit vectors
    Buffer<V> longer;               // [row] change of the length
    Buffer<V> envelopes;            // [row][E, dE/dr][width]
    Buffer<V> third;                // [E, dE/dr][width] of the distance of two neighbours
    Buffer<V> powers;               // [2 x^zeta, its derivative by the cosine][shape]
    Buffer<V> by_width;             // [times x^zeta, times its derivative][width] weights of functions
  };

 protected:
  // q [n_features] of a block; gives the angular rows, for what comes after
  Rows<T> sum_up(const Block<T>& block, Scratch& s, V* q) const {
    std::fill(q, q + n_features_, V{});
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        V f, slope;
        weigh(block.r[row], T(cutoff_), f, slope);
        for (int n = 0; n < n_radial_; n++) {
          const V away = block.r[row] - radial_[n].shift;
          q[kind * n_radial_ + n] += exp<T>(-radial_[n].eta * (away * away)) * f;
        }
      }
    const Rows<T> rows = angular_rows(block, s);
    V* const sums = q + n_species_ * n_radial_;
    in_pairs(rows, s, [&](int j, int k, int pair, const Between&) {
      const V *const a = envelopes(s, j), *const b = envelopes(s, k), *const third = s.third.data();
      V* const sum = sums + pair * n_angular_;
      for (int n = 0; n < n_angular_; n++) {
        const auto [width, shape] = angular_[n];
        V term = s.powers[shape] * (a[width] * b[width]);
        if (narrow_) term *= third[width];
        sum[n] += term;
      }
    });
    return rows;
  }

  // dE/dr of all rows, from dE/dq [n_features]; after `sum_up`
  void differentiate(const Block<T>& block, const Rows<T>& rows, Scratch& s, const V* dq) const {
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        const V along = radial_slope(block.r[row], dq + kind * n_radial_) / block.r[row];
        block.gx[row] = along * block.x[row], block.gy[row] = along * block.y[row], block.gz[row] = along * block.z[row];
      }
    for (Buffer<V>* one : {&s.gx, &s.gy, &s.gz}) std::fill(one->data(), one->data() + rows.n, V{});
    const V* const weights = dq + n_species_ * n_radial_;
    in_pairs(rows, s, [&](int j, int k, int pair, const Between& t) {
      gather_weights(weights + pair * n_angular_, s);
      const V *const a = envelopes(s, j), *const b = envelopes(s, k), *const da = a + n_widths_, *const db = b + n_widths_;
      const V *const power = s.by_width.data(), *const turn = power + n_widths_, *const third = s.third.data();
      V by_j{}, by_k{}, by_cosine{}, by_third{};
      for (int e = 0; e < n_widths_; e++) {
        V first = power[e] * a[e], second = power[e] * b[e], both = turn[e] * (a[e] * b[e]);
        if (narrow_) {
          by_third += first * b[e] * third[n_widths_ + e];
          first *= third[e], second *= third[e], both *= third[e];
        }
        by_j += second * da[e], by_k += first * db[e], by_cosine += both;
      }
      const V pull_j = by_cosine * s.inverse[j], pull_k = by_cosine * s.inverse[k];
      const V own_j = by_j - pull_j * t.cosine, own_k = by_k - pull_k * t.cosine, apart = by_third * t.inverse;
      add(s, j, own_j, pull_j, k, -apart, t);
      add(s, k, own_k, pull_k, j, apart, t);
    });
    for (int row = 0; row < rows.n; row++) {
      if (compact()) {
        s.near.add(s.gx[row], row, block.gx), s.near.add(s.gy[row], row, block.gy), s.near.add(s.gz[row], row, block.gz);
      } else {
        block.gx[row] += s.gx[row], block.gy[row] += s.gy[row], block.gz[row] += s.gz[row];
      }
    }
  }

  // Changes of q for changes d of the vectors; after `sum_up`
  void push(const Block<T>& block, const Rows<T>& rows, Scratch& s, const V* dx, const V* dy, const V* dz, V* changes) const {
    std::fill(changes, changes + n_features_, V{});
    for (int kind = 0; kind < n_species_; kind++)
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        const V r = block.r[row], longer = (dx[row] * block.x[row] + dy[row] * block.y[row] + dz[row] * block.z[row]) / r;
        V f, slope;
        weigh(r, T(cutoff_), f, slope);
        for (int n = 0; n < n_radial_; n++) changes[kind * n_radial_ + n] += radial_slope(n, r, f, slope) * longer;
      }
    for (int row = 0; row < rows.n; row++) {
      const V x = s.x[row], y = s.y[row], z = s.z[row];
      const V mx = moved(dx, row, s), my = moved(dy, row, s), mz = moved(dz, row, s), longer = mx * x + my * y + mz * z;
      s.longer[row] = longer;
      s.gx[row] = (mx - longer * x) * s.inverse[row];
      s.gy[row] = (my - longer * y) * s.inverse[row];
      s.gz[row] = (mz - longer * z) * s.inverse[row];
    }
    V* const angular = changes + n_species_ * n_radial_;
    in_pairs(rows, s, [&](int j, int k, int pair, const Between& t) {
      const V *const a = envelopes(s, j), *const b = envelopes(s, k), *const third = s.third.data();
      const V turned = s.gx[j] * s.x[k] + s.gy[j] * s.y[k] + s.gz[j] * s.z[k] + s.gx[k] * s.x[j] + s.gy[k] * s.y[j] +
                       s.gz[k] * s.z[j];
      const V apart = narrow_ ? (t.x * (moved(dx, k, s) - moved(dx, j, s)) + t.y * (moved(dy, k, s) - moved(dy, j, s)) +
                                 t.z * (moved(dz, k, s) - moved(dz, j, s))) * t.inverse
                              : V{};
      V* const change = angular + pair * n_angular_;
      for (int n = 0; n < n_angular_; n++) {
        const auto [width, shape] = angular_[n];
        V both = a[width] * b[width];
        V by = a[n_widths_ + width] * s.longer[j] * b[width] + a[width] * b[n_widths_ + width] * s.longer[k];
        if (narrow_) {
          by = by * third[width] + both * third[n_widths_ + width] * apart;
          both *= third[width];
        }
        change[n] += s.powers[shapes_.size() + shape] * turned * both + s.powers[shape] * by;
      }
    });
  }

  int n_species_, n_features_;
  double cutoff_;

 private:
  struct Between {  // two neighbours: the cosine of their angle; the vector from the first to the second, 1 / its length
    V cosine, x, y, z, inverse;
  };
  struct Angular {
    int width, shape;
  };
  struct Shape {
    int zeta;
    T sign;
  };
  struct Gaussian {
    T eta, shift;
  };

  bool compact() const { return inner_ < 0.97 * cutoff_; }
  V* envelopes(Scratch& s, int row) const { return &s.envelopes[std::size_t(row) * 2 * n_widths_]; }
  V moved(const V* change, int row, const Scratch& s) const {
    return compact() ? s.near.taken(change, row) : change[row];
  }

  // f and df/dr
  MLMD_INLINE void weigh(V r, T cutoff, V& f, V& slope) const {
    const T rate = T(1) / cutoff;
    if (quintic_) {
      const V t = min(r * rate, broadcast<T>(T(1))), left = T(1) - t;
      f = left * left * left * (T(1) + T(3) * t + T(6) * t * t);  // the same, without a difference near the cutoff
      slope = T(-30) * rate * (t * t) * (left * left);
      return;
    }
    const V y = SquaredChebyshev<T>::reduced(r, cutoff);
    V sine, cosine;
    SquaredChebyshev<T>::template half_wave<1, true>(&y, &sine, &cosine);
    f = sine * sine;
    slope = T(-3.14159265358979323846) * rate * (sine * cosine);
  }

  MLMD_INLINE V radial_slope(int n, V r, V f, V slope) const {
    const V away = r - radial_[n].shift;
    return exp<T>(-radial_[n].eta * (away * away)) * (slope - T(2) * radial_[n].eta * away * f);
  }
  V radial_slope(V r, const V* weights) const {
    V f, slope, sum{};
    weigh(r, T(cutoff_), f, slope);
    for (int n = 0; n < n_radial_; n++) sum += weights[n] * radial_slope(n, r, f, slope);
    return sum;
  }

  // E and dE/dr for all widths
  MLMD_INLINE void envelop(V r, V* values) const {
    V f, slope;
    weigh(r, T(inner_), f, slope);
    for (int e = 0; e < n_widths_; e++) {
      const V gaussian = exp<T>(-widths_[e] * (r * r));
      values[e] = gaussian * f;
      values[n_widths_ + e] = gaussian * (slope - T(2) * widths_[e] * r * f);
    }
  }

  Rows<T> angular_rows(const Block<T>& block, Scratch& s) const {
    if (!n_angular_) return {0, block.begin, block.x, block.y, block.z, block.r};
    const Rows<T> rows = compact() ? s.near.move(block, n_species_, inner_cutoffs_.data())
                                   : Rows<T>{block.n_rows, block.begin, block.x, block.y, block.z, block.r};
    for (Buffer<V>* one : {&s.x, &s.y, &s.z, &s.inverse, &s.gx, &s.gy, &s.gz, &s.longer}) one->reserve(rows.n);
    s.envelopes.reserve(std::size_t(rows.n) * 2 * n_widths_);
    for (int row = 0; row < rows.n; row++) {
      const V inverse = T(1) / rows.r[row];
      s.inverse[row] = inverse;
      s.x[row] = rows.x[row] * inverse, s.y[row] = rows.y[row] * inverse, s.z[row] = rows.z[row] * inverse;
      envelop(rows.r[row], envelopes(s, row));
    }
    return rows;
  }

  // 2 x^zeta and its derivative by the cosine for all shapes
  MLMD_INLINE void raise(V cosine, V* powers) const {
    const std::size_t n = shapes_.size();
    for (std::size_t shape = 0; shape < n; shape++) {
      const auto [zeta, sign] = shapes_[shape];
      const V x = T(0.5) + (T(0.5) * sign) * cosine;
      V power = broadcast<T>(T(1)), square = x;
      for (int left = zeta - 1; left; left >>= 1, square *= square)
        if (left & 1) power *= square;
      powers[shape] = T(2) * x * power;
      powers[n + shape] = T(zeta) * sign * power;
    }
  }

  // work(j, k, pair of species, between) for any two angular rows whose neighbours matter, with the powers of their
  // angle and, where it counts, the envelopes of their distance in the scratch
  template <class Work>
  MLMD_INLINE void in_pairs(const Rows<T>& rows, Scratch& s, const Work& work) const {
    if (!n_angular_) return;
    for (int a = 0, pair = 0; a < n_species_; a++)
      for (int b = a; b < n_species_; b++, pair++)
        for (int j = rows.begin[a]; j < rows.begin[a + 1]; j++)
          for (int k = a == b ? j + 1 : rows.begin[b]; k < rows.begin[b + 1]; k++) {
            Between t{};
            t.x = rows.x[k] - rows.x[j], t.y = rows.y[k] - rows.y[j], t.z = rows.z[k] - rows.z[j];
            if (narrow_) {
              // padding lies upon itself: any distance will do, nothing is multiplied by it but zeros
              const V square = max(t.x * t.x + t.y * t.y + t.z * t.z, broadcast<T>(T(1e-12)));
              if (!any(square < T(inner_ * inner_))) continue;
              const V distance = sqrt(square);
              t.inverse = T(1) / distance;
              envelop(distance, s.third.data());
            }
            t.cosine = s.x[j] * s.x[k] + s.y[j] * s.y[k] + s.z[j] * s.z[k];
            raise(t.cosine, s.powers.data());
            work(j, k, pair, t);
          }
  }

  // Weights of functions times their powers, added up by width
  MLMD_INLINE void gather_weights(const V* weights, Scratch& s) const {
    V *const power = s.by_width.data(), *const turn = power + n_widths_;
    std::fill(power, power + 2 * n_widths_, V{});
    for (int n = 0; n < n_angular_; n++) {
      const auto [width, shape] = angular_[n];
      power[width] += weights[n] * s.powers[shape];
      turn[width] += weights[n] * s.powers[shapes_.size() + shape];
    }
  }

  // The gradient by one of two neighbours: along its own direction, that of the other, and from one to the other
  MLMD_INLINE void add(Scratch& s, int one, V own, V pull, int other, V apart, const Between& t) const {
    V gx = own * s.x[one] + pull * s.x[other], gy = own * s.y[one] + pull * s.y[other],
      gz = own * s.z[one] + pull * s.z[other];
    if (narrow_) gx += apart * t.x, gy += apart * t.y, gz += apart * t.z;
    s.gx[one] += gx, s.gy[one] += gy, s.gz[one] += gz;
  }

  int n_radial_, n_angular_, n_widths_;
  bool narrow_, quintic_;
  double inner_;
  std::vector<double> inner_cutoffs_;  // [z]
  std::vector<Gaussian> radial_;
  std::vector<Angular> angular_;
  std::vector<Shape> shapes_;
  std::vector<T> widths_;
};

}  // namespace mlmd
