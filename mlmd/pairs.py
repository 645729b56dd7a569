"""Pairs of atoms closer than a cutoff, in any cell.

Pairs are searched by the compiled kernels, and by vesin where nothing is compiled. They come out in one canonical
order (centre, neighbour, cell vectors crossed), the same whichever of the two searched.
"""

from __future__ import annotations

import numpy as np

from mlmd.errors import InputError
from mlmd.kernels import library
from mlmd.kernels.pairs import Neighbours

MARGIN = 1e-9
"""Å. Searches and we round differently: search a little further than needed, then keep by our own distances."""
# A cell whose vectors of unit length span less than this has no volume.
_FLAT = 1e-6


def find_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float, n_threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs (i, j, s) with |positions[j] + s @ cell - positions[i]| up to the cutoff.

    An atom is its own neighbour through the boundary when the cell is smaller than the cutoff. Positions may
    lie outside the cell; vectors of directions without periodicity are not looked at and may be zero. Pairs
    beyond the cutoff by less than 1e-9 Å may be listed too.

    Args:
        positions: (n_atoms, 3) Å, finite.
        cell: (3, 3) Å, rows are vectors.
        pbc: (3,) bool.
        cutoff: Å.
        n_threads: of the compiled search; what is found does not depend on them.

    Returns:
        pairs (2, n_pairs) int64 and shifts (n_pairs, 3) int64, sorted by i, then j, then s.

    Raises:
        InputError: when the periodic cell vectors have no volume, or a position is not finite.
        SimulationError: when an atom is absurdly far away.
    """
    if cutoff <= 0 or len(positions) == 0:
        return np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    if not np.isfinite(positions).all():
        raise InputError(f"{first_not_finite(positions)} is not finite.")
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    box = spanning(cell, periodic)
    if library() is None:
        return _found_by_vesin(positions, box, periodic, cutoff + MARGIN)
    near = Neighbours(np.zeros(len(positions), dtype=np.int32), periodic, cutoff + MARGIN)
    near.search(positions, box, n_threads)
    return near.pairs(n_threads=n_threads)


def _found_by_vesin(
    positions: np.ndarray, box: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `find_pairs`, in a cell with a volume."""
    import vesin  # imports torch, which takes seconds

    search = vesin.NeighborList(cutoff=cutoff, full_list=True)
    pairs, shifts = search.compute(points=positions, box=box, periodic=pbc, quantities="PS")
    pairs, shifts = pairs.astype(np.int64).T, shifts.astype(np.int64)
    order = _canonical_order(pairs, shifts, len(positions))
    return np.ascontiguousarray(pairs[:, order]), shifts[order]


def spanning(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The periodic cell vectors (3, 3), completed by unit vectors at right angles to them.

    Raises:
        InputError: when they have no volume.
    """
    from ase.geometry import complete_cell

    periodic = np.where(pbc[:, None], np.asarray(cell, dtype=np.float64), 0.0)
    lengths = np.linalg.norm(periodic, axis=1)
    if (lengths[pbc] > 0).all():
        complete = np.asarray(complete_cell(periodic), dtype=np.float64)
        if abs(np.linalg.det(complete / np.linalg.norm(complete, axis=1)[:, None])) > _FLAT:
            return complete
    raise InputError(
        f"the cell has no volume: its periodic vectors are {periodic[pbc].tolist()} Å. "
        "Give independent vectors, or set pbc to false along the directions without one."
    )


def _canonical_order(pairs: np.ndarray, shifts: np.ndarray, n_atoms: int) -> np.ndarray:
    """Permutation that sorts pairs by centre, neighbour and shifts: one integer key where it fits 63 bits."""
    if pairs.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    low = shifts.min(axis=0)
    span = (shifts.max(axis=0) - low + 1).tolist()
    if n_atoms * n_atoms * span[0] * span[1] * span[2] >= 2**63:
        return np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], pairs[1], pairs[0]))
    key = pairs[0] * n_atoms + pairs[1]
    for axis in range(3):
        key = key * span[axis] + (shifts[:, axis] - low[axis])
    import torch

    # torch sorts nearly ordered integers several times faster than numpy
    return torch.argsort(torch.from_numpy(key), stable=True).numpy()


def first_not_finite(positions: np.ndarray) -> str:
    """Words about the first of positions (n_atoms, 3) that is not finite."""
    atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
    return f"the position {positions[atom].tolist()} of atom {atom}"
