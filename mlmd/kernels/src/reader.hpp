// Parameters of a potential as they come from Python.
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

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

}  // namespace mlmd
