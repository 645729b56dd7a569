"""Errors of a potential in numbers: a row for each property, element and group of the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from mlmd.errors import did_you_mean

Property = Literal["energy", "forces", "stress"]
Part = Literal["all", "element", "group"]
UNITS: Mapping[str, str] = {"energy": "meV/atom", "forces": "meV/Å", "stress": "MPa"}
"""Property -> unit of its errors."""
_HEADINGS = ("property", "part", "n", "MAE", "RMSE", "largest", "unit", "largest in")
_MOST_DECIMALS = 6  # what is smaller is rounding
_LEFT = {"property", "part", "unit", "largest in"}


@dataclass(frozen=True)
class ErrorRow:
    """Errors of one property in one part of the data; nan where there is nothing to compare with."""

    property: str
    """Energy, forces or stress; of a model of structures, what it predicts."""
    part: str
    """ "all", a chemical symbol, or the name of a group."""
    by: Part
    """What `part` is."""
    n: int
    """Numbers compared: structures for energies, three for each atom for forces, six for each structure for stress."""
    mae: float
    """Mean absolute error."""
    rmse: float
    """Root of the mean squared error."""
    largest: float
    """Largest absolute error."""
    unit: str
    where: str = ""
    """Structure with the largest error, e.g. ``Cu_test.xyz@12``."""


@dataclass(frozen=True)
class ErrorTable:
    """Errors of a potential: each property as a whole, by element (forces) and by group of the data."""

    rows: tuple[ErrorRow, ...]
    shift: Mapping[str, float] = field(default_factory=dict)
    """eV per atom by element, added to the predicted energies before they were compared; empty without."""

    def row(self, name: str, part: str = "all", by: str | None = None) -> ErrorRow:
        """The row of a property and a part; `by` tells a group from an element of the same name.

        Raises:
            KeyError: when there is none.
        """
        for row in self.rows:
            if (row.property, row.part) == (name, part) and by in (None, row.by):
                return row
        raise KeyError(f"no errors of {name!r} for {part!r}. {did_you_mean(part, {row.part for row in self.rows})}")

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, with null for what is not known; `from_json` reads it."""
        rows = [{key: _or_none(value) for key, value in asdict(row).items()} for row in self.rows]
        return {"rows": rows, "shift": dict(self.shift)}

    def text(self) -> str:
        """A table for a terminal, columns aligned. A part that is all of a property is not repeated."""
        cells = [_HEADINGS, *_cells(self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
        lines = []
        for row in cells:
            columns = zip(_HEADINGS, row, widths, strict=True)
            aligned = [cell.ljust(width) if name in _LEFT else cell.rjust(width) for name, cell, width in columns]
            lines.append("  ".join(aligned).rstrip())
        return "\n".join([*lines, *_shift_lines(self.shift)])


def from_json(data: Mapping[str, Any]) -> ErrorTable:
    """The table that `ErrorTable.to_json` wrote; keys of later versions are left out.

    Raises:
        KeyError, TypeError, ValueError: when it is something else.
    """
    known = {one.name for one in fields(ErrorRow)}
    rows = []
    for entry in data["rows"]:
        given = {key: value for key, value in entry.items() if key in known}
        numbers = {key: math.nan if given[key] is None else float(given[key]) for key in ("mae", "rmse", "largest")}
        rows.append(ErrorRow(**(given | numbers | {"n": int(given["n"])})))
    return ErrorTable(tuple(rows), {str(key): float(value) for key, value in data.get("shift", {}).items()})


def _cells(rows: Sequence[ErrorRow]) -> Iterator[tuple[str, ...]]:
    """The texts of the rows that are worth printing."""
    last = ""
    known = {row.property for row in rows if row.n}
    for row in rows:
        siblings = sum(other.property == row.property and other.by == row.by for other in rows)
        if row.by != "all" and (siblings < 2 or row.property not in known):
            continue
        name, last = row.property if row.property != last else "", row.property
        if row.n == 0:
            yield (name, row.part, "0", "no data", "", "", "", "")
            continue
        decimals = _decimals([other.rmse for other in rows if other.property == row.property])
        numbers = (f"{value:,.{decimals}f}" for value in (row.mae, row.rmse, row.largest))
        yield (name, row.part or "(no group)", f"{row.n:,}", *numbers, row.unit, row.where)


def _decimals(sizes: Sequence[float]) -> int:
    """Digits behind the point: three digits of the first number, and two more where small ones need them."""
    seen = [size for size in sizes if math.isfinite(size) and size > 1e-3 * sizes[0]] or [1.0]  # 0 by symmetry is 0
    places = [-math.floor(math.log10(size)) for size in seen]
    whole = max(places[0] + 2, 0)
    return min(max(whole, *places), whole + 2, _MOST_DECIMALS)


def _shift_lines(shift: Mapping[str, float]) -> list[str]:
    if not shift:
        return []
    listed = ", ".join(f"{symbol} {value:+.4f}" for symbol, value in shift.items())
    return [f"Energies were compared after a shift by element, fitted to these data (eV/atom): {listed}."]


def _or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
