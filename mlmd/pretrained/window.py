"""What a calculator may keep from step to step while a continued run stays the same to the last bit.

Many calculators keep their lists of neighbours while atoms have moved little. The last digits of an answer then depend
on where a list was made, of which a continued run would know nothing. So a calculator begins anew in windows: at a
`Beginning` it is told that everything has changed, and then that atoms have moved, until one is farther away than a
reach that is less than the margin of the lists: they are those of the beginning. An answer depends on the beginning and
on the present configuration alone, and the beginning belongs to the checkpoint.

Which reach has this property is tried before anybody relies on it (`reach_of`). What starts from the density of the
step before depends on the way; it is told at every step that everything has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation

REACHES = (0.28, 0.13)
"""Å. Lists are made anew when an atom has moved by their margin (ASE's: 0.3 Å), or by half of it."""
SLOW = 0.5
"""Seconds; of what takes longer, lists are a small part."""
QUESTIONS = 24
"""Of the way that is tried: lists that are made anew after so many are found out too."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """The configuration at which everything was new."""

    positions: np.ndarray
    """(n_atoms, 3) Å."""
    cell: np.ndarray
    """(3, 3) Å."""

    def is_at(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether it is this configuration: positions (n_atoms, 3) Å and cell (3, 3) Å."""
        return np.array_equal(positions, self.positions) and np.array_equal(cell, self.cell)

    def covers(self, positions: np.ndarray, cell: np.ndarray, reach: float) -> bool:
        """Whether a configuration is in its window of a reach (Å): positions (n_atoms, 3) Å and cell (3, 3) Å."""
        if not np.array_equal(cell, self.cell):
            return False
        moves = positions - self.positions
        return bool(np.einsum("ij,ij->i", moves, moves).max(initial=0.0) < reach**2)


Ask = Callable[[np.ndarray, np.ndarray, Beginning], Evaluation]
"""Asks about positions (n_atoms, 3) Å and a cell (3, 3) Å in the window of a beginning."""


def reach_of(ask: Ask, positions: np.ndarray, cell: np.ndarray) -> float:
    """How far (Å) a window reaches in which answers do not depend on the way; 0 where there is none, or no need.

    Args:
        ask: asks the calculator.
        positions: (n_atoms, 3) Å.
        cell: (3, 3) Å.
    """
    clock = time.perf_counter()
    ask(positions, cell, Beginning(positions, cell))
    if time.perf_counter() - clock > SLOW:
        return 0.0
    return next((reach for reach in REACHES if _forgets_the_way(ask, positions, cell, reach)), 0.0)


def _forgets_the_way(ask: Ask, positions: np.ndarray, cell: np.ndarray, reach: float) -> bool:
    """Whether what is said after a way is, to the last bit, what is said when atoms are there at once.

    They go away from a configuration, each in a direction of its own, as far as a window reaches, and then to the other
    side: half as far, and back to nearly where they began, which no list can be too old for.
    """
    directions = np.random.default_rng(0).normal(size=positions.shape)
    away = 0.999 * reach * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    ends = [positions - share * away for share in (0.5, 0.02)]
    way = Beginning(positions, cell)
    try:
        for share in np.linspace(0.0, 1.0, QUESTIONS):
            ask(positions + share * away, cell, way)
        by_way = [ask(end, cell, way) for end in ends]
        at_once = [ask(end, cell, Beginning(positions, cell)) for end in ends]
    except SimulationError:  # of atoms that were put where they are not
        return False
    return all(map(_same, by_way, at_once))


def _same(one: Evaluation, other: Evaluation) -> bool:
    """Whether two answers are the same to the last bit."""
    return (
        one.energy == other.energy
        and np.array_equal(one.forces, other.forces)
        and np.array_equal(one.virial, other.virial, equal_nan=True)
    )
