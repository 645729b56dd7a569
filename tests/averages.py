"""Means and variances of correlated series, with errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measured:
    """A number with its standard error."""

    value: float
    error: float

    def agrees_with(self, other: Measured | float, sigmas: float = 3.5) -> bool:
        """Whether two numbers differ by less than so many standard errors of their difference."""
        value, error = (other.value, other.error) if isinstance(other, Measured) else (other, 0.0)
        return bool(abs(self.value - value) < sigmas * np.hypot(self.error, error))


def mean(series: np.ndarray, n_blocks: int = 20) -> Measured:
    """Mean of a series (n,), its error from the scatter of the means of blocks longer than the correlation."""
    blocks = np.array([block.mean() for block in np.array_split(np.asarray(series), n_blocks)])
    return Measured(float(np.mean(series)), float(blocks.std(ddof=1) / np.sqrt(n_blocks)))


def variance(series: np.ndarray, n_blocks: int = 20) -> Measured:
    """Variance of a series (n,) with its error."""
    return mean((series - np.mean(series)) ** 2, n_blocks)
