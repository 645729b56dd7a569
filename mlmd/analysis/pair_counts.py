"""How many pairs of atoms are at each distance, by their kinds: by the kernels, by vesin where there are none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mlmd.errors import InputError
from mlmd.kernels import library
from mlmd.kernels.pair_counts import PairCounts

BORDER = 1e-9
"""Of a bin: distances as near to the border of two, as those of a perfect crystal are, belong to the one beyond."""
_COUNTED, _LISTED = 2e8, 2e7
_CELLS = 4e6
"""As many cells may be within r_max, and their atoms be kept as images: a cell a hundred times smaller."""

Counter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From positions (n_atoms, 3) and cell (3, 3), Å, to ordered pairs (n_kinds, n_kinds, n_bins), integers."""


def check_pairs(n_ways: float, volume: float, r_max: float, where: str) -> None:
    """Make sure that not too many pairs are to be counted: about a second of a frame, and 2 GB of memory.

    Args:
        n_ways: pairs of atoms that there are, images not counted.
        volume: Å³, in which they are.
        r_max: Å.
        where: words about what they are in.

    Raises:
        InputError: with the largest r_max that is possible.
    """
    most = _LISTED if library() is None else min(_COUNTED, _CELLS * n_ways)
    per_volume = n_ways / volume * 4.0 / 3.0 * math.pi
    if per_volume * r_max**3 > most:
        largest = math.floor(10.0 * (most / per_volume) ** (1 / 3)) / 10.0
        raise InputError(
            f"r_max = {r_max:g} Å means about {per_volume * r_max**3:.1e} pairs {where}; at most {most:.0e} are "
            f"counted. Give r_max up to {largest:g} Å (--r-max), or fewer elements."
        )


def bins_of(distances: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which of equal bins from zero distances are in, int64; at or beyond the last edge the number of bins or more."""
    found: np.ndarray = (distances * ((len(edges) - 1) / edges[-1]) + BORDER).astype(np.int64)
    return found


def pair_counter(kinds: np.ndarray, n_kinds: int, edges: np.ndarray, wanted: np.ndarray | None = None) -> Counter:
    """What counts pairs in frames of the same atoms, in a cell that is periodic in all three directions.

    All images of an atom count, its own too, but not the atom itself.

    Args:
        kinds: (n_atoms,) integers below n_kinds.
        n_kinds: of kinds, some perhaps without atoms.
        edges: (n_bins + 1,) Å, equal bins from zero.
        wanted: (n_kinds, n_kinds) bool, symmetric: others may be left at zero; by default all.
    """
    if library() is not None:
        return PairCounts(kinds, n_kinds, np.ones(3), float(edges[-1]), len(edges) - 1, wanted)
    return _counter_by_vesin(kinds, n_kinds, edges)


def _counter_by_vesin(kinds: np.ndarray, n_kinds: int, edges: np.ndarray) -> Counter:
    import vesin

    n_bins = len(edges) - 1
    search = vesin.NeighborList(cutoff=float(edges[-1]), full_list=False)

    def count(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        # Atoms may be many cells away from home; the search is fastest and most exact with all of them inside.
        reduced = positions @ np.linalg.inv(cell)
        inside = (reduced - np.floor(reduced)) @ cell
        i, j, distances = search.compute(inside, cell, periodic=True, quantities="ijd", copy=False)
        bins = bins_of(distances, edges)
        near = bins < n_bins
        index = np.ravel_multi_index((kinds[i[near]], kinds[j[near]], bins[near]), (n_kinds, n_kinds, n_bins))
        half = np.bincount(index, minlength=n_kinds * n_kinds * n_bins).reshape(n_kinds, n_kinds, n_bins)
        return half + half.transpose(1, 0, 2)

    return count
