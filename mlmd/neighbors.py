"""Pairs of atoms closer than a cutoff, and a list of them that stays valid for many steps.

Pairs are searched by the compiled kernels, and by vesin where nothing is compiled. They come out in one canonical
order (centre, neighbour, cell vectors crossed), so that sums over them are the same whichever of the two searched,
whatever the number of threads and however often the list was built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import vesin
from ase.geometry import complete_cell
from torch import Tensor

from mlmd.errors import InputError, SimulationError
from mlmd.graph import Graph
from mlmd.kernels import library
from mlmd.kernels.pairs import Neighbours

if TYPE_CHECKING:
    from ase import Atoms

# Searches and we round differently: search a little further than needed, then keep by our own distances.
_MARGIN = 1e-9
# A cell whose vectors of unit length span less than this has no volume.
_FLAT = 1e-6


def find_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
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

    Returns:
        pairs (2, n_pairs) int64 and shifts (n_pairs, 3) int64, sorted by i, then j, then s.

    Raises:
        InputError: when the periodic cell vectors have no volume, or a position is not finite.
        SimulationError: when an atom is absurdly far away.
    """
    if cutoff <= 0 or len(positions) == 0:
        return np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    if not np.isfinite(positions).all():
        raise InputError(f"{_first_not_finite(positions)} is not finite.")
    periodic = np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    box = _spanning(cell, periodic)
    return (_found_by_vesin if library() is None else _found_by_kernels)(positions, box, periodic, cutoff + _MARGIN)


def _found_by_kernels(
    positions: np.ndarray, box: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `find_pairs`, in a cell with a volume."""
    near = Neighbours(np.zeros(len(positions), dtype=np.int32), pbc, cutoff)
    n_threads = torch.get_num_threads()
    near.search(positions, box, n_threads)
    return near.pairs(n_threads=n_threads)


def _found_by_vesin(
    positions: np.ndarray, box: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """As `find_pairs`, in a cell with a volume."""
    search = vesin.NeighborList(cutoff=cutoff, full_list=True)
    pairs, shifts = search.compute(points=positions, box=box, periodic=pbc, quantities="PS")
    pairs, shifts = pairs.astype(np.int64).T, shifts.astype(np.int64)
    order = _canonical_order(pairs, shifts, len(positions))
    return np.ascontiguousarray(pairs[:, order]), shifts[order]


def _spanning(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The periodic cell vectors, completed by unit vectors at right angles to them."""
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
    # torch sorts nearly ordered integers several times faster than numpy
    return torch.argsort(torch.from_numpy(key), stable=True).numpy()


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
        raise InputError(f"{structure.get_chemical_formula()}: {_first_not_finite(positions)} is not finite.")
    cell, pbc = np.array(structure.cell.array, dtype=np.float64), np.array(structure.pbc, dtype=bool)
    _spanning(cell, pbc)
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


def _first_not_finite(positions: np.ndarray) -> str:
    atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
    return f"the position {positions[atom].tolist()} of atom {atom}"


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
        if not self._slack(positions, cell) > _MARGIN:  # also when the slack is nan
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
            deformation = np.linalg.solve(_spanning(old_cell, self._pbc), _spanning(cell, self._pbc))
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
            raise SimulationError(f"{_first_not_finite(positions)} is not finite. Try a smaller timestep.")
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
