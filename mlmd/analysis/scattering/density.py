"""Fourier components of a density at points of the reciprocal lattice: ρ(q) = Σ_j w_j exp(i q · r_j).

At the points q = h b₁ + k b₂ + l b₃ the phase of atom j with fractional coordinates s_j is a product of three,
exp(2πi h s₁) exp(2πi k s₂) exp(2πi l s₃), each of them a power of the first. A plane of points of one h is then a
product of two matrices, (products of h and k) × (powers of l); with cosines and sines apart the points ±k, ±l share
their terms, and two real multiplications a point and atom are left, and no cosine. Where few points of a plane are
asked for they are summed one by one, from the same powers.
"""

from __future__ import annotations

import numpy as np

CHUNK_BYTES = 2**18
"""Of the powers of as many atoms as are worked on at once, which should stay in the processor's cache."""
MIN_CHUNK = 128
"""Atoms that are worked on at once at least, so that there is something to do in a call."""
_ONE_BY_ONE = 20.0
"""How many times the cost of a point of a plane the cost of a single point is."""


class _Plane:
    """The points of one h, and the sums over atoms that they are made of."""

    def __init__(self, h: int, where: np.ndarray, k: np.ndarray, ell: np.ndarray) -> None:
        self.h, self.where, self.k, self.ell = h, where, k, ell
        self.n_k, self.n_l = int(np.abs(k).max()) + 1, int(np.abs(ell).max()) + 1
        # whether a product of matrices costs less than the points one by one
        self.whole = 4 * self.n_k * self.n_l < _ONE_BY_ONE * len(where)
        self.sums = self.empty()

    def empty(self) -> np.ndarray:
        """Zeros for (cos, sin of h × cos, sin of k × n_k, cos, sin of l × n_l), or for (n_points,)."""
        return np.zeros((4 * self.n_k, 2 * self.n_l)) if self.whole else np.zeros(len(self.where), dtype=complex)

    def add(self, first: np.ndarray, powers: list[np.ndarray], split: list[np.ndarray]) -> None:
        """Some atoms more.

        Args:
            first: (n_atoms,) the power of h, times weights.
            powers: of the three axes, (n, n_atoms) complex.
            split: (2, n, n_atoms) real and imaginary parts of those of k and l.
        """
        if self.whole:
            parts = np.stack([first.real, first.imag])
            left = (parts[:, None, None] * split[0][:, : self.n_k]).reshape(4 * self.n_k, -1)
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
        of_h = sums.reshape(2, 2, self.n_k, 2, self.n_l)
        total = of_h[0] + 1j * of_h[1]
        k, ell, k_sign, l_sign = np.abs(self.k), np.abs(self.ell), np.sign(self.k), np.sign(self.ell)
        return np.asarray(
            total[0, k, 0, ell]
            + 1j * (k_sign * total[1, k, 0, ell] + l_sign * total[0, k, 1, ell])
            - k_sign * l_sign * total[1, k, 1, ell]
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
        order = np.argsort(folded[:, 0], kind="stable")
        cuts = np.flatnonzero(np.diff(folded[order, 0])) + 1
        self._planes = [
            _Plane(int(folded[where[0], 0]), where, folded[where, 1], folded[where, 2])
            for where in np.split(order, cuts)
            if len(where)
        ]

    def __call__(self, fractional: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """ρ(q) = Σ_j w_j exp(i q · r_j), (n_q,) complex.

        Args:
            fractional: (n_atoms, 3) positions in units of the cell vectors, inside the cell or not.
            weights: (n_atoms,); by default 1.
        """
        size = max(MIN_CHUNK, int(CHUNK_BYTES / (16 * (self._largest.sum() + 3))))
        for start in range(0, len(fractional), size):
            part = slice(start, start + size)
            powers = [_powers(fractional[part, axis], int(self._largest[axis])) for axis in range(3)]
            split = [np.stack([one.real, one.imag]) for one in powers[1:]]
            for plane in self._planes:
                first = powers[0][plane.h]
                plane.add(first if weights is None else first * weights[part], powers, split)
        found = np.zeros(self._n_points, dtype=complex)
        for plane in self._planes:
            found[plane.where] = plane.take()
        found[self._negative] = found[self._negative].conj()
        return found


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
