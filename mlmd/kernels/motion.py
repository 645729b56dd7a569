"""Steps of dynamics in the compiled library, many at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlmd import units
from mlmd.kernels.kernel import Fused
from mlmd.kernels.native import required
from mlmd.kernels.status import MESSAGE_SIZE, check, new_message

BATHS = ("none", "langevin", "nose-hoover")
"""In the order of the library."""
FINE, MOVES, FORCES, NOWHERE = range(4)
"""What is wrong with a step: nothing, how far atoms go, forces there, or that no neighbours can be found there."""
_COUNT, _NUMBER, _ARRAY = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class _Steps(ctypes.Structure):
    """As in `src/motion.cpp`: every member has eight bytes."""

    _fields_ = (
        *((name, _COUNT) for name in ("n_atoms", "n_parts", "n_threads", "n_steps", "first_step", "bath")),
        *((name, _COUNT) for name in ("n_chain", "remove_com")),
        ("seed", ctypes.c_uint64),
        *((name, _NUMBER) for name in ("timestep", "kinetic", "kt", "rate", "n_dof", "max_force", "max_move")),
        *((name, _ARRAY) for name in ("systems", "kernels", "factors", "masses", "mobile", "cell", "rates")),
        *((name, _ARRAY) for name in ("positions", "velocities", "forces", "bad_positions", "bad_forces")),
        *((name, _ARRAY) for name in ("energy", "virial", "bad_energy", "seconds")),
        ("done", _COUNT),
        ("problem", _COUNT),
    )


@dataclass(frozen=True)
class Scheme:
    """What moves atoms in a stage."""

    timestep: float
    """fs."""
    n_dof: int
    """Of the whole system."""
    bath: str = "none"
    """One of `BATHS`."""
    rate: float = 0.0
    """1/fs, friction or frequency of the chain."""
    chain_length: int = 0
    seed: int = 0
    """Of random forces."""
    remove_com: bool = False


@dataclass
class Moving:
    """Atoms in motion, arrays that steps change in place; (n_atoms, 3) where nothing is said."""

    positions: np.ndarray
    """Å."""
    velocities: np.ndarray
    """Å/fs."""
    forces: np.ndarray
    """eV/Å at these positions."""
    rates: np.ndarray
    """(chain length,) 1/fs, velocities of thermostats."""
    energy: float = 0.0
    """eV."""
    virial: np.ndarray | None = None
    """(3, 3) eV."""


@dataclass(frozen=True)
class Problem:
    """A step that is not good."""

    kind: int
    """MOVES, FORCES or NOWHERE."""
    positions: np.ndarray
    """(n_atoms, 3) Å there."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å there, where the kind is FORCES."""
    energy: float
    """eV there, where the kind is FORCES."""


class Steps:
    """Steps of one system under the sum of some kernels."""

    def __init__(
        self, parts: Sequence[tuple[Fused, float]], masses: np.ndarray, mobile: np.ndarray, scheme: Scheme
    ) -> None:
        """Take kernels that are ready for the system, each with a factor, masses (n_atoms,) in amu, mobile (n_atoms,)
        bool, and how atoms move."""
        self._native, self._message = required(), new_message()
        self._parts = [fused for fused, _ in parts]
        n = len(masses)
        self._masses = np.ascontiguousarray(masses, dtype=np.float64)
        self._mobile = np.ascontiguousarray(mobile, dtype=np.float64)
        self._factors = np.array([factor for _, factor in parts])
        self._kernels = np.array([fused.kernel_handle for fused in self._parts], dtype=np.uintp)
        self._bad_positions, self._bad_forces = np.empty((n, 3)), np.empty((n, 3))
        self._small = np.zeros(13)
        """Energy, that of a bad step, seconds on lists and on potentials, virial."""
        small = self._small.ctypes.data
        self._steps = _Steps(
            n_atoms=n, n_parts=len(self._parts), bath=BATHS.index(scheme.bath), remove_com=scheme.remove_com,
            seed=scheme.seed, timestep=scheme.timestep, kinetic=units.KINETIC, rate=scheme.rate, n_dof=scheme.n_dof,
            kernels=self._kernels.ctypes.data, factors=self._factors.ctypes.data, masses=self._masses.ctypes.data,
            mobile=self._mobile.ctypes.data, bad_positions=self._bad_positions.ctypes.data,
            bad_forces=self._bad_forces.ctypes.data, energy=small, bad_energy=small + 8, seconds=small + 16,
            virial=small + 32,
        )  # fmt: skip

    @property
    def seconds(self) -> tuple[float, float]:
        """Spent on lists of neighbours and on potentials since these steps began."""
        return float(self._small[2]), float(self._small[3])

    def advance(
        self, moving: Moving, cell: np.ndarray, n_steps: int, *, first_step: int, temperature: float,
        max_force: float, max_move: float, n_threads: int,
    ) -> tuple[int, Problem | None]:  # fmt: skip
        """Go on by some steps, or to the first that is not good.

        Args:
            moving: is changed to what is there after the last good step; its velocities belong to no step after a bad
                one.
            cell: (3, 3) Å.
            n_steps: how many.
            first_step: of the run, from which they go on; random forces depend on it.
            temperature: K, of the bath.
            max_force: eV/Å; infinite without a limit.
            max_move: Å in a step; infinite without a limit.
            n_threads: of the kernels.

        Returns:
            How many good steps there were, and what was wrong with the next, if something was.

        Raises:
            MemoryError, MlmdError: see `mlmd.kernels.status.check`.
        """
        steps, cell = self._steps, np.ascontiguousarray(cell, dtype=np.float64)
        systems = np.array([fused.system_handle for fused in self._parts], dtype=np.uintp)  # a restored one is another
        for array in (moving.positions, moving.velocities, moving.forces, moving.rates):
            assert array.flags.c_contiguous and array.dtype == np.float64
        steps.systems, steps.cell = systems.ctypes.data, cell.ctypes.data
        steps.positions, steps.velocities = moving.positions.ctypes.data, moving.velocities.ctypes.data
        steps.forces, steps.rates = moving.forces.ctypes.data, moving.rates.ctypes.data
        steps.n_chain, steps.n_threads, steps.n_steps = len(moving.rates), max(1, n_threads), n_steps
        steps.first_step, steps.kt = first_step, units.KB * temperature
        steps.max_force, steps.max_move = max_force, max_move
        self._small[0] = moving.energy
        if moving.virial is not None:
            self._small[4:] = moving.virial.ravel()
        check(self._native.mlmd_advance(ctypes.byref(steps), self._message, MESSAGE_SIZE), self._message)
        moving.energy, moving.virial = float(self._small[0]), self._small[4:].reshape(3, 3).copy()
        if steps.problem == FINE:
            return int(steps.done), None
        bad = Problem(int(steps.problem), self._bad_positions.copy(), self._bad_forces.copy(), float(self._small[1]))
        return int(steps.done), bad
