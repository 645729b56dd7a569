// A network with one hidden layer for each species of atoms, or one for all:
//
//   E = sum_h v_h tanh(sum_d w_hd q_d + b_h)
#pragma once

#include <vector>

#include "kernel.hpp"
#include "tiles.hpp"

namespace mlmd {

template <class T>
class Network {
 public:
  using V = Vector<T>;

  // integers: n_neurons, one network for all species. numbers: w [z or 1][h][d], b [z or 1][h], v [z or 1][h].
  // scaling [d] is what features are multiplied by.
  Network(Reader& reader, int n_species, const std::vector<double>& scaling) : n_features_(int(scaling.size())) {
    n_neurons_ = int(reader.integer("n_neurons", 1, 100000));
    n_networks_ = reader.integer("common", 0, 1) ? 1 : n_species;
    const std::size_t size = std::size_t(n_neurons_) * n_features_;
    const std::vector<double> weights = reader.numbers("weights", std::int64_t(n_networks_ * size));
    weights_.resize(weights.size()), transposed_.resize(weights.size());
    for (int net = 0; net < n_networks_; net++)
      for (int h = 0; h < n_neurons_; h++)
        for (int d = 0; d < n_features_; d++) {
          const T w = T(scaling[d] * weights[net * size + std::size_t(h) * n_features_ + d]);
          weights_[net * size + std::size_t(h) * n_features_ + d] = w;
          transposed_[net * size + std::size_t(d) * n_neurons_ + h] = w;
        }
    for (double b : reader.numbers("biases", std::int64_t(n_networks_) * n_neurons_)) biases_.push_back(T(b));
    for (double v : reader.numbers("output", std::int64_t(n_networks_) * n_neurons_)) output_.push_back(T(v));
  }

  int n_neurons() const { return n_neurons_; }

  // The energy of features q [d], which become dE/dq; hidden [h] is room to work in
  V energy(int species, V* q, V* hidden) const {
    const std::size_t net = n_networks_ == 1 ? 0 : species, size = std::size_t(n_neurons_) * n_features_;
    const T *const bias = &biases_[net * n_neurons_], *const output = &output_[net * n_neurons_];
    for (int h = 0; h < n_neurons_; h++) hidden[h] = broadcast<T>(bias[h]);
    multiply_add<T>(&transposed_[net * size], n_neurons_, n_features_, q, hidden);
    V energy{};
    for (int h = 0; h < n_neurons_; h++) {
      // tanh x = 1 - s and its derivative s (2 - s), s = 2 / (e^2x + 1), which has no difference of squares
      const V s = T(2) / (exp<T>(T(2) * hidden[h]) + T(1));
      energy += output[h] * (T(1) - s);
      hidden[h] = output[h] * (s * (T(2) - s));
    }
    std::fill(q, q + n_features_, V{});
    multiply_add<T>(&weights_[net * size], n_features_, n_neurons_, hidden, q);
    return energy;
  }

 private:
  int n_features_, n_neurons_, n_networks_;
  std::vector<T> weights_, transposed_;  // [z or 1][h][d] and [z or 1][d][h], times the scaling of the features
  std::vector<T> biases_, output_;       // [z or 1][h]
};

}  // namespace mlmd
