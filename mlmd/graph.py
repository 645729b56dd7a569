"""The only thing a potential sees: atoms, and the pairs of them closer than a cutoff."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))
"""Rows and columns of the six components of a symmetric tensor: xx yy zz yz xz xy."""


@dataclass(frozen=True)
class Graph:
    """One or more structures with the pairs of atoms closer than a cutoff.

    Pairs may be listed beyond the cutoff of a potential (a sum of potentials does); every potential is
    exactly zero there. The order of pairs is the order of the sums, and so part of what an exact restart
    repeats.
    """

    numbers: Tensor
    """(n_atoms,) atomic numbers, int64."""
    positions: Tensor
    """(n_atoms, 3) Å, float64."""
    cells: Tensor
    """(n_structures, 3, 3) Å, rows are vectors, float64."""
    pbc: Tensor
    """(n_structures, 3) bool."""
    pairs: Tensor
    """(2, n_pairs) rows i (centre, ascending) and j (neighbour), int64; both directions of every pair."""
    shifts: Tensor
    """(n_pairs, 3) cell vectors crossed from i to j, integers as float64."""
    vectors: Tensor
    """(n_pairs, 3) Å, positions[j] + shifts @ cell - positions[i], float64."""
    owner: Tensor
    """(n_atoms,) index of the structure an atom belongs to, int64."""
    volumes: Tensor
    """(n_structures,) Å³, nan without full periodicity."""
    charges: Tensor | None = None
    """(n_atoms,) e, or None."""
    moments: Tensor | None = None
    """(n_atoms,) Bohr magnetons, or None."""
    frame_parameters: Tensor | None = None
    """(n_structures, k), or None."""
    atom_parameters: Tensor | None = None
    """(n_atoms, k), or None."""

    @property
    def n_atoms(self) -> int:
        """Atoms in all structures together."""
        return self.numbers.shape[0]

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return self.cells.shape[0]

    @property
    def distances(self) -> Tensor:
        """(n_pairs,) Å."""
        return torch.linalg.vector_norm(self.vectors, dim=1)

    def with_vectors(self, vectors: Tensor) -> Graph:
        """The same pairs with other vectors, e.g. a leaf of a derivative."""
        return replace(self, vectors=vectors)

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on another device."""
        tensors = {one.name: value.to(device) for one in fields(self) if (value := getattr(self, one.name)) is not None}
        return replace(self, **tensors)
