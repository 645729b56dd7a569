"""The compiled search for pairs: neighbours of atoms as kernels see them, and as lists of pairs.

`mlmd.pairs.find_pairs` is what finds the pairs of a structure, by this or by vesin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlmd.errors import InputError, SimulationError
from mlmd.kernels.native import required
from mlmd.kernels.status import check, new_message
from mlmd.kernels.system import System


@dataclass(frozen=True)
class Rows:
    """Neighbours in the order of kernels: atoms sorted by species and place in slots, then images of atoms."""

    atoms: np.ndarray
    """(n_slots,) int32, the atom of a slot, or -1."""
    ends: np.ndarray
    """(n_slots, n_species) int32, where the neighbours of a species end in the row of a slot."""
    matrix: np.ndarray
    """(n_slots, capacity) int32, slots of neighbours within cutoff and skin, then -1."""
    coordinates: np.ndarray
    """(n_slots + n_images, 3) Å."""


class Neighbours:
    """Pairs of one system in motion, searched a skin beyond the cutoff and reused while none is missing."""

    def __init__(
        self, species: np.ndarray, pbc: np.ndarray, cutoff: float, skin: float = 0.0, n_species: int | None = None
    ) -> None:
        """Take species (n_atoms,) as indices, pbc (3,), cutoff and skin in Å, and how many species there may be.

        Raises:
            InputError: when a species is below zero or too large, or a length is not possible.
            MlmdError: when there is no compiled library.
        """
        self._native = required()
        kinds = _array(species, np.int32)
        self.n_atoms = len(kinds)
        self.n_species = int(kinds.max(initial=0)) + 1 if n_species is None else n_species
        try:
            made = System(self._native, kinds, self.n_species, np.broadcast_to(pbc, 3), cutoff, skin)
        except MemoryError:
            raise InputError(
                f"no list of neighbours for a cutoff of {cutoff} Å, a skin of {skin} Å and species up to "
                f"{kinds.max(initial=0)} of {self.n_species}: give a positive cutoff and no negative skin."
            ) from None
        self._made, self._system = made, made.handle
        self._cutoff = cutoff

    def update(self, positions: np.ndarray, cell: np.ndarray, n_threads: int = 1) -> None:
        """Follow atoms at (n_atoms, 3) Å in a cell (3, 3) Å; search where a pair could be missing.

        Raises:
            SimulationError: when a position is not finite or the cell has no volume.
            MemoryError: when there are more neighbours than memory.
        """
        self._call(self._native.mlmd_system_update, positions, cell, n_threads)

    def search(self, positions: np.ndarray, cell: np.ndarray, n_threads: int = 1) -> None:
        """The same, and search in any case."""
        self._call(self._native.mlmd_system_search, positions, cell, n_threads)

    def pairs(self, cutoff: float | None = None, n_threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (2, n) int64 closer than a cutoff (default: that of the list) and cell vectors crossed (n, 3) int64.

        Sorted by centre, neighbour and cell vectors, and the same whenever the list was searched.
        """
        size = self._cutoff if cutoff is None else cutoff
        n_pairs = self._native.mlmd_system_list(self._system, size, n_threads, 0, None, None, None)
        if n_pairs >= 0:
            pairs, shifts = np.empty((2, n_pairs), dtype=np.int64), np.empty((n_pairs, 3), dtype=np.int64)
            first, second = (row.ctypes.data for row in pairs)
            n_pairs = self._native.mlmd_system_list(
                self._system, size, n_threads, n_pairs, first, second, shifts.ctypes.data
            )
        if n_pairs < 0:
            raise MemoryError("not enough memory for the list of pairs")
        return pairs, shifts

    def rows(self) -> Rows:
        """Copies of what kernels read."""
        n_slots, n_images, capacity, n_species = self._counts()[:4]
        rows = Rows(
            np.empty(n_slots, dtype=np.int32), np.empty((n_slots, n_species), dtype=np.int32),
            np.empty((n_slots, capacity), dtype=np.int32), np.empty((n_slots + n_images, 3)),
        )  # fmt: skip
        arrays = (rows.atoms, rows.ends, rows.matrix, rows.coordinates)
        self._native.mlmd_system_rows(self._system, *(array.ctypes.data for array in arrays))
        return rows

    @property
    def n_searches(self) -> int:
        """How often pairs were searched."""
        return self._counts()[4]

    @property
    def n_bytes(self) -> int:
        """Memory held between searches."""
        return self._counts()[5]

    def _counts(self) -> list[int]:
        counts = np.zeros(6, dtype=np.int64)
        self._native.mlmd_system_counts(self._system, counts.ctypes.data)
        return counts.tolist()

    def _call(self, function: Any, positions: np.ndarray, cell: np.ndarray, n_threads: int) -> None:
        where, vectors = _array(positions, np.float64), _array(cell, np.float64)
        if where.shape != (self.n_atoms, 3) or vectors.shape != (3, 3):
            raise ValueError(f"positions {where.shape} and cell {vectors.shape} are not those of {self.n_atoms} atoms")
        status = function(self._system, where.ctypes.data, vectors.ctypes.data, n_threads)
        check(status, new_message(), _refused)


def _refused() -> SimulationError:
    return SimulationError("a position is not finite, or the cell has no volume along its periodic directions.")


def _array(values: np.ndarray, kind: type) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=kind)
