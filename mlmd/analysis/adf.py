"""Angular distributions of triplets of atoms within cutoffs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.blocks import N_BLOCKS, jackknife, mean_and_error
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.neighbours import Cutoffs, Neighbours, NeighbourSearch, chosen_frames, settled
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Triplet = tuple[str, str, str]
"""Elements, the centre in the middle."""


@dataclass(frozen=True)
class Angles:
    """Angles a–b–c at central atoms b."""

    triplet: Triplet
    density: np.ndarray
    """(n_bins,) 1/degree, of which the sum times the bin is 1; zero where there is no such angle."""
    density_error: np.ndarray
    """(n_bins,)."""
    per_center: Estimate
    """Mean number of such angles at a centre."""
    mean: Estimate
    """Degrees."""
    peak: Estimate | None
    """Degrees, of the highest part of the distribution, averaged over three bins; None without angles."""

    @property
    def name(self) -> str:
        """As in ``S–P–S``."""
        return "–".join(self.triplet)


@dataclass(frozen=True)
class ADFResult:
    """Angular distributions of a trajectory."""

    angles: np.ndarray
    """(n_bins,) degrees, middles of the bins."""
    edges: np.ndarray
    """(n_bins + 1,) degrees."""
    triplets: tuple[Angles, ...]
    cutoffs: dict[tuple[str, str], float]
    """Å."""
    n_frames: int
    """Frames that were used."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "adf"

    def __str__(self) -> str:
        """One line for each triplet."""
        lines = [
            f"{one.name}: {one.mean} on average, {one.per_center} at a centre" if one.peak else f"{one.name}: no angles"
            for one in self.triplets
        ]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Means and peaks with errors and provenance; the distributions are in the CSV file."""
        return {
            "analysis": self.name,
            "triplets": {
                "-".join(one.triplet): {
                    "mean": one.mean.to_dict(),
                    "peak": None if one.peak is None else one.peak.to_dict(),
                    "per_center": one.per_center.to_dict(),
                }
                for one in self.triplets
            },
            "cutoffs_A": {"-".join(pair): value for pair, value in self.cutoffs.items()},
            "bin_deg": float(self.edges[1]),
            "n_frames_used": self.n_frames,
            "notes": list(self.notes),
            "provenance": self.provenance.to_dict(),
        }

    def to_csv(self) -> str:
        """The density of angles, and that over its value for atoms without order."""
        names, columns = ["angle [deg]"], [self.angles]
        for one in self.triplets:
            label = "-".join(one.triplet)
            names += [f"P {label} [1/deg]", f"P {label} error", f"g {label}"]
            columns += [one.density, one.density_error, one.density / _unordered(self.edges)]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """Densities of angles, and over sin θ."""
        from mlmd.analysis.structure_figures import adf_figure

        return adf_figure(self)


def adf(
    trajectory: Trajectory,
    *,
    triplets: Sequence[Triplet] = (),
    cutoffs: Cutoffs | None = None,
    bin_width: float = 1.0,
    max_frames: int = 200,
) -> ADFResult:
    """Distributions of the angles between neighbours a and c of atoms b, P(θ) with ∫ P dθ = 1.

    Neighbours are within the cutoff of a–b and of b–c; every unordered pair of neighbours counts once. Neighbours
    without order have P = sin θ / 2 (per radian), and g = P over that is 1. Errors are a jackknife over ten parts of
    the trajectory.

    Args:
        trajectory: periodic in all directions, or in none.
        triplets: elements, the centre in the middle; by default all that the pairs of `cutoffs` make, or all.
        cutoffs: Å; by default the first minimum of g(r) of each pair.
        bin_width: degrees.
        max_frames: at most so many frames, at equal distances in time, are used.

    Raises:
        InputError: for unknown elements, and cutoffs that are neither given nor found.
    """
    if not 0.0 < bin_width <= 90.0:
        raise InputError(f"bin_width = {bin_width:g}: needed 0 < bin_width <= 90 degrees.")
    wanted = list(dict.fromkeys(triplets)) or _all_triplets(trajectory, cutoffs)
    pairs = list(dict.fromkeys(pair for a, b, c in wanted for pair in ((b, a), (b, c))))
    reach, notes = settled(trajectory, pairs, cutoffs)
    edges = np.linspace(0.0, 180.0, 1 + max(2, round(180.0 / bin_width)))
    frames = chosen_frames(trajectory, max_frames)
    blocks = np.array_split(frames, min(N_BLOCKS, len(frames)))
    search = NeighbourSearch(trajectory, reach)
    counts = np.zeros((len(blocks), len(wanted), len(edges) - 1))
    sums = np.zeros((len(blocks), len(wanted)))
    for number, block in enumerate(blocks):
        for frame in block.tolist():
            part = next(trajectory.chunks(frame, frame + 1, atoms=search.atoms))
            found = search(part.positions[0], part.cells[0])
            for index, triplet in enumerate(wanted):
                angles = _angles(found, trajectory.symbols, triplet)
                counts[number, index] += np.histogram(angles, edges)[0]
                sums[number, index] += angles.sum()
    n_frames = np.array([len(block) for block in blocks])
    results = tuple(
        _distribution(trajectory, one, counts[:, index], sums[:, index], n_frames, edges)
        for index, one in enumerate(wanted)
    )
    middles = 0.5 * (edges[1:] + edges[:-1])
    return ADFResult(
        middles, edges, results, reach, len(frames), (*notes, *trajectory.provenance.notes), trajectory.provenance
    )


def _all_triplets(trajectory: Trajectory, cutoffs: Cutoffs | None) -> list[Triplet]:
    """Of all elements, or of those pairs whose cutoffs are given."""
    elements = trajectory.elements
    bound = None if not cutoffs else {frozenset(pair) for pair in cutoffs}
    return [
        (a, b, c)
        for b in elements
        for a, c in combinations_with_replacement(elements, 2)
        if bound is None or {frozenset((a, b)), frozenset((b, c))} <= bound
    ]


def _angles(found: Neighbours, symbols: np.ndarray, triplet: Triplet) -> np.ndarray:
    """Angles of a frame in degrees, (n,), every pair of neighbours once."""
    a, center, c = triplet
    at_center = symbols[found.i] == center
    sides = [np.flatnonzero(at_center & (symbols[found.j] == end)) for end in (a, c)]
    if not all(len(side) for side in sides):
        return np.zeros(0)
    first, second = pairs_of_neighbours(found.i, *sides)
    if a == c:
        first, second = first[first < second], second[first < second]
    u, v = found.vectors[first], found.vectors[second]
    # The arctangent keeps its digits near 0 and 180 degrees, where the arccosine loses half of them.
    across = np.linalg.norm(np.cross(u, v), axis=1)
    angles: np.ndarray = np.degrees(np.arctan2(across, np.einsum("ni,ni->n", u, v)))
    return angles


def pairs_of_neighbours(i: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All combinations of entries of two lists of pairs that have the same first atom; both lists are sorted by it."""
    starts, ends = np.searchsorted(i[second], i[first]), np.searchsorted(i[second], i[first], side="right")
    n_of = ends - starts
    left = np.repeat(first, n_of)
    within = np.arange(n_of.sum()) - np.repeat(np.cumsum(n_of) - n_of, n_of)
    return left, second[np.repeat(starts, n_of) + within]


def _distribution(
    trajectory: Trajectory, triplet: Triplet, counts: np.ndarray, sums: np.ndarray, n_frames: np.ndarray,
    edges: np.ndarray,
) -> Angles:  # fmt: skip
    totals = counts.sum(axis=1)
    n_centers = len(trajectory.atoms_of([triplet[1]]))
    per_center, per_center_error = mean_and_error(totals / n_frames / n_centers)
    number = Estimate(float(per_center), float(per_center_error), "", float(len(counts)))
    if not totals.any():
        empty = np.zeros(len(edges) - 1)
        return Angles(triplet, empty, empty, number, Estimate(math.nan, math.nan, "degrees", 0.0), None)
    pooled = np.concatenate([totals[:, None], sums[:, None], counts], axis=1)
    (mean, *values), (mean_error, *errors) = jackknife(pooled, lambda one: one[1:] / max(one[0], 1.0))
    density, error = np.array(values) / np.diff(edges), np.array(errors) / np.diff(edges)
    best = int(np.argmax(np.convolve(density, np.ones(3) / 3, mode="same")))
    resolution = float(edges[1] / math.sqrt(12))
    return Angles(
        triplet, density, error, number,
        Estimate(float(mean), float(mean_error), "degrees", float(np.count_nonzero(totals))),
        Estimate(float(0.5 * (edges[best] + edges[best + 1])), resolution, "degrees", math.nan),
    )  # fmt: skip


def _unordered(edges: np.ndarray) -> np.ndarray:
    """Density of angles between directions at random, mean over each bin, 1/degree."""
    part: np.ndarray = -0.5 * np.diff(np.cos(np.radians(edges))) / np.diff(edges)
    return part
