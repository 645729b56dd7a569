"""Trajectories in which atoms come and go, frame by frame: those of a deposition, and such files of other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mlmd.errors import InputError, StorageError
from mlmd.io.extxyz import open_extxyz
from mlmd.io.frames import Provenance
from mlmd.io.growing_dump import open_growing_dump
from mlmd.rundir import DEPOSITION, Run, StageRecord
from mlmd.rundir import open_run as open_folder

if TYPE_CHECKING:
    import ase

ID = "id"
"""Array of a frame that says which atom is which."""
_DUMPS = (".lammpstrj", ".dump")


class Structures(Protocol):
    """A file of frames that may differ in size."""

    @property
    def n_frames(self) -> int:
        """Complete frames in the file."""

    @property
    def sizes(self) -> Sequence[int]:
        """(n_frames,) atoms of each."""

    def structures(self, frames: range) -> Iterator[ase.Atoms]:
        """The frames as ASE structures."""


@dataclass(frozen=True)
class Moment:
    """Who is there at a time, and where."""

    time: float
    """fs."""
    numbers: np.ndarray
    """(n_atoms,) atomic numbers."""
    positions: np.ndarray
    """(n_atoms, 3) Å."""
    ids: np.ndarray
    """(n_atoms,) identities, which an atom keeps."""
    cell: np.ndarray
    """(3, 3) Å, rows are vectors."""
    pbc: np.ndarray
    """(3,) bool."""


@dataclass(frozen=True)
class Growth:
    """Frames at increasing times, among whose atoms are those that were there before anything arrived."""

    reader: Structures
    rows: range
    """Frames of the file that belong here."""
    times: np.ndarray
    """(n_frames,) fs since the beginning of the run."""
    bare: Moment
    """The slab before anything arrived."""
    contact: float | None
    """Å below which atoms touch, where the run says so."""
    book: Path | None
    """Table of what became of each arrival."""
    begin: float
    """fs: arrivals since then belong here."""
    depositing: tuple[tuple[float, float], ...]
    """fs, from when to when something arrives, in order; empty where it is not known."""
    provenance: Provenance

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.rows)

    def moments(self, which: Sequence[int] | np.ndarray | None = None) -> Iterator[Moment]:
        """Some frames, one after another; by default all."""
        for index in range(self.n_frames) if which is None else which:
            row = self.rows[int(index)]
            (atoms,) = self.reader.structures(range(row, row + 1))
            yield moment_of(atoms, float(self.times[int(index)]))


@dataclass(frozen=True)
class _InMemory:
    """Frames of a format that ASE reads as a whole."""

    frames: Sequence[ase.Atoms]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def sizes(self) -> tuple[int, ...]:
        """(n_frames,) atoms of each."""
        return tuple(len(atoms) for atoms in self.frames)

    def structures(self, frames: range) -> Iterator[ase.Atoms]:
        """The frames as ASE structures."""
        return (self.frames[frame] for frame in frames)


def moment_of(atoms: ase.Atoms, time: float) -> Moment:
    """A structure at a time in fs; its atoms are numbered in their order where they have no identities."""
    ids = np.asarray(atoms.arrays[ID]) if atoms.has(ID) else np.arange(len(atoms))
    return Moment(time, atoms.numbers, atoms.positions, ids, atoms.cell.array, atoms.pbc)


def open_growth(
    run: Run | Path | str, stage: int | None = None, first_time: float | None = None, last_time: float | None = None
) -> Growth:
    """The frames of a run from its first stage of deposition to its end, as far as they are written by now.

    Args:
        run: a run folder.
        stage: number of one stage, counted from 1.
        first_time, last_time: fs since the beginning of the run.

    Raises:
        InputError: without a stage of deposition, or without frames.
        StorageError: when the folder or its trajectory cannot be read.
    """
    run = run if isinstance(run, Run) else open_folder(run)
    deposits = [number for number, record in enumerate(run.stages, 1) if record.kind == "deposit"]
    if not deposits:
        raise InputError(
            f'{run.path} has no stage of kind = "deposit": nothing arrives in it. For a trajectory of another program '
            "give its file."
        )
    if stage is not None and not 1 <= stage <= len(run.stages):
        raise InputError(f"{run.path} has no stage {stage}; its stages go from 1 to {len(run.stages)}.")
    stages, _, times = run.frame_table()
    reader = open_extxyz(run.trajectory, varying=True) if run.trajectory.exists() else _InMemory(())
    written = min(reader.n_frames, len(stages))
    of = np.array([record.index for record in run.stages])
    chosen = stages[:written] >= of[deposits[0] - 1] if stage is None else stages[:written] == of[stage - 1]
    rows = _between(run.path, np.flatnonzero(chosen), times, first_time, last_time)
    kept = times[rows.start : rows.stop]
    options = run.manifest.get("input", {}).get("stage", [])
    first = deposits[0] - 1
    contact = _length(options[first].get("contact")) if first < len(options) else None
    number = deposits[0] if stage is None else stage
    record = run.stages[number - 1]
    start = _begin(run, record)
    return Growth(
        reader, rows, kept, moment_of(run.atoms, 0.0), contact, run.path / DEPOSITION,
        start if first_time is None else first_time, _depositing(run), _origin(run.path, kept, number, record.kind),
    )  # fmt: skip


def _begin(run: Run, stage: StageRecord) -> float:
    """fs since the beginning of the run at which a stage begins."""
    return sum(one.n_steps * one.timestep for one in run.stages if one.index < stage.index)


def _depositing(run: Run) -> tuple[tuple[float, float], ...]:
    """fs at which stages of deposition begin and end."""
    stages = [(_begin(run, one), one) for one in run.stages if one.kind == "deposit"]
    return tuple((begin, begin + one.n_steps * one.timestep) for begin, one in stages)


def open_growing_file(
    path: Path | str, *, interval: float | None, first_time: float | None = None, last_time: float | None = None
) -> Growth:
    """A file of another program whose first frame is the bare slab; atoms of the same `id` are the same atom.

    Args:
        path: (extended) XYZ, LAMMPS text dump with elements, or ASE .traj.
        interval: fs between frames.
        first_time, last_time: fs; by default all frames.

    Raises:
        InputError: without an interval, for a format that is not known, when no frame lies between the times, and when
            atoms leave that have no identity.
        StorageError: when the file cannot be read.
    """
    path = Path(path)
    if interval is None:
        raise InputError(f'{path} does not tell the time between frames. Give interval=... in fs (--interval "1 ps").')
    reader = _opened(path)
    if not reader.n_frames:
        raise InputError(f"{path} has no complete frame.")
    times = interval * np.arange(reader.n_frames)
    rows = _between(path, np.arange(reader.n_frames), times, first_time, last_time)
    (first,) = reader.structures(range(1))
    _check_identities(path, reader, first)
    kept = times[rows.start : rows.stop]
    return Growth(reader, rows, kept, moment_of(first, 0.0), None, None, 0.0, (), _origin(path, kept, None, None))


def _opened(path: Path) -> Structures:
    import ase.io

    ending = path.suffix.lower()
    if ending in (".extxyz", ".xyz"):
        return open_extxyz(path, varying=True)
    if ending in _DUMPS:
        return open_growing_dump(path)
    if ending != ".traj":
        raise InputError(f"{path}: atoms that come and go are read from .extxyz, .xyz, .traj, {', '.join(_DUMPS)}.")
    try:
        return _InMemory(list(ase.io.iread(path, index=":", format="traj")))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None


def _check_identities(path: Path, reader: Structures, first: ase.Atoms) -> None:
    """See that nobody leaves where atoms have no identity."""
    fallen = np.flatnonzero(np.diff(reader.sizes) < 0)
    if not first.has(ID) and len(fallen):
        frame = int(fallen[0]) + 1
        raise InputError(
            f"{path}: frame {frame} has {reader.sizes[frame]} atoms, the one before {reader.sizes[frame - 1]}, and its "
            "atoms have no id by which it could be told who left. Write the column id."
        )


def _between(path: Path, rows: np.ndarray, times: np.ndarray, first: float | None, last: float | None) -> range:
    if not len(rows):
        raise InputError(f"{path} has no frames of this yet. Wait for the run, or lower [output] trajectory_every.")
    inside = (times[rows] >= (-np.inf if first is None else first - 1e-6)) & (
        times[rows] <= (np.inf if last is None else last + 1e-6)
    )
    if not inside.any():
        raise InputError(
            f"{path}: no frame lies between --from and --to. Its frames go from {times[rows[0]] / 1e3:g} ps to "
            f"{times[rows[-1]] / 1e3:g} ps."
        )
    return range(int(rows[inside][0]), int(rows[inside][-1]) + 1)


def _length(value: object) -> float | None:
    """Å of an option as the manifest keeps it."""
    from mlmd.units import parse

    return None if value is None else float(parse(value, "length"))


def _origin(path: Path, times: np.ndarray, stage: int | None, kind: str | None) -> Provenance:
    interval = float(times[1] - times[0]) if len(times) > 1 else 0.0
    return Provenance(str(path), stage, kind, float(times[0]), float(times[-1]), interval, len(times))
