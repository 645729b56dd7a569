"""PLUMED's tables: COLVAR, HILLS, KERNELS and STATE.

``#! FIELDS`` names the columns, ``#! SET`` gives constants, and both come again wherever a run was continued.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.errors import InputError, StorageError, did_you_mean

_PI = re.compile(r"([-+]?)(\d*\.?\d*)\*?pi", re.IGNORECASE)


@dataclass(frozen=True)
class PlumedTable:
    """Numbers under names."""

    path: Path
    names: tuple[str, ...]
    rows: np.ndarray
    """(n_rows, n_names)."""
    constants: Mapping[str, str]
    """What stands behind ``SET``."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, name: str) -> np.ndarray:
        """(n_rows,) a column.

        Raises:
            InputError: when there is none of this name.
        """
        if name not in self.names:
            raise InputError(f"{self.path} has no column {name!r}. {did_you_mean(name, self.names)}")
        return np.asarray(self.rows[:, self.names.index(name)])

    def period(self, name: str) -> tuple[float, float] | None:
        """Ends of the period of a variable; None where it has none."""
        if f"min_{name}" not in self.constants:
            return None
        return self._constant(f"min_{name}"), self._constant(f"max_{name}")

    def check_finite(self, names: Sequence[str], rows: np.ndarray | slice = slice(None)) -> None:
        """Refuse columns with numbers that are none.

        Args:
            names: of the columns.
            rows: which ones count.

        Raises:
            InputError: where one of them is nan or infinite.
        """
        for name in names:
            values = self[name][rows]
            if len(bad := np.flatnonzero(~np.isfinite(values))):
                lines = "one line" if len(bad) == 1 else f"{len(bad):,} lines"
                when = f", first at time {self['time'][rows][bad[0]]:g}" if "time" in self.names else ""
                raise InputError(
                    f"{self.path}: {name} is {values[bad[0]]} in {lines}{when}: numbers are needed. See what went "
                    "wrong there, and leave these lines out."
                )

    def number(self, key: str, default: float = math.nan) -> float:
        """A constant."""
        return self._constant(key) if key in self.constants else default

    def _constant(self, key: str) -> float:
        text = self.constants.get(key, "")
        found = _PI.fullmatch(text)
        try:
            if found:
                return (-1.0 if found[1] == "-" else 1.0) * float(found[2] or 1) * math.pi
            return float(text)
        except ValueError:
            raise InputError(f"{self.path}: SET {key} {text} is not a number.") from None


def check_times(path: Path, times: np.ndarray, inside: np.ndarray, least: int = 2, lines: str = "lines") -> None:
    """Refuse a file with too few lines between the times that are asked for.

    Args:
        path: the file.
        times: (n_lines,) fs, when its lines are.
        inside: (n_lines,) bool, which of them are asked for.
        least: how many are needed.
        lines: what they are.

    Raises:
        InputError: where there are fewer.
    """
    if (n := int(inside.sum())) < least:
        raise InputError(
            f"{path}: of its {len(times):,} {lines}, from {times.min() / 1e3:g} to {times.max() / 1e3:g} ps, {n} lie "
            f"between --from and --to. It takes {least} or more."
        )


def columns_of(path: Path) -> tuple[str, ...]:
    """The columns that a file begins with, of which nothing else is read; none where it is no table, or not there."""
    words = next(_head(path), [])
    return tuple(words[1:]) if words[:1] == ["FIELDS"] else ()


def constants_of(path: Path) -> dict[str, str]:
    """The constants that a file begins with, of which nothing else is read; none where it is no table, or not there."""
    return {words[1]: words[2] for words in _head(path) if words[:1] == ["SET"] and len(words) >= 3}


def _head(path: Path) -> Iterator[list[str]]:
    """The words behind each ``#!`` that a file begins with; none where it is not there."""
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            mark, *words = line.split() or [""]
            if mark != "#!":
                return
            yield words


def read_plumed_blocks(path: Path) -> list[PlumedTable]:
    """The tables of a file, a new one wherever its columns are named again.

    A last line without an end is one that a running or killed program has not finished: it is left out.

    Raises:
        InputError: when the file is no such table, is empty, or a line of it is damaged.
        StorageError: when it cannot be read.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a table of PLUMED: it is not text.") from None
    tables: list[PlumedTable] = []
    names, constants, rows = tuple[str, ...](), dict[str, str](), list[list[str]]()

    def close() -> None:
        if names:
            tables.append(PlumedTable(path, names, _numbers(path, names, rows), dict(constants)))

    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        words = line.split()
        if words[:2] == ["#!", "FIELDS"]:
            close()
            names, constants, rows = tuple(words[2:]), {}, []
        elif words[:2] == ["#!", "SET"] and len(words) >= 4:
            constants[words[2]] = words[3]
        elif words and not words[0].startswith("#"):
            if not names:
                raise InputError(f"{path} is not a table of PLUMED: it does not begin with '#! FIELDS'.")
            if len(words) != len(names):
                raise InputError(f"{path}: line {number} has {len(words)} numbers for {len(names)} columns.")
            rows.append(words)
    close()
    if not tables:
        raise InputError(f"{path} is empty, or not a table of PLUMED: there is no line '#! FIELDS'.")
    return tables


def _numbers(path: Path, names: Sequence[str], rows: list[list[str]]) -> np.ndarray:
    try:
        return np.array(rows, dtype=float).reshape(len(rows), len(names))
    except ValueError as error:
        raise InputError(f"{path}: {error}: a table of PLUMED has numbers only.") from None


def read_plumed_table(path: Path) -> PlumedTable:
    """A file as one table, which was continued perhaps.

    Raises:
        InputError: as `read_plumed_blocks`; without a row; or when the columns change on the way.
        StorageError: when it cannot be read.
    """
    blocks = read_plumed_blocks(path)
    for block in blocks:
        if block.names != blocks[0].names:
            raise InputError(
                f"{path}: the columns change from {' '.join(blocks[0].names)} to {' '.join(block.names)}: two runs "
                "have written into it."
            )
    rows = np.concatenate([block.rows for block in blocks])
    if not len(rows):
        raise InputError(f"{path} has no lines of numbers yet. Wait for the run, or run longer.")
    return PlumedTable(path, blocks[0].names, rows, blocks[-1].constants)
