// A potential as the sum of atomic energies E_i({r_ij}), and the loop over atoms that makes forces and virial of it.
//
// With g = dE_i/dr_ij the force on i gets +g, that on j gets -g, and the virial is the sum of r_ij (x) g. Atoms are worked
// out in T; forces and energies of atoms are added in double. Blocks are dealt out to threads in fixed portions and the
// threads' forces added in a fixed order, so that results depend on the number of threads only.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "block.hpp"
#include "reader.hpp"
#include "row.hpp"
#include "threads.hpp"

namespace mlmd {

struct Results {
  double energy = 0;        // eV
  double virial[9] = {};    // eV
  double* forces = nullptr;    // [n_atoms][3] eV/Angstrom, added to; on ghosts, as far as they come from centres
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

// Whether the energy is half a sum over pairs that are alike from both sides. The force on i is then 2 sum_j g, and
// nothing needs to be added to that on j. Such a family sees neighbours of one atom in the lanes of a block, or
// neighbours of several as others do, where virials of atoms are asked for. Optional: static constexpr bool symmetric.
template <class F, class = void>
struct Symmetric : std::false_type {};
template <class F>
struct Symmetric<F, std::void_t<decltype(F::symmetric)>> : std::bool_constant<F::symmetric> {};

template <template <class> class Family, class T>
class Fused final : public Kernel {
 public:
  using V = Vector<T>;
  static constexpr int W = WIDTH<T>;

  static constexpr std::int64_t FEW = 1 << 14;  // forces of atoms, images and threads that one thread adds up soon enough

  explicit Fused(Reader& reader) : family_(reader) {}
  double cutoff() const override { return family_.cutoff(); }
  int n_species() const override { return family_.n_species(); }

  void compute(const System& system, int n_threads, Results& results) override {
    const bool scattered = !Symmetric<Family<T>>::value || results.virials;  // forces of a thread on all atoms
    prepare(system, n_threads, scattered, results.virials != nullptr);
    const int n_blocks = system.n_slots / W;
    // Every wait for another thread costs milliseconds where processes outnumber cores
    const bool alone = !scattered || std::int64_t(system.far_slot) * n_threads < FEW;
    bool failed = false;
    int team = 1;
#pragma omp parallel num_threads(n_threads)
    {
      const int me = this_thread(), together = threads_together();
      if (me == 0) team = together;
      Worker& worker = *workers_[me];
      if (scattered) worker.clear(std::size_t(system.far_slot) + 1, results.virials != nullptr);
      try {
        // contiguous portions keep the neighbours of a thread together in its cache
        const int from = int(std::int64_t(n_blocks) * me / together), to = int(std::int64_t(n_blocks) * (me + 1) / together);
        for (int block = from; block < to; block++) {
          if (scattered) one_block(system, block * W, worker, results);
          else one_by_one(system, block * W, worker, results);
        }
      } catch (...) {  // memory: no exception may leave the parallel region
#pragma omp atomic write
        failed = true;
      }
      if (!alone) {
#pragma omp barrier
        const std::int64_t n = system.n_slots;
        add_up(system, int(n * me / together), int(n * (me + 1) / together), together, results);
      }
    }
    if (failed) throw std::bad_alloc();
    if (scattered && alone) add_up(system, 0, system.n_slots, team, results);
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
    Row<T> row;
    typename Family<T>::Scratch scratch;
    Buffer<double> forces;   // [n_slots][4]
    Buffer<double> virials;  // [n_slots][9], where asked for
    double energy = 0, virial[9] = {};
  };

  void prepare(const System& system, int n_threads, bool scattered, bool virials) {
    while (int(workers_.size()) > n_threads) workers_.pop_back();
    while (int(workers_.size()) < n_threads) workers_.push_back(std::make_unique<Worker>(family_));
    const std::size_t n_slots = std::size_t(system.far_slot) + 1;
    for (auto& worker : workers_) {
      worker->energy = 0;
      std::fill(worker->virial, worker->virial + 9, 0.0);
      if (scattered) worker->forces.reserve(4 * n_slots);
      if (virials) worker->virials.reserve(9 * n_slots);
    }
  }

  static int species_of(const System& system, int slot) {
    int species = 0;
    while (slot >= system.first_slot[species + 1]) species++;
    return species;
  }

  void one_block(const System& system, int first, Worker& worker, Results& results) {
    if (system.atom[first] < 0) return;  // padding at the end of a species
    const int species = species_of(system, first);
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

  // The atoms of a block where pairs are alike from both sides
  void one_by_one(const System& system, int first, Worker& worker, Results& results) {
    if (system.atom[first] < 0) return;
    const int species = species_of(system, first);
    const double constant = Constant<Family<T>>::of(family_, species);
    V xx{}, yy{}, zz{}, yz{}, xz{}, xy{};
    for (int slot = first; slot < first + W && system.atom[slot] >= 0; slot++) {
      const std::int32_t atom = system.atom[slot];
      const Block<T> block = worker.row.block(system, slot, species, family_.cutoff());
      const V energies = family_.atomic(block, worker.scratch);
      Sum<T> force[3];
      for (int k = 0; k < block.n_rows; k++) {
        const V x = block.x[k], y = block.y[k], z = block.z[k], gx = block.gx[k], gy = block.gy[k], gz = block.gz[k];
        force[0].add(gx), force[1].add(gy), force[2].add(gz);
        xx += x * gx, yy += y * gy, zz += z * gz;
        yz += y * gz, xz += x * gz, xy += x * gy;
      }
      double energy = constant;
      for (int lane = 0; lane < W; lane++) energy += double(energies[lane]);
      worker.energy += energy;
      if (results.energies) results.energies[atom] += energy;
      for (int a = 0; a < 3; a++) results.forces[3 * std::size_t(atom) + a] += 2 * force[a].total();
    }
    add_virial(xx, yy, zz, yz, xz, xy, worker);
  }

  static void add_virial(V xx, V yy, V zz, V yz, V xz, V xy, Worker& worker) {
    double sum[6] = {};
    for (int lane = 0; lane < W; lane++) {
      sum[0] += xx[lane], sum[1] += yy[lane], sum[2] += zz[lane];
      sum[3] += yz[lane], sum[4] += xz[lane], sum[5] += xy[lane];
    }
    const double full[9] = {sum[0], sum[5], sum[4], sum[5], sum[1], sum[3], sum[4], sum[3], sum[2]};
    for (int a = 0; a < 9; a++) worker.virial[a] += full[a];
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
    for (int lane = 0; lane < W; lane++) {
      double* const force = forces + 4 * std::size_t(first + lane);
      for (int a = 0; a < 3; a++) force[a] += own[a][lane];
    }
    add_virial(xx, yy, zz, yz, xz, xy, worker);
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

  // Forces (and virials) that all threads of the team found for the atoms in a range of slots, and for their images
  void add_up(const System& system, int from, int to, int team, Results& results) {
    const std::int32_t* const owners = system.image_of.data();  // in the order of slots
    const std::int32_t* const end = owners + system.n_images;
    const int first = int(std::lower_bound(owners, end, from) - owners), last = int(std::lower_bound(owners, end, to) - owners);
    // ghosts are dealt out as slots are
    const auto portion = [&](int slot) { return system.n_slots ? std::int64_t(system.n_ghosts) * slot / system.n_slots : 0; };
    const auto add = [&](int size, int width, auto data, double* found) {  // [slot][width], `size` of them matter
      double* const total = data(*workers_[0]);
      for (int other = 1; other < team; other++) {
        const double* const part = data(*workers_[other]);
        for (std::size_t k = std::size_t(from) * width; k < std::size_t(to) * width; k++) total[k] += part[k];
      }
      for (int k = first; k < last; k++) {
        double* const owner = total + std::size_t(owners[k]) * width;
        const std::size_t image = (std::size_t(system.n_slots) + k) * width;
        for (int a = 0; a < size; a++) {
          double sum = total[image + a];
          for (int other = 1; other < team; other++) sum += data(*workers_[other])[image + a];
          owner[a] += sum;
        }
      }
      const std::size_t first_ghost = std::size_t(system.n_slots) + system.n_images;
      for (std::int64_t k = portion(from); k < portion(to); k++)
        for (int a = 0; a < size; a++) {
          double sum = 0;
          for (int one = 0; one < team; one++) sum += data(*workers_[one])[(first_ghost + k) * width + a];
          found[(std::size_t(system.n_centres) + k) * size + a] += sum;
        }
      for (int slot = from; slot < to; slot++)
        if (const std::int32_t atom = system.atom[slot]; atom >= 0)
          for (int a = 0; a < size; a++) found[std::size_t(atom) * size + a] += total[std::size_t(slot) * width + a];
    };
    add(3, 4, [](Worker& worker) { return worker.forces.data(); }, results.forces);
    if (results.virials) add(9, 9, [](Worker& worker) { return worker.virials.data(); }, results.virials);
  }

  Family<T> family_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// Every family is compiled in a file of its own, which is quicker with several processors and takes less memory.
using Maker = std::unique_ptr<Kernel>(Reader&, bool);
Maker moments_kernel, pair_kernel, eam_kernel, radial_angular_kernel, stillinger_weber_kernel, tersoff_kernel,
    snap_kernel, soap_kernel, symmetry_kernel;

template <template <class> class Family>
std::unique_ptr<Kernel> make(Reader& reader, bool single) {
  if (single) return std::make_unique<Fused<Family, float>>(reader);
  return std::make_unique<Fused<Family, double>>(reader);
}

}  // namespace mlmd
