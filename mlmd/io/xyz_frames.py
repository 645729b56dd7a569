"""Frames of an extended XYZ file with everything they carry, as a stream of lines.

Own code because ASE's reader refuses a stress of six numbers, stops without a word at an empty line, and cannot say in
which line of which frame a damaged file is damaged; it is several times slower too.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlmd.errors import InputError
from mlmd.io import fixed
from mlmd.io.labels import RawFrame, shown

_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
COMPRESSED = tuple(_OPENERS)
"""Endings of files that are unpacked while they are read."""

_PAIR = re.compile(
    r"""\s*(?P<key>"[^"]*"|[^\s=,"']+)\s*
        (?:=\s*(?: "(?P<double>(?:\\.|[^"\\])*)" | '(?P<single>[^']*)' | \{(?P<brace>[^}]*)\} | \[(?P<square>[^\]]*)\]
                 | (?P<plain>[^\s"'{\[]\S*)? ))?
        (?:[\s,]+|$)""",
    re.VERBOSE,
)
_COUNT = re.compile(r"[0-9]{1,6}")
_LIMIT = 10_000_000
"""More atoms than this in a frame is a damaged file."""
_FULL_PRECISION = 6
"""Decimals from which a column is written by a program and always to the same length."""


@contextmanager
def open_text(path: Path, mode: str = "r") -> Iterator[IO[str]]:
    """A text file, unpacked or packed on the way by its ending.

    Raises:
        InputError: when a file cannot be read, or its packed content is damaged or ends too early.
        OSError: when a file cannot be written.
    """
    opener = _OPENERS.get(path.suffix.lower())
    try:
        if opener is None:
            with path.open(mode, encoding="utf-8", errors="replace") as plain:
                yield plain
        else:
            with opener(path, mode + "t", encoding="utf-8", errors="replace") as packed:
                yield packed
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path.name} is damaged or incomplete ({error}). Copy or download it again.") from None
    except OSError as error:
        if mode != "r":
            raise
        reason = error.strerror or str(error)  # gzip and bz2 say what is wrong with the content as an OSError
        raise InputError(f"{path}: cannot be read: {reason.rstrip('.')}.") from None


def read_xyz(path: Path) -> Iterator[RawFrame]:
    """The frames of an extended or plain XYZ file; packed ones are unpacked as a stream.

    Raises:
        InputError: a damaged file, with frame and line.
    """
    with open_text(path) as file:
        lines = _Lines(file, path.name)
        precision = 0
        for index in range(2**63):
            head = lines.head()
            if head is None:
                return
            lines.frame = f"{path.name}@{index}"
            frame, precision = _frame(lines, _n_atoms(head, lines), precision)
            yield frame


class _Lines:
    """The lines of a file, counted from 1."""

    def __init__(self, file: IO[str], name: str) -> None:
        self.file, self.number, self.frame = file, 0, f"{name}@0"

    def head(self) -> str | None:
        """The next line that is not empty; None at the end."""
        for line in self.file:
            self.number += 1
            if line.strip():
                return line
        return None

    def take(self, n_lines: int) -> list[str]:
        """At most this many lines."""
        lines = list(islice(self.file, n_lines))
        self.number += len(lines)
        return lines

    def wrong(self, what: str, back: int = 0) -> InputError:
        """An error about a line, the last one that was read or so many before it."""
        return InputError(f"{self.frame}, line {self.number - back}: {what}")


def _n_atoms(head: str, lines: _Lines) -> int:
    """The first line of a frame."""
    try:
        n_atoms = int(head)
    except ValueError:
        hint = ""
        if not lines.frame.endswith("@0") or lines.number > 1:
            hint = " Has the frame before it more rows than its first line says?"
        raise lines.wrong(f"a number of atoms should stand here, not {shown(head)}.{hint}") from None
    if not 0 < n_atoms <= _LIMIT:
        raise lines.wrong(f"a frame of {n_atoms} atoms.")
    return n_atoms


def _frame(lines: _Lines, n_atoms: int, precision: int) -> tuple[RawFrame, int]:
    """Comment line and rows of a frame, and the decimals of its last column."""
    comments = lines.take(1)
    if not comments:
        raise lines.wrong("the file ends within a frame, before its second line. Is it incomplete?")
    values = _comment(comments[0], lines)
    columns = _columns(values.pop("Properties", "species:S:1:pos:R:3"), lines)
    texts = lines.take(n_atoms)
    rows = [line.split() for line in texts]
    if len(rows) < n_atoms:
        raise lines.wrong(f"the file ends after {len(rows)} of {n_atoms} atoms of its last frame. Is it incomplete?")
    width = max(column.stop for column in columns.values())
    for back, row in enumerate(reversed(rows)):
        if len(row) < width:
            raise lines.wrong(f"{width} columns are needed, {len(row)} are there: {shown(' '.join(row))}.", back)
    if not texts[-1].endswith("\n"):
        _complete(rows, width, precision, lines)
    atoms = _atoms(values, columns, rows, lines)
    names = [name for name in columns if columns[name].size == 3 and columns[name].real and name != "pos"]
    per_atom = {name: _block(rows, columns[name], lines, name) for name in names}
    return RawFrame(atoms, values, per_atom, lines.frame), _decimals(rows[0][width - 1])


@dataclass(frozen=True)
class _Column:
    start: int
    size: int
    real: bool

    @property
    def stop(self) -> int:
        return self.start + self.size


def _comment(line: str, lines: _Lines) -> dict[str, object]:
    """The pairs key=value of a comment line as text; anything else is a comment."""
    values: dict[str, object] = {}
    text, at = line.strip(), 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None or pair.end() == at:
            if "Lattice" in values or "Properties" in values or "Lattice=" in text or "Properties=" in text:
                raise lines.wrong(f"the pairs key=value cannot be read from here on: {shown(text[at:])}.")
            break  # free words of a plain XYZ file
        at = pair.end()
        value = next((found for found in pair.group("double", "single", "brace", "square", "plain") if found), None)
        if value is not None:
            values[pair["key"].strip('"')] = value.replace('\\"', '"')
    return values


def _columns(properties: object, lines: _Lines) -> dict[str, _Column]:
    """The columns that ``species:S:1:pos:R:3`` names."""
    fields = str(properties).split(":")
    columns, start = {}, 0
    for name, kind, size in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in tuple("RISL") or not _COUNT.fullmatch(size) or len(fields) % 3:
            raise lines.wrong(f"Properties={properties} is not of the form name:type:columns:...")
        columns[name] = _Column(start, int(size), kind == "R")
        start += int(size)
    if "pos" not in columns or columns["pos"].size != 3:
        raise lines.wrong(f"Properties={properties} has no positions (pos:R:3).")
    if not {"species", "Z"} & columns.keys():
        raise lines.wrong(f"Properties={properties} has no elements (species:S:1 or Z:I:1).")
    return columns


def _atoms(
    values: dict[str, object], columns: dict[str, _Column], rows: Sequence[list[str]], lines: _Lines
) -> Atoms:  # fmt: skip
    """The structure of a frame."""
    positions = _block(rows, columns["pos"], lines, "pos")
    cell, lattice = None, values.pop("Lattice", None)
    if lattice is not None:
        try:
            cell = np.array(str(lattice).split(), dtype=float).reshape(3, 3)
        except ValueError:
            raise lines.wrong(f"Lattice={shown(lattice)} is not nine numbers.", len(rows)) from None
    pbc = _periodicity(values.pop("pbc", None), lattice is not None, lines, len(rows))
    atoms = Atoms(numbers=_numbers(rows, columns, lines), positions=positions, cell=cell, pbc=pbc)
    if "move_mask" in columns:
        fixed.mark(atoms, *_fixed(rows, columns["move_mask"]))
    return atoms


def _fixed(rows: Sequence[list[str]], column: _Column) -> tuple[list[int], list[int]]:
    """Atoms that ASE's ``move_mask`` holds, in one direction or in all, and those that it holds in some only."""
    no = {"f", "false", "0"}
    held = [{word.lower() in no for word in row[column.start : column.stop]} for row in rows]
    return [n for n, one in enumerate(held) if True in one], [n for n, one in enumerate(held) if len(one) > 1]


def _periodicity(given: object, has_cell: bool, lines: _Lines, back: int) -> list[bool]:
    """The three truth values of pbc="T T F"; a lattice alone means all three."""
    words = str(given).split() if given is not None else ["T" if has_cell else "F"] * 3
    if len(words) == 1:
        words *= 3
    if len(words) != 3 or not {word.lower() for word in words} <= {"t", "f", "true", "false", "1", "0"}:
        raise lines.wrong(f"pbc={shown(given)} is not three of T and F.", back)
    return [word.lower() in {"t", "true", "1"} for word in words]


def _numbers(rows: Sequence[list[str]], columns: dict[str, _Column], lines: _Lines) -> list[int]:
    """Atomic numbers from a column of symbols or numbers."""
    column = columns.get("species", columns.get("Z"))
    assert column is not None
    known: dict[str, int] = {}
    numbers = []
    for back, row in enumerate(rows):
        word = row[column.start]
        if word not in known:
            known[word] = int(word) if _COUNT.fullmatch(word) else atomic_numbers.get(word.capitalize(), 0)
            if not 0 < known[word] <= 118:
                raise lines.wrong(f"{shown(word)} is not an element.", len(rows) - 1 - back)
        numbers.append(known[word])
    return numbers


def _block(rows: Sequence[list[str]], column: _Column, lines: _Lines, name: str) -> np.ndarray:
    """Columns of numbers, (n_atoms, size)."""
    words = [row[column.start : column.stop] for row in rows]
    try:
        return np.array(words, dtype=float)
    except ValueError:
        for number, row in enumerate(words):
            for word in row:
                if not _is_number(word):
                    back = len(rows) - 1 - number
                    raise lines.wrong(f"{shown(word)} is not a number ({name}).", back) from None
        raise


def _is_number(word: str) -> bool:
    try:
        np.array([word], dtype=float)
    except ValueError:
        return False
    return True


def _complete(rows: Sequence[list[str]], width: int, precision: int, lines: _Lines) -> None:
    """Refuse a last line that breaks off within its last number.

    It has no line end, and fewer decimals than all other numbers of its column, which a program wrote.
    """
    others = min((_decimals(row[width - 1]) for row in rows[:-1]), default=precision)
    if len(rows[-1]) == width and _FULL_PRECISION <= others > _decimals(rows[-1][-1]):
        raise lines.wrong(
            f"the file breaks off within the number {rows[-1][-1]!r}: its last line has no end, and this column has "
            f"{others} decimals elsewhere. Copy it again, or end the line if it is complete."
        )


def _decimals(word: str) -> int:
    """Characters behind the decimal point."""
    return len(word.partition(".")[2])
