"""Pictures of how well a potential reproduces its data, and of how it got there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from mlmd.analysis.figures import color, label, legend, new_figure, plain_ticks
from mlmd.train.error_table import UNITS, Property
from mlmd.train.evaluate import Labels, compared, errors
from mlmd.units import BAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mlmd.io.labelled import LabelledFrame
    from mlmd.train.error_table import ErrorRow
    from mlmd.train.sweep import Outcome

_INK = "#333333"
_SCALES: Mapping[str, tuple[float, str]] = {
    "energy": (1.0, "energy (eV/atom)"),
    "forces": (1.0, "force component (eV/Å)"),
    "stress": (1e-4 / BAR, "stress component (GPa)"),
}
"""Property -> from eV, eV/Å and eV/Å³ to what the axes show."""
_IN_ERRORS: Mapping[str, float] = {"energy": 1e3, "forces": 1e3, "stress": 1e3}
"""From the unit of the axes to that of the errors."""
_N_CELLS = 700
"""Of a panel's width, finer than a point; of several points in one cell one is drawn."""
_MOST_COLOURS = 7
_MARKS = "os^Dv*Pp"
_MARK_OF = {"train": "o", "test": "s"}
_EXACT = 1e-3
"""Of the largest error: smaller ones are those of a fit through all labels."""


@dataclass(frozen=True)
class LearningCurve:
    """How a fit went, and how errors fall with the amount of data."""

    n_frames: tuple[int, ...]
    """Structures trained on, ascending; the other errors stand at the same place. Empty for one fit to all of them."""
    train_energy: tuple[float, ...]
    """RMSE, meV/atom."""
    train_forces: tuple[float, ...]
    """RMSE, meV/Å."""
    test_energy: tuple[float, ...]
    """RMSE, meV/atom; empty or nan without a test set."""
    test_forces: tuple[float, ...]
    """RMSE, meV/Å; empty or nan without a test set."""
    losses: tuple[tuple[float, ...], ...]
    """Root of the mean squared weighted residual after every step, of each fit: several for a committee of networks."""
    step: str = "iteration"
    """What a step is called."""
    losses_of_part: tuple[float, ...] = ()
    """Loss of a part of the structures after every step that was made with it before all took part; the last one is of
    the parameters with which all begin."""
    n_of_part: int = 0
    """Structures of that part."""


@dataclass(frozen=True)
class Fitted:
    """What is told of a fit that is done."""

    curve: LearningCurve
    facts: Mapping[str, Any]
    """For the card of the potential: its loss, and after how many steps."""
    messages: tuple[str, ...] = ()
    """For a person."""


def parity_figure(frames: Sequence[LabelledFrame], predictions: Sequence[Labels], title: str) -> Figure:
    """Predicted against labelled energies per atom, forces and stress; below, their differences.

    Colours are the groups of the data, the same in all panels, or the elements where there are several and forces are
    shown. Energies of
    structures of several compositions are shown less Σ_e x_e ε_e, the least-squares energy of their composition.

    Args:
        frames: (n,) with labels; what they do not have is not shown.
        predictions: (n,) of the same structures.
        title: above the panels.
    """
    table = errors(frames, predictions)
    shown: list[Property] = [name for name in ("energy", "forces", "stress") if table.row(name).n]
    n_columns = max(len(shown), 1)
    figure, axes = new_figure(2, n_columns, width=3.4 * n_columns, height=5.0)
    axes[0].get_subplotspec().get_gridspec().set_height_ratios((2.6, 1.0))  # type: ignore[union-attr]
    figure.suptitle(title, fontsize=11, color=_INK)
    if not shown:
        axes[0].text(0.5, 0.5, "no data", ha="center", va="center", transform=axes[0].transAxes, color=_INK)
    for column, name in enumerate(shown):
        _parity_panel(axes[column], axes[n_columns + column], frames, predictions, name, table.row(name))
    return figure


def learning_figure(curve: LearningCurve) -> Figure:
    """Left, the loss by iteration; then, for several sizes of the training set, the errors of energies and forces.

    There must be something to show (`panels`). Each member of a committee has a line of its loss. The loss of a part of
    the structures, with which a fit began, is that of other data, and has a dashed line. A property without labels has
    no panel, and a single linear fit none for its loss.
    """
    shown = panels(curve)
    figure, axes = new_figure(1, len(shown), width=3.4 * len(shown), height=3.2)
    for name, one in zip(shown, axes, strict=True):
        if name == "loss":
            _losses(one, curve)
        else:
            errors_by_size(one, curve.n_frames, _known(curve, name))
            label(one, "structures trained on", f"RMSE, {name} ({UNITS[name]})")
        plain_ticks(one)
    return figure


def panels(curve: LearningCurve) -> list[str]:
    """What a learning curve has to show: the course of its loss, errors by size; empty after one epoch or one fit."""
    shown = ["loss"] if any(len(loss) > 1 for loss in (*curve.losses, curve.losses_of_part)) else []
    if len(curve.n_frames) > 1:
        shown += [name for name in ("energy", "forces") if _known(curve, name)]
    return shown


def errors_by_size(axes: Axes, n_frames: Sequence[int], errors_of: Mapping[str, Sequence[float]]) -> None:
    """Errors by number of structures, in logarithms.

    A fit that goes through all its labels has errors of nearly zero, and an axis down to them would press all others
    together: they lie below the panel.

    Args:
        axes: the panel.
        n_frames: ascending.
        errors_of: ``train`` and ``test``, those that are known; nan for sizes without.
    """
    every = np.array([value for values in errors_of.values() for value in values])
    largest = float(np.nanmax(every, initial=0.0))
    seen = every[every > _EXACT * largest]
    for kind, values in errors_of.items():
        index = list(_MARK_OF).index(kind)
        style: dict[str, Any] = {"color": color(index), "marker": _MARK_OF[kind], "markersize": 5, "linewidth": 1.6}
        name = kind if np.nanmax(values) > _EXACT * largest else f"{kind}: nearly zero"
        axes.loglog(n_frames, values, label=name, **style)
    if len(seen) < np.isfinite(every).sum():
        axes.set_ylim(0.7 * seen.min() if len(seen) else None, 1.4 * largest or None)
    legend(axes)


def pareto_figure(outcomes: Sequence[Outcome]) -> Figure:
    """Errors for test structures against the time of an evaluation, of all models of a sweep.

    Colours are descriptors, marks are fits; a line joins those that no other beats in both, and they are listed.
    """
    from mlmd.train.sweep import error_of

    figure, (axes,) = new_figure(1, 1, width=8.0, height=4.2)
    shown = [(one, one.microseconds, error_of(one)) for one in outcomes]
    known = [(one, x, y) for one, x, y in shown if x is not None and y is not None]
    descriptors = list(dict.fromkeys(one.descriptor for one, _, _ in known))
    fits = list(dict.fromkeys(one.fit for one, _, _ in known))
    named: set[str] = set()
    for one, x, y in known:
        name = f"{one.descriptor}, {one.fit}"
        axes.plot(x, y, linestyle="none", marker=_MARKS[fits.index(one.fit) % len(_MARKS)], markersize=6,
                  color=color(descriptors.index(one.descriptor)), label=None if name in named else name)  # fmt: skip
        named.add(name)
    best = sorted((x, y, one.label) for one, x, y in known if one.best)
    axes.plot([x for x, _, _ in best], [y for _, y, _ in best], color=_INK, linewidth=1.0, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.15, y=0.12)
    for number, (x, y, _) in enumerate(best, 1):
        axes.annotate(str(number), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=9, color=_INK)
    listed = "\n".join(f"{number}  {text}" for number, (_, _, text) in enumerate(best, 1))
    axes.text(1.02, 0.0, listed, transform=axes.transAxes, fontsize=7, color=_INK, va="bottom")
    only_energies = all(one.forces is None for one, _, _ in known)
    of_potentials = "RMSE, energy (meV/atom)" if only_energies else "RMSE, forces (meV/Å)"
    quantity = next((one.quantity for one, _, _ in known), "")
    label(axes, "evaluation (µs/atom)", f"MAE, {quantity}" if quantity else of_potentials)
    plain_ticks(axes)
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _losses(axes: Axes, curve: LearningCurve) -> None:
    """The loss by step; members of a committee are named while there are colours to tell them apart."""
    part = curve.losses_of_part
    if part:
        name = f"{curve.n_of_part} of {curve.n_frames[-1]} structures, at first"
        axes.semilogy(range(len(part)), part, color=color(1), linewidth=1.6, linestyle="--", label=name)
    for index, loss in enumerate(curve.losses):
        first = max(len(part) - 1, 0)
        style: dict[str, Any] = {"color": color(index), "linewidth": 1.6, "marker": "o" if len(loss) == 1 else None}
        name = f"all {curve.n_frames[-1]} structures" if part else f"member {index + 1}"
        axes.semilogy(range(first, first + len(loss)), loss, label=name, **style)
    label(axes, curve.step, "loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if part or 1 < len(curve.losses) <= _MOST_COLOURS:
        legend(axes)


def _known(curve: LearningCurve, name: str) -> dict[str, tuple[float, ...]]:
    """Training and test errors of a property, those for which the data have labels."""
    errors_of = {kind: getattr(curve, f"{kind}_{name}") for kind in ("train", "test")}
    return {kind: values for kind, values in errors_of.items() if np.isfinite(values).any()}


def _parity_panel(
    above: Axes,
    below: Axes,
    frames: Sequence[LabelledFrame],
    predictions: Sequence[Labels],
    name: Property,
    row: ErrorRow,
) -> None:
    """One property: above, prediction against label; below, their difference."""
    scale, axis_name = _SCALES[name]
    reference, predicted = (values * scale for values in compared(frames, predictions, name))
    if name == "energy" and (own := _of_composition(frames, reference)) is not None:
        reference, predicted, axis_name = reference - own, predicted - own, "relative energy (eV/atom)"
    parts = ((part, reference[own].ravel(), predicted[own].ravel()) for part, own in _parts(frames, name))
    draw_parity(above, below, parts, axis_name, row, _IN_ERRORS[name])


def draw_parity(
    above: Axes,
    below: Axes,
    parts: Iterable[tuple[str, np.ndarray, np.ndarray]],
    axis_name: str,
    row: ErrorRow,
    in_errors: float = 1.0,
) -> None:
    """Predictions against references in one panel, and their differences in the one below.

    Args:
        above, below: the panels.
        parts: name, references (n,) and predictions (n,) of what has a colour of its own; nan where there are none.
        axis_name: with the unit.
        row: errors that are written into the panel.
        in_errors: from the unit of the axes to that of the errors.
    """
    parts = list(parts)
    every = np.concatenate([x for _, x, _ in parts])
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    margin = 0.04 * (high - low) or 0.5
    for index, (part, references, predictions) in enumerate(parts):
        known = np.isfinite(references)
        x, y = references[known], predictions[known]
        error = (y - x) * in_errors
        style: dict[str, Any] = {
            "linestyle": "none",
            "marker": "o",
            "markersize": 3.0,
            "markeredgewidth": 0.0,
            "color": color(index),
            "zorder": 2.0 + 1.0 / (1 + len(x)),  # the few are seen above the many
        }
        few = _thinned(x, y)
        above.plot(x[few], y[few], label=part, rasterized=True, alpha=0.8, **style)
        few = _thinned(x, error)
        below.plot(x[few], error[few], rasterized=True, alpha=0.8, **style)
    above.axline((low, low), slope=1.0, color="black", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    below.axhline(0.0, color="black", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for one in (above, below):
        one.set_xlim(low - margin, high + margin)
    above.tick_params(labelbottom=False)
    label(above, "", f"predicted {axis_name}")
    label(below, f"reference {axis_name}", f"error ({row.unit})" if row.unit else "error")
    text = f"MAE {_short(row.mae)} {row.unit}\nRMSE {_short(row.rmse)} {row.unit}"
    above.text(0.96, 0.04, text, ha="right", va="bottom", transform=above.transAxes, fontsize=9, color=_INK)
    if len(above.get_legend_handles_labels()[0]) > 1:
        above.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="upper left", handletextpad=0.2, markerscale=1.8)


def _parts(frames: Sequence[LabelledFrame], name: Property) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of a property by group or element, those of most structures (or atoms) first, whatever the property."""
    owners = np.array([frame.group or "(no group)" for frame in frames], dtype=object)
    names, counts = np.unique(owners, return_counts=True)
    if name == "forces":
        owners = owners.repeat([len(frame.atoms) for frame in frames])
        symbols = np.array([symbol for frame in frames for symbol in frame.atoms.symbols], dtype=object)
        if len(set(symbols)) > 1:
            owners = symbols
            names, counts = np.unique(owners, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")]
    if len(names) > _MOST_COLOURS:
        first = names[: _MOST_COLOURS - 1]
        yield f"{len(names) - len(first)} others", ~np.isin(owners, first)
        names = first
    yield from ((part, owners == part) for part in names)


def _thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of points no two of which fall on the same spot of a panel: what is seen is the same."""
    if len(x) < _N_CELLS:
        return np.arange(len(x))
    cells = []
    for values in (x, y):
        size = float(np.ptp(values)) or 1.0
        cells.append(((values - values.min()) * (_N_CELLS / size)).astype(int))
    return np.sort(np.unique(cells[0] * (_N_CELLS + 1) + cells[1], return_index=True)[1])


def _of_composition(frames: Sequence[LabelledFrame], energy: np.ndarray) -> np.ndarray | None:
    """(n_frames, 1) eV/atom that least squares give to the elements; None when all have one composition."""
    numbers = np.unique(np.concatenate([frame.atoms.numbers for frame in frames]))
    fractions = np.array([(frame.atoms.numbers[:, None] == numbers).mean(axis=0) for frame in frames])
    if np.ptp(fractions, axis=0).max() < 1e-9:
        return None
    known = np.isfinite(energy[:, 0])
    return fractions @ np.linalg.lstsq(fractions[known], energy[known], rcond=None)[0]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
