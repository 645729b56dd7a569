// A potential as the sum of atomic energies E_i({r_ij}), and the loop over atoms that makes forces and virial of it.
//
// With g = dE_i/dr_ij the force on i gets +g, that on j gets -g, and the virial is the sum of r_ij (x) g. Pair
// arithmetic is done in T, sums over pairs in double. Blocks are dealt out to threads in fixed portions and the threads'
// forces added in a fixed order, so that results depend on the number of threads only.
#pragma once

#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "block.hpp"
#include "threads.hpp"

namespace mlmd {

struct BadParameters : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Parameters one after the other; whatever is not there or not possible is refused.
class Reader {
 public:
  Reader(const std::int64_t* integers, std::int64_t n_integers, const double* numbers, std::int64_t n_numbers)
      : integer_(integers), n_integers_(n_integers), number_(numbers), n_numbers_(n_numbers) {}

  std::int64_t integer(const char* name, std::int64_t lowest, std::int64_t highest) {
    if (n_integers_ < 1) throw BadParameters(std::string(name) + ": too few integers");
    const std::int64_t value = *integer_++;
    n_integers_--;
    if (value < lowest || value > highest)
      throw BadParameters(std::string(name) + " = " + std::to_string(value) + " is not between " +
                          std::to_string(lowest) + " and " + std::to_string(highest));
    return value;
  }
  double number(const char* name) {
    if (n_numbers_ < 1) throw BadParameters(std::string(name) + ": too few numbers");
    const double value = *number_++;
    n_numbers_--;
    if (!std::isfinite(value)) throw BadParameters(std::string(name) + " is not finite");
    return value;
  }
  double positive(const char* name) {
    const double value = number(name);
    if (!(value > 0)) throw BadParameters(std::string(name) + " = " + std::to_string(value) + " is not positive");
    return value;
  }
  std::vector<double> numbers(const char* name, std::int64_t count) {
    if (count < 0 || count > n_numbers_) throw BadParameters(std::string(name) + ": too few numbers");
    std::vector<double> values;
    values.reserve(count);
    for (std::int64_t k = 0; k < count; k++) values.push_back(number(name));
    return values;
  }
  void finish() const {
    if (n_integers_ || n_numbers_) throw BadParameters("there are more parameters than the potential has");
  }

 private:
  const std::int64_t* integer_;
  std::int64_t n_integers_;
  const double* number_;
  std::int64_t n_numbers_;
};

struct Results {
  double energy = 0;        // eV
  double virial[9] = {};    // eV
  double* forces = nullptr;    // [n_atoms][3] eV/Angstrom, added to
  double* energies = nullptr;  // [n_atoms] eV, added to; or none
  double* virials = nullptr;   // [n_atoms][9] eV, added to; or none: r (x) g of a pair belongs to the neighbour
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual double cutoff() const = 0;
  virtual int n_species() const = 0;
  // The system holds all pairs within the cutoff, and species below n_species.
  virtual void compute(const System& system, int n_threads, Results& results) = 0;
};

// What a family adds to the energy of every atom of a species: in double, since it may be large. Optional:
// double constant(int species) const;
template <class F, class = void>
struct Constant {
  static double of(const F&, int) { return 0; }
};
template <class F>
struct Constant<F, std::void_t<decltype(std::declval<const F&>().constant(0))>> {
  static double of(const F& family, int species) { return family.constant(species); }
};

template <template <class> class Family, class T>
class Fused final : public Kernel {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  explicit Fused(Reader& reader) : family_(reader) {}
  double cutoff() const override { return family_.cutoff(); }
  int n_species() const override { return family_.n_species(); }

  void compute(const System& system, int n_threads, Results& results) override {
    prepare(system, n_threads, results.virials != nullptr);
    const int n_blocks = system.n_slots / W;
    bool failed = false;
#pragma omp parallel num_threads(n_threads)
    {
      const int me = this_thread(), together = threads_together();
      Worker& worker = *workers_[me];
      worker.clear(std::size_t(system.far_slot) + 1, results.virials != nullptr);
      try {
        // contiguous portions keep the neighbours of a thread together in its cache
        const int from = int(std::int64_t(n_blocks) * me / together), to = int(std::int64_t(n_blocks) * (me + 1) / together);
        for (int block = from; block < to; block++) one_block(system, block * W, worker, results);
      } catch (...) {  // memory: no exception may leave the parallel region
#pragma omp atomic write
        failed = true;
      }
#pragma omp barrier
      add_up(system, me, together, results);
    }
    if (failed) throw std::bad_alloc();
    for (const auto& worker : workers_) {
      results.energy += worker->energy;
      for (int a = 0; a < 9; a++) results.virial[a] += worker->virial[a];
    }
  }

 private:
  struct Worker {
    explicit Worker(const Family<T>& family) : scratch(family) {}
    void clear(std::size_t n_slots, bool with_virials) {
      std::memset(forces.data(), 0, n_slots * 4 * sizeof(double));
      if (with_virials) std::memset(virials.data(), 0, n_slots * 9 * sizeof(double));
    }
    Gather<T> gather;
    typename Family<T>::Scratch scratch;
    Buffer<double> forces;   // [n_slots][4]
    Buffer<double> virials;  // [n_slots][9], where asked for
    double energy = 0, virial[9] = {};
  };

  void prepare(const System& system, int n_threads, bool virials) {
    while (int(workers_.size()) > n_threads) workers_.pop_back();
    while (int(workers_.size()) < n_threads) workers_.push_back(std::make_unique<Worker>(family_));
    const std::size_t n_slots = std::size_t(system.far_slot) + 1;
    for (auto& worker : workers_) {
      worker->energy = 0;
      std::fill(worker->virial, worker->virial + 9, 0.0);
      worker->forces.reserve(4 * n_slots);
      if (virials) worker->virials.reserve(9 * n_slots);
    }
  }

  void one_block(const System& system, int first, Worker& worker, Results& results) {
    if (system.atom[first] < 0) return;  // padding at the end of a species
    int species = 0;
    while (first >= system.first_slot[species + 1]) species++;
    Block<T> block = worker.gather.block(system, first, species, family_.cutoff());
    const V energies = family_.atomic(block, worker.scratch);
    const double constant = Constant<Family<T>>::of(family_, species);
    for (int lane = 0; lane < W; lane++) {
      const std::int32_t atom = system.atom[first + lane];
      if (atom < 0) break;
      const double energy = double(energies[lane]) + constant;
      worker.energy += energy;
      if (results.energies) results.energies[atom] += energy;
    }
    scatter(block, first, worker);
    if (results.virials) scatter_virials(block, worker);
  }

  static void scatter(const Block<T>& block, int first, Worker& worker) {
    const std::int32_t* slot = worker.gather.slots();
    double* const forces = worker.forces.data();
    V xx{}, yy{}, zz{}, yz{}, xz{}, xy{};
    double own[3][W] = {};
    for (int k = 0; k < block.n_rows; k++, slot += W) {
      const Mask<T> real = block.real[k];
      const V gx = select(real, block.gx[k], V{}), gy = select(real, block.gy[k], V{}), gz = select(real, block.gz[k], V{});
      const V x = block.x[k], y = block.y[k], z = block.z[k];
      xx += x * gx, yy += y * gy, zz += z * gz;
      yz += y * gz, xz += x * gz, xy += x * gy;  // symmetric in the sum over all pairs
      for (int lane = 0; lane < W; lane++) {
        double* const force = forces + 4 * std::size_t(slot[lane]);
        const double fx = gx[lane], fy = gy[lane], fz = gz[lane];
        force[0] -= fx, force[1] -= fy, force[2] -= fz;
        own[0][lane] += fx, own[1][lane] += fy, own[2][lane] += fz;
      }
    }
    double sum[6] = {};
    for (int lane = 0; lane < W; lane++) {
      double* const force = forces + 4 * std::size_t(first + lane);
      for (int a = 0; a < 3; a++) force[a] += own[a][lane];
      sum[0] += xx[lane], sum[1] += yy[lane], sum[2] += zz[lane];
      sum[3] += yz[lane], sum[4] += xz[lane], sum[5] += xy[lane];
    }
    const double full[9] = {sum[0], sum[5], sum[4], sum[5], sum[1], sum[3], sum[4], sum[3], sum[2]};
    for (int a = 0; a < 9; a++) worker.virial[a] += full[a];
  }

  static void scatter_virials(const Block<T>& block, Worker& worker) {
    const std::int32_t* slot = worker.gather.slots();
    for (int k = 0; k < block.n_rows; k++, slot += W)
      for (int lane = 0; lane < W; lane++) {
        if (!block.real[k][lane]) continue;
        const double r[3] = {block.x[k][lane], block.y[k][lane], block.z[k][lane]};
        const double g[3] = {block.gx[k][lane], block.gy[k][lane], block.gz[k][lane]};
        double* const virial = worker.virials.data() + 9 * std::size_t(slot[lane]);
        for (int a = 0; a < 3; a++)
          for (int b = 0; b < 3; b++) virial[3 * a + b] += r[a] * g[b];
      }
  }

  // Forces (and virials) of all threads and of all images of an atom, in the order of the atoms
  void add_up(const System& system, int me, int together, Results& results) {
    double* const total = workers_[0]->forces.data();
    const std::size_t n_all = std::size_t(system.far_slot);
    sum_threads(me, together, n_all * 4, [](Worker& w) { return w.forces.data(); });
    if (results.virials) sum_threads(me, together, n_all * 9, [](Worker& w) { return w.virials.data(); });
#pragma omp barrier
#pragma omp master
    {
      for (int k = 0; k < system.n_images; k++) {
        const std::size_t image = std::size_t(system.n_slots) + k, owner = system.image_of[k];
        for (int a = 0; a < 3; a++) total[4 * owner + a] += total[4 * image + a];
        if (results.virials)
          for (int a = 0; a < 9; a++) workers_[0]->virials[9 * owner + a] += workers_[0]->virials[9 * image + a];
      }
    }
#pragma omp barrier
    const int from = int(std::int64_t(system.n_slots) * me / together),
              to = int(std::int64_t(system.n_slots) * (me + 1) / together);
    for (int slot = from; slot < to; slot++) {
      const std::int32_t atom = system.atom[slot];
      if (atom < 0) continue;
      for (int a = 0; a < 3; a++) results.forces[3 * std::size_t(atom) + a] += total[4 * std::size_t(slot) + a];
      if (results.virials)
        for (int a = 0; a < 9; a++)
          results.virials[9 * std::size_t(atom) + a] += workers_[0]->virials[9 * std::size_t(slot) + a];
    }
  }

  template <class Get>
  void sum_threads(int me, int together, std::size_t size, Get data) {
    const std::size_t from = size * me / together, to = size * (me + 1) / together;
    double* const total = data(*workers_[0]);
    for (int other = 1; other < together; other++) {
      const double* const part = data(*workers_[other]);
      for (std::size_t k = from; k < to; k++) total[k] += part[k];
    }
  }

  Family<T> family_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Every family is compiled in a file of its own, which is quicker with several processors and takes less memory.
using Maker = std::unique_ptr<Kernel>(Reader&, bool);
Maker moments_kernel, pair_kernel, eam_kernel, radial_angular_kernel, stillinger_weber_kernel, tersoff_kernel,
    snap_kernel;

template <template <class> class Family>
std::unique_ptr<Kernel> make(Reader& reader, bool single) {
  if (single) return std::make_unique<Fused<Family, float>>(reader);
  return std::make_unique<Fused<Family, double>>(reader);
}

}  // namespace mlmd
