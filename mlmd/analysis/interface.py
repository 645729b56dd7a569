"""Where one phase ends and the other begins: the two interfaces of a slab, by hyperbolic tangents.

    f(z) = f_out + (f_in - f_out)/2 · [tanh((z - z_1)/w_1) - tanh((z - z_2)/w_2)]

f goes from 10 to 90 % of its step within 2.197 w. The width is that of the mean profile: waves of the interface along
the plane, larger in larger cells, are part of it (Rowlinson and Widom, Molecular Theory of Capillarity, 1982).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit

from mlmd.analysis.estimate import Estimate, average

LEAST = 0.8
"""Part of the variance of a profile that the two tangents have to explain."""
SHARP = 0.5
"""Widths in bins below which a profile is a step, whose bins say nothing of its width."""
FEW = 10.0
"""Independent frames, below which errors are not known; five times in six, 200 frames that remember 50 seem fewer."""


@dataclass(frozen=True)
class Slab:
    """Two interfaces and what lies between and beyond them."""

    lower: Estimate
    """z_1, Å."""
    upper: Estimate
    """z_2, Å; in a periodic cell the slab may end beyond its border."""
    lower_width: Estimate
    """w_1, Å."""
    upper_width: Estimate
    """w_2, Å."""
    thickness: Estimate
    """z_2 - z_1, Å."""
    inside: Estimate
    """f between the interfaces."""
    outside: Estimate
    """f beyond them."""
    sharp: tuple[bool, bool] = (False, False)
    """Whether the lower and the upper one lie between two bins, which do not tell where and how wide they are."""

    @property
    def estimates(self) -> dict[str, Estimate]:
        """All of them by name."""
        return {name: one for name, one in vars(self).items() if isinstance(one, Estimate)}

    def curve(self, heights: np.ndarray, period: float | None) -> np.ndarray:
        """f at heights in Å."""
        values = (self.lower, self.upper, self.lower_width, self.upper_width, self.inside, self.outside)
        middle = 0.5 * (self.lower.value + self.upper.value)
        return _model(_around(heights, middle, period), *(one.value for one in values))


def find_slab(
    heights: np.ndarray, mean: np.ndarray, deviations: np.ndarray, unit: str, period: float | None
) -> Slab | None:
    """Fit the mean profile; errors are those of what each frame adds to the parameters.

    A frame whose profile deviates by δf moves the least-squares fit by δθ = (JᵀJ)⁻¹Jᵀ δf, J = ∂f/∂θ at the mean
    profile. The series of δθ has a correlation time, which its `average` takes into account, and has no frame in which
    a fit fails.

    Args:
        heights: (n_bins,) Å, at equal distances.
        mean: (n_bins,) the mean profile; nan where it is not known.
        deviations: (n_frames, n_bins) by which the profile of each frame is off it.
        unit: of the profile.
        period: Å, of the cell along the axis; None where it does not repeat.

    Returns:
        None where the profile does not look like a slab: the tangents explain less than `LEAST` of its variance, are as
        broad as what they bound, or contain fewer than two bins. Errors are nan with fewer than `FEW` independent
        frames, and those of an interface that is too sharp for the bins (`Slab.sharp`).
    """
    found = _fit(heights, mean, period)
    if found is None:
        return None
    known = np.isfinite(mean)
    here = _around(heights[known], 0.5 * (found[0] + found[1]), period)
    moves = deviations[:, known] @ np.linalg.pinv(_slopes(here, *found)).T

    least = SHARP * float(np.diff(heights[:2])[0])
    sharp = (bool(found[2] < least), bool(found[3] < least))

    def estimate(value: float, series: np.ndarray, of: str, *, known: bool = True) -> Estimate:
        one = average(series, of, least=FEW)
        return Estimate(value, one.error if known else math.nan, of, one.n_independent)

    units = ("Å", "Å", "Å", "Å", unit, unit)
    lower, upper, w_lower, w_upper, inside, outside = (
        estimate(float(value), moves[:, k], units[k], known=k > 3 or not sharp[k % 2]) for k, value in enumerate(found)
    )
    thickness = estimate(float(found[1] - found[0]), moves[:, 1] - moves[:, 0], "Å", known=not any(sharp))
    return Slab(lower, upper, w_lower, w_upper, thickness, inside, outside, sharp)


def _around(heights: np.ndarray, middle: float, period: float | None) -> np.ndarray:
    """The images of heights that are nearest to the middle."""
    return heights if period is None else middle + (heights - middle + 0.5 * period) % period - 0.5 * period


def _model(z: np.ndarray, *parameters: float) -> np.ndarray:
    lower, upper, w_lower, w_upper, inside, outside = parameters
    shape: np.ndarray = np.tanh((z - lower) / w_lower) - np.tanh((z - upper) / w_upper)
    return outside + 0.5 * (inside - outside) * shape


def _slopes(z: np.ndarray, *parameters: float) -> np.ndarray:
    """J (n, 6): the derivatives of `_model` by its parameters."""
    lower, upper, w_lower, w_upper, inside, outside = parameters
    a, b = (z - lower) / w_lower, (z - upper) / w_upper
    half = 0.5 * (inside - outside)
    at_lower, at_upper = half * (1.0 - np.tanh(a) ** 2) / w_lower, half * (1.0 - np.tanh(b) ** 2) / w_upper
    shape = 0.5 * (np.tanh(a) - np.tanh(b))
    return np.stack([-at_lower, at_upper, -a * at_lower, b * at_upper, shape, 1.0 - shape], axis=1)


def _fit(heights: np.ndarray, profile: np.ndarray, period: float | None) -> np.ndarray | None:
    """(6,) as `_model` has them, or None."""
    known = np.isfinite(profile)
    if known.sum() < 12 or np.ptp(profile[known]) == 0.0:
        return None
    z, values = heights[known], profile[known]
    for guess in _guesses(z, values, period):
        here = _around(z, 0.5 * (guess[0] + guess[1]), period)
        bin_width = float(np.diff(heights[:2])[0])
        span = period or float(np.ptp(heights))
        low = [here.min() - span, here.min() - span, 0.1 * bin_width, 0.1 * bin_width, -np.inf, -np.inf]
        high = [here.max() + span, here.max() + span, span, span, np.inf, np.inf]
        try:
            found, _ = curve_fit(_model, here, values, p0=np.clip(guess, low, high), bounds=(low, high), max_nfev=200)
        except RuntimeError:
            continue
        if _is_slab(found, here, values, bin_width, period):
            return np.asarray(found)
    return None


def _guesses(z: np.ndarray, values: np.ndarray, period: float | None) -> Sequence[np.ndarray]:
    """A slab of what is dense, and one of what is not: both are the same in a periodic cell."""
    low, high = np.quantile(values, [0.1, 0.9])
    dense = values > 0.5 * (low + high)
    found = []
    for inside, f_in, f_out in ((dense, high, low), (~dense, low, high)):
        if period is None:
            middle = float(z[inside].mean())
        else:  # the mean direction of points on a circle
            middle = float(np.angle(np.exp(2j * np.pi * z[inside] / period).sum())) / (2 * np.pi) * period % period
        half = 0.5 * inside.mean() * (period or float(np.ptp(z)))
        found.append(np.array([middle - half, middle + half, 1.0, 1.0, f_in, f_out]))
    return found


def _is_slab(found: np.ndarray, z: np.ndarray, values: np.ndarray, bin_width: float, period: float | None) -> bool:
    left = values - _model(z, *found)
    lower, upper, w_lower, w_upper = found[:4]
    thickness = upper - lower
    room = math.inf if period is None else period - thickness
    return bool(
        left @ left < (1.0 - LEAST) * ((values - values.mean()) ** 2).sum()
        and max(2.0 * bin_width, 0.5 * (w_lower + w_upper)) < min(thickness, room)
        and (period is not None or (z.min() < lower and upper < z.max()))
    )
