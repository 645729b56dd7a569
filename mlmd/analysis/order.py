"""Bond-orientational order of the neighbours of atoms.

P. J. Steinhardt, D. R. Nelson, M. Ronchetti, Phys. Rev. B 1983, 28, 784.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import eval_legendre

from mlmd.analysis.adf import pairs_of_neighbours
from mlmd.analysis.blocks import N_BLOCKS, block_of, mean_and_error
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.neighbours import Cutoffs, Neighbours, NeighbourSearch, chosen_frames, settled
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEGREES = (4, 6)
"""l that are computed when none are given."""
N_BINS = 100
"""Of the distribution between 0 and 1."""


@dataclass(frozen=True)
class PairOrder:
    """Order of the atoms b around atoms a."""

    a: str
    b: str
    cutoff: float
    """Å."""
    means: tuple[Estimate, ...]
    """⟨q_l⟩ over the atoms a that have neighbours, for each l."""
    densities: np.ndarray
    """(n_degrees, n_bins, 2) distribution of q_l, whose integral over q_l is 1, and its error."""

    @property
    def pair(self) -> str:
        """As in ``P–S``, the atom in the middle first."""
        return f"{self.a}–{self.b}"


@dataclass(frozen=True)
class OrderResult:
    """Bond-orientational order of a trajectory."""

    degrees: tuple[int, ...]
    pairs: tuple[PairOrder, ...]
    n_frames: int
    """Frames that were used."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "order"

    def __str__(self) -> str:
        """One line for each pair of elements."""
        lines = [
            f"{one.b} around {one.a} ({one.cutoff:.2f} Å): "
            + ", ".join(f"q_{degree} = {mean}" for degree, mean in zip(self.degrees, one.means, strict=True))
            for one in self.pairs
        ]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Averages with errors and provenance; the distributions are in the CSV file."""
        return {
            "analysis": self.name,
            "pairs": {
                f"{one.a}-{one.b}": {
                    "cutoff_A": one.cutoff,
                    **{f"q{degree}": mean.to_dict() for degree, mean in zip(self.degrees, one.means, strict=True)},
                }
                for one in self.pairs
            },
            "n_frames_used": self.n_frames,
            "notes": list(self.notes),
            "provenance": self.provenance.to_dict(),
        }

    def to_csv(self) -> str:
        """Distributions of every q_l, with errors."""
        names, columns = ["q"], [(np.arange(N_BINS) + 0.5) / N_BINS]
        for one in self.pairs:
            for degree, density in zip(self.degrees, one.densities, strict=True):
                names += [f"P q{degree} {one.a}-{one.b}", f"P q{degree} {one.a}-{one.b} error"]
                columns += [*density.T]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """Distributions of every q_l."""
        from mlmd.analysis.structure_figures import order_figure

        return order_figure(self)


def order(
    trajectory: Trajectory,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    cutoffs: Cutoffs | None = None,
    degrees: Sequence[int] = DEGREES,
    max_frames: int = 200,
) -> OrderResult:
    """Steinhardt's q_l of atoms, q_l² = 4π/(2l + 1) Σ_m |⟨Y_lm⟩|² with means over the neighbours of an atom.

    By the addition theorem q_l² = ⟨P_l(cos θ_jk)⟩ over all pairs j, k of neighbours, each with itself too. Perfect
    crystals have (q_4, q_6) = (0.191, 0.575) in fcc, (0.097, 0.485) in hcp, and with 8 neighbours (0.509, 0.629) in
    bcc; n neighbours without order have ⟨q_l²⟩ = 1/n. Atoms without neighbours are left out.

    Args:
        trajectory: periodic in all directions, or in none.
        pairs: of elements, the one in the middle first; by default those of `cutoffs` in both orders, or all.
        cutoffs: Å; by default the first minimum of g(r) of each pair.
        degrees: l, 1 or more.
        max_frames: at most so many frames, at equal distances in time, are used.

    Raises:
        InputError: for unknown elements, cutoffs that are neither given nor found, and degrees below 1.
    """
    if not degrees or min(degrees) < 1:
        raise InputError(f"degrees = {list(degrees)}: numbers of 1 or more are needed.")
    both = [pair for a, b in (cutoffs or {}) for pair in ((a, b), (b, a))]
    every = [(a, b) for a in trajectory.elements for b in trajectory.elements]
    wanted = list(dict.fromkeys(pairs or both or every))
    reach, notes = settled(trajectory, wanted, cutoffs)
    search = NeighbourSearch(trajectory, reach)
    frames = chosen_frames(trajectory, max_frames)
    counts = np.zeros((len(wanted), len(degrees), len(frames), N_BINS))
    sums = np.full((len(wanted), len(degrees), len(frames)), np.nan)
    for row, frame in enumerate(frames.tolist()):
        part = next(trajectory.chunks(frame, frame + 1, atoms=search.atoms))
        found = search(part.positions[0], part.cells[0])
        for index, (a, b) in enumerate(wanted):
            for column, values in enumerate(_orders(found, trajectory.symbols, a, b, degrees)):
                bins = np.minimum((values * N_BINS).astype(int), N_BINS - 1)
                counts[index, column, row] = np.bincount(bins, minlength=N_BINS)
                sums[index, column, row] = values.mean() if len(values) else np.nan
    results = tuple(
        PairOrder(
            a, b, reach[a, b], tuple(average(one[np.isfinite(one)], "") for one in sums[index]),
            np.stack([_density(one) for one in counts[index]]),
        )
        for index, (a, b) in enumerate(wanted)
    )  # fmt: skip
    return OrderResult(
        tuple(degrees), results, len(frames), (*notes, *trajectory.provenance.notes), trajectory.provenance
    )


def _orders(found: Neighbours, symbols: np.ndarray, a: str, b: str, degrees: Sequence[int]) -> list[np.ndarray]:
    """q_l of the atoms a of a frame that have neighbours b, (n_atoms,) for each l."""
    chosen = np.flatnonzero((symbols[found.i] == a) & (symbols[found.j] == b))
    if not len(chosen):
        return [np.zeros(0) for _ in degrees]
    first, second = pairs_of_neighbours(found.i, chosen, chosen)
    units = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    cosines = np.einsum("ni,ni->n", units[first], units[second])
    _, atom = np.unique(found.i[first], return_inverse=True)
    n_pairs = np.bincount(atom)
    means = [np.bincount(atom, eval_legendre(degree, cosines)) / n_pairs for degree in degrees]
    return [np.sqrt(np.maximum(one, 0.0)) for one in means]  # rounding may be negative


def _density(counts: np.ndarray) -> np.ndarray:
    """Distribution from counts (n_frames, n_bins), and its error from blocks, (n_bins, 2)."""
    count = min(N_BLOCKS, len(counts))
    block = block_of(len(counts), count)
    parts = np.stack([counts[block == number].sum(axis=0) for number in range(count)])
    totals = parts.sum(axis=1, keepdims=True)
    if not totals.any():
        return np.zeros((counts.shape[1], 2))
    return np.stack(mean_and_error(parts[totals[:, 0] > 0] / totals[totals > 0][:, None] * counts.shape[1]), axis=1)
