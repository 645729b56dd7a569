"""Wavevectors that a periodic cell allows: half of the points of its reciprocal lattice, in shells of length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mlmd.errors import InputError

MAX_POINTS, MAX_DRAWN_FROM = 1e7, 3e8
"""Points of the reciprocal lattice that are used, or among which is drawn: about 1 GB, or half a minute."""


@dataclass(frozen=True)
class Wavevectors:
    """Points q = h b₁ + k b₂ + l b₃ of a reciprocal lattice, one of each pair ±q, sorted into bins of |q|."""

    indices: np.ndarray
    """(n_q, 3) integers h, k, l."""
    lengths: np.ndarray
    """(n_q,) 1/Å, 2π included."""
    bins: np.ndarray
    """(n_q,) number of the bin, from 0 and without gaps, increasing."""
    q: np.ndarray
    """(n_bins,) 1/Å, mean length in each bin."""
    n_points: np.ndarray
    """(n_bins,) points that are used, of the half of reciprocal space."""
    n_all: np.ndarray
    """(n_bins,) points there are."""

    def average(self, values: np.ndarray) -> np.ndarray:
        """Powder average: the mean over the points of each bin, (..., n_q) to (..., n_bins)."""
        starts = np.concatenate([[0], np.cumsum(self.n_points)[:-1]])
        return np.asarray(np.add.reduceat(values, starts, axis=-1) / self.n_points)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Standard error of the powder average from the scatter of the points of a bin; nan where there is only one."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = (self.average(values**2) - self.average(values) ** 2).clip(0.0) / (self.n_points - 1)
        return np.where(self.n_points > 1, np.sqrt(variance), np.nan)


def reciprocal(cell: np.ndarray) -> np.ndarray:
    """Rows b₁, b₂, b₃ with a_i · b_j = 2π δ_ij, 1/Å, of cells (..., 3, 3) Å whose rows are vectors."""
    return 2.0 * np.pi * np.swapaxes(np.linalg.inv(cell), -1, -2)


def wavevectors(
    cell: np.ndarray, q_max: float, bin_width: float, points_per_bin: int | None = None, seed: int = 1
) -> Wavevectors:
    """All points with 0 < |q| ≤ q_max, or about so many in each bin, drawn at random.

    Rows of points along l are drawn, since their sums are cheap (see `density`): a bin of n points takes those of the
    rows whose random number is below points_per_bin / n. Every point of a bin is drawn with the same probability, so
    that the powder average has no bias.

    Args:
        cell: (3, 3) Å, rows are vectors.
        q_max: 1/Å.
        bin_width: 1/Å; empty bins are left out.
        points_per_bin: about so many of the half space in a bin of more; None for all.
        seed: of the draw.

    Raises:
        InputError: when there is no point up to q_max, or there are too many.
    """
    _check_number(cell, q_max, points_per_bin)
    n_bins = int(np.ceil(q_max / bin_width - 1e-9))

    def bins_of(lengths: np.ndarray) -> np.ndarray:
        return np.minimum((lengths / bin_width).astype(np.int64), n_bins - 1)

    n_all = sum((np.bincount(bins_of(each[1]), minlength=n_bins) for each in _planes(cell, q_max)), np.zeros(n_bins))
    part = np.ones(n_bins) if points_per_bin is None else points_per_bin / np.maximum(n_all, 1)
    rng, indices, lengths = np.random.default_rng(seed), [], []
    for some, long in _planes(cell, q_max):
        k = np.abs(some[:, 1])
        kept = rng.random(k.max(initial=0) + 1)[k] < part[bins_of(long)]
        indices.append(some[kept])
        lengths.append(long[kept])
    return _sorted(np.concatenate(indices), np.concatenate(lengths), bins_of, n_all.astype(np.int64))


def _sorted(
    indices: np.ndarray, lengths: np.ndarray, bins_of: Callable[[np.ndarray], np.ndarray], n_all: np.ndarray
) -> Wavevectors:
    """The points in the order of their bins, of which empty ones are left out."""
    raw = bins_of(lengths)
    order = np.argsort(raw, kind="stable")
    there, bins, n_points = np.unique(raw[order], return_inverse=True, return_counts=True)
    lengths = lengths[order]
    q = np.add.reduceat(lengths, np.cumsum(n_points) - n_points) / n_points
    return Wavevectors(indices[order], lengths, bins, q, n_points, n_all[there])


def _check_number(cell: np.ndarray, q_max: float, points_per_bin: int | None) -> None:
    rows = reciprocal(cell)
    smallest = np.linalg.norm(np.array(list(np.ndindex(3, 3, 3)))[1:] @ rows - rows.sum(axis=0), axis=1)
    shortest = float(smallest[smallest > 1e-9].min())
    if shortest > q_max:
        raise InputError(
            f"q_max = {q_max:g} 1/Å: the cell allows no wavevector up to there; its smallest is {shortest:.3g} 1/Å."
        )
    expected = 2.0 / 3.0 * np.pi * q_max**3 / abs(np.linalg.det(rows))
    most = MAX_POINTS if points_per_bin is None else MAX_DRAWN_FROM
    if expected > most:
        largest = q_max * (most / expected) ** (1 / 3)
        raise InputError(
            f"q_max = {q_max:g} 1/Å means {expected:.1e} wavevectors in this cell; at most {most:.0e} can be "
            f"looked at. Give a q_max up to {largest:.3g} 1/Å, or take S(q) from g(r)."
        )


def _planes(cell: np.ndarray, q_max: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points h > 0, or h = 0 and k > 0, or h = k = 0 and l > 0, and their lengths, those of one h at a time."""
    rows = reciprocal(cell)
    # |h| = |q · a₁| / 2π is at most |q| |a₁| / 2π
    n = np.floor(q_max * np.linalg.norm(cell, axis=1) / (2.0 * np.pi) * (1.0 + 1e-12)).astype(int)
    grids = np.meshgrid(np.arange(-n[1], n[1] + 1), np.arange(-n[2], n[2] + 1), indexing="ij")
    k, ell = (axis.ravel() for axis in grids)
    plane = k[:, None] * rows[1] + ell[:, None] * rows[2]
    for h in range(n[0] + 1):
        length = np.linalg.norm(plane + h * rows[0], axis=1)
        inside = length <= q_max * (1.0 + 1e-12)
        if h == 0:
            inside &= (k > 0) | ((k == 0) & (ell > 0))
        yield np.stack([np.full(inside.sum(), h), k[inside], ell[inside]], axis=1), length[inside]
