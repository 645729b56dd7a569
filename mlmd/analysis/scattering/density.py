"""Fourier components of a density at points of the reciprocal lattice: ρ(q) = Σ_j w_j exp(i q · r_j).

At the points q = h b₁ + k b₂ + l b₃ the phase of atom j with fractional coordinates s_j is a product of three,
exp(2πi h s₁) exp(2πi k s₂) exp(2πi l s₃), each of them a power of the first. Rows of points along l are then a
product of two matrices, (products of h and k) × (powers of l); with cosines and sines apart the points ±k, ±l share
their terms, and two real multiplications a point and atom are left, and no cosine. Where few points of a row are
asked for they are summed one by one, from the same powers.
"""

from __future__ import annotations

import numpy as np

N_ATOMS = 640
"""Atoms that are worked on at once: many enough for a call of BLAS, few enough for the processor's cache."""
_ONE_BY_ONE = 20.0
"""How many times the cost of a point of a product of matrices the cost of a single point is."""
_SHORT = 8
"""|l| up to which rows of points are not told apart by their lengths; beyond, those of twice the length are."""


class _Rows:
    """Points of one h and some |k|, and the sums over atoms that they are made of."""

    def __init__(self, h: int, where: np.ndarray, k: np.ndarray, ell: np.ndarray) -> None:
        self.h, self.where, self.k, self.ell = h, where, k, ell
        self.of_k, self.row = np.unique(np.abs(k), return_inverse=True)
        gapless = self.of_k[-1] - self.of_k[0] == len(self.of_k) - 1
        self.taken = slice(self.of_k[0], self.of_k[-1] + 1) if gapless else self.of_k  # a slice needs no copy
        self.n_l = int(np.abs(ell).max()) + 1
        # whether a product of matrices costs less than the points one by one
        self.whole = 4 * len(self.of_k) * self.n_l < _ONE_BY_ONE * len(where)
        self.sums = self.empty()

    def empty(self) -> np.ndarray:
        """Zeros for (cos, sin of h × cos, sin of k × rows, cos, sin of l × n_l), or for (n_points,)."""
        if self.whole:
            return np.zeros((4 * len(self.of_k), 2 * self.n_l))
        return np.zeros(len(self.where), dtype=complex)

    def add(self, first: np.ndarray, powers: list[np.ndarray], split: list[np.ndarray]) -> None:
        """Some atoms more.

        Args:
            first: (n_atoms,) the power of h, times weights.
            powers: of the three axes, (n, n_atoms) complex.
            split: (2, n, n_atoms) real and imaginary parts of those of k and l.
        """
        if self.whole:
            parts = np.stack([first.real, first.imag])
            left = (parts[:, None, None] * split[0][:, self.taken]).reshape(4 * len(self.of_k), -1)
            self.sums += left @ split[1][:, : self.n_l].reshape(2 * self.n_l, -1).T
            return
        for number, (k, ell) in enumerate(zip(self.k.tolist(), self.ell.tolist(), strict=True)):
            second = powers[1][k] if k >= 0 else powers[1][-k].conj()
            third = powers[2][ell] if ell >= 0 else powers[2][-ell].conj()
            self.sums[number] += (first * second) @ third

    def take(self) -> np.ndarray:
        """ρ at the points, (n_points,) complex; the sums begin again at zero."""
        sums, self.sums = self.sums, self.empty()
        if not self.whole:
            return sums
        of_h = sums.reshape(2, 2, len(self.of_k), 2, self.n_l)
        total = of_h[0] + 1j * of_h[1]
        row, ell, k_sign, l_sign = self.row, np.abs(self.ell), np.sign(self.k), np.sign(self.ell)
        return np.asarray(
            total[0, row, 0, ell]
            + 1j * (k_sign * total[1, row, 0, ell] + l_sign * total[0, row, 1, ell])
            - k_sign * l_sign * total[1, row, 1, ell]
        )


class Density:
    """ρ(q) of one set of atoms after another at the same points.

    Args:
        indices: (n_q, 3) integers h, k, l.
    """

    def __init__(self, indices: np.ndarray) -> None:
        self._n_points = len(indices)
        self._largest = np.abs(indices).max(axis=0, initial=0)
        self._negative = indices[:, 0] < 0
        folded = np.where(self._negative[:, None], -indices, indices)  # ρ(-q) is the complex conjugate of ρ(q)
        self._rows = [
            _Rows(int(folded[where[0], 0]), where, folded[where, 1], folded[where, 2]) for where in _groups(folded)
        ]

    def __call__(self, fractional: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """ρ(q) = Σ_j w_j exp(i q · r_j), (n_q,) complex.

        Args:
            fractional: (n_atoms, 3) positions in units of the cell vectors, inside the cell or not.
            weights: (n_atoms,); by default 1.
        """
        for start in range(0, len(fractional), N_ATOMS):
            part = slice(start, start + N_ATOMS)
            powers = [_powers(fractional[part, axis], int(self._largest[axis])) for axis in range(3)]
            split = [np.stack([one.real, one.imag]) for one in powers[1:]]
            for rows in self._rows:
                first = powers[0][rows.h]
                rows.add(first if weights is None else first * weights[part], powers, split)
        found = np.zeros(self._n_points, dtype=complex)
        for rows in self._rows:
            found[rows.where] = rows.take()
        found[self._negative] = found[self._negative].conj()
        return found


def _groups(indices: np.ndarray) -> list[np.ndarray]:
    """Places of the points with the same h, and with |k| that reach about as far in l."""
    if not len(indices):
        return []
    h, k, ell = indices[:, 0], np.abs(indices[:, 1]), np.abs(indices[:, 2])
    lines, line = np.unique(h * (k.max() + 1) + k, return_inverse=True)
    reach = np.zeros(len(lines), dtype=int)
    np.maximum.at(reach, line, ell)
    classes = np.ceil(np.log2(np.maximum(reach, _SHORT) / _SHORT)).astype(int)
    key = h * (classes.max() + 1) + classes[line]
    order = np.argsort(key, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(key[order])) + 1)


def _powers(fractional: np.ndarray, largest: int) -> np.ndarray:
    """exp(2πi n s) for n = 0 ... largest, (largest + 1, n_atoms), each stretch of the list from the one before.

    Rounding grows as n: to 1e-14 at n = 100.
    """
    angle = 2.0 * np.pi * (fractional - np.rint(fractional))
    powers = np.ones((largest + 1, len(fractional)), dtype=complex)
    if largest:
        powers[1].real, powers[1].imag = np.cos(angle), np.sin(angle)
    done = 2
    while done <= largest:
        more = min(done - 1, largest + 1 - done)
        np.multiply(powers[1 : more + 1], powers[done - 1], out=powers[done : done + more])
        done += more
    return powers
