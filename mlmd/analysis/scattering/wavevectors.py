"""Wavevectors that a periodic cell allows: half of the points of its reciprocal lattice, in shells of length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlmd.errors import InputError

MAX_POINTS = 2e7
"""Points of the reciprocal lattice that are looked at: about 1 GB while they are sorted into shells."""


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
        InputError: when there is no point up to q_max, or there are more than `MAX_POINTS`.
    """
    indices, lengths = _half_space(cell, q_max)
    if not len(indices):
        smallest = np.linalg.norm(reciprocal(cell), axis=1).min()
        raise InputError(
            f"q_max = {q_max:g} 1/Å: the cell allows no wavevector up to there; its smallest is {smallest:.3g} 1/Å."
        )
    raw = np.minimum((lengths / bin_width).astype(np.int64), int(np.ceil(q_max / bin_width - 1e-9)) - 1)
    n_all = np.bincount(raw)
    part = np.ones(len(n_all)) if points_per_bin is None else points_per_bin / np.maximum(n_all, 1)
    _, row = np.unique(indices[:, 0] * (np.abs(indices[:, 1]).max() + 1) + np.abs(indices[:, 1]), return_inverse=True)
    kept = np.flatnonzero(np.random.default_rng(seed).random(row.max() + 1)[row] < part[raw])
    kept = kept[np.argsort(raw[kept], kind="stable")]
    there, bins, n_points = np.unique(raw[kept], return_inverse=True, return_counts=True)
    n_all = n_all[there]
    q = np.add.reduceat(lengths[kept], np.cumsum(n_points) - n_points) / n_points
    return Wavevectors(indices[kept], lengths[kept], bins, q, n_points, n_all)


def _half_space(cell: np.ndarray, q_max: float) -> tuple[np.ndarray, np.ndarray]:
    """Points h > 0, or h = 0 and k > 0, or h = k = 0 and l > 0, with their lengths, plane by plane."""
    rows = reciprocal(cell)
    # |h| = |q · a₁| / 2π is at most |q| |a₁| / 2π
    n = np.floor(q_max * np.linalg.norm(cell, axis=1) / (2.0 * np.pi) * (1.0 + 1e-12)).astype(int)
    expected = 2.0 / 3.0 * np.pi * q_max**3 / abs(np.linalg.det(rows))
    if expected > MAX_POINTS:
        largest = q_max * (MAX_POINTS / expected) ** (1 / 3)
        raise InputError(
            f"q_max = {q_max:g} 1/Å means {expected:.1e} wavevectors in this cell; at most {MAX_POINTS:.0e} can be "
            f"looked at. Give a q_max up to {largest:.3g} 1/Å, or take S(q) from g(r)."
        )
    grids = np.meshgrid(np.arange(-n[1], n[1] + 1), np.arange(-n[2], n[2] + 1), indexing="ij")
    k, ell = (axis.ravel() for axis in grids)
    plane = k[:, None] * rows[1] + ell[:, None] * rows[2]
    indices, lengths = [], []
    for h in range(n[0] + 1):
        length = np.linalg.norm(plane + h * rows[0], axis=1)
        inside = length <= q_max * (1.0 + 1e-12)
        if h == 0:
            inside &= (k > 0) | ((k == 0) & (ell > 0))
        indices.append(np.stack([np.full(inside.sum(), h), k[inside], ell[inside]], axis=1))
        lengths.append(length[inside])
    return np.concatenate(indices), np.concatenate(lengths)
