"""A number with its error: what every analysis hands out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

_HALF = 1.96
"""Standard errors in half of an interval of 95 %."""
ROUNDING = 1e-9
"""Of the value: an error below is one of the computer's numbers."""


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, its unit, and how many independent observations stand behind it.

    Prints as ``1.32(4)e-05 cm²/s``: the digits in brackets are the error in units of the last digit shown. An error
    that is not known prints as ``1.32e-05(?)``, an error that is only rounding not at all.
    """

    value: float
    error: float
    """One standard error; nan when it is not known."""
    unit: str
    n_independent: float
    """Effective number of independent observations; nan when it is not known."""

    def __str__(self) -> str:
        """The value with its error in brackets and the unit."""
        if not self.determined:
            return "not determined"
        return f"{_with_error(self.value, self.error)} {self.unit}".rstrip()

    def __format__(self, spec: str) -> str:
        """As `str`, with alignment and width of a format string."""
        return format(str(self), spec)

    @property
    def determined(self) -> bool:
        """Whether there is a value."""
        return math.isfinite(self.value)

    @property
    def consistent_with_zero(self) -> bool:
        """Whether zero lies within two standard errors."""
        return abs(self.value) <= 2.0 * self.error

    def interval(self) -> tuple[float, float]:
        """Bounds of 95 % of a quantity that is not negative, as a diffusion coefficient or a conductivity.

        The error is taken to be that of the logarithm, as in an Arrhenius plot: what is a mean of squares is smaller
        than the truth more often than it is larger, and then its error is, too. Where zero is within two errors the
        bounds are plain, value ± 1.96 errors.
        """
        if self.consistent_with_zero or self.value <= 0.0:
            return self.value - _HALF * self.error, self.value + _HALF * self.error
        factor = math.exp(_HALF * self.error / self.value)
        return self.value / factor, self.value * factor

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, with null for what is not known."""
        return {
            "value": _or_none(self.value),
            "error": _or_none(self.error),
            "unit": self.unit,
            "n_independent": _or_none(self.n_independent),
        }


def from_dict(data: Mapping[str, Any]) -> Estimate:
    """An estimate from what `Estimate.to_dict` gave.

    Raises:
        KeyError, TypeError, ValueError: when it is something else.
    """
    value, error, n = (
        math.nan if data[key] is None else float(data[key]) for key in ("value", "error", "n_independent")
    )
    return Estimate(value, error, str(data["unit"]), n)


def average(series: np.ndarray, unit: str, *, least: float = 0.0) -> Estimate:
    """Mean of a stationary series of correlated values.

    The error is sqrt(2 τ σ² / n) with the integrated autocorrelation time τ = ½ + Σ ρ(t), summed while the sums of
    neighbouring pairs of ρ stay positive (Geyer, Statist. Sci. 1992, 7, 473).

    Args:
        series: (n,) values at equal intervals.
        unit: of the values.
        least: number of independent values below which the error is not known: of few correlation times it comes out
            too small. That of a constant is zero, however few they are.
    """
    n = len(series)
    mean = float(np.mean(series)) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, unit, float(n))
    deviations = series - mean
    variance = float(np.mean(deviations**2))
    if variance <= (1e-12 * abs(mean)) ** 2:
        return Estimate(mean, 0.0, unit, 1.0)
    size = fft.next_fast_len(2 * n, real=True)
    correlation = fft.irfft(np.abs(fft.rfft(deviations, size)) ** 2, size)[:n] / (n * variance)
    pairs = correlation[: n - n % 2].reshape(-1, 2).sum(axis=1)
    end = int(np.argmax(pairs <= 0.0)) if np.any(pairs <= 0.0) else len(pairs)
    n_independent = n / max(1.0, 2.0 * pairs[:end].sum() - 1.0)
    error = math.sqrt(variance / max(n_independent - 1.0, 0.5)) if n_independent >= least else math.nan
    return Estimate(mean, error, unit, n_independent)


def _or_none(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _with_error(value: float, error: float) -> str:
    if not math.isfinite(error):
        return f"{_trim(value, 3)}(?)"
    if error <= ROUNDING * abs(value):
        return f"{value:.6g}"
    last = _last_digit(error)
    value = round(value / 10.0**last) * 10.0**last + 0.0  # -0.0 becomes 0.0
    exponent = max(_exponent(value), last) if value else last
    if -4 < exponent < 5:
        exponent = 0
    decimals = max(exponent - last, 0)
    digits = round(error / 10.0**last) * 10 ** max(last - exponent, 0)
    mantissa = f"{value / 10.0**exponent:.{decimals}f}"
    bracket = f"{digits}" if decimals == 0 or digits < 10**decimals else f"{digits / 10**decimals:.{decimals}f}"
    return f"{mantissa}({bracket})" + (f"e{exponent:+03d}" if exponent else "")


def _last_digit(error: float) -> int:
    """Power of ten of the last digit worth showing: one digit of the error, two when it begins with 1."""
    first = _exponent(float(f"{error:.1e}"))
    leading = float(f"{error:.1e}") / 10.0**first
    return first - 1 if leading < 1.95 else first


def _exponent(number: float) -> int:
    return int(f"{abs(number):e}".split("e")[1])


def _trim(value: float, digits: int) -> str:
    return f"{value:.{digits - 1}e}" if value and not 1e-3 <= abs(value) < 1e5 else f"{value:.{digits}g}"
