"""How far structures are from what a potential was trained on, by the extrapolation grades of their atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.errors import MlmdError, some_of
from mlmd.potentials.uncertainty import BREAKS, EXTRAPOLATES, GRADE, Judge

if TYPE_CHECKING:
    from mlmd.io.labelled import LabelledFrame


@dataclass(frozen=True)
class Grades:
    """Extrapolation grades γ of the atoms of structures; see `mlmd.potentials.uncertainty`."""

    of_atoms: tuple[np.ndarray, ...]
    """(n_structures,) arrays (n_atoms,)."""
    sources: tuple[str, ...]
    """(n_structures,) what they are called, e.g. ``Cu_test.xyz@12``."""

    @cached_property
    def of_structures(self) -> np.ndarray:
        """(n_structures,) the greatest of their atoms."""
        return np.array([one.max() for one in self.of_atoms])

    def to_json(self) -> dict[str, Any]:
        """JSON-able: the greatest grade, where it is, and how many structures are beyond either limit."""
        beyond = {f"structures above {limit:g}": len(self._above(limit)) for limit in (EXTRAPOLATES, BREAKS)}
        return {"largest": float(self.of_structures.max()), "largest in": self._worst, **beyond}

    def text(self) -> str:
        """A line, and another one where structures are far from what was trained on."""
        outside = self._above(EXTRAPOLATES)
        first = f"Grade of extrapolation: {self.of_structures.max():.3g} at most, in {self._worst}"
        if not outside:
            return f"{first}; up to 1 is interpolation, and no structure is above {EXTRAPOLATES:g}"
        far = len(self._above(BREAKS))
        return (
            f"{first}\nabove {EXTRAPOLATES:g}, outside of what it was trained on: {len(outside):,} of "
            f"{len(self.sources):,} structures, {far:,} of them above {BREAKS:g}: {some_of(outside)}"
        )

    @property
    def _worst(self) -> str:
        return self.sources[int(self.of_structures.argmax())]

    def _above(self, limit: float) -> list[str]:
        """Structures with a greater grade, the worst first."""
        order = np.argsort(-self.of_structures, kind="stable")
        return [self.sources[index] for index in order if self.of_structures[index] > limit]


def graded(
    judge: Judge,
    frames: Sequence[LabelledFrame],
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Grades | None:
    """Ask a potential about structures; None when it knows no grades.

    Args:
        judge: of the potential.
        frames: (n,) at least one; their labels are not looked at.
        told: called with the number of structures done and of all.

    Raises:
        InputError: naming the structure, as the judge does.
    """
    if GRADE not in judge.knows:
        return None
    grades = []
    for done, frame in enumerate(frames, 1):
        try:
            found = judge(frame.atoms, (GRADE,)).grade
        except MlmdError as error:
            raise type(error)(f"{frame.source}: {error}") from None
        assert found is not None
        grades.append(found.numpy())
        told(done, len(frames))
    return Grades(tuple(grades), tuple(frame.source for frame in frames))
