"""Curves as the page carries them: few points that look like all of them, packed so that a browser draws and zooms."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

MAX_POINTS = 2000
"""Of a curve in the page."""
MAX_BYTES = 20e6
"""Of a table of curves that is still read."""
MAX_PANELS = 6
_AXES = re.compile("q|r|t|z|w|ω|lag|time|frequency|angle|distance|energy", re.I)
"""Names of columns that begin a table of their own beside another."""
MAX_CURVES = 24
"""Of a panel."""


@dataclass(frozen=True)
class Curve:
    """Values along an axis."""

    name: str
    x: np.ndarray
    """(n,)."""
    y: np.ndarray
    """(n,)."""
    error: np.ndarray | None = None
    """(n,) one standard error."""
    style: str = "line"
    """line, mean (drawn thick) or target (dashed)."""
    shown: bool = True
    """Before a reader chooses."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    label: str
    """Of the y axis, with its unit."""
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Plot:
    """Panels over the same axis, which zoom together."""

    x_label: str
    panels: tuple[Panel, ...]
    marks: tuple[float, ...] = ()
    """Where borders are drawn."""
    logarithms: bool = False
    """Whether a reader may ask for logarithmic axes."""
    notes: tuple[str, ...] = ()

    def packed(self) -> str:
        """JSON for the page's script; numbers as 32-bit floats from an offset, in base64, each axis once."""
        axes: list[np.ndarray] = []
        panels = [
            {
                "label": panel.label,
                "curves": [
                    {
                        "name": one.name, "style": one.style, "shown": one.shown, "x": _index(axes, one.x),
                        "y": packed(one.y), **({} if one.error is None else {"error": packed(one.error)}),
                    }
                    for one in panel.curves
                ],
            }
            for panel in self.panels
        ]  # fmt: skip
        told = {
            "x": self.x_label, "marks": list(self.marks), "logs": self.logarithms, "panels": panels,
            "axes": [packed(axis) for axis in axes],
        }  # fmt: skip
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _index(axes: list[np.ndarray], axis: np.ndarray) -> int:
    """Where an axis stands in the list, to which it is added when it is new."""
    for number, one in enumerate(axes):
        if np.array_equal(one, axis):
            return number
    axes.append(axis)
    return len(axes) - 1


def packed(numbers: np.ndarray) -> dict[str, Any]:
    """Little-endian 32-bit floats of the differences from the first, which keep seven digits of them."""
    finite = numbers[np.isfinite(numbers)]
    offset = float(finite[0]) if len(finite) else 0.0
    content = np.asarray(numbers - offset, dtype="<f4").tobytes()
    return {"from": offset, "data": base64.b64encode(content).decode()}


def thinned(x: np.ndarray, y: np.ndarray, most: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points: the lowest and the highest of each of equal parts, in their order.

    A spike that one point makes is kept, which points at equal distances would not do.
    """
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most // 2 + 1).astype(int)
    rows = []
    filled = np.where(np.isfinite(y), y, 0.0)
    for first, last in pairwise(edges):
        part = filled[first:last]
        rows += sorted({first + int(np.argmin(part)), first + int(np.argmax(part))})
    rows = np.unique([0, *rows, len(x) - 1]).tolist()
    return x[rows], y[rows]


def from_table(path: Path) -> tuple[Plot, ...]:
    """The curves of an analysis: the first column is the axis, columns of errors belong to the one before.

    Further axes may follow, as r after q, each with its own columns; rows in which an axis is empty are not of it.

    Returns:
        A plot for each axis, with one panel for each quantity; none where the first column does not rise.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            return ()
        names, table = _numbers(path)
    except (OSError, ValueError, csv.Error):
        return ()
    if len(names) < 2 or not _rises(table[:, 0]):
        return ()
    starts = [0, *(n for n in range(1, len(names)) if _AXES.fullmatch(_split(names[n])[0]) and _rises(table[:, n]))]
    plots = (_over_one_axis(names[a:b], table[:, a:b]) for a, b in pairwise([*starts, len(names)]))
    return tuple(plot for plot in plots if plot is not None)


def _rises(column: np.ndarray) -> bool:
    """Whether a column is an axis."""
    filled = column[np.isfinite(column)]
    return len(filled) >= 3 and bool((np.diff(filled) > 0.0).all())


def _over_one_axis(names: Sequence[str], table: np.ndarray) -> Plot | None:
    """The columns behind an axis, one panel for each quantity."""
    table = table[np.isfinite(table[:, 0])]
    table = table[np.unique(_few(len(table)))]
    panels: dict[tuple[str, str], list[Curve]] = {}
    for column in range(1, len(names)):
        follows = column + 1 < len(names) and _is_error(names[column + 1], names[column])
        own = panels.setdefault(_quantity(names[column]), [])
        y, error = table[:, column], table[:, column + 1] if follows else None
        if not _is_error(names[column], "") and np.isfinite(y).sum() >= 2:
            own.append(Curve(_short(names[column]), table[:, 0], y, error, shown=len(own) < 8))
    shown = tuple(
        Panel(f"{name} ({unit})" if unit else name, tuple(curves[:MAX_CURVES]))
        for (name, unit), curves in panels.items()
        if curves
    )[:MAX_PANELS]
    return Plot(_axis(names[0]), shown, logarithms=True) if shown else None


def _numbers(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and columns of a CSV file; empty cells are nan."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    names = rows[0] if rows else []
    if any(len(row) != len(names) for row in rows):
        raise ValueError("rows of different lengths")
    return names, np.array([[float(cell or "nan") for cell in row] for row in rows[1:]]).reshape(-1, max(1, len(names)))


def _few(n: int) -> np.ndarray:
    """Rows at equal distances and, for logarithmic axes, at equal ratios."""
    if n <= MAX_POINTS:
        return np.arange(n)
    half = MAX_POINTS // 2
    return np.concatenate([np.linspace(0, n - 1, half), np.geomspace(1, n, half) - 1]).astype(int)


def _split(name: str) -> tuple[str, str]:
    """``"MSD Li [Å^2]"`` without its unit, and the unit."""
    found = re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]", name)
    return (found[1], found[2].replace("^2", "²").replace("^3", "³")) if found else (name, "")


def _is_error(name: str, of: str) -> bool:
    """Whether a column holds errors, of the column with another name where one is given."""
    words = _split(name)[0].lower()
    if not re.search(r"\b(error|std|stderr|±)$|^(error|std)\b|\bscatter\b", words):
        return False
    left, right = (re.sub(r"\s*\b(error|std|stderr|of)\b\s*|±", "", one) for one in (words, _split(of)[0].lower()))
    return not of or not left or left in right


def _quantity(name: str) -> tuple[str, str]:
    """What curves of one panel share: the first word of the name, and the unit."""
    words, unit = _split(name)
    return (words.split()[0] if words.split() else words, unit)


def _short(name: str) -> str:
    """The name of a curve in its panel: without the first word where there are more."""
    words = _split(name)[0].split()
    return " ".join(words[1:] or words)


def _axis(name: str) -> str:
    words, unit = _split(name)
    return f"{words} ({unit})" if unit else words


def names_of(plot: Plot) -> str:
    """What is drawn, for those who do not see it."""
    return f"{', '.join(panel.label for panel in plot.panels)} against {plot.x_label}"


def running_mean(y: np.ndarray, parts: Sequence[slice], window: int) -> np.ndarray:
    """Means over `window` values around each, cut at the borders of the parts."""
    mean = np.full(len(y), np.nan)
    for part in parts:
        own = y[part]
        n = len(own)
        if not n:
            continue
        sums = np.concatenate([[0.0], np.cumsum(own)])
        at = np.arange(n)
        first, last = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, n)
        mean[part] = (sums[last] - sums[first]) / (last - first)
    return mean
