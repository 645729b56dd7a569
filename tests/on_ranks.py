"""Runs of inputs on processes that mpirun has started: what `test_lammps_engine.py` asks of several at once.

`python on_ranks.py jobs.json`, on every process; the first writes what came of each run beside it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mlmd.engine.lammps.processes import rank_started
from mlmd.engine.observe import Moment
from mlmd.engine.run import simulate
from mlmd.errors import MlmdError
from mlmd.rundir import STOP


def at_step(folder: Path, step: int, act: Callable[[Path], None]) -> Callable[[Moment], None]:
    """A progress function that does something at a step of the log."""

    def look(moment: Moment) -> None:
        if moment.stage.first_step + moment.step == step:
            act(folder)

    return look


def stop(folder: Path) -> None:
    (folder / STOP).touch()


def wait(folder: Path) -> None:
    """For somebody to kill another process."""
    (folder / "waits").touch()
    time.sleep(600)


ACTS = {"stop": stop, "wait": wait}


def carry_out(job: dict) -> str:
    """One run, in as many parts as it is stopped, and unless it says "unfinished" to its end; how it ended."""
    folder = Path(job["out"])
    for act in [*job.get("acts", []), *([] if "unfinished" in job else [None])]:
        progress = at_step(folder, act[1], ACTS[act[0]]) if act else lambda moment: None
        try:
            simulate(job["input"], folder, progress=progress)
            ended = "done"
        except MlmdError as error:
            ended = f"{type(error).__name__}: {error}"
    return ended


if __name__ == "__main__":
    given = Path(sys.argv[1])
    given.with_suffix(f".{rank_started()}").write_text(str(os.getpid()))
    ends = {job["out"]: carry_out(job) for job in json.loads(given.read_text())}
    if rank_started() == 0:
        given.with_suffix(".ends").write_text(json.dumps(ends))
