"""What a trajectory tells of each of its frames: positions, cell and elements, and the step and time at which it was.

Programs tell different things: (extended) XYZ the elements, and step and time where the writer put them there; XTC step
and time in single precision; DCD the first step and the interval; LAMMPS dumps the step; a run folder of mlmd all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mlmd.config.files import no_such_file
from mlmd.errors import InputError, StorageError
from mlmd.io.dcd import DCDReader
from mlmd.io.extxyz import ExtXYZReader
from mlmd.io.frames import CHUNK_BYTES, ArrayReader, FrameReader
from mlmd.io.lammps_dump import LammpsDumpReader
from mlmd.io.trajectories import cells_of, open_frames
from mlmd.io.xtc import XTCReader
from mlmd.rundir import MANIFEST, open_run

SINGLE = 2e-7
"""Relative error of times in single precision."""
_STEPS = ("step", "Step", "Timestep")
_TIMES = {"time_fs": 1.0, "time_ps": 1e3}
"""Names in the comment line of an extended XYZ frame that say what they are, and fs of their unit."""


@dataclass(frozen=True)
class Frame:
    """One frame of a file."""

    positions: np.ndarray
    """(n_atoms, 3) Å."""
    cell: np.ndarray
    """(3, 3) Å, rows are vectors; zero without periodicity."""
    numbers: np.ndarray | None
    """(n_atoms,) atomic numbers, where the file tells them."""


class _Blocks:
    """Positions frame by frame, read some frames at a time: to find a frame, MDTraj goes through an XTC file."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader, self._first = reader, 0
        self._size = max(1, int(CHUNK_BYTES / (24 * max(1, reader.n_atoms))))
        self._positions = np.zeros((0, reader.n_atoms, 3))

    def frame(self, row: int) -> np.ndarray:
        """(n_atoms, 3) Å."""
        if not 0 <= row - self._first < len(self._positions):
            self._first = row
            self._positions = self._reader.read(range(row, min(row + self._size, self._reader.n_frames)))
        found: np.ndarray = self._positions[row - self._first]
        return found


@dataclass(frozen=True)
class Recording:
    """A trajectory and when its frames were."""

    path: Path
    """The file, also of a run folder."""
    reader: FrameReader
    steps: np.ndarray | None
    """(n_frames,) of the dynamics that made them, where the file tells."""
    times: np.ndarray | None
    """(n_frames,) fs, likewise."""
    orientation: np.ndarray
    """(3, 3), how positions are turned against a cell that the file keeps as lengths and angles."""

    @cached_property
    def _blocks(self) -> _Blocks:
        return _Blocks(self.reader)

    @property
    def single(self) -> bool:
        """Whether times are in single precision."""
        return isinstance(self.reader, XTCReader)

    def cells(self, atoms: ase.Atoms) -> np.ndarray | None:
        """(n_frames, 3, 3) Å of a binary format; None where each frame has its own in full precision.

        A frame without a cell has that of the structure, and so has every frame of a structure that is not periodic in
        all directions.
        """
        if isinstance(self.reader, ExtXYZReader):
            return None
        rows, own = range(self.reader.n_frames), atoms.cell.array if atoms.pbc.any() else np.zeros((3, 3))
        if (
            isinstance(self.reader, ArrayReader | LammpsDumpReader) and atoms.pbc.all()
        ):  # as written, nothing is rounded
            cells = self.reader.cells(rows)
        else:
            with np.errstate(invalid="ignore", divide="ignore"):  # where a file keeps lengths of zero
                cells = cells_of(self.reader, rows, atoms, self.orientation)
        if cells is None:
            return np.broadcast_to(own, (len(rows), 3, 3))
        there = np.isfinite(cells).all(axis=(1, 2)) & cells.any(axis=(1, 2))
        return np.where(there[:, None, None], cells, own)

    def frame(self, row: int, atoms: ase.Atoms, cells: np.ndarray | None) -> Frame:
        """One frame, as one of a structure.

        Args:
            row: its number, counted from 0.
            atoms: the structure, for its periodicity, and for its cell where the frame has none.
            cells: what `cells` gave.

        Raises:
            StorageError: when it cannot be read.
        """
        rows = range(row, row + 1)
        if cells is not None:
            numbers = getattr(self.reader, "numbers", None)
            own = numbers[row] if isinstance(self.reader, ArrayReader) and numbers is not None else numbers
            return Frame(self._blocks.frame(row), cells[row], own)
        assert isinstance(self.reader, ExtXYZReader)
        try:
            (found,) = self.reader.structures(rows)
        except (ValueError, KeyError, IndexError, OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{self.path}: frame {row} cannot be read: {error}.") from None
        cell = np.where(found.cell.array.any(axis=1)[:, None], found.cell.array, atoms.cell.array)
        return Frame(found.positions, cell if atoms.pbc.any() else np.zeros((3, 3)), found.numbers)


def open_recording(path: Path) -> Recording:
    """Open a trajectory file, or the trajectory of a run folder.

    Raises:
        InputError: when there is no such file, it has no frame, or the kind of file is not known.
        StorageError: when it cannot be read.
    """
    if not path.exists():
        raise InputError(no_such_file(path))
    folder = path if path.is_dir() else path.parent
    if (folder / MANIFEST).is_file():
        run = open_run(folder)
        if path.is_dir() or path.name == run.trajectory.name:
            return _of_run(run)
    if path.is_dir():
        raise InputError(f"{path} is a folder, and not one of a run. Give a trajectory file.")
    reader = open_frames(path)
    _refuse_empty(path, reader)
    steps, times = _when(path, reader)
    return Recording(path, reader, steps, times, np.eye(3))


def _of_run(run: Any) -> Recording:
    """The trajectory in a run folder, whose frames are those that were planned."""
    if any(record.kind == "deposit" for record in run.stages):
        raise InputError(f"{run.path}: atoms came and went in this run, and frames of one size are needed.")
    if not run.trajectory.is_file():
        raise InputError(f"{run.path} has no trajectory.")
    reader = open_frames(run.trajectory)
    _refuse_empty(run.trajectory, reader)
    _, steps, times = run.frame_table()
    n_frames = reader.n_frames
    if n_frames > len(steps):
        raise StorageError(f"{run.trajectory} has {n_frames:,} frames, and the run planned {len(steps):,}.")
    orientation = np.array(run.manifest.get("orientation", np.eye(3)), dtype=float)
    return Recording(run.trajectory, reader, steps[:n_frames], times[:n_frames], orientation)


def _refuse_empty(path: Path, reader: FrameReader) -> None:
    if not reader.n_frames:
        raise InputError(f"{path} has no complete frame.")


def _when(path: Path, reader: FrameReader) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Steps and times (fs) of the frames of a file, where it tells them of all."""
    if isinstance(reader, XTCReader):
        return reader.steps, reader.times
    if isinstance(reader, DCDReader):
        return reader.steps, None
    if isinstance(reader, ExtXYZReader):
        found = [reader.told(row) for row in range(reader.n_frames)]
        steps = _column([_first(one, dict.fromkeys(_STEPS, 1)) for one in found])
        return None if steps is None else _whole(steps), _column([_first(one, _TIMES) for one in found])
    if isinstance(reader, LammpsDumpReader):
        return reader.steps, None
    return None, None


def _first(told: dict[str, Any], sizes: dict[str, float]) -> float | None:
    """The first number that stands under one of some names, in a unit of its own."""
    for name, size in sizes.items():
        value = told.get(name)
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            return float(value) * size
    return None


def _column(values: Sequence[float | None]) -> np.ndarray | None:
    if any(value is None for value in values):
        return None
    numbers = np.array(values, dtype=float)
    return numbers if np.isfinite(numbers).all() else None


def _whole(numbers: np.ndarray) -> np.ndarray | None:
    return numbers.astype(np.int64) if np.array_equal(numbers, np.rint(numbers)) else None
