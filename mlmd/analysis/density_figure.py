"""The picture of probability densities: projections along the vectors of the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.density import DensityResult, ElementDensity

_PLANES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
"""Vectors of the cell in the plane, and the one along which is summed."""


def density_figure(result: DensityResult) -> Figure:
    """A row for each element; atoms that stay at their places are small circles."""
    n = len(result.elements)
    figure, axes = new_figure(n, 3, width=12.0, height=0.4 + 3.6 * n)
    for row, one in enumerate(result.elements):
        for column, plane in enumerate(_PLANES):
            _draw(axes[3 * row + column], figure, result, one, plane)
    return figure


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
