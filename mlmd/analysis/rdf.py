"""Radial distribution functions and coordination numbers, of every pair of elements, in any cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.pair_counts import check_pairs, pair_counter
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_BLOCKS = 10
"""Parts of the trajectory whose scatter gives the error."""
_RISE = 0.5
"""Of g(r), half of what it is without order: a tenth of the peak of a bond may be above all that comes after it."""


@dataclass(frozen=True)
class PairDistribution:
    """How atoms b are arranged around atoms a."""

    a: str
    b: str
    g: np.ndarray
    """(n_bins,) 1 without correlation."""
    g_error: np.ndarray
    """(n_bins,) standard error; nan when there are too few frames."""
    coordination: np.ndarray
    """(n_bins,) mean number of atoms b within the outer edge of the bin around an atom a."""
    coordination_error: np.ndarray
    """(n_bins,)."""
    peak: Estimate | None
    """Distance of the first peak, Å; None where there is none."""
    first_shell: Estimate | None
    """Coordination number up to the minimum after the first peak; None where there is no minimum."""
    shell_radius: Estimate | None
    """Where that minimum is, Å."""

    @property
    def pair(self) -> str:
        """As in ``Li–Cl``."""
        return f"{self.a}–{self.b}"


@dataclass(frozen=True)
class RDFResult:
    """Radial distribution functions of a trajectory."""

    distances: np.ndarray
    """(n_bins,) Å, middles of the bins."""
    edges: np.ndarray
    """(n_bins + 1,) Å."""
    pairs: tuple[PairDistribution, ...]
    n_frames: int
    """Frames that were used."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "rdf"

    def __str__(self) -> str:
        """One line for each pair of elements."""
        return "\n".join([*(f"g({one.pair}): {_summary(one)}" for one in self.pairs), *self.provenance.notes])

    def to_json(self) -> dict[str, Any]:
        """Peaks and coordination numbers with errors and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "pairs": {f"{one.a}-{one.b}": _pair_json(one) for one in self.pairs},
            "r_max_A": float(self.edges[-1]),
            "bin_A": float(self.edges[1] - self.edges[0]),
            "n_frames_used": self.n_frames,
            "notes": list(self.notes),
            "provenance": self.provenance.to_dict(),
        }

    def to_csv(self) -> str:
        """g and coordination number of every pair, with errors."""
        names, columns = ["r [Å]"], [self.distances]
        for one in self.pairs:
            label = f"{one.a}-{one.b}"
            names += [f"g {label}", f"g {label} error", f"n {label}", f"n {label} error"]
            columns += [one.g, one.g_error, one.coordination, one.coordination_error]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """g(r) and coordination numbers."""
        from mlmd.analysis.figures import rdf_figure

        return rdf_figure(self)


def rdf(
    trajectory: Trajectory,
    *,
    elements: Sequence[str] | None = None,
    r_max: float = 10.0,
    bin_width: float = 0.05,
    max_frames: int = 200,
) -> RDFResult:
    """Partial radial distribution functions g_ab(r) = ⟨n_ab(r)⟩ / (N_a ρ_b 4πr² dr) and their integrals.

    n_ab counts all images of atoms b around atoms a, an atom's own images too, and ρ_b = N_b / V: any r_max is right
    in any cell, and the coordination number is exactly the integral of ρ_b g_ab. A gas of N atoms therefore has
    g_aa = 1 - 1/N.

    Args:
        trajectory: periodic in all three directions.
        elements: by default all; pairs of them are looked at.
        r_max: Å.
        bin_width: Å.
        max_frames: at most so many frames, at equal distances in time, are used.

    Raises:
        InputError: without three periodic directions, for unknown elements, a bin that is not smaller than r_max, or
            an r_max with more pairs than can be counted.
    """
    if not trajectory.pbc.all():
        raise InputError("A radial distribution function needs a density: a cell periodic in all three directions.")
    if not 0.0 < bin_width < r_max < math.inf:
        raise InputError(f"r_max = {r_max:g} Å and bin_width = {bin_width:g} Å: needed 0 < bin_width < r_max.")
    chosen = tuple(dict.fromkeys(elements)) if elements else trajectory.elements
    n_atoms = len(trajectory.atoms_of(chosen))
    check_pairs(0.5 * n_atoms**2, trajectory.volume(), r_max, "in every frame")
    edges = np.linspace(0.0, r_max, 1 + max(1, round(r_max / bin_width)))
    frames = np.unique(np.linspace(0, trajectory.n_frames - 1, min(max_frames, trajectory.n_frames)).astype(int))
    blocks = np.array_split(frames, min(N_BLOCKS, len(frames)))
    counts, volumes = block_counts(trajectory, chosen, blocks, edges)
    pairs = tuple(
        _distribution(trajectory, a, b, counts[:, index], volumes, edges)
        for index, (a, b) in enumerate(combinations_with_replacement(chosen, 2))
    )
    middles = 0.5 * (edges[1:] + edges[:-1])
    return RDFResult(middles, edges, pairs, len(frames), _notes(trajectory, r_max), trajectory.provenance)


def block_counts(
    trajectory: Trajectory, elements: Sequence[str], blocks: list[np.ndarray], edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean neighbour counts (n_blocks, n_pairs_of_elements, n_bins) and volumes (n_blocks,) Å³."""
    atoms = trajectory.atoms_of(elements)
    kinds = np.array([list(elements).index(symbol) for symbol in trajectory.symbols[atoms]])
    count = pair_counter(kinds, len(elements), edges)
    counts = np.zeros((len(blocks), len(elements) * (len(elements) + 1) // 2, len(edges) - 1))
    volumes = np.zeros(len(blocks))
    upper = np.triu_indices(len(elements))  # in the order of combinations_with_replacement
    for number, block in enumerate(blocks):
        for frame in block.tolist():
            frames = next(trajectory.chunks(frame, frame + 1, atoms=atoms))
            counts[number] += count(frames.positions[0], frames.cells[0])[upper]
            volumes[number] += abs(np.linalg.det(frames.cells[0]))
        counts[number] /= len(block)
        volumes[number] /= len(block)
    return counts, volumes


def _distribution(
    trajectory: Trajectory, a: str, b: str, counts: np.ndarray, volumes: np.ndarray, edges: np.ndarray
) -> PairDistribution:
    """From the counts of each block (n_blocks, n_bins)."""
    n_a, n_b = len(trajectory.atoms_of([a])), len(trajectory.atoms_of([b]))
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    g, g_error = _mean(counts * volumes[:, None] / (n_a * n_b * shells))
    coordination, coordination_error = _mean(np.cumsum(counts, axis=1) / n_a)
    peak, minimum = _first_shell(g)
    resolution, middles = float(edges[1] - edges[0]) / math.sqrt(12), 0.5 * (edges[1:] + edges[:-1])
    return PairDistribution(
        a, b, g, g_error, coordination, coordination_error,
        None if peak is None else Estimate(float(middles[peak]), resolution, "Å", math.nan),
        None if minimum is None else Estimate(
            float(coordination[minimum]), float(coordination_error[minimum]), "", float(len(counts))
        ),
        None if minimum is None else Estimate(float(edges[minimum + 1]), resolution, "Å", math.nan),
    )  # fmt: skip


def _mean(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over blocks and its standard error, nan for a single block."""
    n = len(blocks)
    error = blocks.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(blocks.shape[1], np.nan)
    return blocks.mean(axis=0), error


def _first_shell(g: np.ndarray) -> tuple[int | None, int | None]:
    """Bins of the first peak and of the minimum after it; None where there is none.

    The curve is averaged over five bins; the first peak is the first maximum that is at least half of the highest. The
    minimum is where the curve rises again by a tenth of the peak; above the sharp peak of a bond, by `_RISE`;
    of a gap in which there is nothing it is the middle, so that a bond that is longer for once is one still.
    """
    smooth = np.convolve(g, np.ones(5) / 5, mode="same")
    if not smooth.max() > 0.0:
        return None, None
    inner = np.arange(1, len(g) - 1)
    maxima = inner[(smooth[1:-1] >= smooth[:-2]) & (smooth[1:-1] > smooth[2:]) & (smooth[1:-1] >= 0.5 * smooth.max())]
    if not len(maxima):
        return None, None
    peak = int(maxima[0])
    after = smooth[peak:]
    rises = np.flatnonzero(after > np.minimum.accumulate(after) + min(0.1 * smooth[peak], _RISE))
    if not len(rises):
        return peak, None
    lowest = np.flatnonzero(after[: rises[0]] == after[: rises[0]].min())
    return peak, peak + int(lowest[len(lowest) // 2])


def _notes(trajectory: Trajectory, r_max: float) -> tuple[str, ...]:
    cell = trajectory.cells.mean(axis=0)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if r_max <= heights.min() / 2:
        return trajectory.provenance.notes
    images = f"beyond {heights.min() / 2:.2f} Å, half of the cell's smallest height, atoms see their periodic images"
    return (*trajectory.provenance.notes, images)


def _summary(one: PairDistribution) -> str:
    if one.peak is None:
        return "no peak"
    shell = "" if one.shell_radius is None else f", {one.first_shell} atoms within {one.shell_radius.value:.2f} Å"
    return f"first peak at {one.peak.value:.2f} Å{shell}"


def _pair_json(one: PairDistribution) -> dict[str, Any]:
    return {
        "first_peak": None if one.peak is None else one.peak.to_dict(),
        "first_shell": None if one.first_shell is None else one.first_shell.to_dict(),
        "first_shell_radius": None if one.shell_radius is None else one.shell_radius.to_dict(),
    }
