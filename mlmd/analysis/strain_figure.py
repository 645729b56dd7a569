"""The picture of elastic constants from fluctuations: how they settle with the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.strain_fluctuations import ElasticFluctuations


def strain_figure(result: ElasticFluctuations) -> Figure:
    """Compression, shear and what couples directions; points at the end have the error, and no bias of few values."""
    from mlmd.analysis.strain_fluctuations import SHOWN

    groups = (("C11", "C22", "C33"), ("C44", "C55", "C66"), ("C12", "C13", "C23"))
    places = {name: (row, column) for name, row, column in SHOWN}
    figure, axes = new_figure(1, 3, width=11.0)
    for panel, names in zip(axes, groups, strict=True):
        for index, name in enumerate(names):
            row, column = places[name]
            panel.plot(result.times / 1e3, result.course[:, row, column], color=color(index), linewidth=1.3, label=name)
            found = result.constant(row, column)
            panel.errorbar(
                [result.times[-1] / 1e3], [found.value], yerr=[found.error], fmt="o", color=color(index),
                markersize=4.0, capsize=2.0,
            )  # fmt: skip
        label(panel, "time (ps)", "C (GPa)")
        legend(panel)
    return figure
