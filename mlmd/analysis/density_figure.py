"""The picture of probability densities: projections along the vectors of the cell, and an isosurface."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from scipy.signal import resample

from mlmd.analysis.density import HELD, held, smoothed
from mlmd.analysis.figures import label, new_figure
from mlmd.analysis.isosurface import isosurface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.density import DensityResult, ElementDensity

_PLANES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
"""Vectors of the cell in the plane, and the one along which is summed."""

_SMOOTH = 0.3
"""Å, of the Gaussian before a surface is drawn: counts on a fine grid have none."""
_MOST_POINTS = 30
"""Along a vector of the cell: a surface that is drawn in a second or two."""


def density_figure(result: DensityResult) -> Figure:
    """A row for each element; atoms that stay at their places are small circles."""
    n = len(result.elements)
    figure, axes = new_figure(n, 4, width=16.0, height=0.4 + 3.6 * n)
    for row, one in enumerate(result.elements):
        for column, plane in enumerate(_PLANES):
            _draw(axes[4 * row + column], figure, result, one, plane)
        axes[4 * row + 3].remove()
        space: Any = figure.add_subplot(n, 4, 4 * row + 4, projection="3d", computed_zorder=False)
        _draw_surface(space, result, one)
    return figure


def _draw_surface(axes: Any, result: DensityResult, one: ElementDensity) -> None:
    """The surface within which `HELD` of the atoms are, of the density folded with a Gaussian."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

    field = smoothed(one.values, result.cell, _SMOOTH)
    for axis, n in enumerate(field.shape):
        if n > _MOST_POINTS:  # of a periodic field without what is narrower than the Gaussian: nothing is lost
            field = resample(field, _MOST_POINTS, axis=axis)
    triangles = isosurface(field, held(field, 1.0)[0]) @ result.cell
    if len(triangles):  # there are none where the density is the same everywhere
        surface = Poly3DCollection(
            triangles,
            facecolors="#0072B2",
            edgecolors="#0072B2",
            linewidths=0.1,
            shade=True,
            lightsource=LightSource(225, 45),
            zorder=2,
            rasterized=True,  # thousands of triangles
        )
        axes.add_collection3d(surface)
    others = result.framework[[symbol != one.element for symbol in result.framework.symbols]]
    if len(others):
        axes.scatter(*others.positions.T, s=5, color="#D55E00", alpha=0.5, depthshade=False, zorder=1)
    corners = np.array(list(product((0, 1), repeat=3)))
    edges = [(a, b) for a in corners for b in corners if (b - a).min() >= 0 and (b - a).sum() == 1]
    axes.add_collection3d(Line3DCollection(np.array(edges) @ result.cell, colors="#333333", linewidths=0.7, zorder=1))
    ends = corners @ result.cell
    low, high = ends.min(axis=0), ends.max(axis=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low)
    axes.set_axis_off()
    axes.set_title(f"{HELD:.0%} of {one.element} are inside", fontsize=8, color="#0072B2")


def _draw(axes: Axes, figure: Figure, result: DensityResult, one: ElementDensity, plane: tuple[int, int, int]) -> None:
    first, second, summed = plane
    flat = _flat(result.cell, first, second)
    height = 1.0 / np.linalg.norm(np.linalg.inv(result.cell)[:, summed])
    values = one.values.mean(axis=summed) * height  # the integral along the normal of the plane
    n, m = values.shape
    corners = (
        np.stack(np.meshgrid((np.arange(n + 1) - 0.5) / n, (np.arange(m + 1) - 0.5) / m, indexing="ij"), axis=-1) @ flat
    )
    axes.grid(False)
    mesh = axes.pcolormesh(corners[..., 0], corners[..., 1], values, cmap="Blues", vmin=0.0, rasterized=True)
    others = result.framework[[symbol != one.element for symbol in result.framework.symbols]]
    if len(others):
        places = others.get_scaled_positions()[:, [first, second]] @ flat
        axes.set_title(f"{', '.join(dict.fromkeys(others.symbols))}: circles", fontsize=8, color="#D55E00")
        axes.scatter(places[:, 0], places[:, 1], s=7, facecolors="none", edgecolors="#D55E00", linewidths=0.6)
    rim = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) @ flat
    axes.plot(rim[:, 0], rim[:, 1], color="#333333", linewidth=0.8)
    axes.set_aspect("equal")
    bar = figure.colorbar(mesh, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label(f"{one.element} (1/Å²)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    label(axes, f"along {'abc'[first]} (Å)", f"in the plane {'abc'[first]}{'abc'[second]} (Å)")


def _flat(cell: np.ndarray, first: int, second: int) -> np.ndarray:
    """Two vectors of the cell in their plane, the first along x; rows."""
    a, b = cell[first], cell[second]
    along = a / np.linalg.norm(a)
    x = float(b @ along)
    return np.array([[np.linalg.norm(a), 0.0], [x, np.linalg.norm(b - x * along)]])
