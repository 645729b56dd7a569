"""How far a run is, read from its folder by anybody at any time: nothing is written, nothing waits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlmd.engine.jobs import Outcome, Place, in_queue, jobs_of, outcome_of
from mlmd.errors import MlmdError, StorageError
from mlmd.rundir import MANIFEST, MESSAGES, REPLICAS, Run, StageRecord, is_running, open_run

_TAIL = 1 << 16
_BEGUN = re.compile(r"stage (\d+) \(\w+\) (?:begins: [\d,]+ steps|continues at step ([\d,]+))")
_DONE = re.compile(r"stage \d+ \(\w+\) done: .*?, (\S+) ns/day")
_MARKS = re.compile(r"time of stage |bias of |the checkpoint is of step ")
"""Messages that say less of where a run stands than what came before."""


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    name: str
    """Of its folder."""
    state: str
    """waiting, queued (as a job of a cluster), running, done, stopped, failed, interrupted, or killed."""
    step: int
    """The last step in the log."""
    n_steps: int
    """Of all stages."""
    nanoseconds: float
    """Simulated."""
    ns_per_day: float | None
    """Since it was started last; of its last stage when it is done."""
    temperature: float | None
    """K, the mean of the log in the stage that is going on, or was the last."""
    message: str
    """The last one."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        units = {"nanoseconds": "time_ns", "temperature": "temperature_K"}
        return {units.get(key, key): value for key, value in asdict(self).items()}


def status(folder: Path | str) -> tuple[Status, ...]:
    """Where a run stands, or each of a folder of replicas, in the order of its input.

    Raises:
        StorageError: when the folder is neither.
    """
    folder = Path(folder)
    if not (folder / REPLICAS).exists():
        return (status_of(folder),)
    return _with_jobs(folder, tuple(status_of(folder / name, may_wait=True) for name in names_in(folder)))


def names_in(folder: Path) -> list[str]:
    """The folders of replicas in a folder, in the order of its input.

    Raises:
        StorageError: when the list is damaged.
    """
    return [str(name) for name in read_list(folder)["replicas"]]


def read_list(folder: Path) -> dict[str, Any]:
    """What ``replicas.json`` says.

    Raises:
        StorageError: when it is damaged, or of a newer format.
    """
    path = folder / REPLICAS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != "mlmd-replicas" or not isinstance(found["replicas"], list):
            raise ValueError("it is no list of replicas")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged ({type(error).__name__}: {error}). Give another --out.") from None
    if found.get("version") != 1:
        raise StorageError(
            f"{folder} has replicas of format {found.get('version')}; this mlmd reads format 1. Install a newer mlmd."
        )
    return dict(found)


def status_of(folder: Path, *, may_wait: bool = False) -> Status:
    """Where one run stands.

    Args:
        folder: of the run.
        may_wait: whether a folder without a run is one that waits to begin.

    Raises:
        StorageError: when there is no such folder, or its manifest cannot be read.
    """
    if may_wait and not (folder / MANIFEST).exists():
        return Status(folder.name, "waiting", 0, 0, 0.0, None, None, _last_message(folder))
    run = open_run(folder)
    step = reached(run)
    return Status(
        folder.name, _state(run), step, run.stages[-1].last_step, _time(run.stages, step) * 1e-6,
        _speed(run, step), _mean_temperature(run), _last_message(folder),
    )  # fmt: skip


def _with_jobs(folder: Path, found: tuple[Status, ...]) -> tuple[Status, ...]:
    """What the jobs of replicas say of those that are not done, which may not have begun."""
    jobs = jobs_of(folder)
    open_ones = {one.name: jobs[one.name] for one in found if one.name in jobs and one.state not in ("done", "running")}
    try:
        places = in_queue(list(open_ones.values()))
    except MlmdError as error:
        places, over = {}, str(error)
    else:
        over = "it is over; the same command submits another"
    return tuple(
        _with_job(one, open_ones[one.name], places, outcome_of(folder, one.name), over)
        if one.name in open_ones
        else one
        for one in found
    )


def _with_job(one: Status, job: str, places: Mapping[str, Place], outcome: Outcome | None, over: str) -> Status:
    if job in places:
        return replace(one, state=places[job].state, message=one.message or f"job {job}: {places[job].reason}")
    if outcome is not None and outcome.failed:
        return replace(one, state="failed", message=outcome.words)
    return replace(one, message=f"job {job}: {over}") if one.state == "waiting" else one


def reached(run: Run) -> int:
    """The last step in the log; 0 before the first."""
    lines = _tail(run.log)
    word = lines[-1].partition(",")[0] if lines else ""
    return int(word) if word.isdigit() else 0


def _state(run: Run) -> str:
    state = str(run.manifest["state"])
    if is_running(run):
        return "running"
    return "killed" if state == "running" else state


def _time(stages: Sequence[StageRecord], step: int) -> float:
    """fs at a global step."""
    return sum(max(0, min(stage.n_steps, step - stage.first_step)) * stage.timestep for stage in stages)


def _speed(run: Run, step: int) -> float | None:
    """ns/day: of a stage that is done as it was said, of one that goes on by the steps since it began or continued."""
    begun: tuple[datetime, int] | None = None
    done: float | None = None
    for stamp, text in _messages(run.path):
        if match := _DONE.match(text):
            done, begun = float(match[1]), None
        elif match := _BEGUN.match(text):
            stage = run.stages[int(match[1]) - 1]
            begun = stamp, stage.first_step + int((match[2] or "0").replace(",", ""))
    if begun is None:
        return done
    try:
        seconds = run.log.stat().st_mtime - begun[0].timestamp()
    except OSError:
        return done
    simulated = _time(run.stages, step) - _time(run.stages, begun[1])
    # stamps of messages are whole seconds
    return simulated * 1e-6 * 86400 / seconds if seconds >= 2.0 and simulated > 0 else done


def _mean_temperature(run: Run) -> float | None:
    """K, of the lines of the log that belong to the stage of the last line."""
    try:
        with run.log.open(encoding="utf-8") as file:
            names = file.readline().rstrip("\n").split(",")
            column = names.index("temperature [K]")
            stage, total, n = "", 0.0, 0
            for line in file:
                cells = line.split(",")
                if len(cells) <= column or not line.endswith("\n"):
                    continue
                if cells[1] != stage:
                    stage, total, n = cells[1], 0.0, 0
                total, n = total + float(cells[column]), n + 1
    except (OSError, ValueError):
        return None
    return total / n if n and math.isfinite(total) else None  # a rerun knows none


def _messages(folder: Path) -> Iterator[tuple[datetime, str]]:
    """The last messages with their times; what is not a line of its own belongs to the one before."""
    for line in _tail(folder / MESSAGES):
        stamp, _, text = line.partition("  ")
        try:
            yield datetime.fromisoformat(stamp), text
        except ValueError:
            continue


def _last_message(folder: Path) -> str:
    told = [text for _, text in _messages(folder) if not _MARKS.match(text)]
    return told[-1] if told else ""


def _tail(path: Path) -> list[str]:
    """The last whole lines of a file; none where there is none."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        return file.read().decode(errors="replace").split("\n")[:-1]
