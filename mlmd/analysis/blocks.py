"""Errors from parts of the data: consecutive blocks of time, groups of atoms, and the jackknife for what is no mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

N_BLOCKS = 10
"""Parts of a trajectory whose scatter gives an error."""


def n_blocks(n_windows: int, lag: int = 1) -> int:
    """How many blocks of windows can be told apart: at most `N_BLOCKS`, each as long as the lag at least."""
    return max(1, min(N_BLOCKS, n_windows // max(lag, 1)))


def block_of(n: int, count: int) -> np.ndarray:
    """The block that each of n consecutive observations belongs to, (n,) integers, sizes equal within one."""
    return np.arange(n) * count // max(n, 1)


def mean_and_error(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis and its standard error, nan for a single part."""
    n = len(parts)
    error = parts.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(parts.shape[1:], np.nan)
    return parts.mean(axis=0), error


def jackknife(sums: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A function of sums over parts, and its standard error from leaving out one part after another.

    For ratios and the like, whose mean over parts would be biased (Quenouille, Biometrika 1956, 43, 353).

    Args:
        sums: (n_parts, ...) sums over each part.
        function: of the sum over parts.

    Returns:
        The value of all parts and its error, nan for a single part.
    """
    total = sums.sum(axis=0)
    value = np.asarray(function(total), dtype=float)
    n = len(sums)
    if n < 2:
        return value, np.full(value.shape, np.nan)
    without = np.array([function(total - one) for one in sums], dtype=float)
    return value, np.sqrt((n - 1) * np.mean((without - without.mean(axis=0)) ** 2, axis=0))
