"""Pictures of free energies: a curve with its error, a map, or the profile of each of three variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from mlmd.analysis.figures import color, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mlmd.analysis.abf import Axis
    from mlmd.analysis.free_energy import FreeEnergy

_HIGHEST = 40.0
"""kT: what is above is not shown."""


def free_energy_figure(result: FreeEnergy) -> Figure:
    """Left, the free energy in kT; right, how far it was from what it is, against the fraction of the run."""
    figure, (left, right) = new_figure(1, 2)
    {1: _curve, 2: _map}.get(len(result.axes), _profiles)(left, result)
    kt = result.kt
    right.plot(result.fractions, result.changes / kt, color=color(0), linewidth=1.6, label="rms change to the end")
    if np.isfinite(result.differences).any():
        right.plot(result.fractions, result.differences / kt, color=color(1), linewidth=1.6, label="F(2) - F(1)")
    label(right, "fraction of the run", "kT")
    right.set_xlim(0, 1)
    legend(right)
    return figure


def _curve(axes: Axes, result: FreeEnergy) -> None:
    (axis,), kt = result.axes, result.kt
    values, errors = result.values / kt, result.errors / kt
    axes.plot(axis.centres, values, color=color(0), linewidth=1.6)
    axes.fill_between(axis.centres, values - errors, values + errors, color=color(0), alpha=0.25, linewidth=0)
    for number, one in enumerate(result.minima, 1):
        axes.annotate(
            str(number), (one.position[0].value, one.free_energy.value / kt), xytext=(0, 6),
            textcoords="offset points", ha="center", fontsize=9,
        )  # fmt: skip
    label(axes, _with_unit(axis), "free energy (kT)")
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(values))) - 0.5)


def _map(axes: Axes, result: FreeEnergy) -> None:
    first, second = result.axes
    values = np.where(result.values / result.kt <= _HIGHEST, result.values / result.kt, np.nan)
    axes.grid(False)
    drawn = axes.pcolormesh(first.centres, second.centres, values.T, cmap="viridis", shading="nearest", rasterized=True)
    bar = axes.figure.colorbar(drawn, ax=axes)
    bar.set_label("free energy (kT)", fontsize=10)
    for number, one in enumerate(result.minima, 1):
        axes.annotate(
            str(number), (one.position[0].value, one.position[1].value), color="white", fontsize=9, ha="center",
            va="center",
        )  # fmt: skip
    label(axes, _with_unit(first), _with_unit(second))


def _profiles(axes: Axes, result: FreeEnergy) -> None:
    """-kT ln of the probability of each variable alone."""
    reduced = np.where(np.isfinite(result.values), result.values / result.kt, np.inf)
    for number, axis in enumerate(result.axes):
        others = tuple(other for other in range(reduced.ndim) if other != number)
        with np.errstate(divide="ignore"):
            profile = -logsumexp(-reduced, axis=others)
        profile = np.where(np.isfinite(profile), profile, np.nan)
        places = np.linspace(0, 1, axis.n_bins)
        ends = f"{axis.minimum:.3g} to {axis.maximum:.3g} {axis.unit}".rstrip()
        axes.plot(places, profile - np.nanmin(profile), color=color(number), label=f"{axis.name}, {ends}")
    label(axes, "place between the ends", "free energy (kT)")
    legend(axes)


def _with_unit(axis: Axis) -> str:
    return f"{axis.name} ({axis.unit})" if axis.unit else axis.name
