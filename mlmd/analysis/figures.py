"""Pictures of results, drawn without global state (no pyplot), legible in a column of a paper and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.diffusion import DiffusionResult
    from mlmd.analysis.rdf import RDFResult

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
"""Okabe and Ito's colours, told apart by everyone."""
_INK = "#333333"
_FIT: Mapping[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 3}
_MAX_POINTS = 400


def color(index: int) -> str:
    """The colour of the curve with this number."""
    return COLORS[index % len(COLORS)]


def new_figure(n_rows: int, n_columns: int, width: float = 9.0, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of axes in mlmd's style; sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(_INK)
        one.tick_params(colors=_INK, labelsize=9)
        one.grid(True, color="#E5E5E5", linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes


def label(axes: Axes, x: str, y: str) -> None:
    """Name the axes of a plot, with units."""
    axes.set_xlabel(x, fontsize=10, color=_INK)
    axes.set_ylabel(y, fontsize=10, color=_INK)


def plain_ticks(axes: Axes) -> None:
    """Label decades only on logarithmic axes, or a few round numbers where an axis is shorter than one."""
    for one in (axes.xaxis, axes.yaxis):
        low, high = one.get_view_interval()
        if one.get_scale() != "log":
            continue
        if high < 100.0 * low:
            one.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
            one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.set_minor_formatter(NullFormatter())


def legend(axes: Axes) -> None:
    """A legend where there is room."""
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def empty(axes: Axes, why: str) -> None:
    """Say in words why there is nothing in a plot, whose numbers would mean nothing."""
    axes.text(0.5, 0.5, why, ha="center", va="center", color=_INK, transform=axes.transAxes)
    axes.grid(False)
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_locator(NullLocator())
        one.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, PDF or SVG without the time of day in it, so that equal results give equal files."""
    import matplotlib as mpl

    untold = {".png": "Software", ".pdf": "CreationDate", ".svg": "Date"}[path.suffix.lower()]
    with mpl.rc_context({"svg.hashsalt": "mlmd"}):
        figure.savefig(path, metadata={untold: None})


def diffusion_figure(result: DiffusionResult) -> Figure:
    """Left, MSDs with their lines; right, the same in logarithms, where diffusion has slope 1."""
    figure, (left, right) = new_figure(1, 2)
    for index, one in enumerate(result.species):
        longest = max(2, len(one.msd.times) // 2)
        times, total = one.msd.times[:longest] / 1e3, one.msd.total[:longest]
        few = np.unique(np.linspace(0, longest - 1, _MAX_POINTS).astype(int))
        name = f"{one.element}: {one.coefficient}" if one.coefficient.determined else one.element
        left.plot(times[few], total[few], color=color(index), linewidth=1.6, label=name)
        spread = np.unique(np.geomspace(1, longest - 1, _MAX_POINTS).astype(int))
        spread = spread[total[spread] > 0.0]
        if len(spread):
            right.loglog(times[spread], total[spread], color=color(index), linewidth=1.6)
        if one.line is not None:
            lags = np.array([one.line.first_lag, one.line.last_lag])
            fit = one.line.slope * lags + one.line.intercept
            left.plot(one.msd.times[lags] / 1e3, fit, **_FIT)
            if fit.min() > 0.0:
                right.plot(one.msd.times[lags] / 1e3, fit, **_FIT)
    if any(one.line is not None for one in result.species):
        left.plot([], [], label="fit", **_FIT)
    label(left, "lag (ps)", "MSD (Å²)")
    label(right, "lag (ps)", "MSD (Å²)")
    plain_ticks(right)
    left.set_xlim(left=0)
    left.set_ylim(bottom=0)
    legend(left)
    return figure


def rdf_figure(result: RDFResult) -> Figure:
    """Left, g(r) of every pair of elements; right, coordination numbers."""
    figure, (left, right) = new_figure(1, 2)
    for index, one in enumerate(result.pairs):
        left.plot(result.distances, one.g, color=color(index), linewidth=1.4, label=one.pair)
        if np.isfinite(one.g_error).all():
            left.fill_between(
                result.distances, one.g - one.g_error, one.g + one.g_error, color=color(index), alpha=0.25, linewidth=0
            )
        right.plot(result.edges[1:], one.coordination, color=color(index), linewidth=1.4)
    left.axhline(1.0, color=_INK, linewidth=0.8, linestyle=":")
    label(left, "r (Å)", "g(r)")
    label(right, "r (Å)", "coordination number")
    right.set_ylim(0, min(20.0, max(one.coordination[-1] for one in result.pairs) * 1.05 or 1.0))
    for axes in (left, right):
        axes.set_xlim(0, result.edges[-1])
    left.set_ylim(bottom=0)
    legend(left)
    return figure
