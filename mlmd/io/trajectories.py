"""Trajectories of runs and of other programs, opened for the analyses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlmd.errors import InputError, StorageError
from mlmd.io.dcd import open_dcd, standard_cells
from mlmd.io.extxyz import ExtXYZReader, open_extxyz
from mlmd.io.frames import ArrayReader, FrameReader, Provenance, Trajectory
from mlmd.io.h5md import H5MDReader, open_h5md
from mlmd.io.lammps_dump import LammpsDumpReader, open_lammps_dump
from mlmd.io.log import read_log
from mlmd.io.xtc import open_xtc
from mlmd.rundir import DEPOSITION, Run, StageRecord, describe_targets
from mlmd.rundir import open_run as open_folder

if TYPE_CHECKING:
    import ase

SAME_CELL = 1e-4
"""Å: cells of a file this close to the initial structure's are that cell, which is known exactly (XTC is float32)."""

_SAME_INTERVAL = 0.01
"""Relative difference of times in single precision, or with few digits."""

_OPENERS: dict[str, Callable[[Path], FrameReader]] = {
    ".dcd": open_dcd,
    ".xtc": open_xtc,
    ".extxyz": open_extxyz,
    ".xyz": open_extxyz,
    ".lammpstrj": open_lammps_dump,
    ".dump": open_lammps_dump,
    ".h5md": open_h5md,
    ".h5": open_h5md,
}
_ASE_FORMATS = {"XDATCAR": "vasp-xdatcar", ".traj": "traj"}


def open_run(
    run: Run | Path | str, stage: int | None = None, first_time: float | None = None, last_time: float | None = None
) -> Trajectory:
    """The frames of one stage of a run that are in its trajectory file by now.

    Args:
        run: a run folder.
        stage: number of the stage, counted from 1; by default the last one that has frames.
        first_time, last_time: fs since the beginning of the run; by default all of the stage.

    Raises:
        InputError: when the stage does not exist, has no frames, or changes its temperature.
        StorageError: when the folder or its trajectory cannot be read.
    """
    run = run if isinstance(run, Run) else open_folder(run)
    stages, _, times = run.frame_table()
    if not len(stages) or not run.trajectory.exists():
        raise _no_frames(run)
    growing = any(record.kind == "deposit" for record in run.stages)
    reader = open_frames(run.trajectory, varying=growing)
    written = min(reader.n_frames, len(stages))
    record = _choose_stage(run, stages[:written], stage)
    rows = _rows_between(run, record, stages[:written], times, first_time, last_time)
    if isinstance(reader, ExtXYZReader) and growing:
        reader, atoms = _unchanged(run, record, reader, rows)
    else:
        atoms = run.atoms
    _check_atoms(run.trajectory, reader.n_atoms, len(atoms))
    orientation = np.array(run.manifest.get("orientation", np.eye(3)), dtype=float)
    cells = cells_of(reader, rows, atoms, orientation)
    origin = _provenance(
        run.path, times[rows.start : rows.stop], run.stages.index(record) + 1, record.kind, bias_of(run, record)
    )
    exchanged = record.index in run.manifest.get("exchange", {}).get("stages", ())
    origin = replace(origin, exchanged=exchanged, scale=run.manifest.get("input", {}).get("scale"))
    temperature = record.temperature[0] if record.temperature else _mean_temperature(run, record, origin)
    return Trajectory(
        reader, rows, times[rows.start : rows.stop], cells, atoms.numbers, atoms.get_masses(), atoms.pbc,
        record.kind != "rerun", temperature, origin,  # frames of a rerun may come from anywhere
    )  # fmt: skip


def _unchanged(run: Run, record: StageRecord, reader: ExtXYZReader, rows: range) -> tuple[ExtXYZReader, ase.Atoms]:
    """The file and the atoms of frames between which none has come or gone."""
    first, last = (next(reader.structures(range(row, row + 1))) for row in (rows[0], rows[-1]))
    same = len({reader.sizes[row] for row in rows}) == 1 and np.array_equal(first.arrays["id"], last.arrays["id"])
    if not same:
        raise InputError(
            f"{run.path}: atoms come and go in stage {run.stages.index(record) + 1} ({record.kind}), and an analysis "
            "needs the same atoms in all frames. Choose another stage with --stage, or a time between arrivals with "
            f"--from and --to; {DEPOSITION} tells when who arrived."
        )
    return replace(reader, n_atoms=len(first)), first


def _mean_temperature(run: Run, record: StageRecord, origin: Provenance) -> float | None:
    """Of the log between the first and the last frame, K: what a stage without thermostat has for a temperature."""
    if not run.log.exists():
        return None
    log = read_log(run.log)
    time = log["time [ps]"] * 1e3
    inside = (log["stage"] == record.index + 1) & (time >= origin.first_time) & (time <= origin.last_time)
    return float(np.mean(log["temperature [K]"][inside])) if inside.any() else None


def bias_of(run: Run, record: StageRecord) -> str | None:
    """The PLUMED input, or the kinds of biases, that acted on a stage; None when their energy was zero throughout."""
    if record.kind == "rerun":  # nothing moved
        return None
    stages = run.manifest.get("input", {}).get("stage", [])
    stage = stages[record.index] if record.index < len(stages) else {}
    if any(bias.get("kind") == "hyperdynamics" for bias in stage.get("bias") or ()):
        return "hyperdynamics"
    plumed, kinds = stage.get("plumed"), [str(bias.get("kind")) for bias in stage.get("bias") or ()]
    if not plumed and not kinds:
        return None
    if run.log.exists():
        log = read_log(run.log)
        inside = log["stage"] == record.index + 1
        if inside.any() and not log["bias energy [eV]"][inside].any():
            return None
    if not plumed:
        return ", ".join(dict.fromkeys(kinds))
    return Path(plumed["file"] if isinstance(plumed, dict) else str(plumed)).name


def _no_frames(run: Run) -> InputError:
    if not any(record.n_steps or record.frames for record in run.stages):
        return InputError(f"{run.path} has no frames: a minimization writes none. Add a stage of dynamics.")
    if any(record.kind == "rerun" for record in run.stages):
        return InputError(f"{run.path} has no frames: a rerun writes them with forces = true.")
    return InputError(f"{run.path} has no frames. Wait for the run, or lower [output] trajectory_every.")


def _choose_stage(run: Run, stages: np.ndarray, number: int | None) -> StageRecord:
    present = [record for record in run.stages if record.index in stages]
    listing = ", ".join(f"{run.stages.index(record) + 1} ({record.kind})" for record in present) or "none yet"
    if not present:
        raise _no_frames(run)
    if number is None:
        record = present[-1]
    elif 1 <= number <= len(run.stages) and run.stages[number - 1] in present:
        record = run.stages[number - 1]
    else:
        raise InputError(f"{run.path} has no frames of a stage {number}. Stages with frames: {listing}.")
    if record.temperature and len(set(record.temperature)) > 1:
        ends = record.temperature
        way = f"from {ends[0]:g} to {ends[-1]:g}" if len(ends) == 2 else f"through {describe_targets(ends)}"
        raise InputError(
            f"{run.path}: stage {run.stages.index(record) + 1} goes {way} K, and an average over "
            f"temperatures has no meaning. Choose another with --stage. Stages with frames: {listing}."
        )
    return record


def _rows_between(
    run: Run, record: StageRecord, stages: np.ndarray, times: np.ndarray, first: float | None, last: float | None
) -> range:
    rows = np.flatnonzero(stages == record.index)
    tolerance = 1e-6 * record.timestep
    begin = -np.inf if first is None else first - tolerance
    end = np.inf if last is None else last + tolerance
    chosen = rows[(times[rows] >= begin) & (times[rows] <= end)]
    if not len(chosen):
        raise InputError(
            f"{run.path}: no frame lies between --from and --to. "
            f"The frames of this stage go from {times[rows[0]] / 1e3:g} ps to {times[rows[-1]] / 1e3:g} ps "
            "(time since the beginning of the run)."
        )
    return range(int(chosen[0]), int(chosen[-1]) + 1)


def open_trajectory(
    path: Path | str, topology: ase.Atoms | Path | str | None = None, *, unwrapped: bool | None = None,
    interval: float | None = None, temperature: float | None = None, first_time: float | None = None,
    last_time: float | None = None, averaged: bool = False, paths: bool = True,
) -> Trajectory:  # fmt: skip
    """A trajectory written by another program.

    Args:
        path: DCD, XTC, (extended) XYZ, XDATCAR, LAMMPS text dump or H5MD. DCD cells are taken to have a along x and b
            in the xy plane.
        topology: a structure with the same atoms in the same order; by default the first frame of a file that tells
            elements.
        unwrapped: True when atoms keep going after they left the cell, False when they come back on the other
            side. Few files tell (the columns of a LAMMPS dump, H5MD with images), and a guess would give a wrong
            diffusion coefficient.
        interval: fs between frames; needed unless the file (XTC, H5MD with a unit) tells.
        temperature: K, for the conductivity.
        first_time, last_time: fs; by default all frames.
        averaged: whether frames are only averaged over, each for itself: then neither `unwrapped` nor `interval` is
            needed, and times that the file does not tell are nan.
        paths: whether it matters which way atoms went; where only who is near whom does, `unwrapped` is not needed.

    Raises:
        InputError: when `unwrapped`, `interval` or a structure is needed and not given, the format is unknown, the
            atoms do not match, or no frame lies between the times.
        StorageError: when the file cannot be read.
    """
    path = Path(path)
    reader = open_frames(path)
    told: bool | None = getattr(reader, "unwrapped", None)
    if unwrapped is None:
        unwrapped = told
    elif told is not None and unwrapped != told:
        says, said = ("unwrapped" if one else "wrapped" for one in (told, unwrapped))
        raise InputError(f"{path} itself says that its positions are {says}, and they were said to be {said}.")
    if unwrapped is None and (averaged or not paths):
        unwrapped = False
    if unwrapped is None:
        raise InputError(
            f"Are the positions in {path} unwrapped? The file does not tell. Say unwrapped=True (--unwrapped: atoms "
            "keep going after they left the cell) or unwrapped=False (--wrapped: they come back on the other side)."
        )
    if topology is None:
        topology = _first_frame(path, reader)
    atoms = _structure(topology)
    _check_atoms(path, reader.n_atoms, len(atoms))
    _check_elements(path, reader, atoms)
    times = _foreign_times(path, reader, interval, averaged and first_time is None and last_time is None)
    inside = (times >= (-np.inf if first_time is None else first_time)) & (
        times <= (np.inf if last_time is None else last_time)
    )
    inside |= np.isnan(times)
    if not inside.any():
        raise InputError(
            f"{path}: no frame lies between --from and --to. Its frames go from {times[0] / 1e3:g} ps to "
            f"{times[-1] / 1e3:g} ps."
        )
    rows, times = range(*(np.flatnonzero(inside)[[0, -1]] + [0, 1]).tolist()), times[inside]
    return Trajectory(
        reader, rows, times, cells_of(reader, rows, atoms, np.eye(3)), atoms.numbers, atoms.get_masses(), atoms.pbc,
        unwrapped, temperature, _provenance(path, times, None, None),
    )  # fmt: skip


def _structure(given: ase.Atoms | Path | str) -> ase.Atoms:
    if not isinstance(given, Path | str):
        return given
    from mlmd.io.structures import read_structure

    return read_structure(Path(given))


def _first_frame(path: Path, reader: FrameReader) -> ase.Atoms:
    """The atoms of a file that tells what they are."""
    import ase.io

    if isinstance(reader, LammpsDumpReader | H5MDReader) and reader.numbers is not None:
        return reader.first
    kind = _ASE_FORMATS.get(path.name, _ASE_FORMATS.get(path.suffix.lower()))
    kind = "extxyz" if isinstance(reader, ExtXYZReader) else kind
    if kind is None:
        raise InputError(
            f"{path} does not tell what its atoms are. Give a structure with the same atoms in the same order "
            "(--structure FILE)."
        )
    try:
        return next(ase.io.iread(path, index=0, format=kind))
    except Exception as error:  # ASE's parsers raise whatever the damaged text leads them to
        raise StorageError(f"{path} cannot be read as {kind}: {error}.") from None


def from_arrays(
    positions: np.ndarray, atoms: ase.Atoms, *, interval: float, unwrapped: bool, cells: np.ndarray | None = None,
    temperature: float | None = None,
) -> Trajectory:  # fmt: skip
    """A trajectory from positions in memory.

    Args:
        positions: (n_frames, n_atoms, 3) Å.
        atoms: the elements, masses, periodicity, and the cell where `cells` is not given.
        interval: fs between frames.
        unwrapped: whether atoms that leave the cell keep going.
        cells: (n_frames, 3, 3) Å, rows are vectors.
        temperature: K.
    """
    reader = ArrayReader(positions, cells)
    times = interval * np.arange(reader.n_frames)
    _check_atoms(Path("<memory>"), reader.n_atoms, len(atoms))
    boxes = cells_of(reader, range(reader.n_frames), atoms, np.eye(3))
    return Trajectory(
        reader, range(reader.n_frames), times, boxes, atoms.numbers, atoms.get_masses(), atoms.pbc, unwrapped,
        temperature, _provenance(Path("<memory>"), times, None, None),
    )  # fmt: skip


def open_frames(path: Path, *, varying: bool = False) -> FrameReader:
    """The frames of a file, known by its ending, without the structure that they are of.

    Args:
        path: of the file.
        varying: whether the number of atoms may change from frame to frame, as it can in (extended) XYZ.

    Raises:
        InputError: for an ending that is not known.
        StorageError: when the file cannot be read, or is empty.
    """
    if path.is_file() and not path.stat().st_size:
        raise StorageError(f"{path} is empty: it has no frames. Did what wrote it get so far?")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is not None:
        return open_extxyz(path, varying=varying) if opener is open_extxyz else opener(path)
    ase_format = _ASE_FORMATS.get(path.name, _ASE_FORMATS.get(path.suffix.lower()))
    if ase_format is None:
        raise InputError(
            f"{path}: not a trajectory format that is read. Known: {', '.join([*_OPENERS, *_ASE_FORMATS])}."
        )
    return _read_with_ase(path, ase_format)


def _read_with_ase(path: Path, ase_format: str) -> ArrayReader:
    import ase.io

    try:
        frames = ase.io.read(path, index=":", format=ase_format)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # ASE's parsers raise whatever the damaged text leads them to
        raise StorageError(f"{path} cannot be read as {ase_format}: {error}.") from None
    if not frames or len({len(frame) for frame in frames}) > 1:
        raise StorageError(f"{path} does not hold frames of the same atoms.")
    positions, cells = np.array([f.positions for f in frames]), np.array([f.cell.array for f in frames])
    return ArrayReader(positions, cells, np.array([f.numbers for f in frames]))


def _check_atoms(path: Path, in_file: int, in_structure: int) -> None:
    if in_file != in_structure:
        raise InputError(f"{path} has {in_file} atoms, its structure {in_structure}.")


def _check_elements(path: Path, reader: FrameReader, atoms: ase.Atoms) -> None:
    """A structure in another order than the file would give atoms the elements of others."""
    told: np.ndarray | None = getattr(reader, "numbers", None)
    if told is None:
        return
    own = told[0] if told.ndim == 2 else told
    different = np.flatnonzero(own != atoms.numbers)
    if len(different):
        from ase.data import chemical_symbols

        first = int(different[0])
        theirs, ours = own[first], atoms.numbers[first]
        raise InputError(
            f"{path}: atom {first} (counted from 0) is {chemical_symbols[theirs]} there and {chemical_symbols[ours]} "
            "in the structure. Give a structure with the atoms in the order of the file."
        )


def _foreign_times(path: Path, reader: FrameReader, interval: float | None, averaged: bool) -> np.ndarray:
    """fs of all frames, nan where nobody asks for them; what is said must not contradict what the file tells."""
    if isinstance(reader, LammpsDumpReader) and len(set(np.diff(reader.steps).tolist())) > 1:
        apart = np.diff(reader.steps)
        odd = int(np.flatnonzero(apart != apart[0])[0]) + 1
        raise InputError(
            f"{path}: frames are not at equal distances: {apart[0]:,} steps at first, and {apart[odd - 1]:,} before "
            f"frame {odd} (counted from 0), at step {reader.steps[odd]:,}. A frame may be there twice after a restart: "
            "write the file anew without it, or cut it there."
        )
    told: np.ndarray | None = getattr(reader, "times", None)
    if interval is None and told is not None:
        return told
    if interval is not None:
        own = np.diff(told) if told is not None else np.zeros(0)
        if len(own) and (own > 0.0).all() and np.abs(own - interval).max() > _SAME_INTERVAL * interval:
            raise InputError(
                f"{path} itself tells {own[0]:g} fs between its first frames, and {interval:g} fs were given. Leave "
                "the interval out, or see which is right."
            )
        return interval * np.arange(reader.n_frames)
    if averaged:
        return np.full(reader.n_frames, np.nan)
    raise InputError(f'{path} does not tell the time between frames. Give interval=... in fs (--interval "10 fs").')


def cells_of(reader: FrameReader, rows: range, atoms: ase.Atoms, orientation: np.ndarray) -> np.ndarray:
    """Cells of the frames in the orientation of the positions, (n, 3, 3) Å.

    Binary formats keep lengths and angles, or a cell turned to the program's axes: the standard cell times the
    orientation is the cell in the axes of the positions.
    """
    own = atoms.cell.array if atoms.pbc.any() else np.zeros((3, 3))
    # No barostat changes the cell of a slab, and its open side has no length that a file could keep.
    cells = reader.cells(rows) if atoms.pbc.all() else None
    if cells is None:
        return np.broadcast_to(own, (len(rows), 3, 3))
    if not np.array_equal(orientation, np.eye(3)):
        cells = _standardised(cells) @ orientation
    if np.allclose(cells, own, rtol=0.0, atol=SAME_CELL):
        return np.broadcast_to(own, (len(rows), 3, 3))
    return cells


def _standardised(cells: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(cells, axis=2)
    units = cells / lengths[:, :, None]
    cosines = np.stack([np.einsum("ni,ni->n", units[:, j], units[:, k]) for j, k in ((1, 2), (0, 2), (0, 1))], axis=-1)
    return standard_cells(lengths, cosines)


def _provenance(
    path: Path, times: np.ndarray, stage: int | None, kind: str | None, bias: str | None = None
) -> Provenance:
    if not len(times):
        raise InputError(f"{path} has no complete frame.")
    interval = float(times[1] - times[0]) if len(times) > 1 else 0.0
    return Provenance(str(path), stage, kind, float(times[0]), float(times[-1]), interval, len(times), bias)
