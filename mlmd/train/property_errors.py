"""How far predicted numbers of structures are from those in the data: a table, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlmd.analysis.figures import label, new_figure, plain_ticks
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials.property import Quantity
from mlmd.train.error_table import ErrorRow, ErrorTable, Part
from mlmd.train.figures import draw_parity, errors_by_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SizeCurve:
    """Errors of fits to the first structures of a random order."""

    n_frames: tuple[int, ...]
    """Structures trained on, ascending."""
    train: tuple[float, ...]
    """Mean absolute error, in the unit of the quantity."""
    test: tuple[float, ...]
    """The same for the test set; nan without one."""


def property_errors(frames: Sequence[LabelledFrame], predicted: np.ndarray, quantity: Quantity) -> ErrorTable:
    """Errors of values of whole structures, as a whole and by group of the data; those without a value are left out.

    Args:
        frames: (n,) with values.
        predicted: (n,) in the unit of the quantity.
        quantity: what it is.
    """
    error = np.abs(predicted - _values(frames))
    groups = np.array([frame.group for frame in frames], dtype=object)
    parts: list[tuple[Part, str, np.ndarray]] = [("all", "all", np.ones(len(frames), dtype=bool))]
    if any(groups):
        parts += [("group", group, groups == group) for group in sorted(set(groups))]
    return ErrorTable(tuple(_row(quantity, part, by, error, own, frames) for by, part, own in parts))


def property_figure(
    frames: Sequence[LabelledFrame], predicted: np.ndarray, quantity: Quantity, title: str
) -> Figure:  # fmt: skip
    """Predicted against given values; below, their differences. Colours are the groups of the data."""
    figure, (above, below) = new_figure(2, 1, width=3.8, height=5.0)
    above.get_subplotspec().get_gridspec().set_height_ratios((2.6, 1.0))  # type: ignore[union-attr]
    figure.suptitle(title, fontsize=11)
    values = _values(frames)
    groups = np.array([frame.group or "(no group)" for frame in frames], dtype=object)
    parts = [(str(name), values[groups == name], predicted[groups == name]) for name in sorted(set(groups))]
    row = property_errors(frames, predicted, quantity).row(quantity.name, by="all")
    # a name may be longer than an axis: it stands above, and the axes have the unit
    above.set_title(quantity.name.replace("_", " "), fontsize=9)
    draw_parity(above, below, parts, f"value ({quantity.unit})" if quantity.unit else "value", row)
    return figure


def size_figure(curve: SizeCurve, quantity: Quantity) -> Figure:
    """Training and test errors by number of structures, in logarithms."""
    figure, (axes,) = new_figure(1, 1, width=3.8, height=3.2)
    known = {"train": curve.train, "test": curve.test}
    errors_by_size(axes, curve.n_frames, {name: values for name, values in known.items() if np.isfinite(values).any()})
    label(axes, "structures trained on", f"MAE ({quantity.unit})" if quantity.unit else "MAE")
    plain_ticks(axes)
    return figure


def _values(frames: Sequence[LabelledFrame]) -> np.ndarray:
    """(n,), nan where there is none."""
    return np.array([math.nan if frame.value is None else frame.value for frame in frames])


def _row(
    quantity: Quantity, part: str, by: Part, error: np.ndarray, own: np.ndarray, frames: Sequence[LabelledFrame]
) -> ErrorRow:
    """A row from absolute errors (n,) of the structures that belong to it."""
    known = own & np.isfinite(error)
    if not known.any():
        return ErrorRow(quantity.name, part, by, 0, math.nan, math.nan, math.nan, quantity.unit)
    worst = int(np.where(known, error, -1.0).argmax())
    some = error[known]
    rmse = math.sqrt(float(np.mean(some**2)))
    return ErrorRow(
        quantity.name,
        part,
        by,
        len(some),
        float(some.mean()),
        rmse,
        float(some.max()),
        quantity.unit,
        frames[worst].source,
    )
