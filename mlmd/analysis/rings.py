"""Rings of a network, as in silicon, silica and other glasses: how many of each size, and who is in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.neighbours import Cutoffs, chosen_frames, settled
from mlmd.analysis.ring_search import Network, primitive_rings
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory
from mlmd.pairs import find_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 12
"""Atoms of a ring, where all count."""
LARGEST_COUNTED = 24
"""Atoms of a ring, where those of some elements count."""
MOST_WALKS = 1e6
"""From one atom to the other side of the largest rings: twelve neighbours have no network, and endless rings."""


@dataclass(frozen=True)
class RingSize:
    """Rings of one size."""

    n: int
    """Atoms that count."""
    per_atom: Estimate
    """Rings, per atom that counts."""
    through: Estimate
    """Rings that an atom is in: n times as many."""
    share: Estimate
    """Part of the atoms that are in one at least."""
    series: np.ndarray
    """(n_frames,) rings per atom at the times of the result."""


@dataclass(frozen=True)
class RingsResult:
    """Rings of a trajectory."""

    sizes: tuple[RingSize, ...]
    """Of which there are any, the smallest first."""
    counted: tuple[str, ...]
    """Elements whose atoms are the size of a ring."""
    n_counted: int
    """Atoms of these."""
    bonds: dict[tuple[str, str], float]
    """Å below which the atoms of a pair of elements are bonded."""
    largest: int
    """Atoms, of all elements, of the largest rings that were looked for."""
    outside: Estimate
    """Part of the atoms that are in no ring."""
    times: np.ndarray
    """(n_frames,) fs, of the frames that were used."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "rings"

    def __str__(self) -> str:
        """One line for each size."""
        lines = [
            f"rings of {one.n} {'–'.join(self.counted)}: {one.per_atom} per atom, {one.through} through each, "
            f"{one.share} of the atoms in one"
            for one in self.sizes
        ]
        return "\n".join([*(lines or ["no rings"]), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors and provenance; the course is in the CSV file."""
        return {
            "analysis": self.name,
            "definition": "primitive (shortest path)",
            "sizes": {
                str(one.n): {
                    "rings_per_atom": one.per_atom.to_dict(), "rings_through_an_atom": one.through.to_dict(),
                    "share_of_atoms": one.share.to_dict(),
                }
                for one in self.sizes
            },
            "counted": list(self.counted),
            "n_counted": self.n_counted,
            "cutoffs_A": {f"{a}-{b}": length for (a, b), length in self.bonds.items()},
            "largest_atoms": self.largest,
            "share_outside": self.outside.to_dict(),
            "n_frames_used": len(self.times),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }  # fmt: skip

    def to_csv(self) -> str:
        """Rings per atom of each size at each time."""
        names = ["time [ps]", *(f"rings of {one.n} per atom" for one in self.sizes)]
        return csv_of(names, [self.times / 1e3, *(one.series for one in self.sizes)])

    def figure(self) -> Figure:
        """How many rings there are of each size, and the course."""
        from mlmd.analysis.rings_figure import rings_figure

        return rings_figure(self)


def rings(
    trajectory: Trajectory,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    cutoffs: Cutoffs | None = None,
    count: Sequence[str] = (),
    largest: int | None = None,
    max_frames: int = 20,
) -> RingsResult:
    """Primitive (shortest-path) rings of the bonds between some pairs of elements (`mlmd.analysis.ring_search`).

    Diamond has 12 rings of 6 through each atom, 2 per atom; silica has its rings of Si and O in turn, whose size is
    told by their Si with ``count = ["Si"]``: 12 rings of 6 Si through each Si of cristobalite, 6 of 6 and 40 of 8 in
    quartz. A pair of tetrahedra with a common edge is a ring of 2 Si.

    Args:
        trajectory: with any periodicity where cutoffs are given.
        pairs: of elements that are bonded; by default those of `cutoffs`, or that of the only element.
        cutoffs: Å; by default the first minimum of g(r) of each pair.
        count: elements whose atoms are the size of a ring; by default all.
        largest: atoms, of all elements, of the largest rings that are looked for; by default `LARGEST`, or
            `LARGEST_COUNTED` where some elements are counted.
        max_frames: at most so many frames, at equal distances in time, are used.

    Raises:
        InputError: for unknown elements, bonds that are not given and cannot be guessed, rings of fewer than three
            atoms, and bonds that are no network.
    """
    wanted = list(dict.fromkeys(pairs or tuple(cutoffs or ())))
    if not wanted and len(trajectory.elements) > 1:
        a, b = trajectory.elements[:2]
        raise InputError(
            f"Which of {', '.join(trajectory.elements)} are bonded to which? Rings are those of a network of bonds: "
            f"give its pairs (--pair {a}-{b}, as Si-O in silica)."
        )
    wanted = wanted or [(trajectory.elements[0], trajectory.elements[0])]
    size = (LARGEST_COUNTED if count else LARGEST) if largest is None else largest
    if size < 3 or max_frames < 1:
        raise InputError(
            f"largest = {size}, max_frames = {max_frames}: a ring has 3 atoms or more, in 1 frame or more."
        )
    bonds, notes = settled(trajectory, wanted, cutoffs)
    members = trajectory.atoms_of(list(dict.fromkeys(element for pair in wanted for element in pair)))
    symbols = trajectory.symbols[members]
    counts = np.isin(symbols, list(count)) if count else np.ones(len(members), dtype=bool)
    missing = sorted(set(count) - set(symbols[counts].tolist()))
    if missing:
        raise InputError(
            f"{', '.join(missing)} has no bonds of {_names(wanted)}, so no size of a ring can be told by it."
        )
    frames = chosen_frames(trajectory, max_frames)
    found = []
    for frame in frames.tolist():
        part = next(trajectory.chunks(frame, frame + 1, atoms=members))
        network = _network(part.positions[0], part.cells[0], trajectory.pbc, symbols, bonds)
        _check(network, size, bonds)
        found.append(_counts(network, size, counts))
    notes = (*notes, f"rings of more than {size} atoms were not looked for", *trajectory.provenance.notes)
    return RingsResult(
        _sizes(np.array([one for one, _, _ in found]), np.array([one for _, one, _ in found])),
        tuple(dict.fromkeys(symbols[counts].tolist())), int(counts.sum()), bonds, size,
        average(np.array([one for _, _, one in found]), ""), trajectory.times[frames], notes, trajectory.provenance,
    )  # fmt: skip


def _network(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, symbols: np.ndarray, bonds: Cutoffs) -> Network:
    """The bonds of a frame."""
    periodic = np.asarray(pbc)
    if periodic.any():  # shifts stay small, wherever atoms have gone
        box = np.where(periodic[:, None], cell, 0.0)
        positions = positions - np.floor(positions @ np.linalg.pinv(box) + 1e-9) @ box
    kinds, kind = np.unique(symbols, return_inverse=True)
    reach = np.zeros((len(kinds), len(kinds)))
    for (a, b), cutoff in bonds.items():
        first, second = np.searchsorted(kinds, a), np.searchsorted(kinds, b)
        reach[first, second] = reach[second, first] = cutoff
    (i, j), shifts = find_pairs(positions, cell, pbc, float(reach.max()))
    vectors = positions[j] - positions[i] + shifts @ np.where(periodic[:, None], cell, 0.0)
    bonded = np.linalg.norm(vectors, axis=1) <= reach[kind[i], kind[j]]
    return Network(len(positions), i[bonded], j[bonded], shifts[bonded])


def _check(network: Network, largest: int, bonds: Cutoffs) -> None:
    """See that there are few ways to walk.

    Raises:
        InputError: when atoms have too many bonds.
    """
    degree = np.bincount(network.i, minlength=network.n_atoms)
    # a bond that is taken at random leads to an atom with this many others, in the mean
    branches = float((degree * (degree - 1.0)).sum() / max(1, degree.sum()))
    if degree.sum() and max(branches, 1.0) ** (largest // 2) > MOST_WALKS:
        raise InputError(
            f"Atoms have {degree[degree > 0].mean():.3g} bonds of {_names(list(bonds))}, of which rings of {largest} "
            "can be made in too many ways. A network has about four: give the cutoff that tells its bonds (--cutoff), "
            "or fewer atoms of a ring (--largest)."
        )


def _counts(network: Network, largest: int, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rings per atom by their size, (largest + 1,), the part of the atoms that are in one, and in none of any size."""
    n_atoms = int(counts.sum())
    rings_of, member = np.zeros(largest + 1), np.zeros((largest + 1, network.n_atoms), dtype=bool)
    for found in primitive_rings(network, largest).values():
        sizes = counts[found.atoms].sum(axis=1)
        rings_of += np.bincount(sizes, found.weights, largest + 1)
        member[np.repeat(sizes, found.atoms.shape[1]), found.atoms.ravel()] = True
    inside = member[:, counts]
    return rings_of / n_atoms, inside.mean(axis=1), float(1.0 - inside.any(axis=0).mean())


def _sizes(per_atom: np.ndarray, shares: np.ndarray) -> tuple[RingSize, ...]:
    """From the numbers of each frame (n_frames, n_sizes)."""
    return tuple(
        RingSize(
            n, average(per_atom[:, n], ""), average(n * per_atom[:, n], ""), average(shares[:, n], ""), per_atom[:, n]
        )
        for n in range(1, per_atom.shape[1])
        if per_atom[:, n].any()
    )


def _names(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join("–".join(pair) for pair in pairs)
