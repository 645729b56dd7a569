// What Python sees: plain functions, handles and arrays. No exception leaves this file.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>

#include "guarded.hpp"
#include "kernel.hpp"

namespace mlmd {

static const std::map<std::string, Maker*> FAMILIES = {
    {"moments", moments_kernel},
    {"pair", pair_kernel},
    {"eam", eam_kernel},
    {"radial-angular", radial_angular_kernel},
    {"stillinger-weber", stillinger_weber_kernel},
    {"tersoff", tersoff_kernel},
    {"snap", snap_kernel},
    {"soap", soap_kernel},
    {"symmetry", symmetry_kernel},
};

static double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace mlmd

using namespace mlmd;

#pragma GCC visibility push(default)
extern "C" {

// The largest instruction set this machine has: 4 and 3 are x86-64-v4 and v3, 1 is whatever the library was built for
int mlmd_best_level() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return v4 ? 4 : v3 ? 3 : 1;
#else
  return 1;
#endif
}

int mlmd_vector_bytes() { return MLMD_VECTOR_BYTES; }

int mlmd_has_threads() { return HAS_THREADS; }

int mlmd_kernel_new(const char* family, int single, const std::int64_t* integers, std::int64_t n_integers,
                    const double* numbers, std::int64_t n_numbers, void** kernel, char* message, std::int64_t size) {
  *kernel = nullptr;
  return guarded(message, size, [&] {
    const auto found = FAMILIES.find(family);
    if (found == FAMILIES.end()) throw BadParameters(std::string("there is no kernel ") + family);
    Reader reader(integers, n_integers, numbers, n_numbers);
    std::unique_ptr<Kernel> made = found->second(reader, single != 0);
    reader.finish();
    *kernel = made.release();
  });
}

void mlmd_kernel_free(void* kernel) { delete static_cast<Kernel*>(kernel); }

double mlmd_kernel_cutoff(const void* kernel) { return static_cast<const Kernel*>(kernel)->cutoff(); }

// Energy, virial [9], forces [n_atoms][3], and where wanted energies [n_atoms] and virials [n_atoms][9] (else null), of
// a kernel. seconds [2]: spent on the list, on the kernel.
int mlmd_compute(void* system, void* kernel, int n_threads, const double* positions, const double* cell,
                 double* energy, double* virial, double* forces, double* energies, double* virials, double* seconds,
                 char* message, std::int64_t size) {
  int status = OK;
  const int failure = guarded(message, size, [&] {
    System& atoms = *static_cast<System*>(system);
    Kernel& family = *static_cast<Kernel*>(kernel);
    if (family.n_species() != atoms.n_species) throw BadParameters("system and kernel differ in the number of species");
    if (family.cutoff() > atoms.cutoff) throw BadParameters("the cutoff of the list is below that of the kernel");
    n_threads = std::max(n_threads, 1);
    const auto start = std::chrono::steady_clock::now();
    if (!atoms.update(positions, cell, n_threads)) {
      status = BAD_CONFIGURATION;
      return;
    }
    seconds[0] = seconds_since(start);
    const std::size_t n = atoms.n_atoms;
    std::memset(forces, 0, 3 * n * sizeof(double));
    if (energies) std::memset(energies, 0, n * sizeof(double));
    if (virials) std::memset(virials, 0, 9 * n * sizeof(double));
    Results results;
    results.forces = forces, results.energies = energies, results.virials = virials;
    family.compute(atoms, n_threads, results);
    *energy = results.energy;
    std::memcpy(virial, results.virial, sizeof results.virial);
    seconds[1] = seconds_since(start) - seconds[0];
  });
  return failure ? failure : status;
}

}  // extern "C"
#pragma GCC visibility pop
