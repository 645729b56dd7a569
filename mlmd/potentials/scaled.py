"""A potential times a factor, in a run: at a factor s and temperature T configurations are those of T / s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mlmd.kernels import Fused
from mlmd.potentials import Evaluation, Evaluator
from mlmd.potentials.fused import fused_of


class ScaledEvaluator:
    """Energy, forces and virial of another evaluator times a factor."""

    def __init__(self, evaluator: Evaluator, scale: float) -> None:
        """Take the evaluator of the whole potential, and the factor."""
        self._evaluator, self.scale = evaluator, scale

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        return self._scaled(self._evaluator.evaluate(positions, cell))

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms, where the evaluator knows them."""
        return self._scaled(getattr(self._evaluator, "detailed", self._evaluator.evaluate)(positions, cell))

    def _scaled(self, whole: Evaluation) -> Evaluation:
        return replace(
            whole,
            energy=self.scale * whole.energy,
            forces=self.scale * whole.forces,
            virial=self.scale * whole.virial,
            energies=None if whole.energies is None else self.scale * whole.energies,
            virials=None if whole.virials is None else self.scale * whole.virials,
        )

    def fused(self) -> list[tuple[Fused, float]]:
        """The kernels of the evaluator with their factors, where it is a sum of them."""
        return [(one, self.scale * factor) for one, factor in fused_of(self._evaluator)]

    @property
    def seconds(self) -> tuple[float, ...]:
        """Wall-clock time in the list of pairs and besides, where the evaluator knows it."""
        known: tuple[float, ...] = getattr(self._evaluator, "seconds", (0.0, 0.0))
        return known

    def state(self) -> dict[str, np.ndarray]:
        """That of the evaluator."""
        return self._evaluator.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._evaluator.restore(state)


def scale_of(evaluator: Evaluator) -> float:
    """The factor on the potential in what an evaluator gives."""
    return float(getattr(evaluator, "scale", 1.0))
