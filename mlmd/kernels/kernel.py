"""Potentials of the fused kind, as parameters and as a system of atoms they are ready for."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlmd.errors import MlmdError, SimulationError
from mlmd.kernels.native import required
from mlmd.kernels.status import BAD_PARAMETERS, MESSAGE_SIZE, check, new_message
from mlmd.kernels.system import System


@dataclass(frozen=True, eq=False)
class Kernel:
    """Parameters of a fused potential: what its C++ class reads, in that order."""

    family: str
    """A name of the table in `src/api.cpp`."""
    cutoff: float
    """Å."""
    integers: np.ndarray
    """(n,) int64."""
    numbers: np.ndarray
    """(m,) float64."""
    precision: str = "float64"
    """Of what is worked out for each atom, "float64" or "float32"; forces and energies of atoms add up in float64."""

    def make(self, native: ctypes.CDLL) -> ctypes.c_void_p:
        """A handle of the compiled potential; it must be given back to `mlmd_kernel_free`.

        Raises:
            MlmdError: when the parameters are refused, which is a bug of who packed them.
        """
        integers = np.ascontiguousarray(self.integers, dtype=np.int64)
        numbers = np.ascontiguousarray(self.numbers, dtype=np.float64)
        handle, message = ctypes.c_void_p(), new_message()
        status = native.mlmd_kernel_new(
            self.family.encode(), self.precision == "float32", integers.ctypes.data, integers.size,
            numbers.ctypes.data, numbers.size, ctypes.byref(handle), message, MESSAGE_SIZE,
        )  # fmt: skip
        if status == BAD_PARAMETERS:
            raise MlmdError(f"the kernel {self.family!r} refuses its parameters: {message.value.decode()}")
        check(status, message)
        return handle


@dataclass(frozen=True)
class Sums:
    """What a system of atoms gives in one configuration."""

    energy: float
    """eV."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å."""
    virial: np.ndarray
    """(3, 3) eV, Σ r ⊗ dE/dr."""
    energies: np.ndarray | None
    """(n_atoms,) eV, where asked for."""
    virials: np.ndarray | None
    """(n_atoms, 3, 3) eV, where asked for: r_ij ⊗ dE_i/dr_ij summed over the pairs whose neighbour j the atom is, which
    is what a heat current needs (Fan et al., Phys. Rev. B 92, 094301, 2015). Their sum is the virial."""
    seconds: tuple[float, float]
    """Spent on the neighbour list and on the potential."""


class KernelHandle:
    """A kernel as the library has read it, once for any number of systems. One of them at a time may compute."""

    def __init__(self, kernel: Kernel) -> None:
        """Take a kernel.

        Raises:
            MlmdError: when there is no compiled library, or it refuses the parameters.
        """
        native = required()
        self.cutoff, self.pointer = kernel.cutoff, kernel.make(native)
        weakref.finalize(self, native.mlmd_kernel_free, self.pointer)


class Fused:
    """A kernel made ready for one system: neighbour list, buffers and handles."""

    def __init__(
        self, kernel: Kernel | KernelHandle, species: np.ndarray, n_species: int, pbc: np.ndarray, skin: float,
        n_ghosts: int = 0,
    ) -> None:  # fmt: skip
        """Take a kernel, species (n_atoms,) in its order, how many species it knows, pbc (3,) and the skin in Å.

        The last `n_ghosts` atoms, in a system without periodicity, are neighbours of the others and have no energy:
        energy and virial are those of the others, and forces are derivatives of that energy by all positions.

        Raises:
            MlmdError: when there is no compiled library.
        """
        self._native = native = required()
        self.n_atoms = len(species)
        self._kernel = kernel if isinstance(kernel, KernelHandle) else KernelHandle(kernel)
        self._arguments = (native, species, n_species, pbc, kernel.cutoff, skin, n_ghosts)
        self._system = System(*self._arguments)
        self._message = new_message()
        self._small = np.zeros(12)  # energy, virial, seconds

    @property
    def system_handle(self) -> int:
        """Of the library, of its list; another one after `restore`."""
        return int(self._system.handle.value or 0)

    @property
    def kernel_handle(self) -> int:
        """Of the library, of its parameters."""
        return int(self._kernel.pointer.value or 0)

    def compute(self, positions: np.ndarray, cell: np.ndarray, n_threads: int, *, details: bool = False) -> Sums:
        """Energy, forces and virial at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Args:
            positions, cell: of this moment.
            n_threads: results differ in the last digits between numbers of threads.
            details: give energies and virials of atoms too.

        Raises:
            SimulationError: when a position is not finite or the cell has no volume.
            MemoryError: when there is not enough memory.
        """
        positions = self._checked(positions)
        cell = np.ascontiguousarray(cell, dtype=np.float64)
        forces = np.empty((self.n_atoms, 3))
        energies = np.empty(self.n_atoms) if details else None
        virials = np.empty((self.n_atoms, 3, 3)) if details else None
        small = self._small.ctypes.data
        status = self._native.mlmd_compute(
            self._system.handle, self._kernel.pointer, n_threads,
            positions.ctypes.data, cell.ctypes.data, small, small + 8, forces.ctypes.data,
            None if energies is None else energies.ctypes.data, None if virials is None else virials.ctypes.data,
            small + 80, self._message, MESSAGE_SIZE,
        )  # fmt: skip
        check(status, self._message, lambda: _refused(positions))
        return Sums(
            energy=float(self._small[0]),
            forces=forces,
            virial=self._small[1:10].reshape(3, 3).copy(),
            energies=energies,
            virials=virials,
            seconds=(float(self._small[10]), float(self._small[11])),
        )

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last search (copies); empty before the first."""
        return self._system.searched()

    def restore(self, state: Mapping[str, np.ndarray], n_threads: int) -> None:
        """Search again where `state` was searched, which gives the same list."""
        if not state:
            self._system = System(*self._arguments)
            return
        positions = self._checked(state["positions"])
        cell = np.ascontiguousarray(state["cell"], dtype=np.float64)
        check(self._system.search(positions, cell, n_threads), self._message, lambda: _refused(positions))

    def _checked(self, positions: np.ndarray) -> np.ndarray:
        found = np.ascontiguousarray(positions, dtype=np.float64)
        if found.shape != (self.n_atoms, 3):
            raise ValueError(f"positions {found.shape} are not those of {self.n_atoms} atoms")
        return found


def _refused(positions: np.ndarray) -> SimulationError:
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        where = f"the position {positions[bad[0]].tolist()} of atom {bad[0]} is not finite."
        return SimulationError(f"{where} Try a smaller timestep.")
    return SimulationError("the cell is not finite or has no volume along its periodic directions.")
