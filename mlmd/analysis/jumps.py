"""Numbers from counts of jumps: rates, residence times, jump diffusion, and errors that know how few jumps they are.

Arrays over blocks of time come first: `held` is the frames of atoms on sites, (n_blocks, ...); `interval` is in ps.
"""

from __future__ import annotations

import math

import numpy as np

from mlmd import units
from mlmd.analysis.blocks import jackknife
from mlmd.analysis.diffusion import D_UNIT
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.visits import Visits


def by_block(visits: Visits, block: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Jumps by block and group, (n_blocks, n_groups)."""
    index = block[visits.frame] * n_groups + group
    return np.bincount(index, minlength=len(visits.held) * n_groups).reshape(-1, n_groups)


def ratio(over: np.ndarray, under: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ over / Σ under of blocks (n_blocks, ...), and its error by the jackknife."""
    value, error = jackknife(np.stack([over, under], axis=1), _quotient)
    return value, error


def _quotient(sums: np.ndarray) -> np.ndarray:
    return np.divide(sums[0], sums[1], out=np.full(np.shape(sums[0]), np.nan), where=sums[1] > 0)


def _counted(over: np.ndarray, under: np.ndarray, n: float, unit: str) -> Estimate:
    """A ratio that rests on n events: its error is at least 1/√n of it; not determined without events."""
    value, error = (float(x) for x in ratio(over, under))
    if n < 1 or not math.isfinite(value):
        return Estimate(math.nan, math.nan, unit, 0.0)
    return Estimate(value, max(value / math.sqrt(n), error if math.isfinite(error) else 0.0), unit, float(n))


def residence(held: np.ndarray, left: np.ndarray, interval: float) -> Estimate:
    """Time on sites over the number of times that they were left; columns are added up."""
    return _counted(held.sum(axis=1) * interval, left.sum(axis=1), left.sum(), "ps")


def jump_rate(held: np.ndarray, jumps: np.ndarray, interval: float) -> Estimate:
    """Jumps over time; nought with the error of one jump where there is none."""
    if not jumps.sum():
        time = held.sum() * interval
        return Estimate(0.0, 1.0 / time if time > 0.0 else math.nan, "1/ps", 0.0)
    return _counted(jumps, held * interval, jumps.sum(), "1/ps")


def jump_diffusion(held: np.ndarray, squares: np.ndarray, jumps: np.ndarray, interval: float) -> Estimate:
    """D_J = Σ l² / (6 N t), cm²/s, from the sums of l² (Å²) of each block; nought where there are no jumps."""
    n = jumps.sum()
    if not n:
        return Estimate(0.0, math.nan, D_UNIT, 0.0)
    return _counted(squares, 6.0 * held * interval * 1e3 / units.CM2_PER_S, n, D_UNIT)


def jump_length(vectors: np.ndarray) -> Estimate:
    """Mean length of jumps (n, 3) Å, and its error from their scatter."""
    lengths = np.linalg.norm(vectors, axis=1)
    if len(lengths) < 2:
        return Estimate(float(lengths.mean()) if len(lengths) else math.nan, math.nan, "Å", float(len(lengths)))
    return Estimate(float(lengths.mean()), float(lengths.std(ddof=1) / math.sqrt(len(lengths))), "Å", len(lengths))


def returns(visits: Visits, block: np.ndarray) -> Estimate:
    """Of the jumps that have one before them, those that take it back."""
    follows = np.zeros(len(visits.atom), dtype=bool)
    follows[1:] = visits.atom[1:] == visits.atom[:-1]
    n = int(follows.sum())
    if not n:
        return Estimate(math.nan, math.nan, "", 0.0)
    over, under = (np.bincount(block[visits.frame[one]], minlength=len(visits.held)) for one in (visits.back, follows))
    value, error = (float(x) for x in ratio(over, under))
    least = math.sqrt(max(value * (1.0 - value), 1.0 / n) / n)
    return Estimate(value, max(error if math.isfinite(error) else 0.0, least), "", float(n))


def correlation(tracer: Estimate, jump: Estimate) -> Estimate:
    """f = D / D_J; their errors are taken as independent."""
    if not (tracer.determined and jump.determined and jump.value > 0.0):
        return Estimate(math.nan, math.nan, "", math.nan)
    value = tracer.value / jump.value
    error = math.hypot(tracer.error / jump.value, value * jump.error / jump.value)
    return Estimate(value, error, "", min(tracer.n_independent, jump.n_independent))


def survival(visits: Visits, sites: np.ndarray, interval: float) -> np.ndarray:
    """Kaplan and Meier's estimate from the stays on some sites whose beginning was seen, (n, 2)."""
    site, duration, begun, ended = visits.stays()
    chosen = begun & np.isin(site, sites)
    duration, ended = duration[chosen], ended[chosen]
    times = np.unique(duration[ended])
    at_risk = len(duration) - np.searchsorted(np.sort(duration), times)
    ends = np.searchsorted(np.sort(duration[ended]), times, side="right") - np.searchsorted(
        np.sort(duration[ended]), times
    )
    alive = np.cumprod(1.0 - ends / np.maximum(at_risk, 1))
    return np.stack([np.append(0.0, times * interval), np.append(1.0, alive)], axis=1)
