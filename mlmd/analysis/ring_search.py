"""Primitive rings of a network of bonds: closed paths that have no short cut.

A ring of n atoms r_0 ... r_(n-1) is primitive, a shortest-path ring, when no two of its atoms are fewer bonds apart in
the network than along the ring. It is enough that atoms opposite to each other are not: with d = ⌊n/2⌋,

    dist(r_i, r_(i+d)) = d  for all i,

since a short cut between any two of its atoms would also be one between one of these and the atom opposite to it
(Franzblau, Phys. Rev. B 44, 4925 (1991); Yuan and Cormack, Comput. Mater. Sci. 24, 343 (2002)).

The network is infinite where the cell repeats: its nodes are images, (atom, cell), so that a path that leaves a small
cell and comes back to another image of its first atom is no ring, however few atoms the cell has. Rings are walked from
the atom that has the lowest number among their atoms, d bonds away from it and then back, and a step is taken only
where it leads to an atom at the right distance from the first and from those opposite; all walks of many atoms take
their steps together. Shortest distances come from a breadth-first search. One ring is walked in both directions, and
from each image of its first atom that is on it, and counts that much less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_WALKS = 200_000
"""Atoms walk together until there are about so many walks: 50 MB with rings of 24."""


@dataclass(frozen=True)
class Network:
    """Bonds between atoms and images of atoms, both directions of each, sorted by the first atom."""

    n_atoms: int
    i: np.ndarray
    """(n_bonds,)."""
    j: np.ndarray
    """(n_bonds,)."""
    shifts: np.ndarray
    """(n_bonds, 3) cell vectors crossed from i to j, integers."""


@dataclass(frozen=True)
class Rings:
    """Rings of n atoms each, every one as often as its weights add up to one."""

    atoms: np.ndarray
    """(n_found, n) in their order along the ring."""
    weights: np.ndarray
    """(n_found,)."""


def primitive_rings(network: Network, largest: int) -> dict[int, Rings]:
    """All primitive rings of 3 to `largest` atoms, by their number of atoms; of what repeats, those of one cell.

    Args:
        network: bonds between atoms, no two of which have the same ends and shifts.
        largest: atoms of a ring.
    """
    found: dict[int, list[Rings]] = {n: [] for n in range(3, largest + 1)}
    search = _Search(network, largest // 2)
    for starts in search.together():
        for n, rings in search.rings_from(starts, largest):
            found[n].append(rings)
    return {
        n: Rings(
            np.concatenate([one.atoms for one in parts] or [np.zeros((0, n), dtype=np.int64)]),
            np.concatenate([one.weights for one in parts] or [np.zeros(0)]),
        )
        for n, parts in found.items()
    }


class _Search:
    """Walks on a network, with the distances of all its atoms up to a number of bonds.

    A cell (x, y, z) is the integer (x b + y) b + z; these add up like the cells as long as no component reaches b/2.
    """

    def __init__(self, network: Network, reach: int) -> None:
        self.n_atoms = network.n_atoms
        self._j = network.j
        width = 4 * max(1, reach) * int(np.abs(network.shifts).max(initial=0)) + 3
        self._cells = (network.shifts[:, 0] * width + network.shifts[:, 1]) * width + network.shifts[:, 2]
        self._span = width**3
        self._first = np.searchsorted(network.i, np.arange(network.n_atoms + 1))
        self._degree = np.diff(self._first)
        self._shells = self._distances(reach)

    def together(self) -> list[np.ndarray]:
        """Atoms (n,) that walk at a time, in parts of the network."""
        growth = np.array([1.0])
        for _ in self._shells[1:]:
            growth = growth * max(1.0, float(self._degree.mean()) - 1.0)
        n_parts = min(max(1, self.n_atoms), int(np.ceil(self.n_atoms * growth[0] / _WALKS)))
        # numbers low and high in every part, since low ones have more walks
        return [np.arange(part, self.n_atoms, n_parts) for part in range(n_parts)]

    def rings_from(self, starts: np.ndarray, largest: int) -> list[tuple[int, Rings]]:
        """Rings of which these atoms (n_starts,) have the lowest number, in both directions, by number of atoms."""
        atoms, cells = starts[:, None], np.zeros((len(starts), 1), dtype=np.int64)
        found = []
        for half in range(1, largest // 2 + 1):
            atoms, cells = self._step(atoms, cells)
            away = self._apart(atoms, cells, 0, half)
            atoms, cells = atoms[away], cells[away]
            for n in (2 * half, 2 * half + 1):
                if 3 <= n <= largest:
                    found.append((n, self._back(atoms, cells, n)))
        return found

    def _back(self, atoms: np.ndarray, cells: np.ndarray, n: int) -> Rings:
        """Walks (n_walks, n // 2 + 1) that have gone half of the way, closed where that makes a primitive ring."""
        half = n // 2
        for at in range(half + 1, n):
            atoms, cells = self._step(atoms, cells)
            good = self._apart(atoms, cells, 0, n - at)
            atoms, cells = atoms[good], cells[good]
            for opposite in {at - half, at - (n - half)} - {0}:
                good = self._apart(atoms, cells, opposite, half)
                atoms, cells = atoms[good], cells[good]
        images = (atoms == atoms[:, :1]).sum(axis=1)
        return Rings(atoms, 0.5 / images)

    def _step(self, atoms: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Walks that are longer by one of the bonds of their last atom, to no atom with a number below the first's."""
        which, bonds = self._bonds_of(atoms[:, -1])
        allowed = self._j[bonds] >= atoms[which, 0]
        which, bonds = which[allowed], bonds[allowed]
        return (
            np.concatenate([atoms[which], self._j[bonds][:, None]], axis=1),
            np.concatenate([cells[which], (cells[which, -1] + self._cells[bonds])[:, None]], axis=1),
        )

    def _bonds_of(self, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of all bonds of atoms (n,), and to which of these each belongs."""
        degree = self._degree[atoms]
        which = np.repeat(np.arange(len(atoms)), degree)
        within = np.arange(len(which)) - np.repeat(np.cumsum(degree) - degree, degree)
        return which, self._first[atoms[which]] + within

    def _apart(self, atoms: np.ndarray, cells: np.ndarray, place: int, distance: int) -> np.ndarray:
        """Whether the last atoms of walks are at a distance in bonds from those at a place, (n_walks,)."""
        keys = self._key(atoms[:, place], atoms[:, -1], cells[:, -1] - cells[:, place])
        return _is_in(keys, self._shells[distance])

    def _key(self, i: np.ndarray, j: np.ndarray, cells: np.ndarray) -> np.ndarray:
        key: np.ndarray = (i * self.n_atoms + j) * self._span + cells + self._span // 2
        return key

    def _distances(self, reach: int) -> list[np.ndarray]:
        """Keys of all pairs of an atom and an image that are 0, 1, ... bonds apart, sorted, by breadth-first search."""
        i = np.arange(self.n_atoms)
        j, cells = i, np.zeros(self.n_atoms, dtype=np.int64)
        shells = [self._key(i, j, cells)]
        for _ in range(reach):
            which, bonds = self._bonds_of(j)
            keys = np.unique(self._key(i[which], self._j[bonds], cells[which] + self._cells[bonds]))
            for shell in shells[-2:]:  # a neighbour of a shell is in it, in the one before or in the one after
                keys = keys[~_is_in(keys, shell)]
            shells.append(keys)
            pairs, cells = np.divmod(keys, self._span)
            i, j = np.divmod(pairs, max(1, self.n_atoms))
            cells = cells - self._span // 2
        return shells


def _is_in(keys: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Whether each key (n,) is in a sorted table."""
    if not len(table):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    found: np.ndarray = table[place] == keys
    return found
