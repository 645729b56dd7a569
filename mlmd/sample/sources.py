"""Runs and trajectories to take frames from: their times, their energies, and single frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from mlmd.config.files import no_such_file
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.io.labelled import read_labelled
from mlmd.io.log import read_log
from mlmd.io.trajectories import open_run, open_trajectory
from mlmd.rundir import open_run as open_folder

_BARE = (".dcd", ".xtc", ".lammpstrj", ".dump")
"""Endings of files of positions only (like XDATCAR)."""


@dataclass(frozen=True)
class Series:
    """Potential energies at increasing times."""

    times: np.ndarray
    """(n,) fs, or numbers of frames where the times are not known."""
    energies: np.ndarray
    """(n,) eV."""


@dataclass(frozen=True)
class Source:
    """Frames of the same atoms, one after the other."""

    name: str
    times: np.ndarray
    """(n_frames,) fs, or numbers of frames where the times are not known."""
    timed: bool
    """Whether the times are known."""
    series: Series | None
    """Potential energies, where they are known."""
    temperature: float | None
    """K."""
    frame: Callable[[int], Atoms]
    """A frame by its number."""
    notes: tuple[str, ...] = ()


def open_source(
    path: Path, stage: int | None, first_time: float | None, last_time: float | None, structure: Path | None
) -> Source:
    """A run folder, or a trajectory file.

    Args:
        path: run folder; extended XYZ or .traj, also with energies; or DCD, XTC, XDATCAR, LAMMPS text dump.
        stage: number of the stage of a run, counted from 1; by default the last with frames.
        first_time, last_time: fs since the beginning of the run.
        structure: elements and cell for a file that does not tell them.

    Raises:
        InputError: when there are no such frames, or the options do not fit.
        StorageError: when files cannot be read.
    """
    if path.is_dir():
        return _run(path, stage, first_time, last_time)
    if not path.exists():
        raise InputError(no_such_file(path))
    if stage is not None or first_time is not None or last_time is not None:
        raise InputError(f"{path} is a file; --stage, --from and --to belong to run folders.")
    return _bare(path, structure) if _is_bare(path) else _told(path)


def _is_bare(path: Path) -> bool:
    return path.suffix.lower() in _BARE or path.name == "XDATCAR"


def _run(path: Path, stage: int | None, first_time: float | None, last_time: float | None) -> Source:
    """A stage of a run, with the energies of its log."""
    run = open_folder(path)
    trajectory = open_run(run, stage, first_time, last_time)
    origin = trajectory.provenance
    series = None
    if run.log.exists():
        log = read_log(run.log)
        times = 1e3 * log["time [ps]"]
        margin = 1e-6 * max(origin.interval, 1.0)  # the log keeps ten digits
        inside = (log["stage"] == origin.stage) & (times >= origin.first_time - margin)
        inside &= times <= origin.last_time + margin
        if (energies := log.get("potential energy [eV]")) is not None:  # AGNI has none
            series = Series(times[inside], energies[inside])
    name = path.resolve().name.removesuffix(".run")
    return Source(
        name, trajectory.times, True, series, trajectory.temperature, _reader(trajectory), tuple(origin.notes)
    )


def _bare(path: Path, structure: Path | None) -> Source:
    """A file of positions only."""
    if structure is None:
        raise InputError(f"{path} is read as positions only. Give a file with the same atoms: --structure FILE.")
    timed = path.suffix.lower() == ".xtc"
    # without a time between frames they are counted
    trajectory = open_trajectory(path, structure, unwrapped=True, interval=None if timed else 1.0)
    return Source(path.stem, trajectory.times, timed, None, None, _reader(trajectory))


def _told(path: Path) -> Source:
    """A file that tells elements, and perhaps energies."""
    frames = read_labelled(path, need_labels=False)
    numbers = frames[0].atoms.numbers
    for frame in frames:
        if not np.array_equal(frame.atoms.numbers, numbers):
            raise InputError(
                f"{frame.source} has other atoms than {frames[0].source}: these are not frames of one run."
            )
    times = np.arange(len(frames), dtype=float)
    energies = [frame.energy for frame in frames if frame.energy is not None]
    series = Series(times, np.array(energies)) if len(energies) == len(frames) else None
    return Source(path.name.partition(".")[0], times, False, series, None, lambda number: frames[number].atoms)


def _reader(trajectory: Trajectory) -> Callable[[int], Atoms]:
    """Frames of a trajectory as structures; positions as they are, wrapped or not."""

    def frame(number: int) -> Atoms:
        row = trajectory.rows[number]
        positions = trajectory.reader.read(range(row, row + 1))[0]
        return Atoms(numbers=trajectory.numbers, positions=positions, cell=trajectory.cells[number], pbc=trajectory.pbc)

    return frame
