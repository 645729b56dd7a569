// Atoms, their neighbours and the vectors between them.
#pragma once

#include "frame.cuh"
#include "group.cuh"

struct alignas(4 * sizeof(real)) Four {
  real x, y, z, w;
};
struct alignas(4 * sizeof(double)) Slot {
  double x, y, z, w;  // place, species
};
struct alignas(2 * sizeof(int)) Neighbour {
  int slot, crossed;
};

// A thread of a group that works on slot i; `own` is false for those that are left over, which have nothing to do but to
// vote and to add with the others
struct Member {
  long long i;
  int lane;
  bool own;
  MLMD_INLINE explicit Member(int n_atoms) {
    const long long t = thread();
    i = t / LANES, lane = int(t % LANES), own = i < n_atoms;
    if (!own) i = n_atoms - 1;
  }
};

MLMD_INLINE int crossed(int x, int y, int z) { return (x & 1023) | (y & 1023) << 10 | (z & 1023) << 20; }
MLMD_INLINE int crossed_x(int code) { return (int)((unsigned)code << 22) >> 22; }
MLMD_INLINE int crossed_y(int code) { return (int)((unsigned)code << 12) >> 22; }
MLMD_INLINE int crossed_z(int code) { return (int)((unsigned)code << 2) >> 22; }

struct Vector3 {
  double x, y, z;
};

// From one place to another one some cells away; the way back is exactly the opposite
MLMD_INLINE Vector3 between(const Slot& from, const Slot& to, int code, const double* cell) {
  Vector3 d = {to.x - from.x, to.y - from.y, to.z - from.z};
  if (code != 0) {
    const double a = crossed_x(code), b = crossed_y(code), c = crossed_z(code);
    d.x += a * cell[0] + b * cell[3] + c * cell[6];
    d.y += a * cell[1] + b * cell[4] + c * cell[7];
    d.z += a * cell[2] + b * cell[5] + c * cell[8];
  }
  return d;
}

MLMD_INLINE const Slot* slots_of(const Frame& f) { return (const Slot*)f.slots; }
MLMD_INLINE const Neighbour* row_of(const Frame& f, long long i) { return (const Neighbour*)f.row + i * f.capacity; }
