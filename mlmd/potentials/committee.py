"""The mean of several potentials, and how far they are apart.

Errors of potentials that were fitted in different ways are only in part the same, so that those of the mean are
smaller; and where the members disagree, data are missing (Hansen and Salamon, IEEE Trans. Pattern Anal. Mach. Intell.
12, 993, 1990; Peterson, Christensen and Khorshidi, Phys. Chem. Chem. Phys. 19, 10978, 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Fused
from mlmd.potentials import Evaluation, Evaluator, Potential, Prediction, has_energy
from mlmd.potentials.combine import Sum
from mlmd.potentials.evaluate import SKIN
from mlmd.potentials.fused import divided, fused_of
from mlmd.registry import below


class Committee(torch.nn.Module):
    """E = Σ_m E_m / n over n members; the cutoff is the largest of theirs, the elements are those that all know."""

    def __init__(self, members: Sequence[Potential], calibration: float = 1.0) -> None:
        """Take the members.

        Args:
            members: two or more.
            calibration: factor on the standard deviation of their forces that makes it a spread; 0 for none.

        Raises:
            InputError: when there are fewer than two, they have no element in common, or one has no energy.
        """
        super().__init__()
        if len(members) < 2:
            raise InputError("a committee needs two potentials or more.")
        if not all(map(has_energy, members)):
            raise InputError("a committee needs potentials with an energy; AGNI predicts forces alone.")
        self._sum = Sum(members, "a committee")
        self.members = self._sum.parts
        self.calibration = float(calibration)
        self.cutoff, self.elements = self._sum.cutoff, self._sum.elements
        self.has_stress = self._sum.has_stress

    def predict(self, graph: Graph) -> Prediction:
        """The means of the predictions; energies of atoms where all members have them."""
        total, n = self._sum.predict(graph), len(self.members)
        return replace(
            total,
            energy=total.energy / n,
            forces=total.forces / n,
            stress=total.stress / n,
            virial=total.virial / n,
            energies=None if total.energies is None else total.energies / n,
        )

    def evaluator(
        self, numbers: np.ndarray, pbc: np.ndarray, *, skin: float = SKIN, device: torch.device | str = "cpu"
    ) -> Evaluator:
        """Members with an evaluator or a compiled kernel use it; the others share one list of pairs."""
        return _Mean(self._sum.evaluator(numbers, pbc, skin=skin, device=device), len(self.members))

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Committee:
        """Build again from `spec`, with members that the tensors of `state_dict` fit; they are not loaded yet."""
        members = Sum.restore({"parts": spec["members"]}, below("_sum.", state)).parts
        return cls(members, spec.get("calibration", 1.0))

    def spec(self) -> dict[str, Any]:
        """The specs of all members."""
        calibrated = {} if self.calibration == 1.0 else {"calibration": self.calibration}
        return {"kind": "committee", "members": [one.spec() for one in self.members], **calibrated}


class _Mean:
    """The evaluator of a sum, divided."""

    def __init__(self, total: Evaluator, n: int) -> None:
        self._total, self._n = total, n

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The means of energies (eV), forces (eV/Å) and virials (eV)."""
        return divided(self._total.evaluate(positions, cell), self._n)

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms, where all members know them."""
        return divided(getattr(self._total, "detailed", self._total.evaluate)(positions, cell), self._n)

    def fused(self) -> list[tuple[Fused, float]]:
        """The kernels of all members with their factors; none where a member is no sum of kernels."""
        return [(one, factor / self._n) for one, factor in fused_of(self._total)]

    def state(self) -> dict[str, np.ndarray]:
        """That of the sum."""
        return self._total.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._total.restore(state)
