// Random numbers that depend on seed, step and atom alone, as in mlmd/engine/noise.py, whose mirror this is.
#pragma once

#include <cmath>
#include <cstdint>

namespace mlmd {

class Noise {
 public:
  // Of all atoms in a step. Two rounds for seed and step, so that neighbouring steps have nothing in common.
  Noise(std::uint64_t seed, std::uint64_t step) : key_(mixed(mixed(seed + GOLDEN) + step * GOLDEN)) {}

  // Three normal numbers of mean 0 and variance 1, by Box and Muller, of the atom with this identity
  void normal(std::uint64_t atom, double* three) const {
    double uniform[4];
    for (std::uint64_t k = 0; k < 4; k++) {
      const std::uint64_t bits = mixed(mixed((4 * atom + k) * GOLDEN + key_) + key_);
      uniform[k] = (double(bits >> 11) + 0.5) * 0x1p-53;  // in (0, 1)
    }
    const double first = std::sqrt(-2.0 * std::log(uniform[0])), second = std::sqrt(-2.0 * std::log(uniform[1]));
    three[0] = first * std::cos(TURN * uniform[2]);
    three[1] = first * std::sin(TURN * uniform[2]);
    three[2] = second * std::cos(TURN * uniform[3]);
  }

 private:
  static constexpr std::uint64_t GOLDEN = 0x9E3779B97F4A7C15;
  static constexpr double TURN = 6.283185307179586476925;

  // The finalizer of SplitMix64
  static std::uint64_t mixed(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  std::uint64_t key_;
};

}  // namespace mlmd
