"""Pairs of atoms as graphs for torch, and a list of them that stays valid for many steps.

They are in one canonical order (centre, neighbour, cell vectors crossed), so that sums over them are the same whoever
searched, whatever the number of threads and however often the list was built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from mlmd import pairs
from mlmd.errors import InputError, SimulationError
from mlmd.graph import Graph
from mlmd.pairs import MARGIN, first_not_finite, spanning

if TYPE_CHECKING:
    from ase import Atoms


def find_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `mlmd.pairs.find_pairs`, by as many threads as torch has."""
    return pairs.find_pairs(positions, cell, pbc, cutoff, torch.get_num_threads())


def volume(cell: np.ndarray, pbc: np.ndarray) -> float:
    """|det cell| in Å³, or nan without full periodicity."""
    return float(abs(np.linalg.det(cell))) if pbc.all() else float("nan")


def geometry(structure: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (n_atoms, 3) Å, cell (3, 3) Å and pbc (3,) bool of a structure, copied.

    Raises:
        InputError: for positions that are not finite, and for a flat periodic cell.
    """
    positions = np.array(structure.positions, dtype=np.float64, order="C")
    if not np.isfinite(positions).all():
        raise InputError(f"{structure.get_chemical_formula()}: {first_not_finite(positions)} is not finite.")
    cell, pbc = np.array(structure.cell.array, dtype=np.float64), np.array(structure.pbc, dtype=bool)
    spanning(cell, pbc)
    return positions, cell, pbc


def build_graph(atoms: Atoms | Sequence[Atoms], cutoff: float, device: torch.device | str = "cpu") -> Graph:
    """The graph of one or several structures, with the pairs closer than the cutoff (Å).

    Raises:
        InputError: for a structure with positions that are not finite or with a flat periodic cell.
    """
    structures = list(atoms) if isinstance(atoms, list | tuple) else [cast("Atoms", atoms)]
    return batch([_graph_of(structure, cutoff, device) for structure in structures])


def batch(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one, structures in the order given; optional fields are dropped."""
    if len(graphs) == 1:
        return graphs[0]
    first_atom = np.cumsum([0] + [graph.n_atoms for graph in graphs])
    first_structure = np.cumsum([0] + [graph.n_structures for graph in graphs])
    return Graph(
        numbers=torch.cat([graph.numbers for graph in graphs]),
        positions=torch.cat([graph.positions for graph in graphs]),
        cells=torch.cat([graph.cells for graph in graphs]),
        pbc=torch.cat([graph.pbc for graph in graphs]),
        pairs=torch.cat([g.pairs + int(first) for g, first in zip(graphs, first_atom, strict=False)], dim=1),
        shifts=torch.cat([graph.shifts for graph in graphs]),
        vectors=torch.cat([graph.vectors for graph in graphs]),
        owner=torch.cat([g.owner + int(first) for g, first in zip(graphs, first_structure, strict=False)]),
        volumes=torch.cat([graph.volumes for graph in graphs]),
    )


def _graph_of(structure: Atoms, cutoff: float, device: torch.device | str) -> Graph:
    """The graph of one structure; see `build_graph`."""
    positions, cell, pbc = geometry(structure)
    found, crossed = find_pairs(positions, cell, pbc, cutoff)
    pairs, shifts = torch.from_numpy(found), torch.from_numpy(crossed.astype(np.float64))
    where, vectors_of_cell = torch.from_numpy(positions), torch.from_numpy(cell)
    vectors, near = _closer(where, pairs, shifts @ vectors_of_cell, cutoff)
    graph = Graph(
        numbers=torch.tensor(structure.numbers, dtype=torch.int64),
        positions=where,
        cells=vectors_of_cell[None],
        pbc=torch.from_numpy(pbc)[None],
        pairs=pairs.index_select(1, near),
        shifts=shifts.index_select(0, near),
        vectors=vectors,
        owner=torch.zeros(len(positions), dtype=torch.int64),
        volumes=torch.tensor([volume(cell, pbc)], dtype=torch.float64),
    )
    return graph.to(device)


def _closer(positions: Tensor, pairs: Tensor, crossings: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Vectors (n, 3) of the pairs closer than the cutoff, and which pairs these are.

    The one place where pair vectors are computed, so that every list of the same pairs gives the same bits.
    """
    vectors = positions.index_select(0, pairs[1])
    vectors.add_(crossings).sub_(positions.index_select(0, pairs[0]))
    near = (torch.linalg.vector_norm(vectors, dim=1) < cutoff).nonzero().squeeze(1)
    return vectors.index_select(0, near), near


def check_skin(skin: object) -> float:
    """A skin in Å.

    Raises:
        InputError: when it is negative, not finite or no number.
    """
    if not (isinstance(skin, int | float | np.floating) and math.isfinite(skin) and skin >= 0):
        raise InputError(f"a skin of {skin} Å is not possible: give a length in Å of zero or more, for example 0.8.")
    return float(skin)


class SkinList:
    """Pairs of one system in motion, searched a skin beyond the cutoff and reused while none is missing.

    Let F be the deformation of the cell since the search, ε = 1 - its smallest singular value, and δ the
    largest displacement of an atom from its deformed old place (relative to the mean). A pair outside the
    list was at r_c + skin or more, so it is now at (1 - ε)(r_c + skin) - 2δ or more: the list is complete
    as long as skin - ε (r_c + skin) ≥ 2δ.

    What `graph` returns holds the pairs within the cutoff in canonical order, and therefore does not depend
    on when the list was searched.
    """

    n_searches: int
    """How often pairs were searched."""

    def __init__(
        self,
        numbers: np.ndarray,
        pbc: np.ndarray,
        cutoff: float,
        skin: float,
        device: torch.device | str = "cpu",
        n_ghosts: int = 0,
    ) -> None:
        """Take atomic numbers (n_atoms,), pbc (3,) bool, cutoff and skin in Å.

        The last `n_ghosts` atoms are neighbours of the others and the centres of no pairs.

        Raises:
            InputError: when the skin is negative or not finite.
        """
        self.cutoff, self.skin, self.device = float(cutoff), check_skin(skin), torch.device(device)
        self.n_searches, self._n_centres = 0, len(numbers) - n_ghosts
        self._pbc = np.array(pbc, dtype=bool)
        self._numbers = torch.tensor(np.asarray(numbers), dtype=torch.int64, device=self.device)
        self._owner = torch.zeros_like(self._numbers)
        self._pbc_tensor = torch.tensor(self._pbc[None], device=self.device)
        self._searched: tuple[np.ndarray, np.ndarray] | None = None
        self._cell: np.ndarray | None = None

    def graph(self, positions: np.ndarray, cell: np.ndarray) -> Graph:
        """The graph at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Raises:
            SimulationError: when a position is not finite.
        """
        if not self._slack(positions, cell) > MARGIN:  # also when the slack is nan
            self._search(positions, cell)
        if self._cell is None or not np.array_equal(cell, self._cell):
            self._set_cell(cell)
        return self._within_cutoff(positions)

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last search (copies); empty before the first."""
        if self._searched is None:
            return {}
        return {"positions": self._searched[0].copy(), "cell": self._searched[1].copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Search again where `state` was searched, which gives the same list."""
        if state:
            self._search(state["positions"], state["cell"])
        else:
            self._searched = None

    def _slack(self, positions: np.ndarray, cell: np.ndarray) -> float:
        """skin - ε (r_c + skin) - 2δ in Å; negative when there is no list yet."""
        if self._searched is None:
            return -1.0
        reference, old_cell = self._searched
        strain = 0.0
        if not np.array_equal(cell, old_cell):
            deformation = np.linalg.solve(spanning(old_cell, self._pbc), spanning(cell, self._pbc))
            strain = 1.0 - float(np.linalg.svd(deformation, compute_uv=False)[-1])
            reference = reference @ deformation
        moved = positions - reference
        moved -= moved.mean(axis=0)
        delta = float(np.sqrt(np.einsum("ij,ij->i", moved, moved).max(initial=0.0)))
        return self.skin - strain * (self.cutoff + self.skin) - 2.0 * delta

    def _search(self, positions: np.ndarray, cell: np.ndarray) -> None:
        positions = np.array(positions, dtype=np.float64, order="C")
        cell = np.array(cell, dtype=np.float64, order="C")
        if not np.isfinite(positions).all():
            raise SimulationError(f"{first_not_finite(positions)} is not finite. Try a smaller timestep.")
        pairs, shifts = find_pairs(positions, cell, self._pbc, self.cutoff + self.skin)
        end = int(np.searchsorted(pairs[0], self._n_centres))  # they are sorted by their centres
        pairs, shifts = np.ascontiguousarray(pairs[:, :end]), shifts[:end]
        self._pairs = torch.from_numpy(pairs).to(self.device)
        self._shifts = torch.from_numpy(shifts.astype(np.float64)).to(self.device)
        self._searched = (positions, cell)
        self._cell = None
        self.n_searches += 1

    def _set_cell(self, cell: np.ndarray) -> None:
        self._cell = np.array(cell, dtype=np.float64, order="C")
        self._cells = torch.from_numpy(self._cell[None]).to(self.device)
        self._crossings = self._shifts @ self._cells[0]
        self._volumes = torch.tensor([volume(self._cell, self._pbc)], dtype=torch.float64, device=self.device)

    def _within_cutoff(self, positions: np.ndarray) -> Graph:
        where = torch.tensor(positions, dtype=torch.float64, device=self.device)
        vectors, near = _closer(where, self._pairs, self._crossings, self.cutoff)
        centre, neighbour = self._pairs
        return Graph(
            numbers=self._numbers,
            positions=where,
            cells=self._cells,
            pbc=self._pbc_tensor,
            pairs=torch.stack([centre.index_select(0, near), neighbour.index_select(0, near)]),
            shifts=self._shifts.index_select(0, near),
            vectors=vectors,
            owner=self._owner,
            volumes=self._volumes,
        )
