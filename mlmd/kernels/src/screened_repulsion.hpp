// The screened repulsion of nuclei, taken to zero between two distances of each pair of species:
//
//   E_i = 1/2 sum_j phi(r_ij),   phi = sum_k A_k exp(-d_k r) / r (1 + cos(pi w)) / 2,
//   w = (r - inner) / (outer - inner) within [0, 1]
#pragma once

#include <vector>

#include "kernel.hpp"

namespace mlmd {

template <class T>
class ScreenedRepulsion {
 public:
  using V = Vector<T>;
  static constexpr int TERMS = 4;  // exponentials

  // numbers: inner, outer, (A_k, d_k) [z_i][z_j]
  void read(Reader& reader, int n_species, double cutoff) {
    n_species_ = n_species;
    const std::int64_t row = 2 + 2 * TERMS;
    const std::vector<double> table = reader.numbers("repulsion", row * n_species * n_species);
    for (std::size_t k = 0; k < table.size(); k += row)
      if (!(table[k] < table[k + 1] && table[k + 1] <= cutoff)) throw BadParameters("a reach of the repulsion");
    for (double one : table) table_.push_back(T(one));
  }

  // Half of the repulsion of all pairs, and its gradient, which is added; hardly any pair is close enough
  V add(const Block<T>& block) const {
    V energy{};
    for (int kind = 0; kind < n_species_; kind++) {
      const T* const table = &table_[(std::size_t(block.species) * n_species_ + kind) * (2 + 2 * TERMS)];
      const T inner = table[0], outer = table[1], rate = T(1) / (outer - inner);
      for (int row = block.begin[kind]; row < block.begin[kind + 1]; row++) {
        const V r = block.r[row];
        const Mask<T> near = r < outer;
        if (!any(near)) continue;
        const V inverse = T(1) / r, way = min(max((r - inner) * rate, V{}), broadcast<T>(T(1)));
        V cosine, sine, screened{}, change{};
        cos_sin_pi<T>(way, cosine, sine);
        for (int k = 0; k < TERMS; k++) {
          const V term = table[2 + 2 * k] * exp<T>(-table[3 + 2 * k] * r);
          screened += term, change -= table[3 + 2 * k] * term;
        }
        const V phi = screened * inverse, step = T(0.5) * (T(1) + cosine);
        const V slope = select((r > inner), T(-0.5 * 3.14159265358979323846) * rate * sine, V{});
        const V along = (change * inverse - phi * inverse) * step + phi * slope;
        const V scale = select(near, T(0.5) * along * inverse, V{});
        energy += select(near, T(0.5) * phi * step, V{});
        block.gx[row] += scale * block.x[row], block.gy[row] += scale * block.y[row], block.gz[row] += scale * block.z[row];
      }
    }
    return energy;
  }

 private:
  int n_species_ = 0;
  std::vector<T> table_;  // [z_i][z_j][2 + 2 TERMS]
};

}  // namespace mlmd
