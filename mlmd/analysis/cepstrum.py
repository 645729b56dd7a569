"""Zero-frequency value of a spectrum with its error, from the cepstrum of one series.

A transport coefficient is half the power spectrum of a flux at zero frequency. The periodogram of a long series is
that spectrum times χ² noise, the same at every frequency; in its logarithm the noise adds, with a known mean and
variance. The Fourier coefficients of the logarithm, the cepstrum, are few for a smooth spectrum: all beyond a number
P are noise and are left out. What is left at zero frequency has the variance

    σ_P² = ψ'(n_dof) (4 P - 2) / N

with 2 n_dof degrees of freedom of the χ² and N the points of the whole spectrum, both signs of the frequency (Ercole,
Marcolongo, Baroni, Sci. Rep. 7, 15835, 2017). Akaike's criterion A(p), which weighs all frequencies alike, leaves a
bias at zero that is as large as the error, so that P = 5/2 p here; and the number that it likes best is an accident of
the noise, so that all count, by Akaike's weights w_p ∝ exp(-A(p)/2), with what their choice adds to the error,

    ln S(0) = Σ w_p L_p,   L_p = C_0 + 2 Σ_{0 < n < P} C_n,   σ = Σ w_p √(σ_P² + (L_p - ln S(0))²)

(Buckland, Burnham, Augustin, Biometrics 53, 603, 1997). For noise of one or two correlation times, or with a vibration,
95 to 99 % of the intervals of 95 % hold the truth where a series has 500 of the longest time, and 91 to 96 % where it
has 100 (`benchmarks/noise.py`); with P = p of the best alone 45 to 90 %, with P = 2 p of it 92 to 95 and 81 to 93 %.

Of several coupled currents the first is freed of the others by 1 / (S⁻¹)₁₁ (Bertossa, Grasselli, Ercole, Baroni, Phys.
Rev. Lett. 122, 255901, 2019), which takes more components than currents: of as many currents parts of the series count
as further components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from mlmd.errors import InputError

FALLEN = 0.1
"""Of its value at low frequencies: where the spectrum has fallen to it for good, the rest says nothing of zero."""
SMOOTHED = 200
"""Parts into which the spectrum is averaged to see where it falls."""
FEWEST = 100
"""Points of the spectrum."""
TIMES_AKAIKE = 2.5
"""Coefficients for one that Akaike's criterion counts: with 2 short series are too sure of themselves, with 3 long ones
lose a tenth of what they know."""


@dataclass(frozen=True)
class ZeroFrequency:
    """A spectrum, its logarithm smoothed by few coefficients, and its value at zero."""

    value: float
    """In squared units of the flux times fs: ∫⟨J(0) J(t)⟩ dt over all times, both signs."""
    relative_error: float
    """One standard error of ln(value)."""
    n_coefficients: float
    """P, mean."""
    cutoff: float
    """1/fs, the highest frequency that was used."""
    aliased: bool
    """Whether the spectrum has not fallen at the highest frequency that the interval allows."""
    frequencies: np.ndarray
    """(n,) 1/fs, all that the interval allows, without zero."""
    periodogram: np.ndarray
    """(n,) averaged over components."""
    smooth: np.ndarray
    """(n,) the spectrum of the coefficients, each by the weights of those who have it; nan above the cutoff."""
    n_independent: float


def zero_frequency(fluxes: np.ndarray, interval: float, cutoff: float | None = None) -> ZeroFrequency:
    """The spectrum of a flux at zero frequency.

    Args:
        fluxes: (n_fluxes, n_components, n_times), the first is that whose spectrum is asked for, and others are what
            it is freed of. Components are independent and of one distribution.
        interval: fs between times.
        cutoff: 1/fs, the highest frequency to use; by default where the spectrum has fallen to `FALLEN`.

    Raises:
        InputError: for a series that is too short, or that is constant.
    """
    fluxes = _parts(fluxes)
    n_fluxes, n_components, n_times = fluxes.shape
    if n_times < 2 * FEWEST:
        raise InputError(f"the fluxes are known at {n_times} times; {2 * FEWEST} at least are needed.")
    periodogram = reduced_periodogram(fluxes, interval)
    if not (np.isfinite(periodogram).all() and (periodogram > 0.0).all()):
        raise InputError("the flux does not fluctuate: it is constant, or one of several that are the same.")
    frequencies = np.arange(1, len(periodogram) + 1) / (n_times * interval)
    fallen = _fallen(periodogram)
    n_used = fallen if cutoff is None else int(np.searchsorted(frequencies, cutoff, side="right"))
    if n_used < FEWEST:
        raise InputError(
            f"only {n_used} points of the spectrum lie below {1e3 * frequencies[max(0, n_used - 1)]:.3g} THz, where it "
            f"has fallen, and {FEWEST} are needed: the series is too short for the time that the flux is correlated. "
            f"Run {math.ceil(FEWEST / max(1, n_used))} times as long, or longer."
        )
    n_dof = n_components - n_fluxes + 1
    # ln(χ²_2n / 2n_components) has this mean
    shifted = np.log(periodogram[:n_used]) - (special.digamma(n_dof) - math.log(n_components))
    n_whole, noise = 2 * n_used, float(special.polygamma(1, n_dof))
    # even about zero and about the last point; what stands for zero itself is the first
    coefficients = fft.irfft(np.concatenate([shifted[:1], shifted]), n_whole)[: n_used + 1]
    numbers, weights = _numbers_that_may_be(coefficients, noise / n_whole)
    logarithms = (2.0 * np.cumsum(coefficients) - coefficients[0])[numbers - 1]
    logarithm, n_kept = float(weights @ logarithms), float(weights @ numbers)
    error = weights @ np.sqrt(noise * (4.0 * numbers - 2.0) / n_whole + (logarithms - logarithm) ** 2)
    who_have = np.searchsorted(numbers, np.arange(n_used + 1), side="right")  # from which number on
    kept = np.append(np.cumsum(weights[::-1])[::-1], 0.0)[who_have] * coefficients
    smooth = np.full(len(periodogram), np.nan)
    whole = np.concatenate([kept, kept[-2:0:-1]])
    smooth[:n_used] = np.exp(fft.rfft(whole).real[1 : n_used + 1])
    return ZeroFrequency(
        value=math.exp(logarithm),
        relative_error=float(error),
        n_coefficients=n_kept,
        cutoff=float(frequencies[n_used - 1]),
        aliased=fallen == len(periodogram),
        frequencies=frequencies,
        periodogram=periodogram,
        smooth=smooth,
        n_independent=n_dof * n_used / n_kept,
    )


def _numbers_that_may_be(coefficients: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers P (n,) of coefficients that may stand for the spectrum, and their weights (n,), which add up to 1.

    Args:
        coefficients: (n_used + 1,) of the whole cepstrum.
        variance: of each but the first, of noise.
    """
    n_used = len(coefficients) - 1
    beyond = np.concatenate([np.cumsum(coefficients[:0:-1] ** 2)[::-1], [0.0]])
    information = (beyond / variance + 2.0 * np.arange(1, n_used + 2))[: int(n_used / (2.0 * TIMES_AKAIKE))]
    weights = np.exp(-0.5 * (information - information.min()))
    numbers = np.rint(TIMES_AKAIKE * np.arange(1, len(weights) + 1)).astype(int)
    return numbers, weights / weights.sum()


def _parts(fluxes: np.ndarray) -> np.ndarray:
    """Fluxes, in the fewest parts that make more components than coupled fluxes."""
    n_fluxes, n_components, n_times = fluxes.shape
    if n_fluxes == 1 or n_fluxes < n_components:
        return fluxes
    n_parts = -(-(n_fluxes + 1) // n_components)
    length = n_times // n_parts
    return fluxes[..., : n_parts * length].reshape(n_fluxes, n_parts * n_components, length)


def reduced_periodogram(fluxes: np.ndarray, interval: float) -> np.ndarray:
    """(n_times // 2 - 1,) of positive frequencies, averaged over components, freed of fluxes after the first."""
    n_times = fluxes.shape[-1]
    transforms = fft.rfft(fluxes - fluxes.mean(axis=-1, keepdims=True), axis=-1)[..., 1 : (n_times + 1) // 2]
    scale = interval / n_times
    if len(fluxes) == 1:
        found: np.ndarray = scale * np.mean(np.abs(transforms[0]) ** 2, axis=0)
        return found
    # units that differ by powers of ten make a matrix that cannot be inverted
    sizes = np.sqrt(np.mean(np.abs(transforms) ** 2, axis=(1, 2)))
    if not (sizes > 0.0).all():
        return np.zeros(transforms.shape[-1])
    transforms = transforms / sizes[:, None, None]
    spectra = scale * np.einsum("ick,jck->kij", transforms, transforms.conj()) / fluxes.shape[1]
    inverse = np.linalg.inv(spectra)[:, 0, 0].real
    reduced: np.ndarray = sizes[0] ** 2 / inverse
    return reduced


def _fallen(periodogram: np.ndarray) -> int:
    """Points up to where the averaged spectrum has fallen for good; all where it has not."""
    width = max(1, len(periodogram) // SMOOTHED)
    means = periodogram[: width * (len(periodogram) // width)].reshape(-1, width).mean(axis=1)
    high = np.flatnonzero(means >= FALLEN * means[: max(1, 10 // width)].mean())
    if not len(high) or high[-1] + 1 >= len(means):
        return len(periodogram)
    return int((high[-1] + 1) * width)
