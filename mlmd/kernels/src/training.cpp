// What training asks for: features of atoms, their derivatives in both directions, and rows of least-squares problems.
#include <algorithm>
#include <map>
#include <string>

#include "bispectrum_features.hpp"
#include "features.hpp"
#include "guarded.hpp"
#include "moment_design.hpp"
#include "moment_features.hpp"
#include "radial_angular_features.hpp"
#include "soap_features.hpp"
#include "symmetry_features.hpp"

namespace mlmd {

using DescriptorMaker = std::unique_ptr<Descriptor> (*)(Reader&);

static const std::map<std::string, DescriptorMaker> DESCRIPTORS = {
    {"moments", make_descriptor<MomentFeatures>},
    {"radial-angular", make_descriptor<RadialAngularFeatures>},
    {"snap", make_descriptor<BispectrumFeatures>},
    {"soap", make_descriptor<SoapFeatures>},
    {"symmetry", make_descriptor<SymmetryFeatures>},
};

// Brings the neighbours up to date for something that has a cutoff and knows some species, and works
template <class Owner, class Work>
int at(void* system, Owner& owner, int n_threads, const double* positions, const double* cell, char* message,
       std::int64_t size, const Work& work) {
  int status = OK;
  const int failure = guarded(message, size, [&] {
    System& atoms = *static_cast<System*>(system);
    if (owner.n_species() != atoms.n_species) throw BadParameters("system and kernel differ in the number of species");
    if (owner.cutoff() > atoms.cutoff) throw BadParameters("the cutoff of the list is below that of the kernel");
    if (atoms.update(positions, cell, n_threads)) work(atoms);
    else status = BAD_CONFIGURATION;
  });
  return failure ? failure : status;
}

}  // namespace mlmd

using namespace mlmd;

#pragma GCC visibility push(default)
extern "C" {

// A descriptor of a family, from the parameters of its potential
int mlmd_descriptor_new(const char* family, const std::int64_t* integers, std::int64_t n_integers, const double* numbers,
                        std::int64_t n_numbers, void** descriptor, char* message, std::int64_t size) {
  *descriptor = nullptr;
  return guarded(message, size, [&] {
    const auto found = DESCRIPTORS.find(family);
    if (found == DESCRIPTORS.end()) throw BadParameters(std::string("there is no descriptor ") + family);
    Reader reader(integers, n_integers, numbers, n_numbers);
    std::unique_ptr<Descriptor> made = found->second(reader);
    reader.finish();
    *descriptor = made.release();
  });
}

void mlmd_descriptor_free(void* descriptor) { delete static_cast<Descriptor*>(descriptor); }

std::int64_t mlmd_descriptor_size(const void* descriptor) {
  return static_cast<const Descriptor*>(descriptor)->n_features();
}

// values [n_atoms][n_features]
int mlmd_features(void* system, void* descriptor, int n_threads, const double* positions, const double* cell,
                  double* values, char* message, std::int64_t size) {
  Descriptor& family = *static_cast<Descriptor*>(descriptor);
  return at(system, family, n_threads, positions, cell, message, size,
            [&](const System& atoms) { family.features(atoms, std::max(n_threads, 1), values); });
}

// Changes [n_atoms][n_features] for displacements [n_atoms][3] in Angstrom and a strain [3][3], r -> r + r . strain;
// either may be null.
int mlmd_push(void* system, void* descriptor, int n_threads, const double* positions, const double* cell,
              const double* displacements, const double* strain, double* changes, char* message, std::int64_t size) {
  Descriptor& family = *static_cast<Descriptor*>(descriptor);
  return at(system, family, n_threads, positions, cell, message, size,
            [&](const System& atoms) { family.push(atoms, std::max(n_threads, 1), displacements, strain, changes); });
}

// gradient [n_atoms][3] and virial [9] of the sum of weights [n_atoms][n_features] times features
int mlmd_pull(void* system, void* descriptor, int n_threads, const double* positions, const double* cell,
              const double* weights, double* gradient, double* virial, char* message, std::int64_t size) {
  Descriptor& family = *static_cast<Descriptor*>(descriptor);
  return at(system, family, n_threads, positions, cell, message, size,
            [&](const System& atoms) { family.pull(atoms, std::max(n_threads, 1), weights, gradient, virial); });
}

// The same for many sums at once, in one thread: weights [n_atoms][n_features][n_sums], gradients [n_atoms][3][n_sums],
// virials [9][n_sums]
int mlmd_pull_many(void* system, void* descriptor, const double* positions, const double* cell, const double* weights,
                   std::int64_t n_sums, double* gradients, double* virials, char* message, std::int64_t size) {
  Descriptor& family = *static_cast<Descriptor*>(descriptor);
  return at(system, family, 1, positions, cell, message, size,
            [&](const System& atoms) { family.pull_many(atoms, weights, std::size_t(n_sums), gradients, virials); });
}

// Rows of least-squares problems of moment tensor potentials, from the parameters of such a potential
int mlmd_design_new(const std::int64_t* integers, std::int64_t n_integers, const double* numbers, std::int64_t n_numbers,
                    void** design, char* message, std::int64_t size) {
  *design = nullptr;
  return guarded(message, size, [&] {
    Reader reader(integers, n_integers, numbers, n_numbers);
    auto made = std::make_unique<MomentDesign>(reader);
    reader.finish();
    *design = made.release();
  });
}

void mlmd_design_free(void* design) { delete static_cast<MomentDesign*>(design); }

// See MomentDesign::rows; one thread works, and one call at a time with a handle
int mlmd_design(void* system, void* design, const double* positions, const double* cell, const double* radial,
                const double* weights, double* energy, double* forces, double* virial, char* message,
                std::int64_t size) {
  MomentDesign& family = *static_cast<MomentDesign*>(design);
  return at(system, family, 1, positions, cell, message, size,
            [&](const System& atoms) { family.rows(atoms, radial, weights, energy, forces, virial); });
}

}  // extern "C"
#pragma GCC visibility pop
