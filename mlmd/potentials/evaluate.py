"""A potential made ready for one system in a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from mlmd.neighbors import SkinList
from mlmd.potentials import Evaluation, Evaluator, Potential
from mlmd.potentials.fused import FusedEvaluator, kernel_of
from mlmd.potentials.threads import undivided

SKIN = 0.8
"""Å searched beyond the cutoff by default. The optimum is flat: from 0.6 to 1.4 Å a step costs the same within a
few per cent, for argon at 100 K as for a superionic conductor at 1500 K."""


class GraphEvaluator:
    """Any potential, evaluated on the graph of a skin list."""

    def __init__(
        self,
        potential: Potential,
        numbers: np.ndarray,
        pbc: np.ndarray,
        skin: float = SKIN,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take atomic numbers (n_atoms,), pbc (3,) bool and the skin in Å."""
        self.potential = potential
        self.pairs = SkinList(numbers, pbc, potential.cutoff, skin, device)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        with undivided():  # operations on one system are too small to be divided among threads
            prediction = self.potential.predict(self.pairs.graph(positions, cell))
        return Evaluation(
            energy=float(prediction.energy[0]),
            forces=np.ascontiguousarray(prediction.forces.cpu().numpy()),
            virial=prediction.virial[0].cpu().numpy(),
        )

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last pair search."""
        return self.pairs.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.pairs.restore(state)


def evaluator(
    potential: Potential,
    numbers: np.ndarray,
    pbc: np.ndarray,
    *,
    skin: float = SKIN,
    device: torch.device | str = "cpu",
) -> Evaluator:
    """What the engine calls every step: the potential's own evaluator, its compiled kernel, or its graph's evaluator.

    Args:
        potential: moved to the device when it is a torch module.
        numbers: (n_atoms,) atomic numbers.
        pbc: (3,) bool.
        skin: Å searched beyond the cutoff.
        device: where tensors live.
    """
    if isinstance(potential, torch.nn.Module):
        potential.to(device)
    own = getattr(potential, "evaluator", None)
    if own is not None:
        brought: Evaluator = own(numbers, pbc, skin=skin, device=device)
        return brought
    kernel = kernel_of(potential) if torch.device(device).type == "cpu" else None
    if kernel is not None:
        return FusedEvaluator(kernel, potential.elements, numbers, pbc, skin)
    return GraphEvaluator(potential, numbers, pbc, skin, device)
