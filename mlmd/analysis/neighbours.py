"""Neighbours within a cutoff for each pair of elements, frame by frame; by default up to the first minimum of g(r)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlmd.analysis.rdf import rdf
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.pairs import find_pairs

Cutoffs = Mapping[tuple[str, str], float]
"""Å by pair of elements, in either order."""
RANGE = 6.0
"""Å: up to where the first minimum of g(r) is looked for."""
_FRAMES = 50
"""From which g(r) is made."""


@dataclass(frozen=True)
class Neighbours:
    """Pairs of one frame that are within their cutoff, both directions of every pair, sorted by the first atom."""

    i: np.ndarray
    """(n_pairs,) indices of atoms in the trajectory."""
    j: np.ndarray
    """(n_pairs,)."""
    vectors: np.ndarray
    """(n_pairs, 3) Å, from i to j."""


def settled(
    trajectory: Trajectory, pairs: Sequence[tuple[str, str]], given: Cutoffs | None
) -> tuple[dict[tuple[str, str], float], tuple[str, ...]]:
    """A cutoff for each pair of elements: as given, else the first minimum of g(r).

    Args:
        trajectory: any; periodic in three directions where a cutoff is missing.
        pairs: of elements.
        given: Å.

    Returns:
        Å by pair, as asked for, and notes about those that were found.

    Raises:
        InputError: for cutoffs that are no lengths, unknown elements, and where g(r) has no minimum.
    """
    known = dict(given or {})
    for (a, b), cutoff in known.items():
        trajectory.atoms_of([a, b])
        if not 0.0 < cutoff < np.inf:
            raise InputError(f"The cutoff of {a}-{b} is {cutoff:g} Å: bonds have a length above zero.")
        if known.get((b, a), cutoff) != cutoff:
            raise InputError(
                f"{a}-{b} and {b}-{a} are the same bonds, with cutoffs of {cutoff:g} and {known[b, a]:g} Å."
            )
    cutoffs, notes = {}, []
    for a, b in pairs:
        value = known.get((a, b), known.get((b, a)))
        if value is None:
            value = _first_minimum(trajectory, a, b)
            note = f"cutoff of {a}–{b}: {value:.2f} Å, the first minimum of g(r)"
            if note.replace(f"{a}–{b}", f"{b}–{a}") not in notes:
                notes.append(note)
            known[a, b] = value
        cutoffs[a, b] = value
    return cutoffs, tuple(dict.fromkeys(notes))


def _first_minimum(trajectory: Trajectory, a: str, b: str) -> float:
    trajectory.atoms_of([a, b])
    hint = f'Give one: --cutoff "{a}-{b}=3 Å".'
    if not trajectory.pbc.all():
        raise InputError(
            f"Without a cell that is periodic in all three directions there is no g(r) to find a cutoff of {a}–{b} in. "
            + hint
        )
    result = rdf(trajectory, elements=(a, b), r_max=RANGE, max_frames=_FRAMES)
    pair = next(one for one in result.pairs if {one.a, one.b} == {a, b})
    if pair.shell_radius is None:
        raise InputError(f"g(r) of {a}–{b} has no minimum below {RANGE:g} Å that a cutoff could be. " + hint)
    return pair.shell_radius.value


class NeighbourSearch:
    """Pairs within the cutoffs in one frame after another."""

    def __init__(self, trajectory: Trajectory, cutoffs: Cutoffs) -> None:
        elements = tuple(dict.fromkeys(element for pair in cutoffs for element in pair))
        self.atoms = trajectory.atoms_of(elements)
        """Indices of the atoms that take part, as they have to be read."""
        kind = {element: index for index, element in enumerate(elements)}
        self._kinds = np.array([kind[symbol] for symbol in trajectory.symbols[self.atoms]])
        self._reach = np.zeros((len(elements), len(elements)))
        for (a, b), cutoff in cutoffs.items():
            self._reach[kind[a], kind[b]] = self._reach[kind[b], kind[a]] = cutoff
        self._periodic = bool(trajectory.pbc.all())
        if trajectory.pbc.any() and not self._periodic:
            raise InputError(
                "Neighbours are looked for in a cell that is periodic in all three directions, or in none."
            )

    def __call__(self, positions: np.ndarray, cell: np.ndarray) -> Neighbours:
        """Pairs of a frame of `atoms`, positions (n_atoms, 3) Å."""
        pbc = np.full(3, self._periodic)
        (i, j), shifts = find_pairs(positions, cell, pbc, float(self._reach.max()))
        vectors = positions[j] - positions[i]
        if self._periodic:
            vectors += shifts @ cell
        near = np.einsum("pi,pi->p", vectors, vectors) <= self._reach[self._kinds[i], self._kinds[j]] ** 2
        return Neighbours(self.atoms[i[near]], self.atoms[j[near]], vectors[near])


def chosen_frames(trajectory: Trajectory, most: int) -> np.ndarray:
    """At most so many frames at equal distances in time."""
    return np.unique(np.linspace(0, trajectory.n_frames - 1, min(most, trajectory.n_frames)).astype(int))
