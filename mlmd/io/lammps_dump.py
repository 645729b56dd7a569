"""Text dumps of LAMMPS, read in place: an index of where frames begin, and any frames without loading the file.

Own code because ASE's reader holds all frames in memory, is many times slower, and forgets what the columns tell: xu or
an image ix says that atoms which leave the cell keep going, x or xs alone that they come back. Atoms are in the order
of their id, in which LAMMPS writes them only when asked to. Bounds of a tilted box are those of its corners, as in
LAMMPS' "Howto triclinic".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from mlmd.errors import InputError, StorageError

if TYPE_CHECKING:
    import ase

_PLAIN, _SCALED, _UNWRAPPED, _BOTH = "xyz", ("xs", "ys", "zs"), ("xu", "yu", "zu"), ("xsu", "ysu", "zsu")
_IMAGES = ("ix", "iy", "iz")
_ANGSTROM = {"metal", "real"}
_FS = {"metal": 1000.0, "real": 1.0}


@dataclass(frozen=True)
class Head:
    """What stands before the atoms of a frame."""

    step: int
    time: float | None
    units: str | None
    n_atoms: int
    box: tuple[str, ...]
    """Words after BOX BOUNDS."""
    bounds: np.ndarray
    columns: tuple[str, ...]


@dataclass(frozen=True)
class LammpsDumpReader:
    """The complete frames of a dump; a torn last frame is not seen."""

    path: Path
    n_atoms: int
    offsets: tuple[int, ...]
    """Byte at which each frame begins, and the byte where the last one ends."""
    steps: np.ndarray
    """(n_frames,) of LAMMPS."""
    columns: tuple[str, ...]

    @property
    def n_frames(self) -> int:
        """Number of complete frames."""
        return len(self.offsets) - 1

    @property
    def unwrapped(self) -> bool:
        """Whether positions keep going when atoms leave the cell, with what the columns tell."""
        return position_columns(self.path, self.columns)[1]

    @cached_property
    def times(self) -> np.ndarray | None:
        """(n_frames,) fs, of a dump that tells its time and its units (`dump_modify time yes units yes`)."""
        first = self._head(0) if self.n_frames else None
        if first is None or first.time is None or first.units not in _FS:
            return None
        told = [self._head(frame).time for frame in range(self.n_frames)]
        return np.array(told, dtype=float) * _FS[first.units]

    @cached_property
    def numbers(self) -> np.ndarray | None:
        """(n_atoms,) atomic numbers in the order of the ids; None without a column of elements."""
        if "element" not in self.columns or not self.n_frames:
            return None
        at = self.columns.index("element")
        text, _ = self._frame(0)
        return numbers_of(self.path, text, at)[np.argsort(self._read_ids(0), kind="stable")]

    @property
    def first(self) -> ase.Atoms:
        """The first frame, of a dump that tells elements."""
        import ase

        cell = self.cells(range(1))
        pbc = [word.startswith("p") for word in self._head(0).box[-3:]]
        return ase.Atoms(numbers=self.numbers, positions=self.read(range(1))[0], cell=cell[0], pbc=pbc)

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""
        names, _, scaled = position_columns(self.path, self.columns)
        wanted = [self.columns.index(name) for name in ("id", *names)]  # parsed once: the text is what takes the time
        found = np.empty((len(frames), len(np.arange(self.n_atoms)[atoms]), 3))
        for row, frame in enumerate(frames):
            text, head = self._frame(frame)
            table = table_of(self.path, frame, text, self.n_atoms, wanted)
            found[row] = positions_of(table[self._order(table[:, 0], frame), 1:], scaled, head)[atoms]
        return found

    def cells(self, frames: range) -> np.ndarray:
        """Cells, (n, 3, 3) Å, rows are vectors."""
        return np.array([cell_of(self._head(frame))[0] for frame in frames]).reshape(-1, 3, 3)

    def _frame(self, frame: int) -> tuple[bytes, Head]:
        """The lines of the atoms, and what stands before them."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[frame])
            head = read_head(file, self.path, frame)
            assert head is not None
            if head.columns != self.columns:
                raise StorageError(f"{self.path}: frame {frame} has other columns than the first one.")
            return file.read(self.offsets[frame + 1] - file.tell()), head

    def _head(self, frame: int) -> Head:
        with self.path.open("rb") as file:
            file.seek(self.offsets[frame])
            head = read_head(file, self.path, frame)
            assert head is not None
            return head

    def _order(self, ids: np.ndarray, frame: int) -> np.ndarray:
        """Rows in the order of the ids."""
        order = np.argsort(ids, kind="stable")
        if frame and not np.array_equal(ids[order], self._ids):
            raise StorageError(f"{self.path}: frame {frame} does not have the atoms of the first one (column id).")
        return order

    @cached_property
    def _ids(self) -> np.ndarray:
        return np.sort(self._read_ids(0))

    def _read_ids(self, frame: int) -> np.ndarray:
        text, _ = self._frame(frame)
        return table_of(self.path, frame, text, self.n_atoms, [self.columns.index("id")])[:, 0]


def open_lammps_dump(path: Path) -> LammpsDumpReader:
    """Find out where the complete frames of a text dump begin.

    Raises:
        InputError: when its units are not Å, or its columns do not tell which atom is where.
        StorageError: when the file is missing, is no text dump, or atoms come and go.
    """
    offsets, steps = [0], []
    first: Head | None = None
    for frame, (head, end) in enumerate(complete_frames(path)):
        first = first or head
        if head.n_atoms != first.n_atoms:
            raise StorageError(
                f"{path}: frame {frame} has {head.n_atoms} atoms, the first {first.n_atoms}. A trajectory has "
                "the same atoms in all its frames."
            )
        offsets.append(end)
        steps.append(head.step)
    if first is None:
        return LammpsDumpReader(path, 0, (0,), np.zeros(0, dtype=np.int64), ())
    check_units(path, first)
    if "id" not in first.columns:
        raise InputError(f"{path} has no column id, and LAMMPS writes atoms in any order. Dump id with them.")
    position_columns(path, first.columns)
    return LammpsDumpReader(path, first.n_atoms, tuple(offsets), np.array(steps, dtype=np.int64), first.columns)


def complete_frames(path: Path) -> Iterator[tuple[Head, int]]:
    """What stands before the atoms of each complete frame, and the byte at which it ends.

    Raises:
        StorageError: when the file is missing or is no text dump.
    """
    try:
        with path.open("rb") as file:
            for frame in range(2**63):
                head = read_head(file, path, frame)
                if head is None or not _skip(file, head.n_atoms):
                    return
                yield head, file.tell()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None


def check_units(path: Path, head: Head) -> None:
    """See that lengths are in Å, as far as the dump tells its units.

    Raises:
        InputError: when they are not.
    """
    if head.units is not None and head.units not in _ANGSTROM:
        raise InputError(f"{path} has LAMMPS' units {head.units!r}; lengths in Å are needed (metal or real).")


def position_columns(path: Path, columns: tuple[str, ...]) -> tuple[tuple[str, ...], bool, bool]:
    """Columns of the positions (and images), whether they are unwrapped, and whether they are fractions of the cell."""
    has: Callable[[tuple[str, ...]], bool] = set(columns).issuperset
    for names, unwrapped, scaled in (
        (_UNWRAPPED, True, False), (_BOTH, True, True), ((*_PLAIN, *_IMAGES), True, False),
        ((*_SCALED, *_IMAGES), True, True), (tuple(_PLAIN), False, False), (_SCALED, False, True),
    ):  # fmt: skip
        if has(names):
            return names, unwrapped, scaled
    raise InputError(
        f"{path} has no columns of positions (xu yu zu, or x y z with ix iy iz); it has {' '.join(columns)}."
    )


def read_head(file: BinaryIO, path: Path, frame: int) -> Head | None:
    """The lines before the atoms; None at the end, or where they are torn."""
    step, time, units, n_atoms, bounds = None, None, None, None, None
    box: tuple[str, ...] = ()
    for line in _lines(file):
        if not line.startswith(b"ITEM:"):
            raise StorageError(f"{path}: frame {frame} does not begin as one of a LAMMPS text dump: {line[:40]!r}.")
        words = line.decode(errors="replace").split()[1:]
        try:
            match words[:1]:
                case ["TIMESTEP"]:
                    step = int(file.readline())
                case ["TIME"]:
                    time = float(file.readline())
                case ["UNITS"]:
                    units = file.readline().decode(errors="replace").strip()
                case ["NUMBER"]:
                    n_atoms = int(file.readline())
                case ["BOX"]:
                    box = tuple(words[2:])
                    bounds = np.array([file.readline().split() for _ in range(3)], dtype=float)
                case ["ATOMS"]:
                    if step is None or n_atoms is None or bounds is None:
                        raise StorageError(f"{path}: frame {frame} lacks its step, number of atoms, or box.")
                    return Head(step, time, units, n_atoms, box, bounds, tuple(words[1:]))
                case _:
                    raise StorageError(f"{path}: frame {frame}: {' '.join(words)[:40]!r} is not known in a text dump.")
        except ValueError:
            if not file.readline():  # torn
                return None
            raise StorageError(f"{path}: frame {frame}: what stands after ITEM: {words[0]} is damaged.") from None
    return None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines that are not empty; `readline` and not iteration, so that the place in the file is known."""
    while line := file.readline():
        if line.strip():
            yield line


def _skip(file: BinaryIO, n_lines: int) -> bool:
    """Whether so many complete lines follow, which are skipped."""
    last, n_read = b"\n", 0
    for line in islice(iter(file.readline, b""), n_lines):
        last, n_read = line, n_read + 1
    return n_read == n_lines and last.endswith(b"\n")


def table_of(path: Path, frame: int, text: bytes, n_atoms: int, columns: list[int]) -> np.ndarray:
    """(n_atoms, n_columns) numbers of some columns."""
    try:
        table = np.loadtxt(text.decode(errors="replace").splitlines(), usecols=columns, ndmin=2, comments=None)
    except (ValueError, IndexError) as error:
        raise StorageError(f"{path}: frame {frame} is damaged: {error}.") from None
    if len(table) != n_atoms:
        raise StorageError(f"{path}: frame {frame} has {len(table)} lines of atoms, not {n_atoms}.")
    return table


def numbers_of(path: Path, text: bytes, column: int) -> np.ndarray:
    """(n_atoms,) atomic numbers, from the column of elements.

    Raises:
        InputError: where it has something else.
    """
    from ase.data import atomic_numbers

    symbols = [line.split()[column].decode() for line in text.splitlines()]
    unknown = sorted({one for one in symbols if one not in atomic_numbers or one == "X"})
    if unknown:
        raise InputError(f"{path}: the column element has {', '.join(unknown)}, which is no element.")
    return np.array([atomic_numbers[one] for one in symbols])


def positions_of(table: np.ndarray, scaled: bool, head: Head) -> np.ndarray:
    """(n_atoms, 3) Å, from the numbers in the columns of `position_columns`: three, or six with images."""
    cell, origin = cell_of(head)
    positions = table[:, :3] @ cell + origin if scaled else table[:, :3]
    return positions + table[:, 3:] @ cell if table.shape[1] == 6 else positions


def cell_of(head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Cell vectors as rows and the origin, Å."""
    if head.box[:2] == ("abc", "origin"):
        return head.bounds[:, :3], head.bounds[:, 3]
    low, high = head.bounds[:, 0], head.bounds[:, 1]
    xy, xz, yz = head.bounds[:, 2] if head.bounds.shape[1] == 3 else np.zeros(3)
    low = low - [min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0]
    high = high - [max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0]
    lengths = high - low
    return np.array([[lengths[0], 0.0, 0.0], [xy, lengths[1], 0.0], [xz, yz, lengths[2]]]), low
