"""What a length makes of a thermal conductivity: 1/κ against 1/L."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlmd.analysis.estimate import Estimate
from mlmd.errors import InputError

SAME = 0.01
"""Of a length: others that differ by less are the same."""


@dataclass(frozen=True)
class Extrapolation:
    """The line 1/κ = intercept + slope / L."""

    intercept: float
    """m K/W."""
    slope: float
    """Å m K/W."""
    path: Estimate
    """Å, slope over intercept: the length at which κ is half of that of an infinite one."""


def extrapolated(
    lengths: Sequence[float], conductivities: Sequence[Estimate]
) -> tuple[Estimate, Extrapolation | None, tuple[str, ...]]:
    """κ of an infinite length, or the mean of runs of one length, weighted by their errors.

    Where values scatter more than their errors say, these are taken to be as much larger (Birge's ratio).

    Args:
        lengths: (n,) Å.
        conductivities: (n,) with errors.

    Returns:
        κ, the line (None for runs of one length), and what to know of it.

    Raises:
        InputError: for a conductivity without a value or an error.
    """
    for length, one in zip(lengths, conductivities, strict=True):
        if not (one.determined and math.isfinite(one.error)):
            raise InputError(
                f"the run of L = {length:.4g} Å has no conductivity with an error ({one}), and has no weight beside "
                "others. Run it longer, or leave it out."
            )
    places = 1.0 / np.array(lengths)
    values, errors = (np.array([getattr(one, name) for one in conductivities]) for name in ("value", "error"))
    unit, n = conductivities[0].unit, sum(one.n_independent for one in conductivities)
    if np.ptp(lengths) <= SAME * max(lengths):
        mean, covariance, notes = _line(np.ones((len(values), 1)), values, errors)
        return Estimate(float(mean[0]), math.sqrt(covariance[0, 0]), unit, n), None, notes
    design = np.stack([np.ones(len(values)), places], axis=1)
    (intercept, slope), covariance, notes = _line(design, 1.0 / values, errors / values**2)
    sigma = math.sqrt(covariance[0, 0])
    if intercept <= 2.0 * sigma:
        return (
            Estimate(math.nan, math.nan, unit, n),
            Extrapolation(float(intercept), float(slope), Estimate(math.nan, math.nan, "Å", n)),
            (*notes, "1/κ of an infinite length is within two errors of zero: longer cells are needed"),
        )
    ratio = slope / intercept
    toward = np.array([-ratio, 1.0]) / intercept
    path = Estimate(float(ratio), math.sqrt(toward @ covariance @ toward), "Å", n)
    if ratio > max(lengths):
        notes = (
            *notes,
            f"κ is half of its limit only at L = {ratio:.3g} Å, and the longest cell has {max(lengths):.3g} Å: the "
            "line is extrapolated far, and longer cells would bend it (κ then comes out larger)",
        )
    value = Estimate(float(1.0 / intercept), sigma / float(intercept) ** 2, unit, n)
    return value, Extrapolation(float(intercept), float(slope), path), notes


def _line(
    design: np.ndarray, values: np.ndarray, errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:  # fmt: skip
    """Weighted least squares: parameters, their covariance, and a note where the scatter is too large."""
    weighted = design / errors[:, None]
    covariance = np.linalg.inv(weighted.T @ weighted)
    found = covariance @ weighted.T @ (values / errors)
    n_free = len(values) - design.shape[1]
    ratio = float(np.sum(((values - design @ found) / errors) ** 2)) / n_free if n_free else 1.0
    if ratio <= 1.0:
        return found, covariance, ()
    note = (
        f"runs scatter {math.sqrt(ratio):.2g} times as much as their errors say, which were taken to be so much larger"
    )
    return found, covariance * ratio, (note,)
