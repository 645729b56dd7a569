"""The picture of an infrared spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.infrared import InfraredResult

_ROOM = 1.15
"""Of the last wavenumber below which there is nearly everything: where the axis ends."""


def infrared_figure(result: InfraredResult) -> Figure:
    """The band is of one standard error; numbers stand at lines."""
    figure, (axes,) = new_figure(1, 1, width=7.5)
    x, y, error = result.wavenumbers, result.absorption, result.error
    axes.plot(x, y, color=color(0), linewidth=1.2)
    axes.fill_between(x, y - error, y + error, color=color(0), alpha=0.25, linewidth=0)
    for place in result.lines:
        height = y[int(np.argmin(np.abs(x - place)))]
        axes.annotate(f"{place:.0f}", (place, height), ha="center", va="bottom", fontsize=8)
    nearly = int(np.searchsorted(np.cumsum(y), 0.995 * y.sum()))
    axes.set_xlim(0.0, min(float(x[-1]), _ROOM * float(x[nearly])))
    axes.set_ylim(bottom=0.0)
    label(axes, "wavenumber (1/cm)", "absorption (km cm/mol)")
    return figure
