"""The course of a run: what its log says against time, with running means and the borders of stages."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.figures import color, label, legend, new_figure
from mlmd.report.curves import MAX_POINTS, Curve, Panel, Plot, running_mean, thinned
from mlmd.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Log = dict[str, np.ndarray]
_PARTS = 50
"""Of a run that a running mean is taken over."""
_CHANGING = {
    "pressure (bar)": "pressure [bar]",
    "volume (Å³)": "volume [Å^3]",
    "density (g/cm³)": "density [g/cm^3]",
    "bias energy (eV)": "bias energy [eV]",
    "largest extrapolation grade": "max grade",
    "atoms": "atoms",
}
"""Shown where they change."""


def _changes(column: np.ndarray) -> bool:
    """Whether a column has two different numbers; some may be missing."""
    there = column[np.isfinite(column)]
    return len(there) > 0 and float(np.ptp(there)) > 0.0


def n_atoms(run: Run, log: Log) -> np.ndarray:
    """Atoms in each line of the log; there is a column where their number changes."""
    return log.get("atoms", np.full(len(log["step"]), len(run.atoms)))


def course(run: Run, log: Log) -> Plot:
    """Temperature, energies, pressure and what else changes against time.

    Long logs are thinned to the lowest and highest of neighbouring lines; the running means are of all lines.
    """
    time = log["time [ps]"]
    shown: dict[str, np.ndarray] = {"temperature (K)": log["temperature [K]"]}
    if "potential energy [eV]" in log:  # AGNI has none
        shown["potential energy (eV/atom)"] = log["potential energy [eV]"] / n_atoms(run, log)
        shown["total energy (eV/atom)"] = log["energy per atom [eV]"]
    shown |= {name: log[key] for name, key in _CHANGING.items() if key in log and _changes(log[key])}
    parts, window = parts_of(log["stage"]), max(3, len(time) // _PARTS)
    few = np.unique(np.linspace(0, len(time) - 1, min(len(time), MAX_POINTS // 2)).astype(int))
    panels = []
    for name, column in shown.items():
        curves = [Curve("each line of the log", *thinned(time, column))]
        if name != "atoms" and len(time) >= _PARTS:
            mean = running_mean(column, parts, window)
            curves.append(Curve("running mean", time[few], mean[few], style="mean"))
        target = log.get("target temperature [K]")
        if name == "temperature (K)" and target is not None and np.isfinite(target).any():
            curves.append(Curve("target", time[few], target[few], style="target"))
        panels.append(Panel(name, tuple(curves)))
    span = (time[-1] - time[0]) / max(1, len(time) - 1) * window
    notes = [f"The running mean is over {span:.3g} ps."] if len(time) >= _PARTS else []
    if len(time) > 2 * MAX_POINTS:
        notes.append(
            f"Of {len(time):,} lines of the log the lowest and highest of every {2 * len(time) // MAX_POINTS:,}."
        )
    return Plot("time (ps)", tuple(panels), _borders(run, time), notes=tuple(notes))


def parts_of(stage: np.ndarray) -> list[slice]:
    """Lines of the log that belong to one stage."""
    edges = [0, *(np.flatnonzero(np.diff(stage)) + 1).tolist(), len(stage)]
    return [slice(first, last) for first, last in pairwise(edges)]


def _borders(run: Run, time: np.ndarray) -> tuple[float, ...]:
    """Times at which stages end that the run has gone beyond, ps."""
    ends = np.cumsum([stage.n_steps * stage.timestep for stage in run.stages])[:-1] / 1e3
    return tuple(float(end) for end in np.unique(ends) if time[0] < end < time[-1])


def course_figure(plot: Plot) -> Figure:
    """The same as a picture, for paper and where no script runs."""
    n_rows = (len(plot.panels) + 1) // 2
    figure, axes = new_figure(n_rows, 2, height=2.7 * n_rows)
    for one, panel in zip(axes, plot.panels, strict=False):
        for number, curve in enumerate(panel.curves):
            _draw(one, curve, color(0 if _has_mean(panel) else number), faint=_has_mean(panel))
        label(one, plot.x_label, panel.label)
        one.ticklabel_format(axis="y", useOffset=False)
        for mark in plot.marks:
            one.axvline(mark, color="#777777", linewidth=0.9, linestyle=":")
        x = panel.curves[0].x
        one.set_xlim(float(x[0]), max(float(x[-1]), float(x[0]) + 1e-9))
    for one in axes[len(plot.panels) :]:
        one.set_visible(False)
    if len(plot.panels[0].curves) > 1:
        legend(axes[0])
    return figure


def _has_mean(panel: Panel) -> bool:
    return any(curve.style == "mean" for curve in panel.curves)


def _draw(axes: Axes, curve: Curve, ink: str, *, faint: bool) -> None:
    styles: dict[str, dict[str, Any]] = {
        "line": {"color": ink, "linewidth": 0.8, "alpha": 0.45 if faint else 1.0},
        "mean": {"color": ink, "linewidth": 1.6},
        "target": {"color": "black", "linewidth": 1.0, "linestyle": "--"},
    }
    name = None if faint and curve.style == "line" else curve.name
    axes.plot(curve.x, curve.y, label=name, **styles[curve.style])
