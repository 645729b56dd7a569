"""The picture of profiles: densities, and below them fractions, charge and order where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.profile import ProfileResult


def profile_figure(result: ProfileResult) -> Figure:
    """One panel for each unit; lines of dashes are the hyperbolic tangents."""
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(result.curves):
        groups.setdefault(one.unit, []).append(index)
    figure, axes = new_figure(len(groups), 1, width=7.5, height=2.5 * len(groups) + 0.5)
    words = {"g/cm³": "density (g/cm³)", "1/Å³": "density (1/Å³)", "e/Å³": "charge (e/Å³)", "": "fraction"}
    for panel, (unit, members) in zip(axes, groups.items(), strict=True):
        for place, index in enumerate(members):
            one = result.curves[index]
            panel.plot(result.heights, one.values, color=color(place), linewidth=1.4, label=one.name)
            if np.isfinite(one.errors).any():
                low, high = one.values - one.errors, one.values + one.errors
                panel.fill_between(result.heights, low, high, color=color(place), alpha=0.25, linewidth=0)
            if one.slab is not None:
                fit = one.slab.curve(result.heights, result.period)
                panel.plot(result.heights, fit, color="black", linewidth=1.0, linestyle=(0, (4, 2)))
        label(panel, f"{result.axis} (Å)", words[unit])
        panel.set_xlim(result.heights[0], result.heights[-1])
        legend(panel)
    return figure
