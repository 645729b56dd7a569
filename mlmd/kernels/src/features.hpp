// Features of atoms, and their derivatives in both directions, for descriptors that are functions B_ia({r_ij}) of the
// neighbourhood of an atom.
//
//   features:  B_ia
//   push:      dB_ia = sum_j dB_ia/dr_ij . (u_j - u_i + r_ij e)         for displacements u and a strain e
//   pull:      d(sum_ia w_ia B_ia) / dr of every atom, and the virial sum r_ij (x) d(sum w B)/dr_ij
//   pull_many: the same for many w at once
//
// Push and pull are the products with the Jacobian and with its transpose, and no derivative of a pair is kept, but by
// pull_many those of the pairs of a few atoms while it works on these. A family
// writes, for a block of atoms (`block.hpp`) in double:
//
//   int n_features() const;
//   void features(block, scratch, V* out) const;                     out [n_features]
//   void push(block, scratch, const V* dx, dy, dz, V* out) const;    changes of the vectors [n_rows]; out [n_features]
//   void pull(block, scratch, const V* weights) const;               weights [n_features]; writes gx gy gz of the block
//
// and where derivatives of all features are worked out together in less time than one by one, of rows `begin` to `end`,
//
//   void slopes(block, scratch, int begin, int end, V* to) const;    to [row][axis][feature]
#pragma once

#include <memory>
#include <vector>

#include "kernel.hpp"
#include "weighted_slopes.hpp"

namespace mlmd {

// Atoms of all slots of a system; -1 where there is none
inline std::vector<std::int32_t> atoms_of_slots(const System& system) {
  std::vector<std::int32_t> atoms(std::size_t(system.far_slot) + 1, -1);
  for (int slot = 0; slot < system.far_slot; slot++) atoms[slot] = system.atom_of(slot);
  return atoms;
}

class Descriptor {
 public:
  virtual ~Descriptor() = default;
  virtual double cutoff() const = 0;
  virtual int n_species() const = 0;
  virtual int n_features() const = 0;
  // values [n_atoms][n_features]
  virtual void features(const System& system, int n_threads, double* values) = 0;
  // displacements [n_atoms][3] and strain [3][3], or null for none; changes [n_atoms][n_features]
  virtual void push(const System& system, int n_threads, const double* displacements, const double* strain,
                    double* changes) = 0;
  // weights [n_atoms][n_features]; gradient [n_atoms][3], virial [9]
  virtual void pull(const System& system, int n_threads, const double* weights, double* gradient, double* virial) = 0;
  // weights [n_atoms][n_features][n_sums]; gradients [n_atoms][3][n_sums], virials [9][n_sums]; one thread works
  virtual void pull_many(const System& system, const double* weights, std::size_t n_sums, double* gradients,
                         double* virials) = 0;
};

// Derivatives of all features by the vectors of some rows, [row][axis][feature]; of all rows where a family gives those of
// one sum of features after the other
template <class Family, class = void>
struct Slopes : std::false_type {
  template <class V>
  static void write(const Family& family, const Block<double>& block, typename Family::Scratch& scratch, V* columns,
                    int begin, int end, V* to) {
    const int n = family.n_features();
    for (int f = 0; f < n; f++) {
      std::fill(columns, columns + n, V{});
      columns[f] += 1.0;
      family.pull(block, scratch, columns);
      for (int k = begin; k < end; k++) {
        V* const row = to + std::size_t(3) * n * (k - begin) + f;
        row[0] = block.gx[k], row[n] = block.gy[k], row[2 * n] = block.gz[k];
      }
    }
  }
};
template <class Family>
struct Slopes<Family, std::void_t<decltype(&Family::slopes)>> : std::true_type {
  template <class V>
  static void write(const Family& family, const Block<double>& block, typename Family::Scratch& scratch, V*, int begin,
                    int end, V* to) {
    family.slopes(block, scratch, begin, end, to);
  }
};

template <class Family>
class Features final : public Descriptor {
 public:
  using V = Vector<double>;
  static constexpr int W = WIDTH<double>;

  explicit Features(Reader& reader) : family_(reader) {}
  double cutoff() const override { return family_.cutoff(); }
  int n_species() const override { return family_.n_species(); }
  int n_features() const override { return family_.n_features(); }

  void features(const System& system, int n_threads, double* values) override {
    blocks(system, n_threads, [&](Block<double>& block, const Place& place, Worker& worker) {
      family_.features(block, worker.scratch, worker.columns.data());
      store(worker.columns.data(), place, values);
    });
  }

  void push(const System& system, int n_threads, const double* displacements, const double* strain,
            double* changes) override {
    blocks(system, n_threads, [&](Block<double>& block, const Place& place, Worker& worker) {
      V *const dx = block.gx, *const dy = block.gy, *const dz = block.gz;  // of no other use here
      for (int k = 0; k < block.n_rows; k++) {
        move(block, place, k, displacements);
        if (strain) stretch(block, k, strain);
      }
      family_.push(block, worker.scratch, dx, dy, dz, worker.columns.data());
      store(worker.columns.data(), place, changes);
    });
  }

  void pull(const System& system, int n_threads, const double* weights, double* gradient, double* virial) override {
    const std::size_t n = system.n_atoms;
    prepare(n_threads);
    for (auto& worker : workers_) {
      worker->gradient.assign(3 * n, 0.0);
      std::fill(worker->virial, worker->virial + 9, 0.0);
    }
    blocks(system, n_threads, [&](Block<double>& block, const Place& place, Worker& worker) {
      V* const columns = worker.columns.data();
      for (int a = 0; a < n_features(); a++)
        for (int lane = 0; lane < W; lane++)
          columns[a][lane] = place.centre[lane] < 0 ? 0 : weights[std::size_t(place.centre[lane]) * n_features() + a];
      family_.pull(block, worker.scratch, columns);
      scatter(block, place, worker);
    });
    std::fill(gradient, gradient + 3 * n, 0.0);
    std::fill(virial, virial + 9, 0.0);
    for (const auto& worker : workers_) {
      for (std::size_t k = 0; k < 3 * n; k++) gradient[k] += worker->gradient[k];
      for (int a = 0; a < 9; a++) virial[a] += worker->virial[a];
    }
  }

  void pull_many(const System& system, const double* weights, std::size_t n_sums, double* gradients,
                 double* virials) override {
    std::fill(gradients, gradients + 3 * n_sums * system.n_atoms, 0.0);
    std::fill(virials, virials + 9 * n_sums, 0.0);
    WeightedSlopes products(n_features(), n_sums);
    Buffer<V> slopes;  // [row][axis][feature]
    blocks(system, 1, [&](Block<double>& block, const Place& place, Worker& worker) {
      for (int begin = 0, end; begin < block.n_rows; begin = end) {
        end = std::min(block.n_rows, begin + rows_at_once());
        slopes.reserve(std::size_t(3) * n_features() * (end - begin));
        Slopes<Family>::write(family_, block, worker.scratch, worker.columns.data(), begin, end, slopes.data());
        for (int lane = 0; lane < W; lane++) {
          if (place.centre[lane] < 0) continue;
          products.set_weights(weights + std::size_t(place.centre[lane]) * n_features() * n_sums);
          for (int kind = 0; kind < n_species(); kind++) {  // neighbours of a species change the same features
            const int from = std::max(begin, block.begin[kind]), to = std::min(end, block.begin[kind + 1]);
            const V* const first = slopes.data() + std::size_t(3) * n_features() * (from - begin);
            if (from < to) pull_rows(block, place, lane, from, to, first, n_sums, products, gradients, virials);
          }
        }
      }
    });
  }

 private:
  struct Worker {
    explicit Worker(const Family& family) : scratch(family), columns(family.n_features()) {}
    Gather<double> gather;
    typename Family::Scratch scratch;
    Buffer<V> columns;  // [n_features]
    std::vector<double> gradient;
    double virial[9];
  };
  struct Place {  // atoms of a block; -1 for none
    std::int32_t centre[W];
    const std::int32_t* slot;   // [n_rows][W]
    const std::int32_t* atoms;  // of slots
    std::int32_t neighbour(int row, int lane) const { return atoms[slot[std::size_t(row) * W + lane]]; }
  };

  void prepare(int n_threads) {
    while (int(workers_.size()) > n_threads) workers_.pop_back();
    while (int(workers_.size()) < n_threads) workers_.push_back(std::make_unique<Worker>(family_));
  }

  template <class Work>
  void blocks(const System& system, int n_threads, const Work& work) {
    prepare(n_threads);
    const std::vector<std::int32_t> atoms = atoms_of_slots(system);
    bool failed = false;
#pragma omp parallel num_threads(n_threads)
    {
      const int me = this_thread(), together = threads_together();
      const int n_blocks = system.n_slots / W;
      const int from = int(std::int64_t(n_blocks) * me / together), to = int(std::int64_t(n_blocks) * (me + 1) / together);
      try {
        for (int number = from; number < to; number++) one_block(system, atoms.data(), number * W, *workers_[me], work);
      } catch (...) {  // memory: no exception may leave the parallel region
#pragma omp atomic write
        failed = true;
      }
    }
    if (failed) throw std::bad_alloc();
  }

  template <class Work>
  void one_block(const System& system, const std::int32_t* atoms, int first, Worker& worker, const Work& work) {
    if (atoms[first] < 0) return;  // padding at the end of a species
    int species = 0;
    while (first >= system.first_slot[species + 1]) species++;
    Block<double> block = worker.gather.block(system, first, species, family_.cutoff());
    Place place;
    std::copy(atoms + first, atoms + first + W, place.centre);
    place.slot = worker.gather.slots(), place.atoms = atoms;
    work(block, place, worker);
  }

  void store(const V* columns, const Place& place, double* rows) const {
    for (int lane = 0; lane < W; lane++) {
      if (place.centre[lane] < 0) continue;
      double* const row = rows + std::size_t(place.centre[lane]) * n_features();
      for (int a = 0; a < n_features(); a++) row[a] = columns[a][lane];
    }
  }

  // So many that derivatives of all features by their vectors take little memory, where a family gives those of some rows
  int rows_at_once() const {
    if (!Slopes<Family>::value) return 1 << 30;
    return int(std::max<std::int64_t>(4, (std::int64_t(1) << 22) / (std::int64_t(3) * W * n_features())));
  }

  // Gradients and virials by the neighbours of one lane in some rows
  void pull_rows(const Block<double>& block, const Place& place, int lane, int begin, int end, const V* slopes,
                 std::size_t n_sums, WeightedSlopes& products, double* gradients, double* virials) const {
    const std::size_t i = std::size_t(place.centre[lane]);
    const auto there = [&](int k) { return block.real[k][lane] && place.neighbour(k, lane) >= 0; };
    products.clear();
    for (int k = begin; k < end; k++, slopes += 3 * n_features())
      if (there(k))
        for (int a = 0; a < 3; a++) products.add(slopes + a * n_features(), lane);
    products.multiply();
    std::size_t row = 0;
    for (int k = begin; k < end; k++) {
      if (!there(k)) continue;
      const std::size_t j = std::size_t(place.neighbour(k, lane));
      const double r[3] = {block.x[k][lane], block.y[k][lane], block.z[k][lane]};
      for (int b = 0; b < 3; b++, row++) {
        const double* const sums = products.of(row);
        add(sums, n_sums, 1.0, gradients + (3 * j + b) * n_sums);
        add(sums, n_sums, -1.0, gradients + (3 * i + b) * n_sums);
        for (int a = 0; a < 3; a++) add(sums, n_sums, r[a], virials + (3 * a + b) * n_sums);
      }
    }
  }

  static void add(const double* values, std::size_t n, double factor, double* to) {
    for (std::size_t m = 0; m < n; m++) to[m] += factor * values[m];
  }

  static void move(Block<double>& block, const Place& place, int k, const double* displacements) {
    V d[3] = {};
    for (int lane = 0; lane < W; lane++) {
      const std::int32_t i = place.centre[lane], j = place.neighbour(k, lane);
      if (!displacements || i < 0 || j < 0) continue;
      for (int a = 0; a < 3; a++) d[a][lane] = displacements[3 * std::size_t(j) + a] - displacements[3 * std::size_t(i) + a];
    }
    block.gx[k] = d[0], block.gy[k] = d[1], block.gz[k] = d[2];
  }

  static void stretch(Block<double>& block, int k, const double* strain) {
    const V x = block.x[k], y = block.y[k], z = block.z[k];
    block.gx[k] += x * strain[0] + y * strain[3] + z * strain[6];
    block.gy[k] += x * strain[1] + y * strain[4] + z * strain[7];
    block.gz[k] += x * strain[2] + y * strain[5] + z * strain[8];
  }

  static void scatter(const Block<double>& block, const Place& place, Worker& worker) {
    for (int k = 0; k < block.n_rows; k++)
      for (int lane = 0; lane < W; lane++) {
        const std::int32_t i = place.centre[lane], j = place.neighbour(k, lane);
        if (!block.real[k][lane] || i < 0 || j < 0) continue;
        const double r[3] = {block.x[k][lane], block.y[k][lane], block.z[k][lane]};
        const double g[3] = {block.gx[k][lane], block.gy[k][lane], block.gz[k][lane]};
        for (int a = 0; a < 3; a++) {
          worker.gradient[3 * std::size_t(j) + a] += g[a];
          worker.gradient[3 * std::size_t(i) + a] -= g[a];
          for (int b = 0; b < 3; b++) worker.virial[3 * a + b] += r[a] * g[b];
        }
      }
  }

  Family family_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

template <class Family>
std::unique_ptr<Descriptor> make_descriptor(Reader& reader) {
  return std::make_unique<Features<Family>>(reader);
}

}  // namespace mlmd
