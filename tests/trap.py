"""Potentials that cost next to nothing and whose every average is known, and one that breaks at a chosen step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd.potentials import Evaluation


class Trap:
    """Every atom on a spring to the origin, E = ½ k Σ|x|²; with k = 0 an ideal gas.

    The positions that a run computes with are unwrapped, so the origin of each atom stays its own.
    """

    cutoff = 1.0
    elements = ()

    def __init__(self, stiffness: float, precision: str = "float64") -> None:
        """`stiffness` in eV/Å²."""
        self.stiffness = stiffness

    def evaluator(self, numbers: np.ndarray, pbc: np.ndarray, **options: Any) -> Trap:
        """Itself: it needs no pairs."""
        return self

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and virial."""
        forces = -self.stiffness * positions
        return Evaluation(-0.5 * float(np.vdot(positions, forces)), forces, -positions.T @ forces)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing is remembered."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "trap", "stiffness": self.stiffness}


class Remembering(Trap):
    """A trap with a memory, as pair lists are one: the last bits of its forces depend on where it last looked around.

    Mathematically it is a trap; the sums are made around a reference that is renewed when an atom has moved 0.1 Å.
    """

    def __init__(self, stiffness: float, precision: str = "float64") -> None:
        """`stiffness` in eV/Å²."""
        super().__init__(stiffness)
        self._reference = np.zeros((0, 3))

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and virial."""
        known = len(self._reference) == len(positions)
        if not known or np.abs(positions + np.pi - self._reference).max() > 0.1:
            self._reference = positions + np.pi
        return super().evaluate((positions - self._reference) + self._reference, cell)

    def state(self) -> dict[str, np.ndarray]:
        """The reference."""
        return {"reference": self._reference.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the reference back."""
        self._reference = state["reference"].copy()


class Breaking(Trap):
    """A trap that returns a bad number at the n-th configuration, counted from 0, and a good one afterwards."""

    def __init__(self, at: int, energy: str = "0", force: str = "0", precision: str = "float64") -> None:
        """`energy` and `force` are added to the energy and to the force on atom 2 along y (text, e.g. "nan")."""
        super().__init__(0.001)
        self._left, self._energy, self._force = at, float(energy), float(force)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and virial, once a bad one."""
        good = super().evaluate(positions, cell)
        self._left -= 1
        if self._left != -1:
            return good
        good.forces[2, 1] += self._force
        return Evaluation(good.energy + self._energy, good.forces, good.virial)


class Wells(Trap):
    """Every atom in two wells along x, and on a spring along y and z.

    E = Σ h ((x/b)² - 1)² + t x/b + ½ k (y² + z²), with b = 1 Å: the wells differ by nearly 2t.
    """

    def __init__(self, stiffness: float, height: float, tilt: float, precision: str = "float64") -> None:
        """`stiffness` k in eV/Å², `height` h and `tilt` t in eV."""
        super().__init__(stiffness)
        self._height, self._tilt = height, tilt

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and virial."""
        x, forces = positions[:, 0], -self.stiffness * positions
        forces[:, 0] = -4.0 * self._height * x * (x**2 - 1.0) - self._tilt
        energy = self._height * (x**2 - 1.0) ** 2 + self._tilt * x
        springs = 0.5 * self.stiffness * (positions[:, 1:] ** 2).sum()
        return Evaluation(float(energy.sum() + springs), forces, -positions.T @ forces)
