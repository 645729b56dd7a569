"""Pictures of local structure: angles, coordination numbers, lifetimes of bonds, order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.adf import ADFResult
    from mlmd.analysis.coordination import CoordinationResult
    from mlmd.analysis.lifetimes import LifetimesResult
    from mlmd.analysis.order import OrderResult

_MOST = 12
"""Curves that can be told apart in one plot."""


def adf_figure(result: ADFResult) -> Figure:
    """Left, densities of angles; right, over their value for neighbours without order."""
    figure, (left, right) = new_figure(1, 2)
    unordered = 0.5 * np.sin(np.radians(result.angles)) * np.pi / 180.0
    shown = [one for one in result.triplets if one.peak is not None][:_MOST]
    for index, one in enumerate(shown):
        left.plot(result.angles, one.density, color=color(index), linewidth=1.4, label=one.name)
        if np.isfinite(one.density_error).all():
            low, high = one.density - one.density_error, one.density + one.density_error
            left.fill_between(result.angles, low, high, color=color(index), alpha=0.25, linewidth=0)
        right.plot(result.angles, one.density / unordered, color=color(index), linewidth=1.4)
    left.plot(result.angles, unordered, color="#333333", linewidth=0.8, linestyle=":", label="no order")
    right.axhline(1.0, color="#333333", linewidth=0.8, linestyle=":")
    for axes in (left, right):
        axes.set_xlim(0, 180)
        axes.set_xticks(range(0, 181, 30))
        axes.set_ylim(bottom=0)
    label(left, "angle (degrees)", "P(θ) (1/degree)")
    label(right, "angle (degrees)", "P(θ) / (½ sin θ)")
    legend(left)
    return figure


def coordination_figure(result: CoordinationResult) -> Figure:
    """Left, parts of the atoms by their number of neighbours; right, the mean number over time."""
    figure, (left, right) = new_figure(1, 2)
    shown = result.pairs[:_MOST]
    for index, one in enumerate(shown):
        numbers = np.arange(len(one.fractions))
        values, errors = (np.array([getattr(part, name) for part in one.fractions]) for name in ("value", "error"))
        left.errorbar(
            numbers, values, yerr=np.nan_to_num(errors), color=color(index), fmt="o-", ms=3.5, lw=1.2,
            label=f"{one.b} around {one.a} ({one.cutoff:.2f} Å)",
        )  # fmt: skip
        right.plot(result.times / 1e3, one.series, color=color(index), linewidth=0.9)
    left.set_ylim(bottom=0)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.margins(y=0.15)
    label(left, "number of neighbours", "part of the atoms")
    label(right, "time (ps)", "mean number of neighbours")
    legend(left)
    return figure


def lifetimes_figure(result: LifetimesResult) -> Figure:
    """Left, S: bonds that have not been broken; right, C: bonds that are there again or still."""
    figure, axes = new_figure(1, 2)
    times = result.lags[1:] / 1e3
    for index, one in enumerate([pair for pair in result.pairs if pair.n_bonds > 0.0][:_MOST]):
        for place, curve, time in (
            (axes[0], one.continuous, one.lifetime),
            (axes[1], one.intermittent, one.relaxation),
        ):
            name = f"{one.pair}: {time}" if time.determined else one.pair
            value, error = curve[1:].T
            place.plot(times, value, color=color(index), linewidth=1.4, label=name)
            error = np.nan_to_num(error)
            place.fill_between(times, value - error, value + error, color=color(index), alpha=0.25, linewidth=0)
    for place, name in zip(axes, ("S(t), never broken", "C(t), there again or still"), strict=True):
        place.set_xscale("log")
        place.set_ylim(0, 1.02)
        label(place, "lag (ps)", name)
        legend(place)
    return figure


def order_figure(result: OrderResult) -> Figure:
    """A plot for each l."""
    figure, axes = new_figure(1, len(result.degrees), width=4.5 * len(result.degrees))
    for column, (place, degree) in enumerate(zip(axes, result.degrees, strict=True)):
        for index, one in enumerate(result.pairs[:_MOST]):
            value, error = one.densities[column].T
            q = (np.arange(len(value)) + 0.5) / len(value)
            place.plot(q, value, color=color(index), linewidth=1.4, label=f"{one.b} around {one.a}")
            error = np.nan_to_num(error)
            place.fill_between(q, value - error, value + error, color=color(index), alpha=0.25, linewidth=0)
        place.set_xlim(0, 1)
        place.set_ylim(bottom=0)
        label(place, f"$q_{{{degree}}}$", "density of atoms")
    legend(axes[0])
    return figure
