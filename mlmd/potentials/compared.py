"""An evaluator that is not relied on before it has given the numbers of another one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np

from mlmd.errors import MlmdError
from mlmd.potentials import Evaluation, Evaluator

SAME = {"float64": 1e-9, "float32": 1e-4}
"""How far numbers may be apart, by precision: forces in parts of the largest one, or in eV/Å where that is less than 1;
energy and virial in their own parts, or in eV per atom where they are less than that."""
N_ASKED = 3
"""How often the system is computed: with a new list of neighbours, with the list as it is, and as in all steps that
follow, where a GPU replays what it has recorded."""


class ComparedEvaluator:
    """An evaluator that is compared with another when it is first asked, at the very system and positions.

    Where it cannot be made, fails, or differs, a warning says so and the other one is taken, from the first step on.
    """

    def __init__(self, name: str, make: Callable[[], Evaluator], other: Evaluator, precision: str) -> None:
        """Take a name for a person, what makes the evaluator, the one to compare with, and the precision of both."""
        self._name, self._tolerance = name, SAME[precision]
        self._other: Evaluator | None = other
        try:
            self.taken = make()
        except (MlmdError, RuntimeError, AttributeError) as error:  # the last where a library lacks a function
            self._give_up(f"they cannot be made ready: {error}")

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        self._compare(positions, cell)
        return self.taken.evaluate(positions, cell)

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms, where they are known."""
        self._compare(positions, cell)
        return getattr(self.taken, "detailed", self.taken.evaluate)(positions, cell)

    def state(self) -> dict[str, np.ndarray]:
        """Of the one that is taken."""
        return self.taken.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`, whichever will be taken."""
        self.taken.restore(state)
        if self._other is not None:
            self._other.restore(state)

    def _compare(self, positions: np.ndarray, cell: np.ndarray) -> None:
        if self._other is None:
            return
        expected = self._other.evaluate(positions, cell)  # raises what is wrong with the positions
        try:
            found = [self.taken.evaluate(positions, cell) for _ in range(N_ASKED)]
        except (MlmdError, RuntimeError, AttributeError) as error:
            self._give_up(f"they failed: {error}")
            return
        different = next((words for one in found if (words := difference(one, expected, self._tolerance))), None)
        if different is not None:
            self._give_up(different)
        self._other = None  # and the memory that it took

    def _give_up(self, why: str) -> None:
        assert self._other is not None
        warnings.warn(f"{self._name} are not used: {why.rstrip('.')}. PyTorch computes.", RuntimeWarning, stacklevel=4)
        self.taken, self._other = self._other, None


def difference(found: Evaluation, expected: Evaluation, tolerance: float) -> str | None:
    """What of energy, forces and virial is not the same, for a person; what is not a number never is."""
    n_atoms = len(expected.forces)
    for name, unit, least in (("energy", "eV", n_atoms), ("forces", "eV/Å", 1), ("virial", "eV", n_atoms)):
        one, other = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        apart = float(np.abs(one - other).max(initial=0.0))
        if not apart <= tolerance * max(least, float(np.abs(other).max(initial=0.0))):
            return f"PyTorch's {name} and theirs are up to {apart:.3g} {unit} apart"
    return None
