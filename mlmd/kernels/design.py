"""What training asks of the kernels: features of atoms, their Jacobian products, and rows of least-squares problems."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping

import numpy as np

from mlmd.errors import InputError
from mlmd.kernels.kernel import Kernel
from mlmd.kernels.native import required
from mlmd.kernels.status import MESSAGE_SIZE, check, new_message
from mlmd.kernels.system import System

_MORE = 8  # numbers behind the last row that vectors may be written to


class Features:
    """Features B_iα of the atoms of a system, and products with their Jacobian J and its transpose.

    `mlmd.descriptors.compiled.compiled_features` makes one from a descriptor alone. No derivative of a pair is kept, so
    that memory does not grow with the number of neighbours. Results of `pull` depend on the number of threads in their
    last digits, the others do not.
    """

    n_features: int
    """Of an atom."""

    def __init__(
        self,
        kernel: Kernel,
        species: np.ndarray,
        n_species: int,
        pbc: np.ndarray,
        *,
        skin: float = 0.0,
        n_threads: int = 1,
        n_ghosts: int = 0,
    ) -> None:
        """Take the kernel of a potential whose family has features.

        Args:
            kernel: in float64, whatever its precision says.
            species: (n_atoms,) in the kernel's order.
            n_species: that the kernel knows.
            pbc: (3,) bool.
            skin: Å, by which pairs are searched further than needed so that the search lasts for more positions.
            n_threads: to work with.
            n_ghosts: atoms at the end that are neighbours of the others and have no features: theirs are zero.

        Raises:
            MlmdError: when nothing is compiled, or the family has no features.
        """
        self._native = required()
        handle = ctypes.c_void_p()
        tables, numbers = _arrays(kernel)
        message = new_message()
        status = self._native.mlmd_descriptor_new(
            kernel.family.encode(), tables.ctypes.data, tables.size, numbers.ctypes.data, numbers.size,
            ctypes.byref(handle), message, MESSAGE_SIZE,
        )  # fmt: skip
        check(status, message, _refused)
        weakref.finalize(self, self._native.mlmd_descriptor_free, handle)
        self._handle, self._message, self.n_threads = handle, message, n_threads
        self._arguments = (self._native, species, n_species, pbc, kernel.cutoff, skin, n_ghosts)
        self._system = System(*self._arguments)
        self.n_features = self._native.mlmd_descriptor_size(handle)

    def values(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """B (n_atoms, n_features) at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Raises:
            InputError: when a position is not finite or the cell has no volume.
        """
        found = np.empty((self._system.n_atoms, self.n_features))
        found[self._system.n_centres :] = 0.0
        self._call("mlmd_features", positions, cell, found)
        return found

    def push(
        self, positions: np.ndarray, cell: np.ndarray, displacements: np.ndarray, strain: np.ndarray | None = None
    ) -> np.ndarray:
        """J·v: how features change, (n_atoms, n_features), to first order.

        Args:
            positions, cell: as in `values`.
            displacements: (n_atoms, 3) of the atoms, in any unit of length; the change is per that unit.
            strain: (3, 3) ε, which makes r·(1 + ε) of every vector r between atoms.

        Raises:
            InputError: as `values`.
        """
        moved = _doubles(displacements, (self._system.n_atoms, 3))
        stretched = None if strain is None else _doubles(strain, (3, 3))
        found = np.empty((self._system.n_atoms, self.n_features))
        self._call("mlmd_push", positions, cell, moved, stretched, found)
        return found

    def pull(self, positions: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jᵀ·w: the gradient (n_atoms, 3) of Σ w_iα B_iα by the positions, and its virial (3, 3).

        For the weights of a linear potential forces are minus the gradient, and the stress is virial / volume.

        Args:
            positions, cell: as in `values`.
            weights: (n_atoms, n_features) w.

        Raises:
            InputError: as `values`.
        """
        given = _doubles(weights, (self._system.n_atoms, self.n_features))
        gradient, virial = np.empty((self._system.n_atoms, 3)), np.empty((3, 3))
        self._call("mlmd_pull", positions, cell, given, gradient, virial)
        return gradient, virial

    def pull_many(self, positions: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`pull` for many weights at once: derivatives of all features are worked out once for each atom.

        One thread works. As many times faster than `pull` as there are more sums than features, about.

        Args:
            positions, cell: as in `values`.
            weights: (n_atoms, n_features, n_sums).

        Returns:
            Gradients (n_atoms, 3, n_sums) and virials (3, 3, n_sums).

        Raises:
            InputError: as `values`.
        """
        n_atoms, n_sums = self._system.n_atoms, weights.shape[2]
        given = _doubles(weights, (n_atoms, self.n_features, n_sums))
        where, box = _doubles(positions, (n_atoms, 3)), _doubles(cell, (3, 3))
        gradients, virials = np.empty((n_atoms, 3, n_sums)), np.empty((3, 3, n_sums))
        status = self._native.mlmd_pull_many(
            self._system.handle, self._handle, where.ctypes.data, box.ctypes.data, given.ctypes.data, n_sums,
            gradients.ctypes.data, virials.ctypes.data, self._message, MESSAGE_SIZE,
        )  # fmt: skip
        check(status, self._message, _refused)
        return gradients, virials

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last search of neighbours (copies); empty before the first."""
        return self._system.searched()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Search again where `state` was searched, which gives the same list.

        Raises:
            InputError: as `values`.
        """
        if not state:
            self._system = System(*self._arguments)
            return
        positions, cell = _doubles(state["positions"], (self._system.n_atoms, 3)), _doubles(state["cell"], (3, 3))
        check(self._system.search(positions, cell, self.n_threads), self._message, _refused)

    def _call(self, name: str, positions: np.ndarray, cell: np.ndarray, *arrays: np.ndarray | None) -> None:
        where, box = _doubles(positions, (self._system.n_atoms, 3)), _doubles(cell, (3, 3))
        status = getattr(self._native, name)(
            self._system.handle, self._handle, self.n_threads, where.ctypes.data, box.ctypes.data,
            *(None if one is None else one.ctypes.data for one in arrays), self._message, MESSAGE_SIZE,
        )  # fmt: skip
        check(status, self._message, _refused)


class MomentRows:
    """Derivatives of energies, forces and virials of moment tensor potentials by their parameters.

    Made once for the tables of a potential, and asked about any coefficients. One thread works, so that the numbers do
    not depend on how many there are.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Take the kernel of a moment tensor potential; coefficients and constants in it are not looked at.

        Raises:
            MlmdError: when nothing is compiled.
        """
        self._native, self._cutoff = required(), kernel.cutoff
        self._handle, self._message = ctypes.c_void_p(), new_message()
        tables, numbers = _arrays(kernel)
        status = self._native.mlmd_design_new(
            tables.ctypes.data, tables.size, numbers.ctypes.data, numbers.size,
            ctypes.byref(self._handle), self._message, MESSAGE_SIZE,
        )  # fmt: skip
        check(status, self._message, _refused)
        weakref.finalize(self, self._native.mlmd_design_free, self._handle)
        self._n_scalars = int(tables[5])

    def rows(
        self,
        species: np.ndarray,
        pbc: np.ndarray,
        positions: np.ndarray,
        cell: np.ndarray,
        radial: np.ndarray,
        weights: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Derivatives of what is predicted for one structure.

        Args:
            species: (n_atoms,) in the order of the potential.
            pbc: (3,) bool.
            positions: (n_atoms, 3) Å.
            cell: (3, 3) Å.
            radial: (n_species, n_species, n_functions, n_chebyshev) c.
            weights: (n_scalars,) eV; without them there are no columns of c.

        Returns:
            Of the energy (n_columns,), the forces (n_atoms, 3, n_columns) and the virial (6, n_columns), xx yy zz yz xz
            xy. Columns are weights and c, flattened.

        Raises:
            InputError: when a position is not finite or the cell has no volume.
        """
        n_atoms, n_columns = len(species), self._n_scalars + (0 if weights is None else radial.size)
        system = System(self._native, species, radial.shape[0], pbc, self._cutoff, 0.0)
        where, box = _doubles(positions, (n_atoms, 3)), _doubles(cell, (3, 3))
        coefficients = _doubles(radial, radial.shape)
        given = None if weights is None else _doubles(weights, (self._n_scalars,))
        energy, virial = np.empty(n_columns), np.empty((6, n_columns))
        forces = np.empty(n_atoms * 3 * n_columns + _MORE)
        status = self._native.mlmd_design(
            system.handle, self._handle, where.ctypes.data, box.ctypes.data, coefficients.ctypes.data,
            None if given is None else given.ctypes.data, energy.ctypes.data, forces.ctypes.data, virial.ctypes.data,
            self._message, MESSAGE_SIZE,
        )  # fmt: skip
        check(status, self._message, _refused)
        return energy, forces[: n_atoms * 3 * n_columns].reshape(n_atoms, 3, n_columns), virial


def _arrays(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.ascontiguousarray(kernel.integers, dtype=np.int64),
        np.ascontiguousarray(kernel.numbers, dtype=np.float64),
    )


def _doubles(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = np.ascontiguousarray(values, dtype=np.float64)
    if found.shape != shape:
        raise ValueError(f"an array of shape {found.shape} was given, {shape} is needed")
    return found


def _refused() -> InputError:
    return InputError("a position is not finite, or the cell has no volume along its periodic directions.")
