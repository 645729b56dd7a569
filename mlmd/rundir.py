"""One run is one folder: its manifest, its lock, and which frame of the trajectory belongs to which step."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.errors import InUseError, StorageError

if TYPE_CHECKING:
    import ase

MANIFEST = "run.json"
STRUCTURE = "structure.extxyz"
TOPOLOGIES = ("topology.pdb", "topology.cif")
LOG = "log.csv"
FLUXES = "fluxes.csv"
TEMPERATURES = "temperatures.csv"
DEPOSITION = "deposition.csv"
HYPER = "hyper.csv"
PLUMED = "plumed"
"""Folder with copies of the PLUMED files that a user has given."""
MESSAGES = "messages.log"
FINAL = "final.extxyz"
CHECKPOINTS = "checkpoint"
CRASH = "crash"
STOP = "STOP"
LOST = "lost device"
"""State of a run whose graphics card has failed."""
REPLICAS = "replicas.json"
"""The list of runs in a folder of replicas."""


@dataclass(frozen=True)
class End:
    """How a stage has ended in which something looked for a reason to end it."""

    step: int
    """Of the stage, at which it ended."""
    planned: int
    """Steps that the input asks for."""
    why: str
    """In words; also where it has gone on to its last step, and why it did."""
    quantity: str | None = None
    """Whose error was looked at; None where a bias has ended the stage."""
    relative_error: float | None = None
    """That was reached, where the stage has ended for it."""

    @property
    def early(self) -> bool:
        """Whether it has ended before its last step."""
        return self.step < self.planned


@dataclass(frozen=True)
class StageRecord:
    """What a reader of the folder needs to know about one stage."""

    index: int
    kind: str
    first_step: int
    """Global step at which the stage begins."""
    n_steps: int
    """Planned steps, or those that were done where it has ended before; 0 for a minimisation."""
    timestep: float
    """fs."""
    temperature: tuple[float, ...] | None
    """Targets in K: at the start, at the end, and between them in equal times where they are more than two."""
    pressure: tuple[float, float] | None
    """Target at the start and at the end, bar."""
    log_every: int
    trajectory_every: int
    """Steps between frames."""
    barostat: str | None
    shape: str = "linear"
    """How the temperature goes from one target to the next: linear or exponential."""
    frames: tuple[tuple[int, int, int], ...] = ()
    """Steps of the frames of a rerun, as ranges: the first, steps from one to the next, and how many."""
    fluxes_every: int = 0
    """Steps between lines of `FLUXES`; 0 without."""
    end: End | None = None
    """How it has ended, where something looked for a reason."""

    @property
    def planned(self) -> int:
        """Steps that the input asks for; targets go from one to the next within these."""
        return self.n_steps if self.end is None else self.end.planned

    @property
    def ramped(self) -> bool:
        """Whether a target changes."""
        return any(targets is not None and len(set(targets)) > 1 for targets in (self.temperature, self.pressure))

    def target_temperature(self, share: float) -> float | None:
        """K, after a share (0 to 1) of the planned stage; None without a thermostat.

        With targets T₀ ... T_n in equal times and x = n share - i within the i-th part, T_i + (T_{i+1} - T_i) x, or
        T_i (T_{i+1} / T_i)^x where the shape is exponential.
        """
        if self.temperature is None:
            return None
        n_parts = len(self.temperature) - 1
        part = min(int(share * n_parts), n_parts - 1)
        within, (first, last) = share * n_parts - part, self.temperature[part : part + 2]
        if self.shape == "exponential":
            return float(first * (last / first) ** within)
        return first + (last - first) * within

    @property
    def last_step(self) -> int:
        """Global step at which the stage ends."""
        return self.first_step + self.n_steps

    def output_steps(self, every: int, *, first: bool) -> np.ndarray:
        """Steps of the stage, counted from its start, at which something is written every `every` steps.

        Args:
            every: steps between two writings.
            first: whether the stage is the first with dynamics; then its step 0 is written too.
        """
        if self.frames:  # everything is written at each of them
            return np.concatenate([begin + step * np.arange(number) for begin, step, number in self.frames])
        return np.arange(0 if first else every, self.n_steps + 1, every)


@dataclass(frozen=True)
class Run:
    """A run folder, opened for reading."""

    path: Path
    manifest: Mapping[str, Any]

    @cached_property
    def stages(self) -> tuple[StageRecord, ...]:
        """The stages in their order."""
        return tuple(_stage(record) for record in self.manifest["stages"])

    @cached_property
    def atoms(self) -> ase.Atoms:
        """The initial structure as simulated: after supercell and mass changes, in the user's orientation."""
        import ase.io

        atoms: ase.Atoms = ase.io.read(self.path / STRUCTURE, index=-1)  # type: ignore[assignment]
        return atoms

    @property
    def trajectory(self) -> Path:
        """The trajectory file."""
        return self.path / str(self.manifest["trajectory"]["file"])

    @property
    def log(self) -> Path:
        """The table of energies and temperatures."""
        return self.path / LOG

    def frame_table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stage index, global step and time (fs) of every planned frame, in the order of the file.

        The file of an unfinished run holds fewer frames, never others.
        """
        stages, steps, times = [], [], []
        start_time, first = 0.0, True
        for stage in self.stages:
            if stage.n_steps or stage.frames:
                local = stage.output_steps(stage.trajectory_every, first=first)
                stages.append(np.full(len(local), stage.index))
                steps.append(stage.first_step + local)
                times.append(start_time + local * stage.timestep)
                start_time += stage.n_steps * stage.timestep
                first = False
        if not stages:
            return np.zeros(0, int), np.zeros(0, int), np.zeros(0)
        return np.concatenate(stages), np.concatenate(steps), np.concatenate(times)


class Messages:
    """messages.log: what happened when, in sentences."""

    def __init__(self, folder: Path, echo: Callable[[str], None] | None = None) -> None:
        """`echo` is called with every message too."""
        self._path = folder / MESSAGES
        self._echo = echo

    def __call__(self, text: str, *, echo: bool = True) -> None:
        """Add a message; without `echo` the person at the terminal hears it otherwise."""
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        with self._path.open("a") as file:
            file.write(f"{stamp}  {text}\n")
        if echo and self._echo is not None:
            self._echo(text)


def default_folder(input_path: Path) -> Path:
    """``<input stem>.run`` beside where one stands; the folder of the input where that is the copy in a run folder."""
    folder = input_path.parent
    if input_path.name == "input.toml" and ((folder / MANIFEST).exists() or (folder.parent / REPLICAS).exists()):
        return folder
    return Path(input_path.stem + ".run")


def _stage(record: Mapping[str, Any]) -> StageRecord:
    pairs = {key: tuple(record[key]) if record[key] is not None else None for key in ("temperature", "pressure")}
    frames = tuple((begin, step, number) for begin, step, number in record.get("frames", ()))
    end = None if record.get("end") is None else End(**record["end"])
    return StageRecord(**{**record, **pairs, "frames": frames, "end": end})


def with_ends(stages: Sequence[StageRecord], ends: Mapping[int, End]) -> tuple[StageRecord, ...]:
    """Stages as planned, some of which have ended: they are as long as they were, and those behind begin earlier.

    Args:
        stages: as planned.
        ends: index of a stage -> how it has ended.
    """
    if not ends:
        return tuple(stages)
    found, first_step = [], 0
    for stage in stages:
        end = ends.get(stage.index)
        n_steps = stage.n_steps if end is None else end.step
        found.append(replace(stage, first_step=first_step, n_steps=n_steps, end=end))
        first_step += n_steps
    return tuple(found)


def ends_of(stages: Sequence[StageRecord]) -> dict[int, End]:
    """Index of a stage -> how it has ended, for `with_ends`."""
    return {stage.index: stage.end for stage in stages if stage.end is not None}


def describe_targets(targets: Sequence[float], arrow: str = "→") -> str:
    """A constant, or the points of a ramp or schedule, those in the middle of a long one left out."""
    if len(set(targets)) == 1:
        return f"{targets[0]:g}"
    shown = [f"{value:g}" for value in targets]
    return arrow.join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-2:]])


def stage_record(stage: StageRecord) -> dict[str, Any]:
    """A stage as it stands in the manifest; what is usual is not told, as it was before there was anything else."""
    usual = (("shape", "linear"), ("frames", ()), ("fluxes_every", 0), ("end", None))
    return {key: value for key, value in asdict(stage).items() if (key, value) not in usual}


def open_run(path: Path | str) -> Run:
    """Open a run folder for reading.

    Raises:
        StorageError: when the folder is no run folder, or of a newer format.
    """
    folder = Path(path)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except OSError as error:
        why = f"{MANIFEST} cannot be read ({error.strerror})"
        if not folder.is_dir():
            why = "it is a file" if folder.exists() else "it does not exist"
        if (folder / REPLICAS).exists():
            raise StorageError(
                f"{folder} holds many runs, which `mlmd status {folder}` lists. Give the folder of one."
            ) from None
        from mlmd.config.files import SWEEP, TRAINING

        for file, what in ((TRAINING, "training"), (SWEEP, "sweep")):
            if (folder / file).exists():
                raise StorageError(
                    f"{folder} is the folder of a {what}, not of a run: `mlmd show {folder}` tells its errors."
                ) from None
        raise StorageError(
            f"{folder} is not a run folder: {why}. Give the folder that `mlmd simulate` made, by default <input>.run."
        ) from None
    except ValueError as error:
        raise StorageError(f"{folder / MANIFEST} is damaged: {error}.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != "mlmd-run":
        raise StorageError(f"{folder / MANIFEST} is not the manifest of an mlmd run.")
    if manifest.get("version") != 1:
        raise StorageError(
            f"{folder} has run format {manifest.get('version')}; this mlmd reads format 1. Install a newer mlmd."
        )
    return Run(folder, manifest)


def is_running(run: Run) -> bool:
    """Whether a process holds the folder's lock; nothing is written, and a run that was killed holds none."""
    try:
        descriptor = os.open(run.path / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace run.json in one atomic step."""
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def with_stages(run: Run, stages: Sequence[StageRecord]) -> Run:
    """The run with other records of its stages, written to its manifest."""
    changed = replace(run, manifest={**run.manifest, "stages": [stage_record(stage) for stage in stages]})
    write_manifest(run.path, changed.manifest)
    return changed


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that after a crash either the old or the new content stands there, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Make the folder if needed and hold its lock; what was made goes again if nothing comes to stand in it.

    The lock is given back by the system when the process dies, however it dies.

    Raises:
        InUseError: when another process holds it; names the host and the process.
        StorageError: when the folder cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(
            f"the run folder {folder} cannot be written: {error.strerror}. Give another --out."
        ) from None
    try:
        _lock(descriptor, folder)
        try:
            yield
        finally:  # only by who holds the lock: another one begun at the same moment has seen no folder either
            if made and folder.exists() and [path.name for path in folder.iterdir()] == ["lock"]:
                (folder / "lock").unlink()
            for path in made:
                if path.exists() and any(path.iterdir()):
                    break
                if path.exists():
                    path.rmdir()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        raise InUseError(f"{folder} is in use by {holder}. Wait for it, stop it, or give another --out.") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
