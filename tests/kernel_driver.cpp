// Runs kernels on systems read from a file and writes what they give: for machines that Python is not installed for.
//
//     kernel_driver INPUT OUTPUT
//
// Both are numbers of 8 bytes, one after the other. A case begins with how many letters its family has, and the letters
// as integers. Ten integers follow: whether float32, how many threads, species, integers, numbers, atoms and features,
// three for periodic; then the integers and the species of atoms; then numbers: the skin, those of the kernel, positions,
// cell, and where features are asked for a vector for every atom and a weight for every feature. Of each case the energy,
// the virial, energies and forces of atoms are written, then features, their change along the vectors, and the gradient
// and the virial of their weighted sum.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" {
int mlmd_kernel_new(const char*, int, const std::int64_t*, std::int64_t, const double*, std::int64_t, void**, char*,
                    std::int64_t);
void mlmd_kernel_free(void*);
double mlmd_kernel_cutoff(const void*);
void* mlmd_system_new(int, const std::int32_t*, int, const std::int32_t*, double, double);
void mlmd_system_free(void*);
int mlmd_compute(void*, void*, int, const double*, const double*, double*, double*, double*, double*, double*, double*,
                 char*, std::int64_t);
int mlmd_descriptor_new(const char*, const std::int64_t*, std::int64_t, const double*, std::int64_t, void**, char*,
                        std::int64_t);
void mlmd_descriptor_free(void*);
std::int64_t mlmd_descriptor_size(const void*);
int mlmd_features(void*, void*, int, const double*, const double*, double*, char*, std::int64_t);
int mlmd_push(void*, void*, int, const double*, const double*, const double*, const double*, double*, char*,
              std::int64_t);
int mlmd_pull(void*, void*, int, const double*, const double*, const double*, double*, double*, char*, std::int64_t);
}

static char message[256];

static void check(int status) {
  if (!status) return;
  std::fprintf(stderr, "status %d: %s\n", status, message);
  std::exit(1);
}

struct File {
  std::FILE* const file;
  File(const char* path, const char* how) : file(std::fopen(path, how)) { check(file == nullptr); }
  ~File() { std::fclose(file); }
  template <class T>
  std::vector<T> read(std::int64_t n) {
    std::vector<T> values(n);
    if (std::fread(values.data(), 8, n, file) != std::size_t(n)) check(2);
    return values;
  }
  void write(const std::vector<double>& values) {
    if (std::fwrite(values.data(), 8, values.size(), file) != values.size()) check(3);
  }
};

static void features(File& in, File& out, void* descriptor, void* system, int n_threads, std::int64_t n_atoms,
                     std::int64_t n, const double* positions, const double* cell) {
  check(mlmd_descriptor_size(descriptor) != n);
  const std::vector<double> vectors = in.read<double>(3 * n_atoms), weights = in.read<double>(n * n_atoms);
  std::vector<double> values(n * n_atoms), changes(n * n_atoms), gradient(3 * n_atoms), virial(9);
  check(mlmd_features(system, descriptor, n_threads, positions, cell, values.data(), message, sizeof message));
  check(mlmd_push(system, descriptor, n_threads, positions, cell, vectors.data(), nullptr, changes.data(), message,
                  sizeof message));
  check(mlmd_pull(system, descriptor, n_threads, positions, cell, weights.data(), gradient.data(), virial.data(),
                  message, sizeof message));
  for (const auto& one : {values, changes, gradient, virial}) out.write(one);
}

int main(int, char** arguments) {
  File in(arguments[1], "rb"), out(arguments[2], "wb");
  for (std::int64_t n_letters; std::fread(&n_letters, 8, 1, in.file) == 1;) {
    const std::vector<std::int64_t> letters = in.read<std::int64_t>(n_letters), sizes = in.read<std::int64_t>(10);
    const std::string family(letters.begin(), letters.end());
    const int n_threads = int(sizes[1]);
    const std::int64_t n_atoms = sizes[5];
    const std::vector<std::int32_t> pbc(sizes.begin() + 7, sizes.end());
    const std::vector<std::int64_t> integers = in.read<std::int64_t>(sizes[3]), kinds = in.read<std::int64_t>(n_atoms);
    const std::vector<std::int32_t> species(kinds.begin(), kinds.end());
    const double skin = in.read<double>(1)[0];
    const std::vector<double> numbers = in.read<double>(sizes[4]), positions = in.read<double>(3 * n_atoms);
    const std::vector<double> cell = in.read<double>(9);
    void *kernel, *descriptor;
    check(mlmd_kernel_new(family.c_str(), sizes[0] != 0, integers.data(), sizes[3], numbers.data(), sizes[4], &kernel,
                          message, sizeof message));
    void* system = mlmd_system_new(int(n_atoms), species.data(), int(sizes[2]), pbc.data(), mlmd_kernel_cutoff(kernel),
                                   skin);
    check(system == nullptr);
    std::vector<double> sums(10), energies(n_atoms), forces(3 * n_atoms), seconds(2);
    check(mlmd_compute(system, kernel, n_threads, positions.data(), cell.data(), &sums[0], &sums[1], forces.data(),
                       energies.data(), nullptr, seconds.data(), message, sizeof message));
    for (const auto& one : {sums, energies, forces}) out.write(one);
    if (sizes[6]) {
      check(mlmd_descriptor_new(family.c_str(), integers.data(), sizes[3], numbers.data(), sizes[4], &descriptor,
                                message, sizeof message));
      features(in, out, descriptor, system, n_threads, n_atoms, sizes[6], positions.data(), cell.data());
      mlmd_descriptor_free(descriptor);
    }
    mlmd_system_free(system);
    mlmd_kernel_free(kernel);
  }
}
