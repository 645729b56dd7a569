// A feed-forward network of each species: hidden layers, and a linear function of the last.
#pragma once

#include "kernel.hpp"
#include "logarithm.hpp"
#include "tiles.hpp"

namespace mlmd {

enum class Activation { TANH, SOFTPLUS, SILU, LOGISTIC, GAUSSIAN, LINEAR, COUNT };

namespace detail {

// y = sigma(x) in the place of x, and sigma'(x)
template <class T>
MLMD_INLINE void activate(Activation which, Vector<T>& x, Vector<T>& slope) {
  using V = Vector<T>;
  const V one = broadcast<T>(T(1));
  switch (which) {
    case Activation::TANH: {
      const V s = T(2) / (exp<T>(T(2) * x) + T(1));  // 1 - s^2 without the difference of squares
      x = T(1) - s, slope = s * (T(2) - s);
      break;
    }
    case Activation::SOFTPLUS: {
      const V small = exp<T>(select(x > T(0), -x, x)), rest = one / (one + small);
      slope = select(x > T(0), rest, small * rest);
      x = max(x, V{}) + log<T>(one + small);
      break;
    }
    case Activation::SILU: {
      const V s = one / (one + exp<T>(-x));
      slope = s * (one + x * (one - s)), x = x * s;
      break;
    }
    case Activation::LOGISTIC: {
      x = one / (one + exp<T>(-x)), slope = x * (one - x);
      break;
    }
    case Activation::GAUSSIAN: {
      const V value = exp<T>(T(-0.5) * x * x);
      slope = -x * value, x = value;
      break;
    }
    default: slope = one;
  }
}

}  // namespace detail

template <class T>
class Layers {
 public:
  using V = Vector<T>;

  // integers: one network for all species, number of layers, of every layer its neurons and activation.
  // numbers: of every network w [out][in] and b [out] of every layer, then v; at last c [z].
  void read(Reader& reader, int n_species, int n_features) {
    const int n_networks = reader.integer("common", 0, 1) ? 1 : n_species;
    common_ = n_networks == 1;
    sizes_.push_back(n_features);
    const int n_layers = int(reader.integer("layers", 1, 100));
    for (int l = 0; l < n_layers; l++) {
      sizes_.push_back(int(reader.integer("neurons", 1, 100000)));
      activations_.push_back(Activation(reader.integer("activation", 0, int(Activation::COUNT) - 1)));
      total_ += sizes_.back();
    }
    for (int net = 0; net < n_networks; net++) {
      Net one;
      for (int l = 0; l < n_layers; l++) {
        const int in = sizes_[l], out = sizes_[l + 1];
        one.weights.push_back(single(reader.numbers("weights", std::int64_t(in) * out)));
        std::vector<T> turned(one.weights[l].size());
        for (int o = 0; o < out; o++)
          for (int i = 0; i < in; i++) turned[std::size_t(i) * out + o] = one.weights[l][std::size_t(o) * in + i];
        one.transposed.push_back(std::move(turned));
        one.biases.push_back(single(reader.numbers("biases", out)));
      }
      one.output = single(reader.numbers("output", sizes_.back()));
      nets_.push_back(std::move(one));
    }
    constants_ = reader.numbers("constants", n_species);
  }

  double constant(int species) const { return constants_[species]; }
  // Vectors that `energy` needs
  int n_scratch() const { return 2 * total_; }

  // The energy without the constant; q becomes dE/dq
  V energy(int species, V* q, V* scratch) const {
    const Net& net = nets_[common_ ? 0 : species];
    const int n_layers = int(activations_.size());
    V *values = scratch, *slopes = scratch + total_;
    const V* in = q;
    for (int l = 0; l < n_layers; l++) {
      const int n = sizes_[l + 1];
      for (int h = 0; h < n; h++) values[h] = broadcast<T>(net.biases[l][h]);
      multiply_add<T>(net.transposed[l].data(), n, sizes_[l], in, values);
      for (int h = 0; h < n; h++) detail::activate<T>(activations_[l], values[h], slopes[h]);
      in = values;
      values += n, slopes += n;
    }
    V energy{};
    values -= sizes_[n_layers];
    for (int h = 0; h < sizes_[n_layers]; h++) {
      energy += net.output[h] * values[h];
      values[h] = broadcast<T>(net.output[h]);  // dE/dy from here on
    }
    for (int l = n_layers - 1; l >= 0; l--) {
      const int n = sizes_[l + 1];
      slopes -= n;
      for (int h = 0; h < n; h++) values[h] *= slopes[h];
      V* const below = l ? values - sizes_[l] : q;
      std::fill(below, below + sizes_[l], V{});
      multiply_add<T>(net.weights[l].data(), sizes_[l], n, values, below);
      values = below;
    }
    return energy;
  }

 private:
  struct Net {
    std::vector<std::vector<T>> weights, transposed, biases;  // [layer] [out][in], [in][out], [out]
    std::vector<T> output;
  };
  static std::vector<T> single(const std::vector<double>& given) { return std::vector<T>(given.begin(), given.end()); }

  bool common_ = false;
  int total_ = 0;           // neurons
  std::vector<int> sizes_;  // of the features and of every layer
  std::vector<Activation> activations_;
  std::vector<Net> nets_;
  std::vector<double> constants_;
};

}  // namespace mlmd
