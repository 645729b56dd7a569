"""The compiled count of pairs: how many atoms of each species are at each distance from those of each other."""

from __future__ import annotations

import numpy as np

from mlmd.errors import SimulationError
from mlmd.kernels.native import required
from mlmd.kernels.status import check, new_message
from mlmd.kernels.system import System

MOST_THREADS = 0
"""All that OpenMP would take."""


class PairCounts:
    """Histograms of the distances between atoms of one system, in one frame after another; no pairs are kept."""

    def __init__(
        self, species: np.ndarray, n_species: int, pbc: np.ndarray, r_max: float, n_bins: int,
        wanted: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Take species (n_atoms,) as indices, pbc (3,), and r_max in Å, that is divided into bins.

        `wanted` is (n_species, n_species) bool, symmetric: the pairs that are counted, by default all.

        Raises:
            MlmdError: when there is no compiled library.
            MemoryError: when a species or r_max is not possible.
        """
        self._native = required()
        self._shape = n_species, n_species, n_bins
        self._system = System(self._native, species, n_species, np.broadcast_to(pbc, 3), r_max, 0.0)
        self._wanted = None if wanted is None else np.ascontiguousarray(wanted, dtype=np.int32)

    def __call__(self, positions: np.ndarray, cell: np.ndarray, n_threads: int = MOST_THREADS) -> np.ndarray:
        """Ordered pairs (centre, neighbour) closer than r_max, (n_species, n_species, n_bins) int64.

        An atom's own images are counted, and all images of the others. A distance on the border of two bins, within
        1e-9 of a bin, is in the one beyond. The counts do not depend on the number of threads.

        Args:
            positions: (n_atoms, 3) Å, anywhere.
            cell: (3, 3) Å; vectors of directions that are not periodic are not looked at.
            n_threads: of OpenMP.

        Raises:
            SimulationError: when a position is not finite, the cell has no volume, or has too many images.
            MemoryError: when there are more images than memory.
        """
        where, vectors = (np.ascontiguousarray(one, dtype=np.float64) for one in (positions, cell))
        if where.shape != (self._system.n_atoms, 3) or vectors.shape != (3, 3):
            raise ValueError(f"positions {where.shape} and cell {vectors.shape} of {self._system.n_atoms} atoms")
        once = np.empty(self._shape, dtype=np.int64)
        status = self._native.mlmd_pair_counts(
            self._system.handle, where.ctypes.data, vectors.ctypes.data, n_threads, self._shape[2],
            None if self._wanted is None else self._wanted.ctypes.data, once.ctypes.data,
        )  # fmt: skip
        check(status, new_message(), _refused)
        return once + once.transpose(1, 0, 2)


def _refused() -> SimulationError:
    return SimulationError("a position is not finite, or the cell has no volume along its periodic directions.")
