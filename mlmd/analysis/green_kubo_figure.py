"""The picture of a Green-Kubo integral: how it runs with the time, and the spectrum with the curve that gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure, plain_ticks

if TYPE_CHECKING:
    from mlmd.analysis.green_kubo import GreenKubo

_N_POINTS = 400


def green_kubo_figure(result: GreenKubo) -> Figure:
    """The running integral with the value of the spectrum on the left, the averaged spectrum on the right."""
    figure, (integral, spectrum) = new_figure(1, 2)
    unit, value = result.coefficient.unit, result.coefficient
    rows = np.unique(np.geomspace(2, len(result.lags), _N_POINTS).astype(int)) - 1
    times, curve, error = (part[rows] for part in (result.lags / 1e3, result.integral, result.integral_error))
    name = "running integral, not freed" if result.freed_of else "running integral"
    integral.plot(times, curve, color=color(0), linewidth=1.3, label=name)
    integral.fill_between(times, curve - error, curve + error, color=color(0), alpha=0.2, linewidth=0)
    integral.axhline(value.value, color="black", linewidth=1.2, label=f"{result.symbol} = {value}")
    integral.axhspan(value.value - value.error, value.value + value.error, color="black", alpha=0.15, linewidth=0)
    if np.isfinite(result.cutoff_time):
        integral.axvline(result.cutoff_time / 1e3, color="#7F7F7F", linewidth=1.0, linestyle=(0, (4, 2)))
    integral.set_xscale("log")
    label(integral, "t (ps)", f"{result.symbol}(t) ({unit})")
    plain_ticks(integral)
    legend(integral)
    found = result.spectrum
    width = max(1, len(found.frequencies) // _N_POINTS)
    whole = width * (len(found.frequencies) // width)
    frequencies, powers = (
        part[:whole].reshape(-1, width).mean(axis=1) for part in (found.frequencies, found.periodogram)
    )
    spectrum.plot(1e3 * frequencies, result.scale * powers, color=color(0), linewidth=0.8, label="spectrum")
    spectrum.plot(1e3 * found.frequencies, result.scale * found.smooth, color="black", linewidth=1.2, label="smoothed")
    spectrum.errorbar([0.0], [value.value], yerr=[value.error], fmt="o", color="black", markersize=4.0, capsize=2.0)
    spectrum.set_yscale("log")
    label(spectrum, "frequency (THz)", f"{result.symbol} of the frequency ({unit})")
    legend(spectrum)
    return figure
