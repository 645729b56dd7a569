"""The Einstein relation with an honest error: a straight line through a mean squared displacement.

Neighbouring points of an MSD share most of their data: windows overlap within a lag and between lags, and atoms
may move together. An ordinary fit takes the points as independent and gives errors that are many times too small.
Here the line is fitted by generalised least squares with the covariance of overlapping windows of a Gaussian
process (McCluskey, Coles, Morgan, J. Chem. Theory Comput. 2025, 21, 79; Bullerjahn, von Bülow, Hummer, J. Chem.
Phys. 2020, 153, 024116). The process is the observed one: its variogram is the measured MSD up to the beginning
of the diffusive regime and the fitted line from there. The size of the covariance is that of the observed
fluctuations from window to window, so that atoms that hop together count as few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

CONFIDENCE = 1e-3
"""A line is a fit when a worse one would be seen in at least this fraction of trajectories that are diffusive."""
MIN_WINDOWS = 8
"""Fewest non-overlapping windows of the shortest lag in a fit; below, fluctuations cannot be judged."""
MIN_LAGS = 4
_ITERATIONS = 2
_NO_FLUCTUATION = 1e-20
"""Relative variance between windows that is rounding: ballistic motion, or none."""


@dataclass(frozen=True)
class WindowStatistics:
    """Squared displacements at some lags, as they vary from window to window."""

    n_paths: int
    """Atoms times axes that a squared displacement is the mean of."""
    lags: np.ndarray
    """(n_lags,) frames."""
    mean: np.ndarray
    """(n_lags,) Å², mean over windows and atoms."""
    variance: np.ndarray
    """(n_lags,) Å⁴, variance over windows of the mean over atoms."""
    first_half: np.ndarray
    """(n_lags,) Å², mean over the windows that begin in the first half."""
    second_half: np.ndarray
    """(n_lags,) Å², mean over the windows that begin in the second half."""

    def longer(self, first: int) -> WindowStatistics:
        """The lags from an index on."""
        columns = (self.lags, self.mean, self.variance, self.first_half, self.second_half)
        return WindowStatistics(self.n_paths, *(column[first:] for column in columns))


@dataclass(frozen=True)
class Line:
    """A straight line MSD = slope · lag + intercept through the diffusive regime."""

    slope: float
    """Å² per frame."""
    slope_error: float
    """Å² per frame."""
    intercept: float
    """Å²."""
    first_lag: int
    """Frames; where the diffusive regime begins."""
    last_lag: int
    """Frames; the longest lag of the fit."""
    exponent: float
    """Slope of ln MSD against ln lag in the window: 1 for diffusion without local motion, 0 for a solid."""
    halves: tuple[float, float]
    """Slopes of the windows that begin in the first and in the second half of the trajectory, Å² per frame."""
    relative_variance: float
    """Variance of the MSD at the first lag over its square: 2/3 for one displacement of one atom."""

    @property
    def steady(self) -> bool:
        """Whether the two halves agree within three standard errors of their difference (2 slope_error)."""
        return abs(self.halves[1] - self.halves[0]) <= 6.0 * self.slope_error


def sampled_lags(n_frames: int) -> np.ndarray:
    """Lags from one frame to a quarter of the trajectory in ratios of about 1.2, in frames."""
    longest = max(1, (n_frames - 1) // 4)
    return np.unique(np.rint(np.geomspace(1, longest, 1 + int(np.log(longest) / np.log(1.2)))).astype(int))


def fit_diffusive(statistics: WindowStatistics, msd: np.ndarray, n_frames: int) -> Line | None:
    """The line that begins at the shortest lag from which on the MSD is straight within its error.

    Args:
        statistics: of the squared displacements at `sampled_lags`.
        msd: (n_lags,) Å², at all lags from 0.
        n_frames: length of the trajectory.

    Returns:
        None when no part of the MSD is a line, or the trajectory is too short to tell.
    """
    if not np.all(statistics.variance > _NO_FLUCTUATION * statistics.mean**2):
        return None
    starts = _octaves(statistics.lags, n_frames // MIN_WINDOWS)
    for attempt, first in enumerate(starts):
        _, misfit = _fit(statistics.longer(first), msd, n_frames)
        if chi2.sf(misfit, len(statistics.lags) - first - 2) >= CONFIDENCE:
            # Where local motion was seen, its rest is still there just after it has become too small to be seen.
            margin = starts[min(attempt + 1, len(starts) - 1)] if attempt else first
            return _fit(statistics.longer(margin), msd, n_frames)[0]
    return None


def fit_from(statistics: WindowStatistics, msd: np.ndarray, n_frames: int, first_lag: int) -> Line:
    """The line that begins at a given lag (arguments as for `fit_diffusive`)."""
    return _fit(statistics.longer(int(np.searchsorted(statistics.lags, first_lag))), msd, n_frames)[0]


def _octaves(lags: np.ndarray, longest: int) -> list[int]:
    """Indices of lags, each about twice the one before, at which a fit may begin."""
    chosen, last = [], 0
    for index, lag in enumerate(lags[: 1 - MIN_LAGS]):
        if lag >= 2 * last and lag <= longest:
            chosen.append(index)
            last = lag
    return chosen


def _fit(statistics: WindowStatistics, msd: np.ndarray, n_frames: int) -> tuple[Line, float]:
    """Line through all the lags of the statistics, and its misfit χ²."""
    lags, mean = statistics.lags, statistics.mean
    straight = np.stack([lags, np.ones(len(lags))], axis=1)
    slope, intercept = np.polyfit(lags, mean, 1, w=1.0 / mean)
    for _ in range(_ITERATIONS):
        variogram = _variogram(msd, int(lags[0]), slope, intercept, 2 * int(lags[-1] + lags[0]))
        fits = (
            (*least_squares(straight, mean, noise), noise) for noise in _covariances(statistics, n_frames, variogram)
        )
        (slope, intercept), covariance, misfit, noise = max(fits, key=lambda fit: fit[1][0, 0])
    first, second = (
        least_squares(straight, half, noise)[0][0] for half in (statistics.first_half, statistics.second_half)
    )
    line = Line(
        float(slope), float(np.sqrt(covariance[0, 0])), float(intercept), int(lags[0]), int(lags[-1]),
        float(np.polyfit(np.log(lags), np.log(mean), 1)[0]), (float(first), float(second)),
        float(noise[0, 0] / mean[0] ** 2),
    )  # fmt: skip
    return line, misfit


def _variogram(msd: np.ndarray, first: int, slope: float, intercept: float, size: int) -> np.ndarray:
    """Mean squared displacement at lags 0 to size: as measured before the first lag, the line from there."""
    line = np.maximum(max(slope, 0.0) * np.arange(size + 1) + intercept, 0.0)
    line[:first] = msd[:first]
    return line


def _covariances(statistics: WindowStatistics, n_frames: int, variogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two covariances of the MSD at its lags, Å⁴, each as large as the squared displacements fluctuate.

    Independent paths give the least fluctuation there can be, 2 / n_paths of the Gaussian form. What is seen above it
    is put down either to paths that move together, which have the same form, or to rare hops, which are shot noise: a
    trajectory rarely tells which, so both are tried and the larger error counts. The variance over windows misses
    what all windows share, the variance of their mean: that is taken off the model before they are compared.
    """
    lags = statistics.lags
    gaussian, shots = window_covariance(lags, n_frames, variogram, int(lags[0]))
    short = lags <= max(8 * lags[0], lags[MIN_LAGS - 1])
    weight = 1.0 / (statistics.mean[short] ** 2 * np.sqrt(lags[short]))  # the fewer windows, the less is known
    least = 2.0 / statistics.n_paths
    within = [(variogram[lags] ** 2 - np.diag(gaussian))[short] * weight, (lags - np.diag(shots))[short] * weight]
    excess = statistics.variance[short] * weight - least * within[0]
    together, hops = (max(0.0, float(form @ excess / (form @ form))) for form in within)
    return (least + together) * gaussian, least * gaussian + hops * shots


def window_covariance(
    lags: np.ndarray, n_frames: int, variogram: np.ndarray, memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the means of squared displacements over overlapping windows, up to two factors.

    For a Gaussian process with stationary increments and variogram V(k) = ⟨(x(t + k) - x(t))²⟩, displacements over
    windows of n frames from t and m frames from t + δ have the covariance
    C(δ) = ½ [V(m + δ) + V(n - δ) - V(δ) - V(m - n + δ)], and their squares 2 C². Rare hops add shot noise: the
    fourth cumulant of displacements is proportional to the time o(δ) that two windows have in common.

    Args:
        lags: (n_lags,) frames, increasing.
        n_frames: length of the trajectory.
        variogram: V at lags 0, 1, ..., at least up to 2 (longest lag + memory).
        memory: frames from which on V is a line, so that windows further apart are independent.

    Returns:
        Two (n_lags, n_lags): Σ C(δ)² and Σ o(δ) over all pairs of windows, divided by the number of pairs.
    """
    size = 2 * int(lags[-1]) + memory
    even = np.concatenate([variogram[size:0:-1], variogram[: size + 1]])  # V(-k) = V(k), zero in the middle
    gaussian, shots = np.empty((2, len(lags), len(lags)))
    for row, n in enumerate(lags):
        for column, m in enumerate(lags[row:], start=row):
            first, last = size - m - memory, size + n + memory + 1  # of the offsets, where zero is `size`
            offsets = np.arange(first - size, last - size)
            pairs = np.minimum(n_frames - n, n_frames - m - offsets) - np.maximum(0, -offsets)
            pairs = np.maximum(pairs, 0) / ((n_frames - n) * (n_frames - m))
            common = np.maximum(np.minimum(n, m + offsets) - np.maximum(0, offsets), 0)
            value = even[first + m : last + m] + even[first - n : last - n]
            value = 0.5 * (value - even[first:last] - even[first + m - n : last + m - n])
            gaussian[row, column] = gaussian[column, row] = pairs @ value**2
            shots[row, column] = shots[column, row] = pairs @ common
    return gaussian, shots


def least_squares(
    terms: np.ndarray, values: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Generalised least squares, values ≈ terms @ parameters.

    Args:
        terms: (n, n_parameters).
        values: (n,).
        covariance: (n, n) of the values.

    Returns:
        The parameters, their covariance, and χ² of the residuals (n - n_parameters degrees of freedom).
    """
    variances, vectors = np.linalg.eigh(covariance)
    whiten = (vectors / np.sqrt(np.maximum(variances, 1e-13 * variances[-1]))).T
    design, target = whiten @ terms, whiten @ values
    inverse = np.linalg.inv(design.T @ design)
    parameters = inverse @ design.T @ target
    return parameters, inverse, float(np.sum((target - design @ parameters) ** 2))
