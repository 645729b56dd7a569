"""How densities in reciprocal space, and single atoms, lose the memory of where they were: F(q, t) and its spectrum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import fft

TRANSFORM_BYTES = 32e6
"""Of a transform, with the zeros behind it: so many series are transformed at once."""


def correlate(a: np.ndarray, b: np.ndarray, n_lags: int) -> np.ndarray:
    """Re ⟨a(s) b*(s + t)⟩ over all origins s, the mean of both orders of a and b, (n_lags, n_q).

    By the Wiener–Khinchin theorem, with zeros behind the series so that its end does not meet its beginning.

    Args:
        a, b: (n_frames, n_q) complex.
        n_lags: at most n_frames.
    """
    n = len(a)
    size = fft.next_fast_len(2 * n)
    found = np.empty((n_lags, a.shape[1]))
    for some in _some(a.shape[1], size):
        of_a = fft.fft(a[:, some], size, axis=0)
        of_b = of_a if b is a else fft.fft(b[:, some], size, axis=0)
        # the real part of the spectrum is that of both orders together
        found[:, some] = fft.ifft((of_a * of_b.conj()).real, axis=0).real[:n_lags]
    return found / (n - np.arange(n_lags))[:, None]


def self_correlate(fractional: np.ndarray, indices: np.ndarray, n_lags: int) -> np.ndarray:
    """Σ_j ⟨cos q · [r_j(s + t) - r_j(s)]⟩ over all origins s, (n_lags, n_q).

    Args:
        fractional: (n_frames, n_atoms, 3) in units of the cell vectors.
        indices: (n_q, 3) integers h, k, l.
        n_lags: at most n_frames.
    """
    n = len(fractional)
    size = fft.next_fast_len(2 * n)
    found = np.empty((n_lags, len(indices)))
    for number, index in enumerate(indices):
        powers = np.zeros(size)
        for some in _some(fractional.shape[1], size):
            turns = fractional[:, some] @ index
            angles = 2.0 * np.pi * (turns - np.rint(turns))
            phases = np.cos(angles) + 1j * np.sin(angles)
            powers += (np.abs(fft.fft(phases, size, axis=0)) ** 2).sum(axis=1)
        found[:, number] = fft.ifft(powers).real[:n_lags]
    return found / (n - np.arange(n_lags))[:, None]


def _some(n_series: int, size: int) -> Iterator[slice]:
    """Series, so many at a time that their complex transforms of a size are `TRANSFORM_BYTES`."""
    at_once = max(1, int(TRANSFORM_BYTES / (16 * size)))
    for first in range(0, n_series, at_once):
        yield slice(first, first + at_once)


def spectrum(correlation: np.ndarray, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """S(ω) = 1/2π ∫ F(t) cos(ωt) dt with Hann's window over the lags, whose integral over all ω is F(0).

    Args:
        correlation: (n_lags, ...) from lag 0 on.
        interval: fs between lags.

    Returns:
        ω (n_lags,) rad/fs from 0 on, and S (n_lags, ...) in fs.
    """
    n = len(correlation)
    window = 0.5 * (1.0 + np.cos(np.pi * np.arange(n) / (n - 1)))
    shape = (n,) + (1,) * (correlation.ndim - 1)
    values = fft.dct(correlation * window.reshape(shape), type=1, axis=0) * interval / (2.0 * np.pi)
    return np.pi * np.arange(n) / ((n - 1) * interval), np.asarray(values)


def relaxation_time(correlation: np.ndarray, interval: float) -> float:
    """When F(t) has fallen to F(0)/e, fs, linear between lags; nan where it does not within the lags."""
    below = np.flatnonzero(correlation <= correlation[0] / np.e)
    if not len(below) or correlation[0] <= 0.0:
        return float("nan")
    i = int(below[0])
    high, low = correlation[i - 1], correlation[i]
    return float(interval * (i - 1 + (high - correlation[0] / np.e) / (high - low)))
