// The search: wrap atoms into the (reduced) cell, sort them by species and bin, make their images explicit, and compare
// with what the bins around hold. Distances are compared in fixed point and float, with a margin that makes the list a
// superset; loops over neighbours look at their own distances anyway.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "chunks.hpp"
#include "lattice.hpp"
#include "neighbours.hpp"

namespace mlmd {

constexpr double MARGIN = 1e-6;  // relative, of lengths compared

struct Bounds {
  Vector3 low{HUGE_VAL, HUGE_VAL, HUGE_VAL}, high{-HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
  void add(Vector3 v) {
    low = {std::min(low.x, v.x), std::min(low.y, v.y), std::min(low.z, v.z)};
    high = {std::max(high.x, v.x), std::max(high.y, v.y), std::max(high.z, v.z)};
  }
  void add(const Bounds& b) { add(b.low), add(b.high); }
  bool holds(Vector3 v) const {
    return v.x >= low.x && v.x <= high.x && v.y >= low.y && v.y <= high.y && v.z >= low.z && v.z <= high.z;
  }
};

struct System::Search {
  Search(System& system, const double* positions, const Cell& complete, int n_threads);
  bool wrap();
  void sort();
  void make_images();
  void make_points();
  void find();
  void count(int n_bins, const std::int32_t* wanted, std::int64_t* counts) const;

 private:
  // Candidates around the atoms of a bin, in float coordinates relative to the middle of these atoms.
  struct Around {
    Buffer<float> x, y, z;
    Buffer<std::int32_t> slot, row;
    std::vector<int> begin;  // [n_species + 1], multiples of the width of vectors
    std::vector<std::pair<std::int64_t, std::int64_t>> runs;  // of bins that follow each other
    std::int32_t origin[3];
    float reach2;
  };

  struct Image {
    std::int32_t slot, bin;  // slot of the atom
    int steps[3];            // vectors of the reduced cell
  };
  struct Range {
    double low, high;
    bool holds(double f) const { return f >= low && f <= high; }
  };

  void make_grid();
  std::int64_t bin_of(Vector3 place) const;
  std::int32_t fixed(double length, int d) const { return std::int32_t((length - origin_[d]) * per_unit_); }
  void images_of(int slot, std::vector<Image>& images) const;
  bool gather(std::int64_t bin, Around& around) const;
  void runs_around(std::int64_t bin, Around& around) const;
  int prune(const Buffer<std::int32_t>* places, int begin, int end, const float* half, Around& around, int n) const;
  int neighbours(int point, Around& around, std::int32_t* ends) const;
  int rows(std::int64_t stride, bool write);
  template <class To>
  bool candidates(std::int64_t bin, Around& around, To& to) const;

  System& s;
  const double* const positions;
  const int n_threads;
  const Cell cell;       // zero vectors where not periodic
  const Reduced reduced;
  const Cell inverse_;   // of the reduced cell
  const double reach;    // cutoff + skin and a margin

  Buffer<std::int32_t> wrapped_;   // [n_atoms][3] cell vectors crossed
  Bounds box_, fractional_;       // of wrapped atoms, Cartesian and in the reduced cell
  Range near_[3], apart_[3];      // fractional coordinates of images that matter; of atoms that have none
  Vector3 origin_;
  double per_unit_ = 1;           // fixed-point units of length in an Angstrom
  int n_[3], stencil_ = 1;        // bins; how many to either side can hold neighbours
  bool folded_[3];
  double per_bin_ = 1;            // bins in a unit
  std::int64_t n_bins_ = 0;
  Buffer<std::int32_t> bin_, image_bin_;      // of atoms, of images
  Buffer<std::int32_t> slot_end_;             // [n_species][n_bins]
  Buffer<std::int32_t> point_begin_;          // [n_species][n_bins], and one more
  Buffer<std::int32_t> point_[3], point_slot_;  // fixed-point coordinates, by species and bin; atoms before images
};

}  // namespace mlmd
