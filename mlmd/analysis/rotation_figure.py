"""The picture of rotation: correlations with their fits, and the events."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure
from mlmd.analysis.rotation import RotationResult


def rotation_figure(result: RotationResult) -> Figure:
    """Left, C_1 and C_2; right, by which angle and when bonds have turned."""
    figure, (left, right) = new_figure(1, 2)
    times = result.lags[1:] / 1e3
    for index, one in enumerate(result.relaxations):
        values, errors = one.values[1:], np.nan_to_num(one.errors[1:])
        name = f"$C_{one.order}$" + (f": τ = {one.time}" if one.time.determined else "")
        left.plot(times, values, color=color(index), linewidth=1.5, label=name)
        left.fill_between(times, values - errors, values + errors, color=color(index), alpha=0.25, linewidth=0)
        if one.window is not None:
            grid = np.geomspace(one.window[0], one.window[1], 100) / 1e3
            fit = one.amplitude * np.exp(-grid / one.time.value)
            left.plot(grid, fit, color="black", linewidth=1.1, linestyle=(0, (4, 2)))
    left.axhline(0.0, color="#333333", linewidth=0.8, linestyle=":")
    left.set_xscale("log")
    label(left, "lag (ps)", f"orientation correlation of {result.center}–{result.ligand}")
    legend(left)
    begin, interval = result.provenance.first_time, result.provenance.interval
    right.scatter((begin + result.turns.frame * interval) / 1e3, result.turns.angle, s=9, color=color(0), linewidths=0)
    right.set_xlim(begin / 1e3, max(result.provenance.last_time, begin + interval) / 1e3)
    right.set_ylim(0, 180)
    right.set_yticks(range(0, 181, 45))
    label(right, "time (ps)", "angle of an event (degrees)")
    if not len(result.turns.frame):
        right.text(0.5, 0.5, "no events", ha="center", va="center", transform=right.transAxes)
    return figure
