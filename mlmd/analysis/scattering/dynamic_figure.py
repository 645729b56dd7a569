"""The picture of dynamic structure factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure, plain_ticks

if TYPE_CHECKING:
    from mlmd.analysis.scattering.dynamic import DynamicStructureFactor

_MOST = 6
"""Curves in a plot."""


def dynamic_figure(result: DynamicStructureFactor) -> Figure:
    """F(q, t)/F(q, 0) and C_L(q, ω) at some q, and the times of the total and of single atoms over q."""
    figure, (memory, currents, times) = new_figure(1, 3, width=13.0)
    shown = np.unique(np.linspace(0, len(result.q) - 1, min(_MOST, len(result.q))).astype(int))
    total, waves = result.memories["F"], result.spectra["C_L(q,w)"][0]
    for index, i in enumerate(shown.tolist()):
        name = f"q = {result.q[i]:.2f} 1/Å"
        memory.plot(result.lags / 1e3, total.values[i] / total.values[i, 0], color=color(index), lw=1.3, label=name)
        currents.plot(1e3 * result.frequencies, waves[i] / waves[i].max(), color=color(index), lw=1.3)
    label(memory, "t (ps)", "F(q, t) / F(q, 0)")
    legend(memory)
    label(currents, "ω (rad/ps)", "C_L(q, ω) over its maximum")
    for index, (name, one) in enumerate(result.memories.items()):
        if name.startswith("F_ab"):
            continue
        values, errors = (np.array([getattr(time, part) for time in one.times]) for part in ("value", "error"))
        times.errorbar(
            result.q, values, yerr=np.nan_to_num(errors), fmt="o", markersize=3.5, color=color(index), label=name
        )
    label(times, "q (1/Å)", "time to 1/e (ps)")
    times.set_yscale("log")
    plain_ticks(times)
    legend(times)
    return figure
