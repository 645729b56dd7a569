"""A list of neighbours that stays on the device, searched a skin beyond the cutoff, reused while no pair is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mlmd.errors import SimulationError
from mlmd.kernels.gpu.frame import Frame

MARGIN = 1e-9
"""Å searched further, for pairs whose distance is rounded otherwise."""
_MORE = 1.1  # room in rows beyond the longest, since the next search finds other ones
_FLAT = 1e-6  # vectors of unit length that span less have no volume
_FARTHEST = 500  # cells that a neighbour may be away: numbers of ten bits are kept
_BINS_PER_ATOM = 8  # at most; more would be empty


class Program(Protocol):
    """What kernels are in."""

    def launch(self, kernel: str, n_threads: int, frame: Frame) -> None:
        """Start a kernel with at least so many threads."""
        ...


@dataclass(frozen=True)
class Reach:
    """How far neighbours are listed, in Å."""

    cutoff: float
    near_cutoff: float
    """The smaller one, of pairs that get rows of their own; 0 for none."""
    skin: float


class DeviceList:
    """Rows of neighbours of one system, and the buffers that go with them; `frame` is what kernels are given."""

    n_searches: int
    """How often neighbours were searched."""
    version: int
    """Goes up when buffers have moved, so that whatever has kept their addresses must begin again."""

    def __init__(
        self, program: Program, species: np.ndarray, pbc: np.ndarray, reach: Reach, lanes: int, device: torch.device
    ) -> None:
        """Take a program with the kernels of `src/neighbours.cuh`, species (n_atoms,), pbc (3,), and where to be."""
        self.n_atoms, self.device, self.reach, self.lanes = len(species), device, reach, lanes
        self.frame, self._program = Frame(), program
        self._pbc = np.broadcast_to(np.asarray(pbc, dtype=bool), 3).copy()
        self._species = torch.tensor(np.asarray(species), dtype=torch.int32, device=device)
        self.n_searches = self.version = 0
        self.searched: tuple[np.ndarray, np.ndarray] | None = None
        self._cell: np.ndarray | None = None
        frame, n = self.frame, self.n_atoms
        frame.n_atoms, frame.capacity, frame.near_capacity = n, 0, 0
        frame.periodic_x, frame.periodic_y, frame.periodic_z = (int(one) for one in self._pbc)
        frame.reach2 = (reach.cutoff + reach.skin + MARGIN) ** 2
        frame.near_reach2 = (reach.near_cutoff + reach.skin + MARGIN) ** 2 if reach.near_cutoff > 0 else 0.0
        self.results = self._new(3 * n + 11, torch.float64)
        """Forces of all atoms, then energy, virial and the largest square of a displacement."""
        frame.point(
            positions=self._new((n, 3), torch.float64),
            cell=self._new(18, torch.float64),
            order=self._new(n, torch.int32),
            kinds=self._new(n, torch.int32),
            crossings=self._new((n, 3), torch.int32),
            bin=self._new(n, torch.int32),
            slots=self._new((n, 4), torch.float64),
            searched=self._new((n, 3), torch.float64),
            moved=self.results[3 * n + 10 :],
            counts=self._new((n, 2), torch.int32),
            per_atom=self._new((n, 10), torch.float64),
            forces=self.results[: 3 * n],
        )

    @property
    def positions(self) -> Tensor:
        """(n_atoms, 3) Å, where the device reads them."""
        return self.frame.tensors["positions"]

    def set_cell(self, cell: np.ndarray) -> None:
        """Let the cell be (3, 3) Å.

        Raises:
            SimulationError: when it has no volume along its periodic directions.
        """
        if self._cell is not None and np.array_equal(cell, self._cell):
            return
        box = self._complete(cell)
        bent = np.eye(3) if self.searched is None else np.linalg.solve(self._complete(self.searched[1]), box)
        both = np.concatenate([box.ravel(), bent.ravel()])
        self.frame.tensors["cell"].copy_(torch.from_numpy(both))
        self._cell = np.array(cell, dtype=np.float64)

    def limit(self) -> float:
        """Square of the displacement in Å up to which no pair is missing; negative where the list is of no use.

        See `mlmd.neighbors.SkinList` for the deformation of the cell.
        """
        if self.searched is None or self._cell is None:
            return -1.0
        strain = 0.0
        if not np.array_equal(self._cell, self.searched[1]):
            bent = np.linalg.solve(self._complete(self.searched[1]), self._complete(self._cell))
            strain = 1.0 - float(np.linalg.svd(bent, compute_uv=False)[-1])
        slack = 0.5 * (self.reach.skin - max(strain, 0.0) * (self.reach.cutoff + self.reach.skin))
        return slack * slack if slack > 0 else -1.0

    def follow(self) -> None:
        """Take over the positions, and find out how far the farthest atom has moved."""
        self.frame.tensors["moved"].zero_()
        self._program.launch("follow", self.n_atoms, self.frame)

    def search(self) -> None:
        """List the neighbours at the present positions and cell.

        Raises:
            SimulationError: when a position is not finite, or neighbours are hundreds of cells away.
        """
        assert self._cell is not None
        cell = self._cell
        self.searched = None
        self._cell = None
        self.set_cell(cell)  # without a deformation
        if not bool(torch.isfinite(self.positions).all()):
            bad = int((~torch.isfinite(self.positions).all(dim=1)).nonzero()[0])
            where = f"the position {self.positions[bad].tolist()} of atom {bad} is not finite."
            raise SimulationError(f"{where} Try a smaller timestep.")
        self._sort(self._complete(cell))
        self._program.launch("settle", self.n_atoms, self.frame)
        self._fill()
        self.searched = (self.positions.cpu().numpy().copy(), cell.copy())
        self.n_searches += 1

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last search (copies); empty before the first."""
        if self.searched is None:
            return {}
        return {"positions": self.searched[0].copy(), "cell": self.searched[1].copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Search again where `state` was searched, which gives the same list."""
        self.searched = None
        if state:
            self.positions.copy_(torch.from_numpy(np.ascontiguousarray(state["positions"], dtype=np.float64)))
            self.set_cell(np.asarray(state["cell"], dtype=np.float64))
            self.search()

    def _sort(self, box: np.ndarray) -> None:
        """Slots in the order of bins."""
        frame, periodic = self.frame, torch.tensor(self._pbc, device=self.device)
        inverse = np.linalg.inv(box)
        fractions = self.positions @ torch.tensor(inverse, device=self.device)
        crossings = torch.where(periodic, fractions.floor(), 0.0)
        inside = fractions - crossings
        low = torch.where(periodic, 0.0, inside.min(dim=0).values)
        span = torch.where(periodic, 1.0, inside.max(dim=0).values - low)
        widths = span.cpu().numpy() / np.linalg.norm(inverse, axis=0)  # Å between opposite faces
        n_bins, around = self._bins(widths)
        number = torch.tensor(n_bins, device=self.device)
        at = ((inside - low) / span.clamp(min=1e-12) * number).floor().long()
        at = torch.minimum(at.clamp(min=0), number - 1)
        bins, order = torch.sort((at[:, 2] * n_bins[1] + at[:, 1]) * n_bins[0] + at[:, 0], stable=True)
        begin = torch.searchsorted(bins, torch.arange(int(np.prod(n_bins)) + 1, device=self.device))
        frame.tensors["order"].copy_(order)
        frame.tensors["kinds"].copy_(self._species[order])
        frame.tensors["crossings"].copy_(crossings[order])
        frame.tensors["bin"].copy_(bins)
        frame.point(bin_begin=begin.to(torch.int32))
        frame.bins_x, frame.bins_y, frame.bins_z = n_bins
        frame.around_x, frame.around_y, frame.around_z = around

    def _bins(self, widths: np.ndarray) -> tuple[list[int], list[int]]:
        """How many bins in each direction, half as wide as neighbours are far, and how many of them to look at."""
        reach = self.reach.cutoff + self.reach.skin + MARGIN
        n_bins = np.maximum(1, np.floor(np.minimum(2 * widths / reach, 1e6))).astype(int)
        while n_bins.prod() > _BINS_PER_ATOM * self.n_atoms + 64:
            n_bins[n_bins.argmax()] = -(-n_bins.max() // 2)
        with np.errstate(divide="ignore"):
            around = np.ceil(np.minimum(reach / (widths / n_bins), 1e6))
        around = np.where(self._pbc, around, np.minimum(around, n_bins - 1)).astype(int)
        if (around // n_bins).max() > _FARTHEST:
            raise SimulationError(f"the cell is {widths.min():.2g} Å thin, with a cutoff of {self.reach.cutoff} Å.")
        return n_bins.tolist(), around.tolist()

    def _fill(self) -> None:
        """Rows, made longer where they are too short, and partners."""
        frame = self.frame
        while True:
            self._program.launch("fill_rows", self.n_atoms, frame)
            longest, near = frame.tensors["counts"].max(dim=0).values.tolist()
            enough = longest <= frame.capacity and near <= frame.near_capacity
            if enough and frame.capacity:
                break
            self._make_room(longest, near)
        self._program.launch("find_partners", self.n_atoms * frame.capacity, frame)

    def make_room(self, dtype: torch.dtype, **lengths: int) -> None:
        """Buffers of a potential for rows as long as they are now: `lengths` numbers of an atom, and those of pairs."""
        frame, n = self.frame, self.n_atoms
        for name, length in {**lengths, "near": 4 * frame.near_capacity, "slopes": 4 * frame.capacity}.items():
            frame.tensors.pop(name, None)
            frame.point(**{name: self._new(n * length, dtype)})
        frame.point(near_place=self._new(n * frame.near_capacity, torch.int32), near_count=self._new(n, torch.int32))

    def _make_room(self, longest: int, near: int) -> None:
        """Rows of another length; whoever keeps something for each pair is asked to make room too."""
        frame, n = self.frame, self.n_atoms
        four = 4
        frame.capacity = max(frame.capacity, -(-int(_MORE * longest + 1) // four) * four)
        frame.near_capacity = max(frame.near_capacity, -(-int(_MORE * near + 1) // four) * four)
        if n * frame.capacity >= 2**32:
            raise MemoryError(f"{n} atoms with up to {longest} neighbours are more pairs than can be counted.")
        for name in ("row", "partner"):  # given back first: both at once may be more than there is
            frame.tensors.pop(name, None)
        frame.point(
            row=self._new((n, frame.capacity, 2), torch.int32), partner=self._new((n, frame.capacity), torch.int32)
        )
        self.version += 1

    def _complete(self, cell: np.ndarray) -> np.ndarray:
        """The periodic cell vectors, completed by unit vectors at right angles to them."""
        complete = np.array(cell, dtype=np.float64)
        if np.isfinite(complete[self._pbc]).all():
            n_periodic = int(self._pbc.sum())
            complete[~self._pbc] = np.linalg.svd(complete[self._pbc].reshape(n_periodic, 3))[2][n_periodic:]
            lengths = np.linalg.norm(complete, axis=1)
            if lengths.min() > 0 and abs(np.linalg.det(complete / lengths[:, None])) > _FLAT:
                return complete
        raise SimulationError("the cell is not finite or has no volume along its periodic directions.")

    def _new(self, shape: int | tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)
