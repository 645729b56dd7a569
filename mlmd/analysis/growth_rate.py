"""How fast a film grows: the slope of its coverage while something arrives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlmd.analysis.blocks import N_BLOCKS
from mlmd.analysis.estimate import Estimate

_END = 10
"""The plateau is the mean of the last of so many parts of the frames."""
_OF_A_WALK = math.sqrt(6.0 / 5.0)
"""The slope that is fitted to counts of independent events has 6/5 of the variance of the rate between their ends."""
_ROUNDING = 1e-9


def growth_rate(times: np.ndarray, coverage: np.ndarray, depositing: Sequence[tuple[float, float]] = ()) -> Estimate:
    """ML/ns: the slope of a line through the coverage, from its first rise to where it first reaches its plateau.

    The plateau is the mean of the last tenth of the frames, or the highest coverage where less than half of that is
    left. Where it is known when something arrives, only these times count, and those between are cut out. The error is
    the scatter of the rates of ten parts of that time, times √(6/5) for a line that is fitted to counts.

    Args:
        times: (n_frames,) fs.
        coverage: (n_frames,) ML.
        depositing: fs, from when to when something arrives, in order; empty where it is not known.
    """
    arriving = [(times >= begin - _ROUNDING * end) & (times <= end * (1.0 + _ROUNDING)) for begin, end in depositing]
    inside = np.any(arriving, axis=0) if arriving else np.ones(len(times), dtype=bool)
    if inside.sum() > 1 and len(depositing):
        times = sum((np.clip(times, begin, end) - begin for begin, end in depositing), np.zeros(len(times)))[inside]
        coverage = coverage[inside]
        last_ones = np.append(np.diff(times) > 0.0, True)  # a frame ends one stage and begins the next
        times, coverage = times[last_ones], coverage[last_ones]
    if len(times) < 2 or not np.ptp(coverage):
        return Estimate(0.0 if len(times) > 1 else math.nan, math.nan, "ML/ns", math.nan)
    first, last = _growing(coverage)
    own, grown = times[first : last + 1] * 1e-6, coverage[first : last + 1]
    slope = float(np.polynomial.Polynomial.fit(own, grown, 1).convert().coef[1])
    ends = np.unique(np.linspace(0, len(own) - 1, N_BLOCKS + 1).astype(int))
    rates = np.diff(grown[ends]) / np.diff(own[ends])
    error = _OF_A_WALK * float(rates.std(ddof=1)) / math.sqrt(len(rates)) if len(rates) > 1 else math.nan
    return Estimate(slope, error, "ML/ns", float(len(rates)))


def _growing(coverage: np.ndarray) -> tuple[int, int]:
    """Frames between which it grows: before the first rise, and at the plateau; all where it only falls."""
    if coverage.max() <= coverage[0]:
        return 0, len(coverage) - 1
    first = int(np.argmax(np.diff(coverage) > 0.0))
    level = float(coverage[-max(1, len(coverage) // _END) :].mean())
    if level < 0.5 * coverage.max():
        level = float(coverage.max())
    reached = np.flatnonzero(coverage[first + 1 :] >= level - _ROUNDING)
    return first, first + 1 + int(reached[0])
