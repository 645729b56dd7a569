"""How many neighbours atoms have: distributions, averages, and their course."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.blocks import N_BLOCKS, block_of, mean_and_error
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.neighbours import Cutoffs, NeighbourSearch, chosen_frames, settled
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PairCoordination:
    """Atoms b around atoms a."""

    a: str
    b: str
    cutoff: float
    """Å."""
    mean: Estimate
    """Neighbours of an atom."""
    fractions: tuple[Estimate, ...]
    """Part of the atoms a that have 0, 1, 2, ... neighbours."""
    series: np.ndarray
    """(n_frames,) mean over the atoms a, at the times of the result."""

    @property
    def pair(self) -> str:
        """As in ``P–S``, the atom in the middle first."""
        return f"{self.a}–{self.b}"


@dataclass(frozen=True)
class CoordinationResult:
    """Coordination numbers of a trajectory."""

    times: np.ndarray
    """(n_frames,) fs, of the frames that were used."""
    pairs: tuple[PairCoordination, ...]
    notes: tuple[str, ...]
    provenance: Provenance

    name = "coordination"

    def __str__(self) -> str:
        """One line for each pair of elements."""
        lines = [f"{one.mean} {one.b} within {one.cutoff:.2f} Å of {one.a}" for one in self.pairs]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Averages and distributions with errors and provenance; the course is in the CSV file."""
        return {
            "analysis": self.name,
            "pairs": {
                f"{one.a}-{one.b}": {
                    "cutoff_A": one.cutoff,
                    "mean": one.mean.to_dict(),
                    "fractions": {str(n): part.to_dict() for n, part in enumerate(one.fractions) if part.value > 0.0},
                }
                for one in self.pairs
            },
            "n_frames_used": len(self.times),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """Mean coordination numbers at each time."""
        names = ["time [ps]", *(f"{one.a}-{one.b}" for one in self.pairs)]
        columns = [self.times / 1e3, *(one.series for one in self.pairs)]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """Distributions, and the course."""
        from mlmd.analysis.structure_figures import coordination_figure

        return coordination_figure(self)


def coordination(
    trajectory: Trajectory,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    cutoffs: Cutoffs | None = None,
    max_frames: int = 1000,
) -> CoordinationResult:
    """Numbers of atoms b within a cutoff of atoms a, an atom's own images included.

    The error of a mean is that of a correlated series (`mlmd.analysis.estimate.average`), that of the distribution
    the scatter of ten parts of the trajectory.

    Args:
        trajectory: periodic in all directions, or in none.
        pairs: of elements, the one in the middle first; by default those of `cutoffs` in both orders, or all.
        cutoffs: Å; by default the first minimum of g(r) of each pair.
        max_frames: at most so many frames, at equal distances in time, are used.

    Raises:
        InputError: for unknown elements, and cutoffs that are neither given nor found.
    """
    if max_frames < 1:
        raise InputError(f"max_frames = {max_frames}: at least one frame is needed.")
    both = [pair for a, b in (cutoffs or {}) for pair in ((a, b), (b, a))]
    every = [(a, b) for a in trajectory.elements for b in trajectory.elements]
    wanted = list(dict.fromkeys(pairs or both or every))
    reach, notes = settled(trajectory, wanted, cutoffs)
    search = NeighbourSearch(trajectory, reach)
    frames = chosen_frames(trajectory, max_frames)
    symbols = trajectory.symbols
    histograms = [np.zeros((len(frames), 8)) for _ in wanted]  # (n_frames, most neighbours + 1), grows
    means = np.zeros((len(wanted), len(frames)))
    for row, frame in enumerate(frames.tolist()):
        part = next(trajectory.chunks(frame, frame + 1, atoms=search.atoms))
        found = search(part.positions[0], part.cells[0])
        for index, (a, b) in enumerate(wanted):
            chosen = (symbols[found.i] == a) & (symbols[found.j] == b)
            counts = np.bincount(found.i[chosen], minlength=trajectory.n_atoms)[symbols == a]
            means[index, row] = counts.mean()
            histogram = np.bincount(counts)
            short = len(histogram) - histograms[index].shape[1]
            if short > 0:
                histograms[index] = np.pad(histograms[index], ((0, 0), (0, short)))
            histograms[index][row, : len(histogram)] = histogram / len(counts)
    results = tuple(
        PairCoordination(a, b, reach[a, b], average(series, ""), _fractions(histogram), series)
        for (a, b), series, histogram in zip(wanted, means, histograms, strict=True)
    )
    return CoordinationResult(
        trajectory.times[frames], results, (*notes, *trajectory.provenance.notes), trajectory.provenance
    )


def _fractions(histogram: np.ndarray) -> tuple[Estimate, ...]:
    """Mean over frames (n_frames, n) and its error from blocks, up to the largest number that occurs."""
    count = min(N_BLOCKS, len(histogram))
    block = block_of(len(histogram), count)
    parts = np.stack([histogram[block == number].mean(axis=0) for number in range(count)])
    mean, error = mean_and_error(parts)
    last = int(np.flatnonzero(mean)[-1]) if mean.any() else 0
    return tuple(
        Estimate(float(value), float(spread) if math.isfinite(spread) else math.nan, "", float(count))
        for value, spread in zip(mean[: last + 1], error[: last + 1], strict=True)
    )
