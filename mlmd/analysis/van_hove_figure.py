"""The picture of van Hove functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.van_hove import SelfPart, VanHoveResult

_NEAR = 1.0
"""Å."""
_FEWEST = 1e-3
"""Of the displacements: the self part is shown up to where it holds all but this."""


def van_hove_figure(result: VanHoveResult) -> Figure:
    """A row for each element: G_s with the Gaussian of the same MSD, G_d between its atoms, and α₂."""
    figure, axes = new_figure(len(result.selves), 3, width=12.0, height=0.4 + 3.2 * len(result.selves))
    like = {one.a: one for one in result.distincts if one.a == one.b}
    for row, one in enumerate(result.selves):
        left, middle, right = axes[3 * row : 3 * row + 3]
        _draw_self(left, result, one)
        distinct = like.get(one.element)
        if distinct is None:
            middle.set_axis_off()
        else:
            for number in range(len(result.lags)):
                _band(middle, result.distances, distinct.g[number], distinct.g_error[number], number)
            middle.axhline(1.0, color="#333333", linewidth=0.8, linestyle=":")
            middle.set_xlim(0, result.edges[-1])
            beyond = distinct.g[:, result.distances > _NEAR]  # the peak of places that are taken over may be any height
            middle.set_ylim(0, 1.15 * max(2.0, float(beyond.max(initial=0.0))))
            label(middle, "r (Å)", f"$G_d$ ({distinct.pair})")
        _draw_alpha(right, one)
    return figure


def _draw_self(axes: Axes, result: VanHoveResult, one: SelfPart) -> None:
    r = result.distances
    area = 4.0 * np.pi * r**2
    for number, lag in enumerate(result.lags):
        _band(axes, r, area * one.density[number], area * one.density_error[number], number, f"{lag / 1e3:g} ps")
        if one.msd[number] > 0.0:
            width = one.msd[number] / 3.0
            gauss = area * (2.0 * np.pi * width) ** -1.5 * np.exp(-0.5 * r**2 / width)
            axes.plot(r, gauss, color=color(number), linewidth=0.9, linestyle=(0, (4, 2)))
    axes.plot([], [], color="#333333", linewidth=0.9, linestyle=(0, (4, 2)), label="Gaussian of this MSD")
    held = np.cumsum(area * one.density[-1]) * (r[1] - r[0] if len(r) > 1 else 1.0)
    axes.set_xlim(0, result.edges[min(len(r), 1 + int(np.searchsorted(held, (1.0 - _FEWEST) * held[-1])))])
    axes.set_ylim(0, 1.1 * max(float((area * one.density[-1]).max()), np.median((area * one.density).max(axis=1))))
    label(axes, "r (Å)", f"$4πr^2 G_s$ ({one.element}) (1/Å)")
    legend(axes)


def _draw_alpha(axes: Axes, one: SelfPart) -> None:
    times = one.times / 1e3
    axes.plot(times, one.non_gaussian, color=color(0), linewidth=1.4)
    axes.fill_between(
        times, one.non_gaussian - one.non_gaussian_error, one.non_gaussian + one.non_gaussian_error, color=color(0),
        alpha=0.25, linewidth=0,
    )  # fmt: skip
    axes.axhline(0.0, color="#333333", linewidth=0.8, linestyle=":")
    axes.set_xlim(times[0], max(times[-1], 1.1 * times[0]))  # atoms at rest have no α₂ that would set it
    axes.set_xscale("log")
    label(axes, "lag (ps)", f"$α_2$ ({one.element})")


def _band(axes: Axes, x: np.ndarray, y: np.ndarray, error: np.ndarray, number: int, name: str | None = None) -> None:
    axes.plot(x, y, color=color(number), linewidth=1.4, label=name)
    if np.isfinite(error).all():
        axes.fill_between(x, y - error, y + error, color=color(number), alpha=0.25, linewidth=0)
