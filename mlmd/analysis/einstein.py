"""The Einstein relation with an honest error: a straight line through a mean squared displacement.

Neighbouring points of an MSD share most of their data: windows overlap within a lag and between lags. An ordinary
fit takes the points as independent and gives errors that are many times too small. Two things are kept apart here.

How the points are *weighted* is what a model is good for: generalised least squares with the covariance of
overlapping windows of a Gaussian process (Bullerjahn, von Bülow, Hummer, J. Chem. Phys. 2020, 153, 024116;
McCluskey, Coles, Morgan, J. Chem. Theory Comput. 2025, 21, 79) whose variogram is the measured MSD up to the
beginning of the diffusive regime and the fitted line from there. A model that is wrong makes the slope less precise,
not wrong.

How large the *error* is, is measured. Ions that hop together, and hosts that let ions through for a while and then
do not, make D fluctuate slowly, and no model of independent paths knows by how much. The slope is a weighted mean of
squared displacements over time; the variance of a mean is the power of its fluctuations at frequency zero over the
length of the trajectory, and that is the mean square of their slowest cosine waves (Müller, J. Econometrics 2007,
141, 1331; Lazarus, Lewis, Stock, Watson, J. Bus. Econ. Stat. 2018, 36, 541). K waves know it as well as K
independent trajectories would, so the slope has Student's distribution with K degrees of freedom, and the error is
the standard deviation of that, and of the choice of a beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.01
"""A line is one when an earlier and a later beginning disagree as much in at least this fraction of trajectories."""
MIN_WINDOWS = 8
"""Fewest non-overlapping windows of the shortest lag in a fit; below, fluctuations cannot be judged."""
MIN_LAGS = 4
N_WAVES = 8
"""Cosine waves on which fluctuations are looked at, up to a period of a quarter of the trajectory. More would give a
steadier error, and miss what is slower."""
_MIN_WAVES = 4
_AHEAD = 2
"""Octaves of later beginnings with which a line has to agree."""
_AFTER_INERTIA, _AFTER_HOPS = 1, 2
"""Octaves that are left out where other motion was seen, whose rest is still there when it is too small to be seen.
Inertia, which makes the MSD rise ever faster, is forgotten exponentially; hops that are taken back, more slowly."""
_THREE_SIGMA = 0.00135
_NO_FLUCTUATION = 1e-10
"""Relative fluctuation that is rounding: ballistic motion, or none."""


@dataclass(frozen=True)
class WindowStatistics:
    """Squared displacements at some lags, and how they fluctuate in the course of the trajectory."""

    lags: np.ndarray
    """(n_lags,) frames."""
    mean: np.ndarray
    """(n_lags,) Å², mean over windows and atoms."""
    waves: np.ndarray
    """(n_lags, N_WAVES) Å², amplitudes of `slow_waves`."""
    first_half: np.ndarray
    """(n_lags,) Å², mean over the windows that begin in the first half."""
    second_half: np.ndarray
    """(n_lags,) Å², mean over the windows that begin in the second half."""

    def longer(self, first: int) -> WindowStatistics:
        """The lags from an index on."""
        columns = (self.lags, self.mean, self.waves, self.first_half, self.second_half)
        return WindowStatistics(*(column[first:] for column in columns))


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
    """Variance of the MSD at the first lag over its square: 2/3 for one displacement of one atom; 0 at rest."""
    weights: np.ndarray = field(compare=False, repr=False)
    """(2, n) of the MSD at the lags from `first_lag` on, in slope and intercept."""
    later: np.ndarray = field(compare=False, repr=False)
    """(n,) weights in the slope of the line that begins an octave later; those of this line where there is none."""
    spread: float
    """Å² per frame, half the difference between the two: what the choice of a beginning adds to the error."""
    waves: np.ndarray = field(compare=False, repr=False)
    """Å² per frame, slow fluctuations of the slope: the error of whatever is made of slopes is `error_of` the same
    made of their waves."""

    def n_independent(self, n_axes: int) -> float:
        """How many independent displacements along as many axes have such a variance; nan at rest."""
        return 2.0 / (n_axes * self.relative_variance) if self.relative_variance else float("nan")

    @property
    def steady(self) -> bool:
        """Whether the two halves agree as well as three standard errors would have it.

        The error of their difference, twice that of the slope, is here that of the waves that are the same in both
        halves, which a difference between them does not add to.
        """
        even = self.waves[1::2]
        limit = student.isf(_THREE_SIGMA, len(even)) * 2.0 * np.sqrt(np.mean(even**2))
        return bool(abs(self.halves[1] - self.halves[0]) <= limit)


def sampled_lags(n_frames: int) -> np.ndarray:
    """Lags from one frame to a quarter of the trajectory in ratios of about 1.2, in frames."""
    longest = max(1, (n_frames - 1) // 4)
    return np.unique(np.rint(np.geomspace(1, longest, 1 + int(np.log(longest) / np.log(1.2)))).astype(int))


def slow_waves(series: np.ndarray) -> np.ndarray:
    """The slowest cosine waves in a series, each with the variance of the mean of a series that is long.

    Λ_k = √2/n Σ_t x(t) cos(π k (t + ½) / n), k = 1 ... `N_WAVES`: independent Gaussian numbers with the variance of
    the mean, as long as the series forgets itself within n / k.

    Args:
        series: (..., n).

    Returns:
        (..., N_WAVES), zero beyond half the length of a short series.
    """
    n = series.shape[-1]
    phases = np.outer((np.arange(n) + 0.5) / n, np.arange(1, N_WAVES + 1))
    waves: np.ndarray = series @ (np.sqrt(2.0) / n * np.cos(np.pi * phases))
    waves[..., np.arange(1, N_WAVES + 1) > max(1, n // 2)] = 0.0
    return waves


def error_of(waves: np.ndarray, longest_memory: int, n_frames: int) -> float:
    """Standard error of a mean from its slow waves.

    K waves whose period is at least four times the memory count, and the error is the standard deviation of
    Student's distribution, √(Σ Λ² / (K - 2)): twice it is the 95 % interval for every K, within 3 %.

    Args:
        waves: (N_WAVES,).
        longest_memory: frames after which what fluctuates has forgotten itself, about.
        n_frames: length of the trajectory.
    """
    n_waves = _n_waves(longest_memory, n_frames)
    return float(np.sqrt(np.sum(waves[:n_waves] ** 2) / (n_waves - 2)))


def _n_waves(longest_memory: int, n_frames: int) -> int:
    return int(np.clip(n_frames // (2 * longest_memory), _MIN_WAVES, N_WAVES))


def fit_diffusive(statistics: WindowStatistics, msd: np.ndarray, n_frames: int, earliest: int = 1) -> Line | None:
    """The line that begins at the shortest lag from which on the MSD is straight within its error.

    A line is taken to be one when the slopes of lines that begin one and two octaves later agree with its own within
    the error of their difference, which is smaller than that of either (Hausman, Econometrica 1978, 46, 1251).

    Args:
        statistics: of the squared displacements at `sampled_lags`.
        msd: (n_lags,) Å², at all lags from 0.
        n_frames: length of the trajectory.
        earliest: frames; lines that begin before are not looked at. Above 1 something else has told that the regime
            begins there, and where no later line fits into the trajectory that is not asked again.

    Returns:
        None when no part of the MSD is a line, or the trajectory is too short to tell.
    """
    if not np.all(np.abs(statistics.waves).max(axis=1) > _NO_FLUCTUATION * statistics.mean):
        return None
    starts = _octaves(statistics.lags, earliest, n_frames // MIN_WINDOWS)
    if earliest > 1 and len(starts) == 1:
        return fit_from(statistics, msd, n_frames, earliest)
    lines: dict[int, Line] = {}
    for attempt in range(len(starts) - 1):
        for first in starts[attempt : attempt + 1 + _AHEAD]:
            lines[first] = lines.get(first) or _fit(statistics.longer(first), msd, n_frames)
        line, *later = (lines[first] for first in starts[attempt : attempt + 1 + _AHEAD])
        if all(_agree(line, other, n_frames) for other in later):
            convex = attempt and lines[starts[attempt - 1]].slope < line.slope
            margin = (_AFTER_INERTIA if convex else _AFTER_HOPS) if attempt else 0
            chosen = starts[min(attempt + margin, len(starts) - 1)]
            return fit_from(statistics, msd, n_frames, int(statistics.lags[chosen]))
    return None


def fit_from(statistics: WindowStatistics, msd: np.ndarray, n_frames: int, first_lag: int) -> Line:
    """The line that begins at a given lag (arguments as for `fit_diffusive`)."""
    first = int(np.searchsorted(statistics.lags, first_lag))
    line = _fit(statistics.longer(first), msd, n_frames)
    second = next(iter(_octaves(statistics.lags, 2 * first_lag, n_frames // MIN_WINDOWS)), first)
    later = np.zeros(len(line.later))
    later[second - first :] = _fit(statistics.longer(second), msd, n_frames).later
    return _line(statistics.longer(first), line.weights, later, n_frames)


def same_line(statistics: WindowStatistics, line: Line, n_frames: int) -> Line:
    """The line through other squared displacements, with the window and the weights of a given one."""
    own = statistics.longer(int(np.searchsorted(statistics.lags, line.first_lag)))
    return _line(own, line.weights, line.later, n_frames)


def _octaves(lags: np.ndarray, earliest: int, longest: int) -> list[int]:
    """Indices of lags, each about twice the one before, at which a fit may begin."""
    chosen, last = [], 0
    for index, lag in enumerate(lags[: 1 - MIN_LAGS]):
        if lag >= max(2 * last, earliest) and lag <= longest:
            chosen.append(index)
            last = lag
    return chosen


def _agree(line: Line, later: Line, n_frames: int) -> bool:
    waves = (line.waves - later.waves)[: _n_waves(later.first_lag, n_frames)]
    error = np.sqrt(np.mean(waves**2))
    return bool(abs(line.slope - later.slope) <= student.isf(CONFIDENCE / 2, len(waves)) * error)


def _fit(statistics: WindowStatistics, msd: np.ndarray, n_frames: int) -> Line:
    """Line through all the lags of the statistics."""
    lags, mean = statistics.lags, statistics.mean
    straight = np.stack([lags, np.ones(len(lags))], axis=1)
    slope, intercept = np.polyfit(lags, mean, 1, w=1.0 / mean)
    variogram = _variogram(msd, int(lags[0]), slope, intercept, 2 * int(lags[-1] + lags[0]))
    weights = line_weights(straight, window_covariance(lags, n_frames, variogram, int(lags[0])))
    return _line(statistics, weights, weights[0], n_frames)


def _line(statistics: WindowStatistics, weights: np.ndarray, later: np.ndarray, n_frames: int) -> Line:
    lags, mean = statistics.lags, statistics.mean
    slope, intercept = weights @ mean
    waves = weights[0] @ statistics.waves
    halves = float(weights[0] @ statistics.first_half), float(weights[0] @ statistics.second_half)
    spread = 0.5 * abs(float((later - weights[0]) @ mean))
    error = float(np.hypot(error_of(waves, int(lags[0]), n_frames), spread))
    positive = np.maximum(mean, np.finfo(float).tiny)
    return Line(
        float(slope), error, float(intercept), int(lags[0]), int(lags[-1]),
        float(np.polyfit(np.log(lags), np.log(positive), 1)[0]), halves,
        float(np.mean((statistics.waves[0] / positive[0]) ** 2)) if mean[0] > 0.0 else 0.0,
        weights, later, spread, waves,
    )  # fmt: skip


def _variogram(msd: np.ndarray, first: int, slope: float, intercept: float, size: int) -> np.ndarray:
    """Mean squared displacement at lags 0 to size: as measured before the first lag, the line from there."""
    line = np.maximum(max(slope, 0.0) * np.arange(size + 1) + intercept, 0.0)
    line[:first] = msd[:first]
    return line


def window_covariance(lags: np.ndarray, n_frames: int, variogram: np.ndarray, memory: int) -> np.ndarray:
    """Covariance of the means of squared displacements over overlapping windows, up to a factor.

    For a Gaussian process with stationary increments and variogram V(k) = ⟨(x(t + k) - x(t))²⟩, displacements over
    windows of n frames from t and m frames from t + δ have the covariance
    C(δ) = ½ [V(m + δ) + V(n - δ) - V(δ) - V(m - n + δ)], and their squares 2 C².

    Args:
        lags: (n_lags,) frames, increasing.
        n_frames: length of the trajectory.
        variogram: V at lags 0, 1, ..., at least up to 2 (longest lag + memory).
        memory: frames from which on V is a line, so that windows further apart are independent.

    Returns:
        (n_lags, n_lags): Σ C(δ)² over all pairs of windows, divided by the number of pairs.
    """
    size = 2 * int(lags[-1]) + memory
    even = np.concatenate([variogram[size:0:-1], variogram[: size + 1]])  # V(-k) = V(k), zero in the middle
    covariance = np.empty((len(lags), len(lags)))
    for row, n in enumerate(lags):
        for column, m in enumerate(lags[row:], start=row):
            first, last = size - m - memory, size + n + memory + 1  # of the offsets, where zero is `size`
            offsets = np.arange(first - size, last - size)
            pairs = np.minimum(n_frames - n, n_frames - m - offsets) - np.maximum(0, -offsets)
            pairs = np.maximum(pairs, 0) / ((n_frames - n) * (n_frames - m))
            value = even[first + m : last + m] + even[first - n : last - n]
            value = 0.5 * (value - even[first:last] - even[first + m - n : last + m - n])
            covariance[row, column] = covariance[column, row] = pairs @ value**2
    return covariance


def line_weights(terms: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Weights of generalised least squares: parameters = weights @ values, where values ≈ terms @ parameters.

    Args:
        terms: (n, n_parameters).
        covariance: (n, n) of the values, up to a factor.

    Returns:
        (n_parameters, n).
    """
    variances, vectors = np.linalg.eigh(covariance)
    whiten = (vectors / np.sqrt(np.maximum(variances, 1e-13 * variances[-1]))).T
    weights: np.ndarray = np.linalg.pinv(whiten @ terms) @ whiten
    return weights
