"""A kernel of a GPU made ready for one system: every step from positions to forces, without a look at the host between.

Kernels are started with the list of neighbours as it is, together with one that finds out whether it still holds; where
it does not, what was computed is thrown away and computed again. Small systems replay the starts as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mlmd.kernels.gpu.classical import EamProgram, PairProgram
from mlmd.kernels.gpu.moments import MomentProgram
from mlmd.kernels.gpu.neighbours import DeviceList, Program, Reach
from mlmd.kernels.gpu.nvrtc import CudaProgram
from mlmd.kernels.gpu.radial_angular import RadialAngularProgram
from mlmd.kernels.kernel import Kernel, Sums

FAMILIES: dict[str, tuple[str, Callable[[Kernel, Sequence[int]], Family]]] = {
    "eam": ("eam.cu", EamProgram),
    "moments": ("moments.cu", MomentProgram),
    "pair": ("pair.cu", PairProgram),
    "radial-angular": ("radial_angular.cu", RadialAngularProgram),
}
"""Families with kernels for a GPU: the file and what knows it."""

SMALL = 20_000
"""Atoms up to which a step is a replay, and more threads work on each."""


class Family(Protocol):
    """What a family of potentials brings."""

    least_lanes: int
    """Threads that must work on an atom, for the memory that threads share."""

    def macros(self, lanes: int) -> dict[str, object]:
        """Sizes by the names that its program gives them."""
        ...

    def reach(self, skin: float) -> Reach:
        """How far neighbours are to be listed."""
        ...

    def prepare(self, atoms: DeviceList) -> None:
        """Put the parameters on the device."""
        ...

    def make_room(self, atoms: DeviceList) -> None:
        """Buffers for the list as long as it is now."""
        ...

    def compute(self, program: Program, atoms: DeviceList) -> None:
        """Energies, forces and virials of atoms."""
        ...


class DeviceKernel:
    """A potential and a system on one device; the counterpart of `mlmd.kernels.Fused`."""

    def __init__(
        self,
        kernel: Kernel,
        species: np.ndarray,
        pbc: np.ndarray,
        skin: float,
        device: torch.device,
        make: Callable[[str, Mapping[str, object]], Program] | None = None,
        lanes: int | None = None,
    ) -> None:
        """Take a kernel of one of `FAMILIES` and a system as `Fused` does.

        Args:
            kernel, species, pbc, skin: as there.
            device: where to be.
            make: what makes a program of a file and macros; by default NVRTC does.
            lanes: threads that work on an atom, a power of two up to 32.

        Raises:
            MlmdError: when the program cannot be compiled.
        """
        file, family = FAMILIES[kernel.family]
        present, species = np.unique(species, return_inverse=True)
        self._family: Family = family(kernel, present.tolist())
        self.n_atoms, self.device = len(species), device
        lanes = (32 if self.n_atoms <= SMALL else 8) if lanes is None else lanes
        lanes = max(lanes, self._family.least_lanes) if make is None else lanes
        macros = self._family.macros(lanes)
        self._program = CudaProgram(file, macros, device) if make is None else make(file, macros)
        self.atoms = DeviceList(self._program, species, pbc, self._family.reach(skin), lanes, device)
        self._family.prepare(self.atoms)
        self._small = device.type == "cuda" and self.n_atoms <= SMALL
        self._graph: tuple[int, torch.cuda.CUDAGraph] | None = None
        self._room = -1
        pinned = device.type == "cuda"
        self._sent = torch.empty((self.n_atoms, 3), dtype=torch.float64, pin_memory=pinned)
        self._received = torch.empty(3 * self.n_atoms + 11, dtype=torch.float64, pin_memory=pinned)

    def compute(self, positions: np.ndarray, cell: np.ndarray, *, details: bool = False) -> Sums:
        """Energy, forces and virial at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Raises:
            SimulationError: when a position is not finite or the cell has no volume.
        """
        if positions.shape != (self.n_atoms, 3):
            raise ValueError(f"positions {positions.shape} are not those of {self.n_atoms} atoms")
        np.copyto(self._sent.numpy(), positions)
        self.atoms.positions.copy_(self._sent, non_blocking=True)
        self.step(cell)
        found = self._received.numpy()
        n = 3 * self.n_atoms
        per_atom = self.atoms.frame.tensors["per_atom"].cpu().numpy() if details else None
        return Sums(
            energy=float(found[n]),
            forces=found[:n].reshape(-1, 3).copy(),
            virial=found[n + 1 : n + 10].reshape(3, 3).copy(),
            energies=None if per_atom is None else per_atom[:, 0].copy(),
            virials=None if per_atom is None else per_atom[:, 1:].reshape(-1, 3, 3).copy(),
            seconds=(0.0, 0.0),
        )

    def step(self, cell: np.ndarray, *, receive: bool = True) -> Tensor:
        """Compute at the positions that are on the device, `atoms.positions`.

        Returns:
            Forces (n_atoms, 3) eV/Å on the device, to be overwritten by the next step.

        Args:
            cell: (3, 3) Å.
            receive: whether the results are wanted on the host too; otherwise energy and virial alone are.
        """
        first = 0 if receive else 3 * self.n_atoms
        self.atoms.set_cell(np.asarray(cell, dtype=np.float64))
        limit, sure = self.atoms.limit(), False
        if limit >= 0 and not self._small:  # a look is cheaper than a step in vain
            self.atoms.follow()
            sure = self._receive(3 * self.n_atoms + 10) <= limit
        if limit >= 0 and (sure or self._small):
            self._run()
            sure = self._receive(first) <= limit  # not when it is not a number
        if not sure:
            self.atoms.search()
            self._run()
            self._receive(first)
        return self.atoms.frame.tensors["forces"].view(-1, 3)

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last search (copies); empty before the first."""
        return self.atoms.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Search again where `state` was searched, which gives the same list."""
        self.atoms.restore(state)

    def _receive(self, first: int) -> float:
        """Bring results from the first on to the host; the last, the largest square of a displacement."""
        self._received[first:].copy_(self.atoms.results[first:], non_blocking=True)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return float(self._received[-1])

    def _run(self) -> None:
        """All kernels, from the positions to the sums."""
        if self._room != self.atoms.version:
            self._family.make_room(self.atoms)
            self._room = self.atoms.version
            self._graph = None
            self._start()
            return
        if not self._small:
            self._start()
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._start()
            self._graph = (self.atoms.version, graph)
        self._graph[1].replay()

    def _start(self) -> None:
        atoms = self.atoms
        atoms.follow()
        self._family.compute(self._program, atoms)
        n = 3 * self.n_atoms
        torch.sum(atoms.frame.tensors["per_atom"], dim=0, out=atoms.results[n : n + 10])
