// Cells: three vectors as rows, periodic or not.
//
//   complete     periodic vectors, and unit vectors at right angles to them for the other directions
//   reduce       the shortest vectors that span the same lattice (Minkowski), by Semaev's algorithm:
//                I. Semaev, Cryptography and Lattices, LNCS 2146 (2001) 181
//   stretch      the smallest singular value of a deformation
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace mlmd {

struct Vector3 {
  double x = 0, y = 0, z = 0;
  double operator[](int d) const { return d == 0 ? x : d == 1 ? y : z; }
};
inline Vector3 operator+(Vector3 a, Vector3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vector3 operator-(Vector3 a, Vector3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vector3 operator*(double k, Vector3 a) { return {k * a.x, k * a.y, k * a.z}; }
inline double dot(Vector3 a, Vector3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline double length(Vector3 a) { return std::sqrt(dot(a, a)); }
inline Vector3 cross(Vector3 a, Vector3 b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline Vector3 unit(Vector3 a) { return (1.0 / length(a)) * a; }
inline bool finite(Vector3 a) { return std::isfinite(a.x) && std::isfinite(a.y) && std::isfinite(a.z); }

struct Cell {
  Vector3 row[3];
  Vector3& operator[](int d) { return row[d]; }
  const Vector3& operator[](int d) const { return row[d]; }
};

inline Cell cell_from(const double* c) { return {{{c[0], c[1], c[2]}, {c[3], c[4], c[5]}, {c[6], c[7], c[8]}}}; }

// v . cell: fractional to Cartesian coordinates
inline Vector3 operator*(Vector3 v, const Cell& c) { return v.x * c[0] + v.y * c[1] + v.z * c[2]; }

inline Cell operator*(const Cell& a, const Cell& b) { return {{a[0] * b, a[1] * b, a[2] * b}}; }

inline double determinant(const Cell& c) { return dot(c[0], cross(c[1], c[2])); }

// Columns are the reciprocal vectors: x . inverse(cell) are fractional coordinates.
inline Cell inverse(const Cell& c) {
  const double k = 1.0 / determinant(c);
  const Vector3 g[3] = {k * cross(c[1], c[2]), k * cross(c[2], c[0]), k * cross(c[0], c[1])};
  return {{{g[0].x, g[1].x, g[2].x}, {g[0].y, g[1].y, g[2].y}, {g[0].z, g[1].z, g[2].z}}};
}

// False when a periodic vector is not finite, or when they span no volume.
inline bool complete(const double* given, const int32_t* pbc, Cell& out) {
  constexpr double flat = 1e-6;  // volume spanned by vectors of unit length
  out = cell_from(given);
  const int n_periodic = !!pbc[0] + !!pbc[1] + !!pbc[2];
  for (int d = 0; d < 3; d++)
    if (pbc[d] && !(finite(out[d]) && length(out[d]) > 0 && std::isfinite(length(out[d])))) return false;
  if (n_periodic == 0) out = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  for (int d = 0; d < 3; d++) {
    const int e = (d + 1) % 3, f = (d + 2) % 3;
    if (n_periodic == 1 && pbc[d]) {
      const double x = std::fabs(out[d].x), y = std::fabs(out[d].y), z = std::fabs(out[d].z);
      const Vector3 axis = x <= y && x <= z ? Vector3{1, 0, 0} : y <= z ? Vector3{0, 1, 0} : Vector3{0, 0, 1};
      out[e] = unit(cross(unit(out[d]), axis));
      out[f] = cross(unit(out[d]), out[e]);
    }
    if (n_periodic == 2 && !pbc[d]) {
      const Vector3 normal = cross(unit(out[e]), unit(out[f]));
      if (!(length(normal) > flat)) return false;
      out[d] = unit(normal);
    }
  }
  return std::fabs(dot(unit(out[0]), cross(unit(out[1]), unit(out[2])))) > flat;
}

// Rows of the integer matrix `basis` give the reduced vectors in terms of those of `cell`.
struct Reduced {
  Cell cell;
  int64_t basis[3][3];
};

inline Reduced reduce(const Cell& cell, const int32_t* pbc) {
  Reduced r{cell, {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  // a_i += k a_j + m a_l if that is shorter by more than rounding
  const auto shorten = [&](int i, int j, double k, int l, double m) {
    double u[3], largest = 0;
    for (int d = 0; d < 3; d++) {
      u[d] = double(r.basis[i][d]) + k * double(r.basis[j][d]) + m * double(r.basis[l][d]);
      largest = std::max(largest, std::fabs(u[d]));
    }
    const Vector3 v = Vector3{u[0], u[1], u[2]} * cell;
    if (!(largest < 1e6) || !(dot(v, v) < (1.0 - 1e-10) * dot(r.cell[i], r.cell[i]))) return false;
    r.cell[i] = v;
    for (int d = 0; d < 3; d++) r.basis[i][d] = int64_t(u[d]);
    return true;
  };
  const bool all = pbc[0] && pbc[1] && pbc[2];
  for (bool changed = true; changed;) {
    changed = false;
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++)
        if (i != j && pbc[i] && pbc[j])
          changed |= shorten(i, j, -std::rint(dot(r.cell[i], r.cell[j]) / dot(r.cell[j], r.cell[j])), j, 0.0);
    for (int i = 0; i < 3 && all && !changed; i++)  // pairs are reduced: is a sum of all three shorter?
      for (int signs = 0; signs < 4 && !changed; signs++)
        changed = shorten(i, (i + 1) % 3, signs & 1 ? 1 : -1, (i + 2) % 3, signs & 2 ? 1 : -1);
  }
  return r;
}

// The smallest singular value: the root of the smallest eigenvalue of F F^T by Jacobi rotations.
inline double smallest_stretch(const Cell& f) {
  double s[3][3];
  for (int i = 0; i < 3; i++)
    for (int j = 0; j < 3; j++) s[i][j] = dot(f[i], f[j]);
  for (int sweep = 0; sweep < 30; sweep++) {
    const double off = std::fabs(s[0][1]) + std::fabs(s[0][2]) + std::fabs(s[1][2]);
    if (!(off > 1e-17 * (s[0][0] + s[1][1] + s[2][2]))) break;
    for (int p = 0; p < 2; p++)
      for (int q = p + 1; q < 3; q++) {
        if (s[p][q] == 0) continue;
        const double theta = (s[q][q] - s[p][p]) / (2 * s[p][q]);
        const double t = (theta >= 0 ? 1.0 : -1.0) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), n = t * c;
        for (int k = 0; k < 3; k++) {
          const double a = s[k][p], b = s[k][q];
          s[k][p] = c * a - n * b;
          s[k][q] = n * a + c * b;
        }
        for (int k = 0; k < 3; k++) {
          const double a = s[p][k], b = s[q][k];
          s[p][k] = c * a - n * b;
          s[q][k] = n * a + c * b;
        }
      }
  }
  return std::sqrt(std::max(0.0, std::min({s[0][0], s[1][1], s[2][2]})));
}

}  // namespace mlmd
