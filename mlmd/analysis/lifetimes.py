"""How long bonds last: intermittent and continuous correlation functions of neighbours, and mean lifetimes.

D. C. Rapaport, Mol. Phys. 1983, 50, 1151; A. Luzar, D. Chandler, Nature 1996, 379, 55.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from mlmd.analysis.blocks import N_BLOCKS, jackknife
from mlmd.analysis.columns import csv_of
from mlmd.analysis.einstein import sampled_lags
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.neighbours import Cutoffs, NeighbourSearch, settled
from mlmd.analysis.paths import check_path
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRANSFORM_BYTES = 128e6
"""Courses of bonds that are transformed at once."""
MOST_BONDS = 5e7
"""Pairs and frames that are bound: about 1 GB while they are sorted."""
_SHORT = 5
"""Frames: shorter lifetimes are not resolved."""


@dataclass(frozen=True)
class Lifetime:
    """Bonds between two elements."""

    a: str
    b: str
    cutoff: float
    """Å."""
    n_bonds: float
    """Mean number in a frame."""
    continuous: np.ndarray
    """(n_lags, 2) S(t), bonds that have not been broken since, and its error."""
    intermittent: np.ndarray
    """(n_lags, 2) C(t), bonds that are there again or still, and its error."""
    lifetime: Estimate
    """ps, mean time from the making of a bond to its breaking."""
    relaxation: Estimate
    """ps, at which C has fallen to 1/e of the way from 1 to what chance leaves."""
    chance: float
    """C at long times: bonds of pairs that have forgotten each other."""

    @property
    def pair(self) -> str:
        """As in ``P–S``."""
        return f"{self.a}–{self.b}"


@dataclass(frozen=True)
class LifetimesResult:
    """Lifetimes of the bonds of a trajectory."""

    lags: np.ndarray
    """(n_lags,) fs, from 0."""
    pairs: tuple[Lifetime, ...]
    notes: tuple[str, ...]
    provenance: Provenance

    name = "bonds"

    def __str__(self) -> str:
        """One line for each pair of elements."""
        lines = [f"{one.pair} within {one.cutoff:.2f} Å: bonds last {one.lifetime}" for one in self.pairs]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Lifetimes with errors and provenance; the correlation functions are in the CSV file."""
        return {
            "analysis": self.name,
            "pairs": {
                f"{one.a}-{one.b}": {
                    "cutoff_A": one.cutoff,
                    "n_bonds": one.n_bonds,
                    "lifetime": one.lifetime.to_dict(),
                    "relaxation_time": one.relaxation.to_dict(),
                    "chance": one.chance,
                }
                for one in self.pairs
            },
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """S and C of every pair of elements, with errors."""
        names, columns = ["lag [ps]"], [self.lags / 1e3]
        for one in self.pairs:
            label = f"{one.a}-{one.b}"
            names += [f"S {label}", f"S {label} error", f"C {label}", f"C {label} error"]
            columns += [*one.continuous.T, *one.intermittent.T]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """S and C over time."""
        from mlmd.analysis.structure_figures import lifetimes_figure

        return lifetimes_figure(self)


def lifetimes(
    trajectory: Trajectory, *, pairs: Sequence[tuple[str, str]] = (), cutoffs: Cutoffs | None = None, gap: float = 0.0
) -> LifetimesResult:
    """Correlations of bonds, S(t) = ⟨h(s) H(s, t)⟩ / ⟨h⟩ and C(t) = ⟨h(s) h(s + t)⟩ / ⟨h⟩, and mean lifetimes.

    h(s) is 1 when two atoms are within the cutoff at time s, and H(s, t) when they have been in every frame from s to
    s + t, but for interruptions that last no longer than `gap`; means are over pairs and over origins s that have
    s + t within the run. C does not fall to zero: a pair may be bound again by chance. The mean lifetime is the time
    that bonds have been there over the number of times that one has broken, so that bonds that are cut off by the ends
    of the run count with what was seen of them. Errors are a jackknife over ten groups of the first atoms of the pairs,
    and at least 1/√n of n breakings.

    Args:
        trajectory: frames at equal intervals, periodic in all directions or in none.
        pairs: of elements; by default those of `cutoffs`, or all.
        cutoffs: Å; by default the first minimum of g(r) of each pair.
        gap: fs, the longest time outside of the cutoff that breaks no bond.

    Raises:
        InputError: for unknown elements, cutoffs that are neither given nor found, cells in which an atom has two
            images within a cutoff, and what has no path (`check_path`).
    """
    check_path(trajectory, "An analysis of bonds", n_least=20)
    if not 0.0 <= gap < math.inf:
        raise InputError(f"gap = {gap:g} fs: a time of zero or more is needed.")
    wanted = list(dict.fromkeys(pairs or cutoffs or combinations_with_replacement(trajectory.elements, 2)))
    reach, notes = settled(trajectory, wanted, cutoffs)
    _check_images(trajectory, max(reach.values()))
    courses = _courses(trajectory, wanted, reach)
    lags = np.append(0, sampled_lags(trajectory.n_frames))
    interval = trajectory.provenance.interval
    results = tuple(
        _lifetime(trajectory, pair, reach[pair], course, lags, math.floor(gap / interval + 1e-6))
        for pair, course in zip(wanted, courses, strict=True)
    )
    short = [
        f"bonds {one.pair} last only {one.lifetime.value * 1e3 / interval:.1f} frames: breakings are missed. "
        "Write frames more often"
        for one in results
        if one.lifetime.determined and one.lifetime.value * 1e3 < _SHORT * interval
    ]
    return LifetimesResult(
        lags * interval, results, (*notes, *short, *trajectory.provenance.notes), trajectory.provenance
    )


def _check_images(trajectory: Trajectory, cutoff: float) -> None:
    if trajectory.pbc.all():
        lowest = float((1.0 / np.linalg.norm(np.linalg.inv(trajectory.cells), axis=1)).min())
        if cutoff > 0.5 * lowest:
            raise InputError(
                f"The cell is only {lowest:.2f} Å across, and a bond of up to {cutoff:.2f} Å could be to several "
                f"images of an atom. Give cutoffs up to {0.5 * lowest:.2f} Å, or a larger cell."
            )


@dataclass(frozen=True)
class _Course:
    """When pairs are bound, sorted by pair and frame."""

    pair: np.ndarray
    """(n_entries,) number of the pair, first atom times n_atoms plus the second."""
    frame: np.ndarray
    """(n_entries,)."""


def _courses(
    trajectory: Trajectory, wanted: list[tuple[str, str]], reach: dict[tuple[str, str], float]
) -> list[_Course]:
    search, symbols = NeighbourSearch(trajectory, reach), trajectory.symbols
    keys: list[list[np.ndarray]] = [[] for _ in wanted]
    frame = n_entries = 0
    for part in trajectory.chunks(atoms=search.atoms):
        for positions, cell in zip(part.positions, part.cells, strict=True):
            found = search(positions, cell)
            for index, (a, b) in enumerate(wanted):
                chosen = (symbols[found.i] == a) & (symbols[found.j] == b)
                chosen &= (found.i < found.j) if a == b else True
                pair = found.i[chosen].astype(np.int64) * trajectory.n_atoms + found.j[chosen]
                keys[index].append(pair * trajectory.n_frames + frame)
                n_entries += len(pair)
            frame += 1
            if n_entries > MOST_BONDS:
                raise InputError(
                    f"More than {MOST_BONDS:.0e} bonds, over all frames: give smaller cutoffs, fewer pairs (--pair), "
                    "or a part of the run (--from, --to)."
                )
    courses = []
    for one in keys:
        pair, at = np.divmod(np.sort(np.concatenate(one)), trajectory.n_frames)
        courses.append(_Course(pair, at))
    return courses


def _lifetime(
    trajectory: Trajectory, pair: tuple[str, str], cutoff: float, course: _Course, lags: np.ndarray, gap: int
) -> Lifetime:
    n_frames, interval = trajectory.n_frames, trajectory.provenance.interval
    group_of = _groups(course.pair // trajectory.n_atoms, trajectory.n_atoms)
    n_groups = int(group_of.max(initial=0)) + 1
    there = np.zeros((n_groups, n_frames))
    np.add.at(there, (group_of, course.frame), 1.0)
    origins = np.cumsum(there, axis=1)[:, n_frames - 1 - lags]  # bonds at s with s + t within the run
    new = np.ones(len(course.pair), dtype=bool)
    new[1:] = (np.diff(course.pair) != 0) | (np.diff(course.frame) > 1 + gap)
    starts = np.flatnonzero(new)
    begin, last = course.frame[starts], course.frame[np.append(starts[1:], len(new))[: len(starts)] - 1]
    lengths = last - begin + 1
    ended = last < n_frames - 1
    lasting = np.zeros((n_groups, n_frames + 1))  # bonds at each time, those that are interrupted counted in
    np.add.at(lasting, (group_of[starts], begin), 1.0)
    np.add.at(lasting, (group_of[starts], last + 1), -1.0)
    lasting = np.cumsum(lasting, axis=1)[:, :n_frames]
    lasting_origins = np.cumsum(lasting, axis=1)[:, n_frames - 1 - lags]
    unbroken = np.stack(
        [np.bincount(group_of[starts], np.maximum(lengths - lag, 0), minlength=n_groups) for lag in lags], axis=1
    )
    again = _products(course, group_of, n_groups, n_frames)[:, lags]
    continuous, intermittent = (
        np.stack(jackknife(np.stack([over, under], axis=1), _quotient), axis=1)
        for over, under in ((unbroken, lasting_origins), (again, origins))
    )
    breakings = np.bincount(group_of[starts], ended, minlength=n_groups)
    times = np.stack([lasting.sum(axis=1) * interval / 1e3, breakings], axis=1)
    n_pairs = len(trajectory.atoms_of([pair[0]])) * len(trajectory.atoms_of([pair[1]]))
    if pair[0] == pair[1]:
        n_pairs = len(trajectory.atoms_of([pair[0]])) * (len(trajectory.atoms_of([pair[0]])) - 1) // 2
    chance = there.sum() / n_frames / max(n_pairs, 1)
    return Lifetime(
        *pair, cutoff, float(there.sum() / n_frames), continuous, intermittent, _mean_life(times, breakings.sum()),
        _relaxation(again, origins, lags * interval / 1e3, chance), float(chance),
    )  # fmt: skip


def _groups(first: np.ndarray, n_atoms: int) -> np.ndarray:
    """Group of each entry: first atoms that have bonds are dealt out to up to ten groups, one after another."""
    atoms, inverse = np.unique(first, return_inverse=True)
    group: np.ndarray = (np.arange(len(atoms)) % N_BLOCKS)[inverse] if len(atoms) else np.zeros(0, dtype=int)
    return group


def _products(course: _Course, group_of: np.ndarray, n_groups: int, n_frames: int) -> np.ndarray:
    """Σ h(s) h(s + t) over the pairs of each group and all s, at all lags, (n_groups, n_frames)."""
    size = fft.next_fast_len(2 * n_frames, real=True)
    spectrum = np.zeros((n_groups, size // 2 + 1))
    pairs, row = np.unique(course.pair, return_inverse=True)
    group = np.zeros(len(pairs), dtype=int)
    group[row] = group_of
    edges = np.searchsorted(row, np.arange(0, len(pairs) + 1))  # entries are sorted by pair
    n_block = max(1, int(TRANSFORM_BYTES / (24 * size)))
    for first in range(0, len(pairs), n_block):
        last = min(first + n_block, len(pairs))
        part = slice(edges[first], edges[last])
        bound = np.zeros((last - first, n_frames))
        bound[row[part] - first, course.frame[part]] = 1.0
        power = np.abs(fft.rfft(bound, size, axis=1)) ** 2
        np.add.at(spectrum, group[first:last], power)
    products: np.ndarray = np.maximum(fft.irfft(spectrum, size, axis=1)[:, :n_frames], 0.0)
    return products


def _quotient(sums: np.ndarray) -> np.ndarray:
    return np.divide(sums[0], sums[1], out=np.full(sums[0].shape, np.nan), where=sums[1] > 0)


def _mean_life(times: np.ndarray, n: float) -> Estimate:
    """Time over breakings of groups (n_groups, 2); not determined without breakings."""
    if n < 1:
        return Estimate(math.nan, math.nan, "ps", 0.0)
    value, error = (float(x) for x in jackknife(times, lambda sums: np.array(sums[0] / max(sums[1], 0.5))))
    return Estimate(value, max(value / math.sqrt(n), error if math.isfinite(error) else 0.0), "ps", float(n))


def _relaxation(again: np.ndarray, origins: np.ndarray, times: np.ndarray, chance: float) -> Estimate:
    """When (C - chance) / (1 - chance) has fallen to 1/e, by interpolation between lags."""

    def crossing(sums: np.ndarray) -> np.ndarray:
        values = (_quotient(sums) - chance) / (1.0 - chance)
        below = values < math.exp(-1.0)
        if not below.any():
            return np.array(math.nan)
        k = int(np.argmax(below))
        part = (values[k - 1] - math.exp(-1.0)) / (values[k - 1] - values[k])
        return np.array(times[k - 1] + part * (times[k] - times[k - 1]))

    if not origins.any() or chance >= 1.0:
        return Estimate(math.nan, math.nan, "ps", 0.0)
    value, error = (float(x) for x in jackknife(np.stack([again, origins], axis=1), crossing))
    return Estimate(value, error, "ps", float(len(again)) if math.isfinite(value) else 0.0)
