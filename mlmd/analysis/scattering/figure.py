"""The picture of structure factors: the total and the experiment, its partials, and the total in real space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure
from mlmd.analysis.scattering.experiment import NORMALISATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.scattering.curves import Curve
    from mlmd.analysis.scattering.result import StructureFactor

_INK = "#333333"


def structure_factor_figure(result: StructureFactor) -> Figure:
    """Three plots; each axis says which normalisation its curves have."""
    figure, (total, partial, real) = new_figure(1, 3, width=13.0)
    name = "S(q)" if result.match is None else NORMALISATIONS[result.match.experiment.normalisation]
    _total(total, result, result.curve(name))
    for index, one in enumerate(one for one in result.curves if one.name.startswith("A ")):
        _draw(partial, result.q, one, index, one.name.removeprefix("A "))
    partial.axhline(1.0, color=_INK, linewidth=0.8, linestyle=":")
    label(partial, "q (1/Å)", "A(q), partials of Faber and Ziman")
    legend(partial)
    wanted = "T(r)" if result.weights.radiation == "neutron" else "G_PDF(r)"
    curve = result.curve(wanted)
    _draw(real, result.r, curve, 0, "")
    label(real, "r (Å)", f"{wanted} ({curve.unit}), {result.weights.radiation}s")
    real.set_xlim(0, min(10.0, float(result.r[-1])))
    for axes in (total, partial):
        axes.set_xlim(0, float(result.q[-1]))
    return figure


def _total(axes: Axes, result: StructureFactor, curve: Curve) -> None:
    if result.match is not None:
        experiment = result.match.experiment
        shown = (experiment.q > 0.0) & (experiment.q <= result.q[-1])
        axes.plot(
            experiment.q[shown], experiment.values[shown], "o", markersize=2.5, color="#7F7F7F",
            label=f"measured, R = {result.match.r_factor:.3f}",
        )  # fmt: skip
    _draw(axes, result.q, curve, 0, "computed" if result.match is not None else "")
    unit = f" ({curve.unit})" if curve.unit else ""
    label(axes, "q (1/Å)", f"{curve.name}{unit}, {result.weights.radiation}s")
    if curve.name in ("S(q)", "S_self(q)"):
        axes.axhline(1.0, color=_INK, linewidth=0.8, linestyle=":")
    if result.match is not None:
        legend(axes)


def _draw(axes: Axes, x: np.ndarray, curve: Curve, index: int, name: str) -> None:
    axes.plot(x, curve.values, color=color(index), linewidth=1.3, label=name)
    if np.isfinite(curve.error).all():
        axes.fill_between(
            x, curve.values - curve.error, curve.values + curve.error, color=color(index), alpha=0.25, linewidth=0
        )
