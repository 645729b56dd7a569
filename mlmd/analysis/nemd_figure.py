"""The picture of a flow of heat: the temperatures with their lines, and 1/κ against 1/L where lengths differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.nemd import NEMDResult


def nemd_figure(result: NEMDResult) -> Figure:
    """Filled points are on the line; those that exchange heat, and their neighbours, are not."""
    line = result.extrapolation
    figure, axes = new_figure(1, 1 if line is None else 2, width=5.5 if line is None else 9.0)
    for index, one in enumerate(result.flows):
        for which, filled in ((one.fitted, color(index)), (~one.fitted, "white")):
            axes[0].errorbar(
                one.distances[which], one.temperatures[which],
                yerr=np.where(np.isfinite(one.errors[which]), one.errors[which], 0.0), fmt="o", markersize=4.5,
                color=color(index), markerfacecolor=filled, capsize=2.0,
            )  # fmt: skip
        name = f"κ = {one.conductivity}" + ("" if len(result.flows) == 1 else f", L = {one.length:.4g} Å")
        axes[0].plot(one.distances[one.fitted], one.line[one.fitted], color="black", linewidth=1.2)
        axes[0].plot([], [], color=color(index), marker="o", linestyle="", label=name)
    label(axes[0], "distance from the hot slab (Å)", "T (K)")
    legend(axes[0])
    if line is not None:
        inverse = np.array([1.0 / one.length for one in result.flows])
        values, errors = (
            np.array([getattr(one.conductivity, which) for one in result.flows]) for which in ("value", "error")
        )
        for index, place in enumerate(inverse):
            axes[1].errorbar(
                [place], [1.0 / values[index]], yerr=[errors[index] / values[index] ** 2], fmt="o", markersize=4.5,
                color=color(index), capsize=2.0,
            )  # fmt: skip
        places = np.array([0.0, inverse.max()])
        axes[1].plot(places, line.intercept + line.slope * places, color="black", linewidth=1.2,
                     label=f"L → ∞: κ = {result.conductivity}")  # fmt: skip
        axes[1].set_xlim(left=0.0)
        label(axes[1], "1/L (1/Å)", "1/κ (m K/W)")
        legend(axes[1])
    return figure
