"""Is a run folder what its manifest and its checkpoints say, and how to make it so where it is not.

A run that is continued cuts its files back to the newest checkpoint by itself. What it refuses is a file that was
changed or is too short for that checkpoint: `repair` goes back to an older one that all files still reach.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.engine import checkpoint as checkpoints
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.outputs import DCD, differences, last_step
from mlmd.errors import InUseError, MlmdError, StorageError
from mlmd.rundir import (
    CHECKPOINTS,
    FINAL,
    LOG,
    Messages,
    Run,
    is_running,
    open_run,
    reserved,
    sync_folder,
    write_manifest,
)


@dataclass(frozen=True)
class Verdict:
    """What was found in a run folder."""

    run: Run
    step: int | None
    """Global step of the newest checkpoint that can be read; None without any."""
    problems: tuple[str, ...]
    """Why the run cannot continue, or is not what it should be."""
    excess: Mapping[str, int]
    """Bytes of each file after that checkpoint; a continued run writes them anew."""
    checked: tuple[str, ...]
    """What was compared and is right."""


@dataclass(frozen=True)
class Repair:
    """How a folder can be made consistent."""

    run: Run
    target: Checkpoint
    step: int
    """Global step to go back to."""
    lost: int
    """Steps of the log that are done again."""
    remove: tuple[Path, ...]
    """Checkpoints, and files that did not exist at the target."""
    cut: Mapping[str, tuple[int, int]]
    """Size of each file now and then."""

    @property
    def lines(self) -> list[str]:
        """What would be done, in words."""
        words = [
            f"go back to the checkpoint of step {self.step:,}" + (f"; {self.lost:,} steps are lost" * bool(self.lost))
        ]
        words += [f"remove {path.relative_to(self.run.path)}" for path in self.remove]
        return words + [f"cut {name} from {now:,} to {then:,} bytes" for name, (now, then) in self.cut.items()]


def verify(folder: Path | str) -> Verdict:
    """Compare every file of a run with the manifest and the newest checkpoint; nothing is written.

    Raises:
        StorageError: when the folder is no run folder.
    """
    run = open_run(folder)
    running = is_running(run)
    problems, checked = _of_structure(run), []
    saved, damaged = _readable(run)
    problems += damaged
    checked += (
        [f"{len(saved)} checkpoint{'s' * (len(saved) != 1)}, the newest of step {_step(run, saved[0][1]):,}"]
        if saved
        else []
    )
    excess: dict[str, int] = {}
    if not saved:
        problems += ["there is no checkpoint that can be read"] if last_step(run.log) is not None else []
    elif not running:  # the files of a run that goes on have grown meanwhile
        names, files = _appended(run, saved[0][1]), saved[0][1].header["files"]
        wrong = differences(run.path, files, names)
        problems += wrong.values()
        checked += [f"{name}, {entry['size']:,} bytes" for name, entry in files.items() if name not in wrong]
        excess = {name: size for name in names if (size := _excess(run.path, files, name)) > 0}
    if not running:
        # of a run that is done, what lies beyond an older checkpoint belongs to the one that is damaged
        problems += _of_log(run) + _of_state(run, {} if damaged else excess)
    return Verdict(run, _step(run, saved[0][1]) if saved else None, tuple(problems), excess, tuple(checked))


def shortened(run: Run) -> list[str]:
    """Files of a finished run that have lost their end, by their sizes alone; `verify` looks at all of them."""
    saved, _ = _readable(run)
    files: Mapping[str, Mapping[str, Any]] = saved[0][1].header["files"] if saved else {}
    return [
        f"{name} has {_size(run.path / name):,} bytes, and had {entry['size']:,}"
        for name, entry in files.items()
        if _size(run.path / name) < entry["size"]
    ]


def plan_repair(folder: Path | str) -> Repair | None:
    """The newest checkpoint that all files reach, and what stands in its way; None when nothing does.

    Raises:
        StorageError: when there is no such checkpoint, with what is wrong with each; when the run exchanges with
            others.
        InUseError: when the run goes on.
    """
    run = open_run(folder)
    if is_running(run):
        raise InUseError(f"{run.path} is in use: a run that goes on is not repaired.")
    saved, damaged = _readable(run)
    newer: list[Path] = [path for path in _all(run) if path not in {one for one, _ in saved}]
    reasons = list(damaged)
    for path, one in saved:
        names, files = _appended(run, one), one.header["files"]
        wrong = differences(run.path, files, names)
        if wrong:
            reasons += [f"{path.name}: {why}" for why in wrong.values()]
            newer.append(path)
            continue
        sizes = {name: (_size(run.path / name), int(files[name]["size"])) for name in files}
        cut = {name: (now, then) for name, (now, then) in sizes.items() if now > then}
        new = [run.path / name for name in names if name not in files and (run.path / name).exists()]
        final = [run.path / FINAL] if newer and (run.path / FINAL).exists() else []
        step, reached = _step(run, one), last_step(run.log)
        if not (newer or cut or new):
            return None
        if "exchange" in run.manifest:
            raise StorageError(
                f"{run.path} is one of several replicas that exchange, which go back together: alone it is not "
                f"repaired. The command that began all of them, with --out {run.path.parent}, goes back to the newest "
                "moment that all can reach."
            )
        lost = max(0, (step if reached is None else reached) - step)
        return Repair(run, one, step, lost, tuple(sorted(newer) + new + final), cut)
    if not reasons:
        raise StorageError(f"{run.path} has no checkpoint: the run has hardly begun. Begin again with another --out.")
    raise StorageError(
        f"{run.path} cannot be repaired: "
        + " ".join(reasons)
        + " Restore the folder from a backup, or begin again with "
        "another --out."
    )


def repair(plan: Repair) -> None:
    """Do what a plan says. Checkpoints that are newer than the files go last, so that half a repair can be repaired.

    Raises:
        InUseError: when another process holds the folder.
    """
    with reserved(plan.run.path):
        for name, (_, then) in plan.cut.items():
            os.truncate(plan.run.path / name, then)
        for path in plan.remove:
            path.unlink(missing_ok=True)
        sync_folder(plan.run.path / CHECKPOINTS)
        sync_folder(plan.run.path)
        if plan.step < plan.run.stages[-1].last_step and plan.run.manifest["state"] == "done":
            write_manifest(plan.run.path, {**plan.run.manifest, "state": "interrupted"})
        Messages(plan.run.path)("repaired: " + "; ".join(plan.lines))


def _all(run: Run) -> list[Path]:
    return sorted((run.path / CHECKPOINTS).glob("*.ckpt"), reverse=True)


def _readable(run: Run) -> tuple[list[tuple[Path, Checkpoint]], list[str]]:
    """Valid checkpoints, the newest first, and what is wrong with the others."""
    found, problems = [], []
    for path in _all(run):
        try:
            found.append((path, checkpoints.read(path)))
        except StorageError as error:
            problems.append(str(error))
    return found, problems


def _step(run: Run, saved: Checkpoint) -> int:
    stage, step = saved.position
    return run.stages[stage].first_step + step


def _appended(run: Run, saved: Checkpoint) -> dict[str, int]:
    """Files that grow, with their changeable bytes; an older checkpoint knows those it has seen."""
    trajectory = run.trajectory.name
    own = {LOG: 0, trajectory: DCD.mutable if trajectory.endswith(".dcd") else 0}
    known: Mapping[str, Any] = saved.header.get("appended", dict.fromkeys(saved.header["files"], 0))
    return {**{name: int(mutable) for name, mutable in known.items()}, **own}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _excess(folder: Path, files: Mapping[str, Mapping[str, Any]], name: str) -> int:
    return _size(folder / name) - int(files.get(name, {"size": 0})["size"])


def _of_structure(run: Run) -> list[str]:
    """The structure that analyses read."""
    try:
        atoms = run.atoms
    except Exception as error:  # readers raise whatever a wrong file happens to trigger
        return [f"structure.extxyz cannot be read: {type(error).__name__}: {error}"]
    kind = run.manifest["trajectory"]["format"]
    if kind == "dcd" and run.trajectory.exists() and run.trajectory.stat().st_size:
        from mlmd.io.trajectories import open_frames

        try:
            n_atoms = open_frames(run.trajectory).n_atoms
        except MlmdError as error:
            return [str(error)]
        if n_atoms != len(atoms):
            return [f"{run.trajectory.name} has {n_atoms} atoms, and structure.extxyz {len(atoms)}"]
    return []


def _of_log(run: Run) -> list[str]:
    """Rows that are there twice or in disorder: steps are those of the plan."""
    if not run.log.exists():
        return []
    whole = run.log.read_bytes().split(b"\n")[1:-1]
    words = [line.partition(b",")[0] for line in whole]
    if not all(word.isdigit() for word in words):
        return [f"{LOG} has rows that do not begin with a step"]
    steps = np.array([int(word) for word in words], dtype=np.int64)
    left, first = steps, True
    for record in run.stages:
        if not record.n_steps and not record.frames:
            continue
        planned = record.first_step + record.output_steps(record.log_every, first=first)
        own, left, first = left[: len(planned)], left[len(planned) :], False
        if not np.array_equal(own, planned[: len(own)]):
            return [f"{LOG} does not have every planned step once and in order"]
    return [f"{LOG} has more rows than were planned"] if len(left) else []


def _of_state(run: Run, excess: Mapping[str, int]) -> list[str]:
    """What a finished run has to have."""
    if run.manifest["state"] != "done":
        return []
    missing = [f"the run is done, and {FINAL} is not there"] if not (run.path / FINAL).exists() else []
    return missing + [f"the run is done, and {name} has {size:,} bytes more than then" for name, size in excess.items()]
