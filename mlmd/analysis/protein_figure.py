"""The picture of a protein: series with their distributions, residues, dihedral angles and contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlmd.analysis.protein import ProteinResult, Series


def protein_figure(result: ProteinResult) -> Figure:
    """A row of time and distribution for each series, then mobility, folding, angles and contacts."""
    n_series = len(result.series)
    figure, axes = new_figure(n_series + 2, 2, width=9.5, height=1.7 * n_series + 6.4)
    grid = axes[0].get_gridspec()
    if grid is not None:
        grid.set_width_ratios([3, 2])
        grid.set_height_ratios([1.7] * n_series + [3.2, 3.2])
    for row, one in enumerate(result.series):
        _series(axes[2 * row], axes[2 * row + 1], result.times / 1e3, one, color(row))
    fluctuation, angles, folding, contacts = axes[2 * n_series :]
    _fluctuations(fluctuation, result)
    _angles(angles, result)
    _folding(folding, result)
    _contacts(figure, contacts, result)
    return figure


def _series(left: Axes, right: Axes, times: np.ndarray, one: Series, shade: str) -> None:
    few = np.unique(np.linspace(0, len(times) - 1, 2000).astype(int))
    left.plot(times[few], one.values[few], color=shade, linewidth=0.9, label=f"mean {one.mean}")
    left.axhline(one.mean.value, color="black", linewidth=0.8, linestyle=":")
    label(left, "time (ps)", f"{one.name} ({one.unit})" if one.unit else one.name)
    left.yaxis.label.set_fontsize(8)
    legend(left)
    whole = bool((one.values == np.rint(one.values)).all())
    edges = np.arange(one.values.min() - 0.5, one.values.max() + 1.0) if whole else 40
    right.hist(one.values, bins=edges, density=True, color=shade, alpha=0.8)  # type: ignore[arg-type]
    label(right, f"{one.name} ({one.unit})" if one.unit else one.name, "distribution")


def _fluctuations(axes: Axes, result: ProteinResult) -> None:
    known = [(k, one.fluctuation) for k, one in enumerate(result.residues) if one.fluctuation is not None]
    values = [one.value for _, one in known]
    axes.errorbar(
        [k for k, _ in known], values, yerr=np.nan_to_num([one.error for _, one in known]), fmt="o-", color=color(0),
        markersize=3.5, linewidth=1.0, capsize=2.0,
    )  # fmt: skip
    _names(axes, result)
    label(axes, "residue", "RMSF (Å)")
    axes.set_ylim(bottom=0)


def _folding(axes: Axes, result: ProteinResult) -> None:
    places = np.arange(len(result.residues))
    below = np.zeros(len(places))
    for index, name in enumerate(("helix", "strand", "coil")):
        parts = np.array([one.structure[name].value if one.structure else 0.0 for one in result.residues])
        axes.bar(
            places, parts, bottom=below, color="#CCCCCC" if name == "coil" else color(index), width=0.85, label=name
        )
        below += parts
    _names(axes, result)
    label(axes, "residue", "part of the frames")
    axes.set_ylim(0, 1.25)
    axes.legend(frameon=False, fontsize=8, ncols=3)


def _angles(axes: Axes, result: ProteinResult) -> None:
    """Ramachandran's plot of all residues with both angles."""
    both = [one.angles for one in result.residues if {"φ", "ψ"} <= one.angles.keys()]
    if both:
        phi, psi = (np.degrees(np.concatenate([angles[name] for angles in both])) for name in "φψ")
        few = np.unique(np.linspace(0, len(phi) - 1, 5000).astype(int))
        axes.plot(phi[few], psi[few], ".", color=color(1), markersize=1.5, alpha=0.4, rasterized=True)
    label(axes, "φ (°)", "ψ (°)")
    axes.set_xlim(-180, 180)
    axes.set_ylim(-180, 180)
    axes.set_xticks([-180, -90, 0, 90, 180])
    axes.set_yticks([-180, -90, 0, 90, 180])
    axes.set_aspect("equal")


def _contacts(figure: Figure, axes: Axes, result: ProteinResult) -> None:
    image = axes.imshow(result.contacts, origin="lower", vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, label="part in contact")
    axes.grid(False)
    label(axes, "residue", "residue")
    axes.set_yticks(*_names(axes, result), fontsize=7)


def _names(axes: Axes, result: ProteinResult) -> tuple[list[int], list[str]]:
    """Name the residues along x; where, and how."""
    every = max(1, len(result.residues) // 14)
    places, names = list(range(0, len(result.residues), every)), [one.name for one in result.residues[::every]]
    axes.set_xticks(places, names, rotation=60, fontsize=7)
    return places, names
