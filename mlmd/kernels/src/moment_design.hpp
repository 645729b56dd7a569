// How energies, forces and virials of a moment tensor potential change with its parameters: rows of a least-squares
// problem.
//
// E_i = sum_a w_a B_a(m), m_k = sum_j f_mu(r_ij) Y_q, k = (mu, q), f_mu = sum_b c_mub phi_b (see moments.hpp). With
// T_kj = dm_k/dr_ij the slope g_ij = dE_i/dr_ij of a pair changes
//
//   by w_a:        sum_k (dB_a/dm_k) T_kj,
//   by c_[s mu b]: sum_k (sum_l of mu (d2E/dm_k dm_l) P_l) T_kj + [z_j = s] sum_k of mu (dE/dm_k) d(phi_b Y_q)/dr_ij,
//
// where P_l = sum_j phi_b Y_q over the neighbours of species s. A B_a depends on few of the m_k, so dB_a/dm_k is kept by
// rows of what is not always zero, and found by one backward pass for all scalars at once. The second derivatives times
// P are one pass forwards and backwards through the products for each mu, all polynomials b together; only a part of
// the products depends on the moments of one mu. What costs most is the last step, sums over k for CHUNK neighbours,
// three directions and W atoms at a time; no derivative of a pair is kept, they are added to forces and virial at once.
#pragma once

#include "moment_features.hpp"

namespace mlmd {

class MomentDesign : public MomentFeatures {
 public:
  explicit MomentDesign(Reader& reader) : MomentFeatures(reader), scratch_(*this) {
    make_table();
    for (int mu = 0; mu < n_functions_; mu++) tangents_.push_back(make_tangent(mu));
    make_gradients();
  }

  // Parameters: weights of the B_a and, where they are wanted, radial coefficients [z_i][z_j][mu][beta]
  std::int64_t n_columns(bool radial) const {
    return std::int64_t(scalars_.size()) + (radial ? std::int64_t(n_species_) * n_own() : 0);
  }

  // energy [n_columns], forces [n_atoms][3][n_columns] and W - 1 numbers more, virial [6][n_columns] in the order xx yy
  // zz yz xz xy: derivatives at radial coefficients c, and at weights, or without columns of c where those are null.
  void rows(const System& system, const double* c, const double* weights, double* energy, double* forces,
            double* virial) {
    for (std::size_t k = 0; k < radial_.size(); k++) radial_[k] = scaling_ * c[k];
    weights_ = weights;
    n_columns_ = n_columns(weights != nullptr);
    energy_ = energy, forces_ = forces, virial_ = virial;
    std::fill(energy, energy + n_columns_, 0.0);
    std::fill(forces, forces + 3 * std::size_t(system.n_atoms) * n_columns_ + W - 1, 0.0);
    std::fill(virial, virial + 6 * n_columns_, 0.0);
    atoms_ = atoms_of_slots(system);
    for (int first = 0; first < system.n_slots; first += W) {
      if (atoms_[first] < 0) continue;  // padding at the end of a species
      int species = 0;
      while (first >= system.first_slot[species + 1]) species++;
      one_block(gather_.block(system, first, species, cutoff_), first);
    }
  }

 private:
  static constexpr int SLOPES = 3 * CHUNK;  // of a moment or a column: x y z for each of CHUNK neighbours
  static constexpr int AT_ONCE = MLMD_VECTOR_BYTES == 64 ? 2 : 1;  // columns: as many sums as there are registers

  // -- tables -------------------------------------------------------------------------------------------------------

  // out[into] += coefficient * factor[by] * out[source]
  struct Step {
    int source, by, into;
    double coefficient;
  };
  // Second derivatives of the energy by the moments of one function
  struct Tangent {
    std::vector<Step> steps;        // factors: moments, then their adjoints
    int n_rows = 0;                 // changes of moments and of adjoints that are not always zero
    int n_members = 0;              // the first are the changes of the moments of the function itself
    int first_basic = 0;            // where the changes of the adjoints of basic moments begin,
    std::vector<int> basic;         // and of which
  };

  int n_own() const { return n_species_ * n_functions_ * n_chebyshev_; }  // radial coefficients of a centre

  std::vector<std::vector<int>> producers() const {
    std::vector<std::vector<int>> found(n_all_);
    for (std::size_t p = 0; p < products_.size(); p++) found[products_[p].target].push_back(int(p));
    return found;
  }

  // The derivatives of all scalars as one backward pass over rows (scalar, moment). Rows of basic moments come first,
  // scalar by scalar, and are what is wanted.
  void make_table() {
    const std::vector<std::vector<int>> made_by = producers();
    std::vector<std::vector<int>> basic, others, products;
    std::vector<char> seen(n_all_, 0);
    first_row_.assign(1, 0);
    for (std::int64_t scalar : scalars_) {
      std::vector<int> waiting{int(scalar)}, reached[2], used;
      seen[scalar] = 1;
      while (!waiting.empty()) {
        const int moment = waiting.back();
        waiting.pop_back();
        reached[moment >= n_basic_].push_back(moment);
        for (int p : made_by[moment]) {
          used.push_back(p);
          for (std::int64_t one : {products_[p].first, products_[p].second})
            if (!seen[one]) seen[one] = 1, waiting.push_back(int(one));
        }
      }
      for (auto& part : reached)
        for (int one : part) seen[one] = 0;
      std::sort(reached[0].begin(), reached[0].end());
      std::sort(used.rbegin(), used.rend());  // a moment is complete in the products before those it is a factor of
      basic.push_back(reached[0]), others.push_back(reached[1]), products.push_back(used);
      first_row_.push_back(first_row_.back() + int(reached[0].size()));
    }
    n_rows_ = first_row_.back();
    std::vector<int> row(n_all_, -1);
    for (std::size_t a = 0; a < scalars_.size(); a++) {
      for (std::size_t k = 0; k < basic[a].size(); k++) row[basic[a][k]] = first_row_[a] + int(k);
      for (int one : others[a]) row[one] = n_rows_++;
      moment_.insert(moment_.end(), basic[a].begin(), basic[a].end());
      seeds_.push_back(row[scalars_[a]]);
      for (int p : products[a]) {
        const int first = int(products_[p].first), second = int(products_[p].second);
        add(steps_, row[products_[p].target], second, row[first], products_[p].coefficient);
        add(steps_, row[products_[p].target], first, row[second], products_[p].coefficient);
      }
    }
  }

  // The square of a moment gives the same step twice
  static void add(std::vector<Step>& steps, int source, int by, int into, double coefficient) {
    if (!steps.empty()) {
      Step& last = steps.back();
      if (last.source == source && last.by == by && last.into == into) {
        last.coefficient += coefficient;
        return;
      }
    }
    steps.push_back({source, by, into, coefficient});
  }

  Tangent make_tangent(int mu) const {
    std::vector<char> moving(n_all_, 0), bending(n_all_, 0);
    for (int k = first_[mu]; k < first_[mu + 1]; k++) moving[k] = 1;
    for (const Product& one : products_)
      if (moving[one.first] || moving[one.second]) moving[one.target] = 1;
    for (auto one = products_.rbegin(); one != products_.rend(); ++one) {
      if (bending[one->target] || moving[one->second]) bending[one->first] = 1;
      if (bending[one->target] || moving[one->first]) bending[one->second] = 1;
    }
    Tangent made;
    std::vector<int> moved(n_all_, -1), bent(n_all_, -1);
    made.n_members = first_[mu + 1] - first_[mu];
    for (int k = first_[mu]; k < first_[mu + 1]; k++) moved[k] = made.n_rows++;
    for (std::int64_t k = n_basic_; k < n_all_; k++)
      if (moving[k]) moved[k] = made.n_rows++;
    made.first_basic = made.n_rows;
    for (std::int64_t k = 0; k < n_all_; k++) {
      if (!bending[k]) continue;
      bent[k] = made.n_rows++;
      if (k < n_basic_) made.basic.push_back(int(k));
    }
    for (const Product& one : products_) {
      const int first = int(one.first), second = int(one.second), target = int(one.target);
      if (moving[first]) add(made.steps, moved[first], second, moved[target], one.coefficient);
      if (moving[second]) add(made.steps, moved[second], first, moved[target], one.coefficient);
    }
    for (auto one = products_.rbegin(); one != products_.rend(); ++one) {
      const int first = int(one->first), second = int(one->second), target = int(one->target);
      const int adjoint = int(n_all_) + target;
      if (bending[target]) {
        add(made.steps, bent[target], second, bent[first], one->coefficient);
        add(made.steps, bent[target], first, bent[second], one->coefficient);
      }
      if (moving[second]) add(made.steps, moved[second], adjoint, bent[first], one->coefficient);
      if (moving[first]) add(made.steps, moved[first], adjoint, bent[second], one->coefficient);
    }
    return made;
  }

  // d/dx of x^a y^b z^c is a times a lower monomial
  void make_gradients() {
    for (int n = 0; n <= rank_; n++)
      for (int a = n; a >= 0; a--)
        for (int b = n - a; b >= 0; b--) {
          const int c = n - a - b;
          gradients_.push_back({{a ? monomial(a - 1, b, c) : 0, b ? monomial(a, b - 1, c) : 0, c ? monomial(a, b, c - 1) : 0},
                                {double(a), double(b), double(c)}, double(n)});
        }
  }

  struct Gradient {
    int lower[3];
    double factor[3], order;
  };

  // Memory of the work on a block
  struct Space {
    explicit Space(const MomentDesign& d)
        : moments(2 * std::size_t(d.n_all_)), rows(d.n_rows_),
          single(std::size_t(d.n_species_) * d.n_monomials_ * d.n_chebyshev_), slopes(std::size_t(d.n_basic_) * SLOPES),
          phi(std::size_t(d.n_chebyshev_) * CHUNK), rates(std::size_t(d.n_chebyshev_) * CHUNK),
          heights(std::size_t(d.n_functions_) * CHUNK), rises(std::size_t(d.n_functions_) * SLOPES),
          found((std::max(W, d.n_chebyshev_) + W) * std::size_t(SLOPES)) {
      std::size_t most = 0, all = 0;
      for (const Tangent& one : d.tangents_) {
        most = std::max(most, std::size_t(one.n_rows));
        all += one.basic.size();
      }
      changes.reserve(most * d.n_chebyshev_);
      curved.reserve(all * d.n_species_ * d.n_chebyshev_);
      n_sums = d.n_features() + d.n_own() + W;
      energies.reserve(n_sums), sums.reserve(n_sums * 9);
    }
    Buffer<V> moments;          // [2][n_all] and their adjoints for the weights
    Buffer<V> rows;             // dB_a/dm_k and what leads to it
    Buffer<V> single;           // [species][n_monomials][n_chebyshev] sum_j phi_b Y_q
    Buffer<V> changes, curved;  // [row][n_chebyshev] of a tangent, and [species][mu][k][n_chebyshev] kept of them
    Buffer<V> slopes;           // [n_basic][3][CHUNK] T
    Buffer<V> phi, rates;       // [n_chebyshev][CHUNK] and the derivative by r
    Buffer<V> heights, rises;   // [mu][CHUNK] sum_k A_k Y_q, [mu][3][CHUNK] sum_k A_k dY_q/dr
    Buffer<V> found;            // [column][3][CHUNK] slopes by some parameters
    Buffer<V> energies, sums;   // [column] and [column][9]: forces on the centres, virial
    std::size_t n_sums = 0;
  };

  // -- atoms --------------------------------------------------------------------------------------------------------

  void one_block(const Block<double>& block, int first) {
    if (!space_) space_ = std::make_unique<Space>(*this);
    Space& s = *space_;
    V* const m = s.moments.data();
    std::fill(s.energies.data(), s.energies.data() + s.n_sums, V{});
    std::fill(s.sums.data(), s.sums.data() + 9 * s.n_sums, V{});
    if (weights_) {
      sum_single(block, s);
    } else {
      sum_up(block, scratch_);
      std::copy(scratch_.moments.data(), scratch_.moments.data() + n_all_, m);
    }
    multiply(m);
    for (int a = 0; a < n_features(); a++) s.energies[a] = m[scalars_[a]];
    std::fill(s.rows.data(), s.rows.data() + n_rows_, V{});
    for (int row : seeds_) s.rows[row] = broadcast<double>(1.0);
    for (const Step& one : steps_) s.rows[one.into] += one.coefficient * m[one.by] * s.rows[one.source];
    if (weights_) bend(s);
    in_chunks(block, [&](int kind, int row, int count) {
      differentiate(block, kind, row, count, s);
      add_weights(block, row, count, s);
      if (weights_) add_radial(block, kind, row, count, s);
    });
    finish(block, first, s);
  }

  // Moments of single polynomials, and the basic moments of them
  void sum_single(const Block<double>& block, Space& s) {
    std::fill(s.single.data(), s.single.data() + std::size_t(n_species_) * n_monomials_ * n_chebyshev_, V{});
    in_chunks(block, [&](int kind, int row, int count) {
      Chunk q;
      prepare(block, kind, row, count, q, scratch_);
      polynomials(block, row, count, s);
      V* sum = &s.single[std::size_t(kind) * n_monomials_ * n_chebyshev_];
      for (int k = 0; k < n_monomials_; k++) {
        const V* const power = &scratch_.monomials[k * CHUNK];
        for (int beta = 0; beta < n_chebyshev_; beta++, sum++) {
          V total = *sum;
#pragma GCC unroll 4
          for (int c = 0; c < CHUNK; c++) total += s.phi[beta * CHUNK + c] * power[c];
          *sum = total;
        }
      }
    });
    V* const m = s.moments.data();
    std::fill(m, m + n_all_, V{});
    for (int kind = 0; kind < n_species_; kind++)
      for (int mu = 0; mu < n_functions_; mu++) {
        const double* const c = &radial_[((std::size_t(block.species) * n_species_ + kind) * n_functions_ + mu) * n_chebyshev_];
        const V* sum = &s.single[std::size_t(kind) * n_monomials_ * n_chebyshev_];
        for (int k = first_[mu]; k < first_[mu + 1]; k++)
          for (int beta = 0; beta < n_chebyshev_; beta++) m[k] += c[beta] * *sum++;
      }
  }

  // phi_b without the scaling, and d phi_b / dr; zero behind the last row
  void polynomials(const Block<double>& block, int row, int count, Space& s) const {
    for (int k = 0; k < CHUNK; k++) {
      const V r = k < count ? block.r[row + k] : broadcast<double>(cutoff_);
      const V x = (2.0 * r - middle_) * (rate_ * 0.5), left = max(cutoff_ - r, V{});
      V *const f = s.phi.data() + k, *const d = s.rates.data() + k;
      for (int beta = 0; beta < n_chebyshev_; beta++) {
        V *const fb = f + beta * CHUNK, *const db = d + beta * CHUNK;
        if (beta == 0) {
          *fb = left * left, *db = -2.0 * left;
        } else if (beta == 1) {
          *fb = *f * x, *db = *d * x + rate_ * *f;
        } else {
          *fb = 2.0 * x * fb[-CHUNK] - fb[-2 * CHUNK];
          *db = 2.0 * (x * db[-CHUNK] + rate_ * fb[-CHUNK]) - db[-2 * CHUNK];
        }
      }
    }
  }

  // Derivatives by the moments at the weights, how they change with radial coefficients, and energies
  void bend(Space& s) const {
    V *const m = s.moments.data(), *const adjoint = m + n_all_;
    std::fill(adjoint, adjoint + n_all_, V{});
    for (int a = 0; a < n_features(); a++) adjoint[scalars_[a]] += weights_[a];
    multiply_back(m, adjoint);
    V* curved = s.curved.data();
    V* energy = s.energies.data() + n_features();
    for (int kind = 0; kind < n_species_; kind++) {
      const V* const single = &s.single[std::size_t(kind) * n_monomials_ * n_chebyshev_];
      for (int mu = 0; mu < n_functions_; mu++) {
        const Tangent& tangent = tangents_[mu];
        for (int k = 0; k < tangent.n_members; k++)
          for (int beta = 0; beta < n_chebyshev_; beta++)
            energy[beta] += scaling_ * adjoint[first_[mu] + k] * single[k * n_chebyshev_ + beta];
        energy += n_chebyshev_;
        follow(tangent, single, m, s.changes.data());
        const V* const from = s.changes.data() + std::size_t(tangent.first_basic) * n_chebyshev_;
        curved = std::copy(from, from + tangent.basic.size() * n_chebyshev_, curved);
      }
    }
  }

  void follow(const Tangent& tangent, const V* single, const V* factors, V* changes) const {
    const int n = n_chebyshev_;
    for (int k = 0; k < tangent.n_members * n; k++) changes[k] = scaling_ * single[k];
    std::fill(changes + tangent.n_members * n, changes + std::size_t(tangent.n_rows) * n, V{});
    for (const Step& one : tangent.steps) {
      const V factor = one.coefficient * factors[one.by];
      const V* const source = changes + std::size_t(one.source) * n;
      V* const into = changes + std::size_t(one.into) * n;
      for (int beta = 0; beta < n; beta++) into[beta] += factor * source[beta];
    }
  }

  // -- neighbours ---------------------------------------------------------------------------------------------------

  // T = f' x Y + f dY/dr and, for the weights, the sums over k of A_k Y and A_k dY/dr
  void differentiate(const Block<double>& block, int kind, int row, int count, Space& s) {
    Chunk q;
    prepare(block, kind, row, count, q, scratch_);
    const V* const powers = scratch_.monomials.data();
    const V* const adjoint = s.moments.data() + n_all_;
    if (weights_) {
      polynomials(block, row, count, s);
      std::fill(s.heights.data(), s.heights.data() + std::size_t(n_functions_) * CHUNK, V{});
      std::fill(s.rises.data(), s.rises.data() + std::size_t(n_functions_) * SLOPES, V{});
    }
    const V* const unit[3] = {q.x, q.y, q.z};
    for (int k = 0; k < n_monomials_; k++) {
      const Gradient& one = gradients_[k];
      V rise[3][CHUNK];  // dY/dr: the gradient by the unit vector at right angles to it
      for (int a = 0; a < 3; a++)
        for (int c = 0; c < CHUNK; c++)
          rise[a][c] = (one.factor[a] * powers[one.lower[a] * CHUNK + c] - one.order * powers[k * CHUNK + c] * unit[a][c]) *
                       q.inverse[c];
      for (int mu = 0; mu < n_functions_ && k < first_[mu + 1] - first_[mu]; mu++)
        place(k, mu, unit, powers + k * CHUNK, rise, adjoint, s);
    }
  }

  MLMD_INLINE void place(int k, int mu, const V* const* unit, const V* power, const V (*rise)[CHUNK], const V* adjoint,
                         Space& s) {
    const int moment = first_[mu] + k;
    V* const slope = &s.slopes[std::size_t(moment) * SLOPES];
    for (int a = 0; a < 3; a++)
      for (int c = 0; c < CHUNK; c++)
        slope[a * CHUNK + c] = scratch_.rates[mu * CHUNK + c] * power[c] * unit[a][c] +
                               scratch_.values[mu * CHUNK + c] * rise[a][c];
    if (!weights_) return;
    const V weight = scaling_ * adjoint[moment];
    for (int c = 0; c < CHUNK; c++) s.heights[mu * CHUNK + c] += weight * power[c];
    for (int a = 0; a < 3; a++)
      for (int c = 0; c < CHUNK; c++) s.rises[mu * SLOPES + a * CHUNK + c] += weight * rise[a][c];
  }

  // sum_k factor_k T_k for N columns, whose factors stand side by side
  template <int N>
  static MLMD_INLINE void contract(const int* moment, std::size_t n, const V* factor, std::size_t stride, const V* slopes,
                                   V* out) {
    V sum[N][SLOPES] = {};
    for (std::size_t k = 0; k < n; k++, factor += stride) {
      const V* const slope = slopes + std::size_t(moment[k]) * SLOPES;
#pragma GCC unroll 12
      for (int e = 0; e < SLOPES; e++)
#pragma GCC unroll 2
        for (int one = 0; one < N; one++) sum[one][e] += factor[one] * slope[e];
    }
    for (int one = 0; one < N; one++)
      for (int e = 0; e < SLOPES; e++) out[one * SLOPES + e] = sum[one][e];
  }

  void add_weights(const Block<double>& block, int row, int count, Space& s) {
    const int n = n_features();
    V* const found = s.found.data();
    for (int first = 0; first < n; first += W) {
      const int size = std::min(W, n - first);
      for (int one = 0; one < size; one++) {
        const int begin = first_row_[first + one], end = first_row_[first + one + 1];
        contract<1>(&moment_[begin], end - begin, &s.rows[begin], 1, s.slopes.data(), found + one * SLOPES);
      }
      emit(block, row, count, first, first, size, s);
    }
  }

  void add_radial(const Block<double>& block, int kind, int row, int count, Space& s) {
    const V* curved = s.curved.data();
    V* const found = s.found.data();
    const int n = n_chebyshev_;
    int local = n_features();
    std::int64_t column = n_features() + std::int64_t(block.species) * n_own();
    for (int species = 0; species < n_species_; species++)
      for (int mu = 0; mu < n_functions_; mu++) {
        const std::vector<int>& basic = tangents_[mu].basic;
        int beta = 0;
        for (; beta + AT_ONCE <= n; beta += AT_ONCE)
          contract<AT_ONCE>(basic.data(), basic.size(), curved + beta, n, s.slopes.data(), found + beta * SLOPES);
        for (; beta < n; beta++)
          contract<1>(basic.data(), basic.size(), curved + beta, n, s.slopes.data(), found + beta * SLOPES);
        curved += basic.size() * n;
        if (species == kind) add_direct(block, row, count, mu, s);
        emit(block, row, count, local, column, n, s);
        local += n, column += n;
      }
  }

  // sum_k A_k d(phi_b Y)/dr
  void add_direct(const Block<double>& block, int row, int count, int mu, Space& s) {
    for (int c = 0; c < count; c++) {
      const V along = s.heights[mu * CHUNK + c] / block.r[row + c];
      const V* const unit[3] = {block.x + row + c, block.y + row + c, block.z + row + c};
      for (int beta = 0; beta < n_chebyshev_; beta++)
        for (int a = 0; a < 3; a++)
          s.found[beta * SLOPES + a * CHUNK + c] += s.rates[beta * CHUNK + c] * along * *unit[a] +
                                                    s.phi[beta * CHUNK + c] * s.rises[mu * SLOPES + a * CHUNK + c];
    }
  }

  // -- rows ---------------------------------------------------------------------------------------------------------

  // W vectors, one for each column, become W vectors with the columns of one atom each
  static MLMD_INLINE void transpose(V* rows) {
#pragma GCC unroll 3
    for (int step = 1; step < W; step *= 2)
#pragma GCC unroll 8
      for (int i = 0; i < W; i++) {
        if (i & step) continue;
        const V a = rows[i], b = rows[i + step];
        V low, high;
#if defined(__clang__)
        for (int lane = 0; lane < W; lane++) {
          low[lane] = lane & step ? b[lane ^ step] : a[lane];
          high[lane] = lane & step ? b[lane] : a[lane ^ step];
        }
#else
        Mask<double> for_low, for_high;
#pragma GCC unroll 8
        for (int lane = 0; lane < W; lane++) {
          for_low[lane] = lane & step ? W + (lane ^ step) : lane;
          for_high[lane] = lane & step ? W + lane : lane ^ step;
        }
        low = __builtin_shuffle(a, b, for_low), high = __builtin_shuffle(a, b, for_high);
#endif
        rows[i] = low, rows[i + step] = high;
      }
  }

  static MLMD_INLINE void add_to(double* at, V value) {
    V sum;
    std::memcpy(&sum, at, sizeof sum);
    sum += value;
    std::memcpy(at, &sum, sizeof sum);
  }

  // Slopes of some rows by n parameters into forces on the neighbours, and sums for centres and virial. Columns are
  // written W at a time: what is behind the last gets zeros added.
  void emit(const Block<double>& block, int row, int count, int local, std::int64_t column, int n, Space& s) {
    V* const found = s.found.data();
    std::fill(found + n * SLOPES, found + (n + W - 1) / W * W * SLOPES, V{});
    for (int one = 0; one < n; one++) {
      const V* const g = found + one * SLOPES;
      V* const sum = &s.sums[std::size_t(local + one) * 9];
      V total[9];
      for (int e = 0; e < 9; e++) total[e] = sum[e];
      for (int c = 0; c < count; c++) {
        const V x = block.x[row + c], y = block.y[row + c], z = block.z[row + c];
        const V gx = g[c], gy = g[CHUNK + c], gz = g[2 * CHUNK + c];
        total[0] += gx, total[1] += gy, total[2] += gz;
        total[3] += x * gx, total[4] += y * gy, total[5] += z * gz;
        total[6] += y * gz, total[7] += x * gz, total[8] += x * gy;
      }
      for (int e = 0; e < 9; e++) sum[e] = total[e];
    }
    const std::int32_t* const slot = gather_.slots() + std::size_t(row) * W;
    for (int first = 0; first < n; first += W)
      for (int a = 0; a < 3; a++)
        for (int c = 0; c < count; c++) {
          V tile[W];
          for (int one = 0; one < W; one++) tile[one] = found[(first + one) * SLOPES + a * CHUNK + c];
          transpose(tile);
          for (int lane = 0; lane < W; lane++) {
            const std::int32_t atom = atoms_[slot[c * W + lane]];
            if (atom >= 0) add_to(forces_ + (3 * std::size_t(atom) + a) * n_columns_ + column + first, -tile[lane]);
          }
        }
  }

  // Energies, virials and the forces on the centres
  void finish(const Block<double>& block, int first, Space& s) {
    finish_columns(first, 0, 0, n_features(), s);
    if (weights_) {
      const std::int64_t column = n_features() + std::int64_t(block.species) * n_own();
      finish_columns(first, n_features(), column, n_own(), s);
    }
  }

  void finish_columns(int first_slot, int local, std::int64_t column, int n, Space& s) {
    for (int begin = 0; begin < n; begin += W) {
      const int size = std::min(W, n - begin);
      V tile[W];
      const auto turned = [&](const V* from, int stride) {
        for (int one = 0; one < W; one++) tile[one] = one < size ? from[std::size_t(local + begin + one) * stride] : V{};
        transpose(tile);
      };
      const auto total = [&](double* into) {
        V sum = tile[0];
        for (int lane = 1; lane < W; lane++) sum += tile[lane];
        for (int one = 0; one < size; one++) into[column + begin + one] += sum[one];
      };
      turned(s.energies.data(), 1), total(energy_);
      for (int e = 0; e < 6; e++) turned(s.sums.data() + 3 + e, 9), total(virial_ + e * n_columns_);
      for (int a = 0; a < 3; a++) {
        turned(s.sums.data() + a, 9);
        for (int lane = 0; lane < W; lane++)
          if (const std::int32_t atom = atoms_[first_slot + lane]; atom >= 0)
            add_to(forces_ + (3 * std::size_t(atom) + a) * n_columns_ + column + begin, tile[lane]);
      }
    }
  }

  std::vector<int> first_row_, moment_;  // [n_scalars + 1] rows of a scalar, and their moments
  std::vector<int> seeds_;               // rows of the scalars themselves
  std::vector<Step> steps_;              // factors: moments
  int n_rows_ = 0;
  std::vector<Tangent> tangents_;
  std::vector<Gradient> gradients_;

  Gather<double> gather_;
  Scratch scratch_;
  std::unique_ptr<Space> space_;
  std::vector<std::int32_t> atoms_;      // of slots
  const double* weights_ = nullptr;
  std::int64_t n_columns_ = 0;
  double *energy_ = nullptr, *forces_ = nullptr, *virial_ = nullptr;
};

}  // namespace mlmd
