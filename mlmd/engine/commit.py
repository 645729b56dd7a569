"""The commit point: outputs durable first, then one atomic file that remembers all their sizes.

What a bias deposits at the step of a checkpoint goes into its history (HILLS) just before; a continued run takes
the forces of this step from the checkpoint, so it does not matter that PLUMED deposits nothing in a first step.
PLUMED does print in a first step what it printed before it was restarted; `Commit.without_prints` takes that away.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from mlmd.bias.script import Script
from mlmd.bias.written import flush
from mlmd.engine import checkpoint as checkpoints
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.job import Job, versions
from mlmd.engine.outputs import DCD, last_step, measure, rewind
from mlmd.errors import StorageError
from mlmd.kernels import describe
from mlmd.kernels.native import GPU_CHOICE, wanted_on_gpu
from mlmd.rundir import CHECKPOINTS, LOG, Messages, Run, sync_folder, write_atomically

DIVIDED = ("engine", "ranks", "grid", "skin", "lammps", "mpi")
"""What decides how a run is divided among processes, besides."""
ROOM = 3
"""Checkpoints that should fit on the disk besides what is there."""


def machine_of(job: Job, hardware: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the last bits of a run; `hardware` is what run.json says about platform and threads."""
    present, force = versions(), hardware.get("force")
    return {
        "platform": hardware["openmm"] if job.replay is None else "none",
        "device": hardware["device"], "threads": hardware["threads"],
        "openmm": present["openmm"], "torch": present["torch"], "mlmd": present["mlmd"], "kernels": describe(),
        **({"force": force["name"]} if force else {}),
        **{key: hardware[key] for key in DIVIDED if key in hardware},
        **({GPU_CHOICE: "on" if wanted_on_gpu() else "off"} if hardware["device"] != "cpu" else {}),
        **({"force field": hardware["force field"]} if job.mixed is not None else {}),
    }  # fmt: skip


class Commit:
    """Writes checkpoints of a run and goes back to the newest."""

    def __init__(
        self, run: Run, scripts: Iterable[Script], machine: Mapping[str, Any], messages: Messages,
        more: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """`machine` is that of `machine_of`; `more` are other files that grow."""
        scripts = list(scripts)
        self.folder, self.run, self.machine, self.messages = run.path, run, machine, messages
        self.saved_at = time.monotonic()
        self._told_of_room = False
        self._appended = {LOG: 0, run.trajectory.name: DCD.mutable if run.trajectory.suffix == ".dcd" else 0}
        self._appended |= dict.fromkeys(more, 0)
        self._prints = {name: 0 for script in scripts for name in script.prints}
        self._appended |= self._prints | {name: 0 for script in scripts for name in script.histories}
        self._appended |= {name: 0 for script in scripts for name in script.tables}
        self._rewritten = {name for script in scripts for name in script.rewrites}

    @contextmanager
    def without_prints(self) -> Iterator[None]:
        """Take back what PLUMED prints meanwhile; it opens its files for appending, so that they can be cut."""
        flush()
        before = measure(self.folder, self._prints)
        yield
        flush()
        rewind(self.folder, before, self._prints)

    def write(self, content: Checkpoint) -> None:
        """Make a checkpoint of `content` and all files."""
        flush()
        kept = sorted(name for name in self._rewritten if (self.folder / name).exists())
        header = {
            **content.header,
            "files": measure(self.folder, self._appended),
            "appended": self._appended,
            "rewritten": kept,
            "machine": dict(self.machine),
        }
        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)
        sync_folder(self.folder)  # a file that is new is there after a loss of power only when its folder knows it
        copies = {f"file/{name}": np.frombuffer((self.folder / name).read_bytes(), np.uint8) for name in kept}
        path = checkpoints.write(self.folder / CHECKPOINTS, Checkpoint(header, {**content.arrays, **copies}))
        self._look_at_room(path.stat().st_size)
        self.saved_at = time.monotonic()

    def _look_at_room(self, size: int) -> None:
        """Say once that the disk is nearly full, while there is time to make room."""
        disk = shutil.disk_usage(self.folder)
        if disk.total and disk.free < ROOM * size and not self._told_of_room:
            self._told_of_room = True
            self.messages(
                f"the disk of {self.folder} is nearly full: {disk.free / 1e6:,.1f} MB are free, and a checkpoint takes "
                f"{size / 1e6:,.1f} MB"
            )

    def load(self) -> Checkpoint | None:
        """The newest valid checkpoint, all files cut back to it; None when the run has none yet.

        Raises:
            StorageError: when no checkpoint is valid, or a file is not what it was. Nothing is cut then.
        """
        saved, problems = checkpoints.newest(self.folder / CHECKPOINTS)
        for problem in problems:
            self.messages(f"{problem} The one before it is used.")
        return self._back_to(saved)

    def load_named(self, name: str | None) -> Checkpoint | None:
        """One checkpoint, all files cut back to it and newer ones removed; None where the run is to begin anew.

        Raises:
            StorageError: when it is not valid, or a file is not what it was. Nothing is cut then.
        """
        saved = None if name is None else checkpoints.read(self.folder / CHECKPOINTS / name)
        saved = self._back_to(saved)
        checkpoints.forget_after(self.folder / CHECKPOINTS, name)
        return saved

    def _back_to(self, saved: Checkpoint | None) -> Checkpoint | None:
        """Cut all files back to a checkpoint."""
        if saved is None:
            self._refuse_to_lose()
        files = {} if saved is None else saved.header["files"]
        logged = last_step(self.folder / LOG)
        for line in rewind(self.folder, files, self._appended):
            self.messages(line)
        if saved is not None and logged is not None:
            self._tell_of_repetition(saved, logged)
        for name in self._rewritten:
            if saved is not None and name in saved.header["rewritten"]:
                write_atomically(self.folder / name, saved.arrays[f"file/{name}"].tobytes())
            else:
                (self.folder / name).unlink(missing_ok=True)
        return saved

    def _tell_of_repetition(self, saved: Checkpoint, logged: int) -> None:
        """How many steps are done again, as far as the log tells, which went on to the step `logged`."""
        stage, step = saved.position
        reached = self.run.stages[stage].first_step + step
        if (again := logged - reached) > 0:
            self.messages(
                f"the checkpoint is of step {reached:,}, and the log went on to step {logged:,}: {again:,} steps or "
                "more are done again"
            )

    def _refuse_to_lose(self) -> None:
        """Without a checkpoint the run would begin anew and its files go: not when there is something in them."""
        log = self.folder / LOG
        if log.exists() and log.read_bytes().partition(b"\n")[2]:
            raise StorageError(
                f"{self.folder / CHECKPOINTS} holds no checkpoint, but {LOG} holds data: the run cannot continue, and "
                "nothing was touched. Restore the checkpoints from a backup, or begin again with another --out."
            )

    def same_machine(self, saved: Checkpoint) -> bool:
        """Whether OpenMM's own checkpoint can be used; says so when the continuation is statistical only."""
        then, now = saved.header["machine"], self.machine
        keys = dict.fromkeys((*now, *DIVIDED))  # a set that keeps its order
        pairs = {key: (then.get(key), now.get(key)) for key in keys}
        changed = [f"{key}: {before} before, {after} now" for key, (before, after) in pairs.items() if before != after]
        if changed:
            self.messages("the run continues statistically, not bit for bit: " + "; ".join(changed))
        return self.exact(saved)

    def exact(self, saved: Checkpoint) -> bool:
        """Whether the engine's own part of a checkpoint can be used."""
        then, now = saved.header["machine"], self.machine
        return all(then.get(key) == now.get(key) for key in ("platform", "openmm", *DIVIDED))
