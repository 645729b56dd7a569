"""Potentials evaluated by compiled kernels, without a graph: what a run on a processor uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mlmd.descriptors.species import species, species_table
from mlmd.kernels import Fused, Kernel, describe, library, shortcoming
from mlmd.kernels.kernel import Sums
from mlmd.potentials import Evaluation, Potential


class FusedEvaluator:
    """A potential with a compiled kernel; as many threads as torch is allowed to use."""

    def __init__(
        self, kernel: Kernel, elements: Sequence[str], numbers: np.ndarray, pbc: np.ndarray, skin: float
    ) -> None:
        """Take a kernel whose species are `elements` (any atom when empty), atomic numbers, pbc (3,) and skin in Å.

        Raises:
            InputError: when an atom is of another element.
        """
        kinds = np.zeros(len(numbers), dtype=np.int32)
        if elements:
            kinds = species(torch.tensor(np.asarray(numbers)), species_table(elements)).numpy().astype(np.int32)
        self._fused = Fused(kernel, kinds, max(1, len(elements)), pbc, skin)
        self.seconds = (0.0, 0.0)
        """Spent on the neighbour list and on the potential since the evaluator was made."""

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Raises:
            SimulationError: when a position is not finite.
        """
        sums = self.sums(positions, cell)
        return Evaluation(sums.energy, sums.forces, 0.5 * (sums.virial + sums.virial.T))

    def sums(self, positions: np.ndarray, cell: np.ndarray, *, details: bool = False) -> Sums:
        """The same with energies and virials of atoms, where asked for."""
        found = self._fused.compute(positions, cell, torch.get_num_threads(), details=details)
        self.seconds = (self.seconds[0] + found.seconds[0], self.seconds[1] + found.seconds[1])
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last pair search."""
        return self._fused.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._fused.restore(state, torch.get_num_threads())


def why_slow(potential: Potential) -> str | None:
    """A sentence for a person, where a potential has a kernel that this machine could run faster than mlmd can."""
    if getattr(potential, "kernel", None) is None or (library() is not None and shortcoming() is None):
        return None
    return f"kernels are {describe()}."


def kernel_of(potential: Potential) -> Kernel | None:
    """The kernel of a potential; None where it has none or nothing is compiled."""
    own = getattr(potential, "kernel", None)
    if own is None or library() is None:
        return None
    found: Kernel | None = own()
    return found
