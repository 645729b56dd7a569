"""The picture of sites: how they are occupied, how long atoms stay, how far they jump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, empty, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.sites import SitesResult

_MOST = 6
"""Kinds of jumps that are told apart, the most frequent ones."""

_POINTS = 400
"""Of a survival curve."""


def sites_figure(result: SitesResult) -> Figure:
    """Left, occupancies by class; middle, survival of stays with the exponential of the mean; right, jump lengths."""
    figure, (left, middle, right) = new_figure(1, 3, width=12.0)
    _draw_occupancies(left, result)
    for index, one in enumerate(result.classes):
        few = np.unique(np.linspace(0, len(one.survival) - 1, _POINTS).astype(int))
        times, alive = one.survival[few].T
        middle.step(times, np.maximum(alive, 1e-6), where="post", color=color(index), linewidth=1.4, label=one.label)
        if one.residence.determined and len(times) > 1:
            grid = np.linspace(0.0, times[-1], 200)
            middle.plot(grid, np.exp(-grid / one.residence.value), color=color(index), lw=0.9, ls=(0, (4, 2)))
    middle.plot([], [], color="#333333", lw=0.9, ls=(0, (4, 2)), label="exp(-t/τ)")
    lowest = min((alive[alive > 0.0].min() for alive in (one.survival[:, 1] for one in result.classes)), default=0.1)
    middle.set_yscale("log")
    middle.set_ylim(max(0.5 * lowest, 1e-4), 1.3)
    middle.set_xlim(left=0)
    label(middle, "time on a site (ps)", "part of the stays that last longer")
    if len(result.visits.vector):
        legend(middle)
    else:
        empty(middle, "no jumps")
    _draw_lengths(right, result)
    return figure


def _draw_occupancies(axes: Axes, result: SitesResult) -> None:
    kinds = np.array([result.places.names.index(one) for one in result.places.classes])
    order = np.lexsort((-result.occupancy, kinds))
    for index, name in enumerate(result.places.names):
        x = np.flatnonzero(kinds[order] == index)
        its = order[x]
        errors = np.nan_to_num(result.occupancy_error[its])
        axes.errorbar(
            x + 1, result.occupancy[its], yerr=errors, fmt="o", ms=3, elinewidth=0.8, color=color(index), label=name
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    label(axes, "site", f"{result.element} on it")
    legend(axes)


def _draw_lengths(axes: Axes, result: SitesResult) -> None:
    lengths = np.linalg.norm(result.visits.vector, axis=1)
    label(axes, "length of jumps (Å)", "jumps")
    if not len(lengths):
        empty(axes, "no jumps")
        return
    edges = np.arange(0.0, lengths.max() + 0.2, 0.1)
    kinds = np.array([result.places.names.index(one) for one in result.places.classes])
    names = result.places.names
    frequent = sorted(result.transitions, key=lambda one: -one.count)[:_MOST]
    left = np.ones(len(lengths), dtype=bool)
    parts, labels = [], []
    for one in frequent:
        there = kinds[result.visits.origin] == names.index(one.origin)
        those = there & (kinds[result.visits.target] == names.index(one.target))
        left &= ~those
        parts.append(lengths[those])
        labels.append(one.pair)
    if left.any():
        parts.append(lengths[left])
        labels.append("others")
    colors = [color(index) if name != "others" else "#BBBBBB" for index, name in enumerate(labels)]
    axes.hist(parts, bins=edges.tolist(), stacked=True, color=colors, label=labels)
    legend(axes)
