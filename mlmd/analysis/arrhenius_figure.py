"""The picture of activation energies: values over 1000/T with their laws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.activation import told
from mlmd.analysis.figures import color, label, legend, new_figure, plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.activation import Activation
    from mlmd.analysis.arrhenius import ArrheniusResult

_ROOM = 0.04
"""Of the width of the axis, beyond the points."""
_LABEL = 0.09
"""Of the width of the axis, between the middles of two temperatures."""


def arrhenius_figure(result: ArrheniusResult) -> Figure:
    """Diffusion coefficients on the left and conductivities on the right, or either alone; bands are of 95 %."""
    groups = [[one for one in result.activations if one.times_temperature is conducts] for conducts in (False, True)]
    shown = [group for group in groups if group]
    figure, axes = new_figure(1, len(shown), width=4.8 * len(shown) + 0.6, height=4.0)
    for one, group in zip(axes, shown, strict=True):
        _draw(one, group)
    return figure


def _draw(axes: Axes, group: list[Activation]) -> None:
    for index, one in enumerate(group):
        kelvins = np.array([point.temperature for point in one.points])
        values, errors = (np.array([getattr(point.value, name) for point in one.points]) for name in ("value", "error"))
        shown = 1.96 * np.nan_to_num(errors)
        axes.errorbar(
            1e3 / kelvins, values, yerr=[np.minimum(shown, 0.9 * values), shown], fmt="o", color=color(index),
            markersize=4.5, elinewidth=1.0, capsize=2.0, label="\n".join([one.quantity, *told(one.law)]),
        )  # fmt: skip
        ends = [*(1e3 / kelvins), *(1e3 / each.temperature for each in one.predictions)]
        room = _ROOM * (max(ends) - min(ends))
        where = np.linspace(max(min(ends) - room, 1e-3), max(ends) + room, 200)
        curve, spread = one.curve(one.law, 1e3 / where)
        reach = one.law.quantile * spread
        axes.plot(where, curve, color=color(index), linewidth=1.3)
        axes.fill_between(where, curve * np.exp(-reach), curve * np.exp(reach), color=color(index), alpha=0.18, lw=0)
        for each in one.predictions:
            axes.plot(1e3 / each.temperature, each.value.value, marker="o", mfc="white", color=color(index), ms=5.5)
    axes.set_yscale("log")
    unit = group[0].points[0].value.unit
    label(axes, "1000 / T (1/K)", f"{'σ' if group[0].times_temperature else 'D'} ({unit})")
    plain_ticks(axes)
    top = axes.secondary_xaxis("top", functions=(_turned, _turned))  # type: ignore[arg-type]
    top.set_xlabel("T (K)", fontsize=9)
    top.tick_params(labelsize=8)
    marked = {point.temperature for one in group for point in one.points}
    marked |= {each.temperature for one in group for each in one.predictions}
    top.set_xticks(_legible(marked, axes.get_xlim()))
    legend(axes)


def _legible(kelvins: Iterable[float], limits: tuple[float, float]) -> list[float]:
    """Temperatures (K) whose labels do not overlap on an axis of 1000/T with these limits, the coldest among them."""
    shown: list[float] = []
    for kelvin in sorted(kelvins):
        if not shown or 1e3 / shown[-1] - 1e3 / kelvin >= _LABEL * (limits[1] - limits[0]):
            shown.append(kelvin)
    return shown


def _turned(x: np.ndarray) -> np.ndarray:
    return 1e3 / np.maximum(x, 1e-9)
