// Dynamics of one system, step after step without a word with Python: the equations of mlmd/engine/motion.py.
//
// Velocities are held half a step back where nothing but forces acts. A step is, with F of the positions,
//   v += dt F/m;  x += dt/2 v;  v <- bath(v);  x += dt/2 v.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "guarded.hpp"
#include "kernel.hpp"
#include "noise.hpp"

namespace mlmd {

// As in kernels/motion.py: every member has eight bytes
struct Steps {
  std::int64_t n_atoms, n_parts, n_threads, n_steps;
  std::int64_t first_step;  // of the run
  std::int64_t bath;        // of enum Bath
  std::int64_t n_chain, remove_com;
  std::uint64_t seed;
  double timestep, kinetic, kt;  // fs; eV of 1 amu (A/fs)^2; eV
  double rate, n_dof;            // 1/fs, friction or frequency; degrees of freedom
  double max_force, max_move;    // eV/A; A in a step; infinite where there is no limit
  void* const* systems;          // [n_parts]
  void* const* kernels;          // [n_parts]
  const double* factors;         // [n_parts], of their energies
  const double* masses;          // [n_atoms] amu
  const double* mobile;          // [n_atoms] 1 or 0
  const double* cell;            // [9] A
  double* rates;                 // [n_chain] 1/fs, velocities of the thermostats
  // Of the last step that was good, and of the one after it where that was not: A, A/fs, eV/A
  double *positions, *velocities, *forces;      // [n_atoms][3]
  double *bad_positions, *bad_forces;           // [n_atoms][3]
  double *energy, *virial, *bad_energy;         // [1], [9] and [1], eV
  double* seconds;                              // [2], on lists and on potentials: added to
  std::int64_t done, problem;                   // good steps; of enum Problem
};

enum Bath { NONE = 0, LANGEVIN = 1, NOSE_HOOVER = 2 };
enum Problem { FINE = 0, MOVES = 1, FORCES = 2, NOWHERE = 3 };

static double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// By what velocities change in a step by a chain of thermostats, which changes with them
static double chain_factor(const Steps& s, double twice) {
  // Suzuki's weights, to fourth order
  const double outer = 1.0 / (4.0 - std::cbrt(4.0)), weights[5] = {outer, outer, 1.0 - 4.0 * outer, outer, outer};
  const int last = int(s.n_chain) - 1;
  double* rates = s.rates;
  const double usual = s.kt / (s.rate * s.rate);
  const auto inertia = [&](int j) { return j == 0 ? s.n_dof * usual : usual; };
  const auto turn = [&](int j, double part) {
    const double held = j == 0 ? twice - s.n_dof * s.kt : inertia(j - 1) * rates[j - 1] * rates[j - 1] - s.kt;
    const double slower = j < last ? std::exp(-0.25 * part * rates[j + 1]) : 1.0;
    rates[j] = (rates[j] * slower + 0.5 * part * (held / inertia(j))) * slower;
  };
  double total = 1.0;
  for (const double weight : weights) {
    const double part = weight * s.timestep;
    for (int j = last; j >= 0; j--) turn(j, part);
    const double slower = std::exp(-part * rates[0]);
    total *= slower, twice *= slower * slower;
    for (int j = 0; j <= last; j++) turn(j, part);
  }
  return total;
}

// Atoms go on by a step: positions to `after`
static void move(const Steps& s, std::int64_t step, double* after) {
  double drift[3] = {}, mass = 0;
  if (s.remove_com) {
    for (std::int64_t i = 0; i < s.n_atoms; i++) {
      for (int a = 0; a < 3; a++) drift[a] += s.masses[i] * s.velocities[3 * i + a];
      mass += s.masses[i];
    }
    for (double& one : drift) one /= mass;
  }
  const double kept = std::exp(-s.rate * s.timestep), spread = (1.0 - kept * kept) * s.kt / s.kinetic;
  const Noise noise(s.seed, std::uint64_t(step));
  double twice = 0;
  for (std::int64_t i = 0; i < s.n_atoms; i++) {
    const double kick = s.timestep * s.mobile[i] / (s.kinetic * s.masses[i]);
    double random[3] = {};
    const bool shaken = s.bath == LANGEVIN && s.mobile[i] != 0;
    if (shaken) noise.normal(std::uint64_t(i) + 1, random);
    const double width = shaken ? std::sqrt(spread / s.masses[i]) : 0.0;
    for (int a = 0; a < 3; a++) {
      double& v = s.velocities[3 * i + a];
      const double before = v + kick * s.forces[3 * i + a] - s.mobile[i] * drift[a];
      v = s.bath == LANGEVIN ? kept * before + width * random[a] : before;
      after[3 * i + a] = s.positions[3 * i + a] + 0.5 * s.timestep * (before + v);
      twice += s.kinetic * s.masses[i] * before * before;
    }
  }
  if (s.bath != NOSE_HOOVER) return;
  const double factor = chain_factor(s, twice);
  for (std::int64_t k = 0; k < 3 * s.n_atoms; k++) {
    const double before = s.velocities[k];
    s.velocities[k] = before * factor;
    after[k] = s.positions[k] + 0.5 * s.timestep * (before + s.velocities[k]);
  }
}

// Whether vectors are finite, and none is longer than a limit
static bool within(const double* vectors, const double* from, std::int64_t n, double limit) {
  for (std::int64_t i = 0; i < n; i++) {
    double squared = 0;
    for (int a = 0; a < 3; a++) {
      const double one = vectors[3 * i + a] - (from ? from[3 * i + a] : 0.0);
      squared += one * one;
    }
    if (!(squared <= limit * limit) || std::isinf(squared)) return false;
  }
  return true;
}

// The sum of all parts at positions; false where a list of neighbours cannot be made
static bool forces_at(const Steps& s, const double* positions, double* forces, double* part, double* energy,
                      double* virial) {
  const std::size_t n = 3 * std::size_t(s.n_atoms);
  *energy = 0;
  std::fill(virial, virial + 9, 0.0);
  std::fill(forces, forces + n, 0.0);
  for (std::int64_t p = 0; p < s.n_parts; p++) {
    System& atoms = *static_cast<System*>(s.systems[p]);
    Kernel& family = *static_cast<Kernel*>(s.kernels[p]);
    const auto start = std::chrono::steady_clock::now();
    if (!atoms.update(positions, s.cell, int(s.n_threads))) return false;
    s.seconds[0] += seconds_since(start);
    const auto begun = std::chrono::steady_clock::now();
    std::fill(part, part + n, 0.0);
    Results results;
    results.forces = part;
    family.compute(atoms, int(s.n_threads), results);
    *energy += s.factors[p] * results.energy;
    for (std::size_t k = 0; k < n; k++) forces[k] += s.factors[p] * part[k];
    for (int a = 0; a < 3; a++)
      for (int b = 0; b < 3; b++)
        virial[3 * a + b] += 0.5 * s.factors[p] * (results.virial[3 * a + b] + results.virial[3 * b + a]);
    s.seconds[1] += seconds_since(begun);
  }
  return true;
}

static void advance(Steps& s) {
  const std::size_t n = 3 * std::size_t(s.n_atoms);
  std::vector<double> part(n);
  s.done = 0, s.problem = FINE;
  for (std::int64_t step = 0; step < s.n_steps; step++) {
    move(s, s.first_step + step, s.bad_positions);
    double virial[9];
    if (!within(s.bad_positions, s.positions, s.n_atoms, s.max_move)) s.problem = MOVES;
    else if (!forces_at(s, s.bad_positions, s.bad_forces, part.data(), s.bad_energy, virial)) s.problem = NOWHERE;
    else if (!std::isfinite(*s.bad_energy) || !within(s.bad_forces, nullptr, s.n_atoms, s.max_force))
      s.problem = FORCES;
    if (s.problem != FINE) return;
    std::memcpy(s.positions, s.bad_positions, n * sizeof(double));
    std::memcpy(s.forces, s.bad_forces, n * sizeof(double));
    std::memcpy(s.virial, virial, sizeof virial);
    *s.energy = *s.bad_energy;
    s.done++;
  }
}

}  // namespace mlmd

using namespace mlmd;

#pragma GCC visibility push(default)
extern "C" {

// Go on by some steps, or to the first that is not good
int mlmd_advance(Steps* steps, char* message, std::int64_t size) {
  return guarded(message, size, [&] { advance(*steps); });
}

// Numbers [n][3] of Noise of the atoms 1 to n
void mlmd_noise(std::uint64_t seed, std::uint64_t step, std::int64_t n, double* numbers) {
  const Noise noise(seed, step);
  for (std::int64_t i = 0; i < n; i++) noise.normal(std::uint64_t(i) + 1, numbers + 3 * i);
}

}  // extern "C"
#pragma GCC visibility pop
