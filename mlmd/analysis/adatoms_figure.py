"""The picture of adatoms: their sites, by which vectors they hop, and how long they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, empty, label, legend, new_figure

if TYPE_CHECKING:
    from mlmd.analysis.adatoms import AdatomsResult


def adatoms_figure(result: AdatomsResult) -> Figure:
    """Left, sites of the cell, as dark as they were occupied; middle, hops by vector; right, survival of stays."""
    figure, (places, hops, stays) = new_figure(1, 3, width=12.0, height=3.9)
    for index, one in enumerate(result.species):
        seen = one.hops
        x, y = (seen.places.reduced @ seen.places.cell)[:, :2].T
        places.scatter(x, y, s=12, c=seen.occupancy, cmap="Blues", edgecolors=color(index), linewidths=0.6, vmin=0.0)
        vectors, counts = np.unique(np.round(seen.visits.vector[:, :2], 1), axis=0, return_counts=True)
        if len(vectors):
            name = f"{one.element}: {len(seen.visits.atom)} hops"
            hops.scatter(
                vectors[:, 0],
                vectors[:, 1],
                s=4 + 120 * counts / counts.max(),
                color=color(index),
                alpha=0.6,
                label=name,
            )
        for kind in seen.classes:
            time, part = kind.survival.T
            words = f"{one.element}: {kind.residence}"
            stays.step(time, np.maximum(part, 1e-6), where="post", color=color(index), lw=1.4, label=words)
    rim = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) @ result.species[0].hops.places.cell[:2, :2]
    places.plot(*rim.T, color="#333333", linewidth=0.8)
    for axes in (places, hops):
        axes.margins(0.15)
        axes.set_aspect("equal", adjustable="datalim")
    stays.set_yscale("log")
    lowest = [kind.survival[kind.survival[:, 1] > 0.0, 1].min() for one in result.species for kind in one.hops.classes]
    stays.set_ylim(max(0.5 * min(lowest), 1e-4), 1.3)
    label(places, "x (Å)", "sites, y (Å)")
    label(hops, "hop along x (Å)", "hop along y (Å)")
    label(stays, "time on a site (ps)", "part of the stays that last longer")
    legend(stays)
    if any(len(one.hops.visits.atom) for one in result.species):
        legend(hops)
        return figure
    for axes in (hops, stays):
        empty(axes, "no hops")
    return figure
