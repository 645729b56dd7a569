"""The picture of a film: how it grew, its layers and what they are like, and its surface from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mlmd.analysis.figures import color, label, legend, new_figure
from mlmd.analysis.surface_similarity import FACES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.deposition import DepositionResult

_GREY = "#BBBBBB"


def deposition_figure(result: DepositionResult) -> Figure:
    """Above: filling of layers, roughness, the profile; below: structure, similarity with faces, height map."""
    figure, axes = new_figure(2, 3, width=13.0, height=7.2)
    filling, rough, profile, structure, faces, surface = axes
    _filling(filling, result)
    _roughness(rough, result)
    _profile(profile, result)
    _structure(structure, result)
    _faces(faces, result)
    _surface(figure, surface, result)
    return figure


def _filling(axes: Axes, result: DepositionResult) -> None:
    times = result.course.times / 1e3
    for index, layer in enumerate(result.layers):
        if layer.number > 0:
            axes.plot(times, result.course.filling[:, index], linewidth=1.2, color=color(layer.number - 1))
    axes.plot(times, result.course.coverage, color="black", linewidth=1.8, label=f"all: {result.rate}")
    axes.plot([], [], color=_GREY, linewidth=1.2, label="each layer")
    label(axes, "time (ps)", "coverage (ML)")
    axes.set_ylim(bottom=0)
    legend(axes)


def _roughness(axes: Axes, result: DepositionResult) -> None:
    times = result.course.times / 1e3
    axes.plot(times, result.course.roughness, color=color(1), linewidth=1.2, label="roughness")
    axes.axhline(result.bare_roughness, color=color(1), linewidth=0.9, linestyle=":", label="of the bare slab")
    axes.plot(times, result.course.thickness / 10.0, color=color(0), linewidth=1.2, label="thickness / 10")
    label(axes, "time (ps)", "Å")
    axes.set_ylim(bottom=0)
    legend(axes)


def _profile(axes: Axes, result: DepositionResult) -> None:
    heights = result.profile.heights
    for index, (name, density) in enumerate(result.by_element.items()):
        axes.plot(heights, density, color=color(index), linewidth=1.3, label=name)
    top = max(float(density.max()) for density in result.by_element.values())
    for edge in result.profile.edges[1:-1]:
        axes.axvline(edge, color=_GREY, linewidth=0.6)
    for layer, peak in zip(result.layers, result.profile.peaks, strict=True):
        axes.text(peak, 1.03 * top, str(layer.number), ha="center", fontsize=7, color="#333333")
    label(axes, "z (Å)", "density (1/Å³)")
    axes.set_ylim(0, 1.3 * top)
    legend(axes)


def _structure(axes: Axes, result: DepositionResult) -> None:
    numbers = [layer.number for layer in result.layers]
    below = np.zeros(len(numbers))
    others, *lattices = result.layers[0].structures
    for kind, name in enumerate([*lattices, others]):
        values = np.array([layer.structures[name].value * layer.filling.value for layer in result.layers])
        shade = _GREY if name == others else color(kind)
        if values.any():
            axes.bar(numbers, values, bottom=below, color=shade, width=0.85, label=name)
        below += values
    label(axes, "layer", "filling (ML), by structure type")
    axes.set_ylim(0, 1.35 * max(1.0, below.max()))
    axes.legend(frameon=False, fontsize=8, ncols=3)


def _faces(axes: Axes, result: DepositionResult) -> None:
    compared = [layer for layer in result.layers if layer.similarity]
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label(axes, "layer", f"similarity with faces of {result.lattice}" if result.lattice else "similarity with faces")
    if not compared:
        axes.text(0.5, 0.5, "not compared", transform=axes.transAxes, ha="center", color="#333333")
        return
    for index, face in enumerate(FACES):
        values = [layer.similarity[face] for layer in compared]
        axes.errorbar(
            [layer.number for layer in compared], [one.value for one in values],
            yerr=np.nan_to_num([one.error for one in values]), color=color(index), marker="o", markersize=4.5,
            linewidth=1.2, capsize=2.0, label=f"({face})",
        )  # fmt: skip
    legend(axes)


def _surface(figure: Figure, axes: Axes, result: DepositionResult) -> None:
    heights, plane = result.map.heights, result.map.plane
    n_a, n_b = heights.shape
    a, b = np.meshgrid(np.arange(n_a + 1) / n_a, np.arange(n_b + 1) / n_b, indexing="ij")
    corners = np.stack([a, b], axis=-1) - 0.5 / np.array([n_a, n_b])
    x, y = np.moveaxis(corners @ plane, -1, 0)
    image = axes.pcolormesh(x, y, heights - np.nanmean(heights), cmap="viridis", rasterized=True)
    figure.colorbar(image, ax=axes, label="height above the mean (Å)")
    axes.set_aspect("equal")
    axes.grid(False)
    label(axes, "x (Å)", "y (Å)")
