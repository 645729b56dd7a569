"""A free energy on a grid with what its error and its convergence are told from: estimates of parts of the run.

The error is a jackknife over blocks in time, each left out in turn: σ² = (n - 1)/n Σ (F₋ᵢ - F̄)². Blocks longer than the
correlation time make it right for correlated samples, and it knows the error of differences as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.special import logsumexp

from mlmd.analysis.abf import Axis
from mlmd.analysis.estimate import Estimate

N_PARTS = 40
"""Parts of a run, of which blocks are made."""
N_BLOCKS = 10
"""Blocks of the jackknife."""
LEFT_OUT = 0.25
"""Of a run with a growing bias: the beginning, in which the bias changes too fast for weights to mean something."""


@dataclass(frozen=True)
class Course:
    """One free energy and its estimates from parts of a run."""

    axes: tuple[Axis, ...]
    values: np.ndarray
    """(*shape) eV, nan where not known."""
    left_out: np.ndarray | None
    """(n_blocks, *shape) eV, without one block each, up to a constant each; None where there are no blocks."""
    fractions: np.ndarray
    """(n,) of the run."""
    so_far: np.ndarray
    """(n, *shape) eV, from the run up to there."""
    unsteady: bool = False
    """Whether the free energy is what a bias has come to, which goes on moving about it: its motion in the second half
    of the run, Σ (F_t - F̄)²/n, belongs to σ² then."""
    blur: np.ndarray | None = None
    """(*shape) eV, up to a constant: what the width of kernels does to the free energy, which belongs to the error."""

    def difference(self, point: int, other: int) -> Estimate:
        """F(point) - F(other) of flat indices, eV."""
        flat = self.values.ravel()
        value = float(flat[point] - flat[other])
        if self.left_out is None:
            return Estimate(value, math.nan, "eV", math.nan)
        n = len(self.left_out)
        several, moving = self.left_out.reshape(n, flat.size), self._moving.reshape(len(self._moving), flat.size)
        error = _error(several[:, point] - several[:, other], moving[:, point] - moving[:, other])
        blurred = 0.0 if self.blur is None else float(self.blur.flat[point] - self.blur.flat[other])
        return Estimate(value, float(np.hypot(error, blurred)), "eV", float(n))

    def errors(self, kt: float) -> np.ndarray:
        """(*shape) eV, of the free energy whose Boltzmann factors sum up to one; nan where a block alone was there."""
        if self.left_out is None:
            return np.full(self.values.shape, np.nan)
        left_out, moving = (
            np.array([normalised(one, kt) for one in several]).reshape(-1, *self.values.shape)
            for several in (self.left_out, self._moving)
        )
        error = _error(left_out, moving)
        if self.blur is None:
            return error
        return np.hypot(error, normalised(self.values + self.blur, kt) - normalised(self.values, kt))

    @property
    def _moving(self) -> np.ndarray:
        """(n, *shape) eV, at moments of the second half; none where it does not count."""
        return self.so_far[len(self.so_far) // 2 :] if self.unsteady else self.so_far[:0]


def _error(left_out: np.ndarray, moving: np.ndarray) -> np.ndarray:
    n = len(left_out)
    variance = (n - 1) / n * np.sum((left_out - left_out.mean(axis=0)) ** 2, axis=0)
    return np.asarray(np.sqrt(variance + (moving.var(axis=0) if len(moving) else 0.0)))


def normalised(values: np.ndarray, kt: float) -> np.ndarray:
    """The free energy (eV) moved so that its Boltzmann factors sum up to one."""
    known = np.isfinite(values)
    return values + kt * float(logsumexp(-values[known] / kt)) if known.any() else values


def from_density(density: np.ndarray, kt: float) -> np.ndarray:
    """-kT ln P, eV; nan where there is none."""
    with np.errstate(divide="ignore"):
        return np.where(density > 0, -kt * np.log(np.where(density > 0, density, 1.0)), np.nan)


def course_of(
    axes: tuple[Axis, ...], parts: np.ndarray, kt: float, *, first: int = 0, values: np.ndarray | None = None,
    so_far: np.ndarray | None = None,
) -> Course:  # fmt: skip
    """A free energy from unnormalised densities of parts of the run.

    Args:
        axes: of the grid.
        parts: (n_parts, *shape).
        kt: eV.
        first: part with which the blocks begin.
        values: (*shape) eV, where the free energy comes from elsewhere, and the parts give the error alone.
        so_far: (n_parts, *shape) eV, likewise: what it was at the end of each part.
    """
    blocks = np.array([block.sum(axis=0) for block in np.array_split(parts[first:], blocks_in(len(parts) - first))])
    left_out = np.array([from_density(blocks.sum(axis=0) - block, kt) for block in blocks])
    left_out[:, (blocks > 0).sum(axis=0) < 2] = np.nan  # who was there once only is not known without it
    sums = np.cumsum(parts[first if values is None else 0 :], axis=0)
    if values is None:
        so_far = np.array([from_density(one, kt) for one in sums])
    assert so_far is not None
    fractions = np.arange(len(parts) - len(so_far) + 1, len(parts) + 1) / len(parts)
    return Course(
        axes, so_far[-1] if values is None else values, left_out if len(blocks) > 1 else None, fractions, so_far,
        unsteady=values is not None,
    )  # fmt: skip


def growth_of_error(parts: np.ndarray) -> float:
    """The error from blocks over that from the parts that they are made of: 1 where parts are independent.

    Up to √(n_parts/n_blocks) where the run goes to and fro more slowly than a part is long, and the error of longer
    blocks would be larger still (the plateau of Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989)). Of the share
    of the samples below a place, where it is largest, as slow motion from one side to the other shows there, and not
    in single bins; along the axis where it grows most.

    Args:
        parts: (n_parts, *shape), unnormalised densities of parts of the run in the order of time.
    """
    grown = 1.0
    for axis in range(1, parts.ndim):
        others = tuple(n for n in range(1, parts.ndim) if n != axis)
        below = np.cumsum(parts.sum(axis=others), axis=1)
        errors = []
        for n in (blocks_in(len(parts)), len(parts)):
            blocks = np.array([block.sum(axis=0) for block in np.array_split(below, n)])
            rest = blocks.sum(axis=0) - blocks
            if not (rest[:, -1] > 0).all():
                return math.nan
            errors.append(float(_error(rest / rest[:, -1:], rest[:0]).max()))
        if errors[1] > 0:
            grown = max(grown, errors[0] / errors[1])
    return grown


def seen_twice(course: Course) -> Course:
    """Samples of a free energy without the places where a single block has been: those have no error.

    One far visit to the edge of an umbrella weighs as much as thousands beneath it, and would pass for the minimum.
    """
    if course.left_out is None:
        return course
    once = ~np.isfinite(course.left_out).all(axis=0)
    return course if once.all() else replace(course, values=np.where(once, np.nan, course.values))


def blocks_in(n_parts: int) -> int:
    """How many blocks are made of parts."""
    return max(1, min(N_BLOCKS, n_parts))


def cut(n: int, n_parts: int = N_PARTS) -> list[slice]:
    """n things in order, in parts of about the same length."""
    edges = np.linspace(0, n, min(n_parts, n) + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]


def cut_times(times: np.ndarray, n_parts: int = N_PARTS) -> np.ndarray:
    """(n,) which part of the time each moment belongs to."""
    start, end = float(times.min()), float(times.max())
    share = (times - start) / (end - start) if end > start else np.zeros(len(times))
    return np.minimum((share * n_parts).astype(int), n_parts - 1)


def histogram(
    axes: Sequence[Axis], samples: np.ndarray, weights: np.ndarray, lengths: Sequence[float | None]
) -> np.ndarray:
    """(*shape) sums of weights of samples (n, n_dim) in bins; those outside are left out.

    A variable with a period, whose length `lengths` has, counts where it lies in the period that begins with its axis,
    which may end before the period does.
    """
    edges = [np.linspace(axis.minimum, axis.maximum, axis.n_bins + 1) for axis in axes]
    places = samples.copy()
    for number, (axis, length) in enumerate(zip(axes, lengths, strict=True)):
        if length is not None:
            places[:, number] = axis.minimum + (places[:, number] - axis.minimum) % length
    return np.histogramdd(places, edges, weights=weights)[0]
