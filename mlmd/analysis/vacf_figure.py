"""The picture of vibrations: velocity autocorrelations, and densities of states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.vacf import VACFResult


def vacf_figure(result: VACFResult) -> Figure:
    """C(t) on the left, g(ν) on the right; bands are of one standard error."""
    figure, (correlation, density) = new_figure(1, 2)
    correlation.axhline(0.0, color="#7F7F7F", linewidth=0.8)
    for index, one in enumerate(result.elements):
        for axes, where, values, error in (
            (correlation, result.lags / 1e3, one.correlation, one.correlation_error),
            (density, result.frequencies, one.density, one.density_error),
        ):
            axes.plot(where, values, color=color(index), linewidth=1.2, label=one.element)
            axes.fill_between(where, values - error, values + error, color=color(index), alpha=0.2, linewidth=0)
    if len(result.elements) > 1:
        density.plot(result.frequencies, result.total, color="black", linewidth=1.0, label="together")
    density.set_xlim(left=0.0)
    density.set_ylim(bottom=0.0)
    label(correlation, "t (ps)", "C(t)")
    label(density, "frequency (THz)", "density of states (modes per THz)")
    legend(correlation)
    legend(density)
    return figure
