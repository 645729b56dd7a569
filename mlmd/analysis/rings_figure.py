"""The picture of rings: how many of each size, and the course of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.rings import RingsResult


def rings_figure(result: RingsResult) -> Figure:
    """Left, rings per atom and the part of the atoms that are in one, by size; right, rings per atom over time."""
    figure, (left, right) = new_figure(1, 2)
    sizes = np.array([one.n for one in result.sizes])
    for offset, name, words in ((-0.2, "per_atom", "rings per atom"), (0.2, "share", "part of the atoms in one")):
        values = np.array([getattr(one, name).value for one in result.sizes])
        errors = np.nan_to_num(np.array([getattr(one, name).error for one in result.sizes]))
        left.bar(
            sizes + offset, values, 0.4, yerr=errors, color=color(int(offset > 0)), label=words, error_kw={"lw": 0.9}
        )
    left.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    label(left, f"size of the ring ({'–'.join(result.counted)} atoms)", "")
    left.set_ylim(0, 1.2 * left.get_ylim()[1])
    mark = "o-" if len(result.times) < 30 else "-"
    for index, one in enumerate(result.sizes):
        right.plot(result.times / 1e3, one.series, mark, ms=2.5, lw=1.0, color=color(index), label=str(one.n))
    label(right, "time (ps)", "rings per atom")
    right.set_ylim(bottom=0)
    if result.sizes:
        legend(left)
        right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
