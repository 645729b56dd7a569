"""Who surrounds an atom: pairs as vectors, coordination, and the nearest neighbours in the order of their distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlmd.pairs import find_pairs


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of atoms closer than a cutoff, those of an atom together."""

    n_atoms: int
    centres: np.ndarray
    """(n_pairs,) i."""
    neighbours: np.ndarray
    """(n_pairs,) j."""
    vectors: np.ndarray
    """(n_pairs, 3) Å, from i to j."""
    distances: np.ndarray
    """(n_pairs,) Å."""

    def within(self, cutoff: float | np.ndarray) -> Pairs:
        """Those closer than a smaller cutoff, Å, or each than its own (n_pairs,)."""
        near = self.distances < cutoff
        return Pairs(self.n_atoms, self.centres[near], self.neighbours[near], self.vectors[near], self.distances[near])

    @property
    def coordination(self) -> np.ndarray:
        """(n_atoms,) neighbours of each."""
        return np.bincount(self.centres, minlength=self.n_atoms)

    def sum_of_directions(self) -> np.ndarray:
        """(n_atoms, 3) Σ_j r̂_ij, which is zero in a crystal and points away from a surface."""
        units = self.vectors / self.distances[:, None]
        return np.stack([np.bincount(self.centres, axis, self.n_atoms) for axis in units.T], axis=1)

    def nearest(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The n nearest neighbours of each atom, nearest first.

        Returns:
            vectors (n_atoms, n, 3) and distances (n_atoms, n) in Å, the latter infinite where there are fewer.
        """
        order = np.lexsort((self.distances, self.centres))
        centres = self.centres[order]
        first = np.concatenate([[0], np.cumsum(self.coordination)])
        rank = np.arange(len(order)) - first[centres]
        few = rank < n
        vectors, distances = np.zeros((self.n_atoms, n, 3)), np.full((self.n_atoms, n), np.inf)
        vectors[centres[few], rank[few]] = self.vectors[order][few]
        distances[centres[few], rank[few]] = self.distances[order][few]
        return vectors, distances


def pairs_within(cutoff: float, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> Pairs:
    """All pairs closer than a cutoff in Å; positions (n_atoms, 3) Å may lie outside the cell (3, 3) Å."""
    (i, j), shifts = find_pairs(positions, cell, pbc, cutoff)
    vectors = positions[j] - positions[i] + shifts @ np.where(np.asarray(pbc)[:, None], cell, 0.0)
    return Pairs(len(positions), i, j, vectors, np.linalg.norm(vectors, axis=1)).within(cutoff)


def bond_length(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> float:
    """The distance of nearest neighbours that is typical of a structure, Å: the median over atoms of the mean of
    their six nearest; infinite where most have fewer within 12 Å.
    """
    for cutoff in (3.0, 4.5, 6.5, 9.0, 12.0):
        _, distances = pairs_within(cutoff, positions, cell, pbc).nearest(6)
        typical = float(np.median(distances.mean(axis=1)))
        if np.isfinite(typical):
            return typical
    return np.inf
