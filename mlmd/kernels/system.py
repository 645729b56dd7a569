"""Atoms and their neighbours in the compiled library."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np


class System:
    """A handle of the library's system, given back with the object."""

    def __init__(
        self, native: Any, species: np.ndarray, n_species: int, pbc: np.ndarray, cutoff: float, skin: float,
        n_ghosts: int = 0,
    ) -> None:  # fmt: skip
        """Take the library, species (n_atoms,), how many there may be, pbc (3,), cutoff and skin in Å.

        The last `n_ghosts` atoms are neighbours of the others and no centres, where no direction is periodic.

        Raises:
            MemoryError: when the library refuses: no memory, or a species or a length that is not possible.
        """
        kinds, periodic = np.ascontiguousarray(species, dtype=np.int32), np.ascontiguousarray(pbc, dtype=np.int32)
        self._native, self.n_atoms = native, len(kinds)
        self.n_centres = self.n_atoms - n_ghosts
        handle = native.mlmd_system_with_ghosts(
            self.n_atoms, n_ghosts, kinds.ctypes.data, n_species, periodic.ctypes.data, cutoff, skin
        )
        if not handle:
            raise MemoryError("not enough memory for the system")
        self.handle = ctypes.c_void_p(handle)
        weakref.finalize(self, native.mlmd_system_free, self.handle)

    def searched(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last search of neighbours (copies); empty before the first."""
        positions, cell = np.empty((self.n_atoms, 3)), np.empty((3, 3))
        if not self._native.mlmd_system_searched(self.handle, positions.ctypes.data, cell.ctypes.data):
            return {}
        return {"positions": positions, "cell": cell}

    def search(self, positions: np.ndarray, cell: np.ndarray, n_threads: int) -> int:
        """Search at positions (n_atoms, 3) and cell (3, 3), contiguous, in Å; the library's status."""
        status: int = self._native.mlmd_system_search(self.handle, positions.ctypes.data, cell.ctypes.data, n_threads)
        return status
