"""Jobs of a cluster that replicas run in: which job a replica has, where it stands in the queue, what came of it.

``jobs.json`` in the folder of replicas names the jobs, and before they are submitted what Slurm will call them, so
that a submission that is killed loses none. ``jobs/<replica>.json`` says what the last one of a replica has come to,
and Slurm knows those that wait or run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlmd.errors import InputError, StorageError
from mlmd.rundir import write_atomically

JOBS = "jobs.json"
FOLDER = "jobs"
"""Where the scheduler's files are, and what jobs have come to."""
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED"}
_PATIENCE = 60.0
"""Seconds for Slurm to answer."""


@dataclass(frozen=True)
class Outcome:
    """What the job of a replica has come to."""

    tries: int
    code: int
    """Exit code of the run."""
    words: str
    """Why it ended."""

    @property
    def failed(self) -> bool:
        """Whether it is neither done nor stopped."""
        return self.code not in (0, 75)


@dataclass(frozen=True)
class Place:
    """Where a job stands."""

    state: str
    """queued or running."""
    reason: str
    """Why it waits, in Slurm's word."""


def jobs_of(folder: Path) -> dict[str, str]:
    """Replica -> its last job; empty where there were none.

    Raises:
        StorageError: when the list is damaged.
    """
    return _read(folder)[0]


def keep_intent(folder: Path, array: str, names: Sequence[str]) -> None:
    """Write down, before a job array is submitted, what it is called and whose jobs it has, in their order.

    A submission that was killed before `keep_jobs` has left jobs that nothing else knows; see `with_lost`.
    """
    _write(folder, jobs_of(folder), {"name": array, "replicas": list(names)})


def keep_jobs(folder: Path, jobs: Mapping[str, str]) -> None:
    """Write down which jobs replicas have, those that they had before forgotten."""
    _write(folder, {**jobs_of(folder), **jobs})


def with_lost(folder: Path) -> dict[str, str]:
    """Replica -> its last job, with those that Slurm has and a submission that was killed has not written down.

    Raises:
        StorageError: when the list is damaged, or Slurm does not answer.
        InputError: when there is no Slurm here.
    """
    jobs, intent = _read(folder)
    if not intent:
        return jobs
    numbers = sorted({job.partition("_")[0] for job in _asked(f"--name={intent['name']}")})
    if not numbers:
        return jobs
    names = intent["replicas"]
    array = {name: f"{numbers[-1]}_{task}" for task, name in enumerate(names)}
    keep_jobs(folder, array if len(names) > 1 else dict.fromkeys(names, numbers[-1]))
    return jobs_of(folder)


def _read(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Jobs of replicas, and what is known of an array that was going to be submitted, else nothing."""
    path = folder / JOBS
    if not path.exists():
        return {}, {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != "mlmd-jobs":
            raise ValueError("it is no list of jobs")
        intent = found.get("intent", {})
        if intent:
            intent = {"name": str(intent["name"]), "replicas": [str(name) for name in intent["replicas"]]}
        return {str(name): str(job) for name, job in found["jobs"].items()}, intent
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}: {error}). Remove it when `squeue --me` shows none of its jobs."
        ) from None


def _write(folder: Path, jobs: Mapping[str, str], intent: Mapping[str, Any] | None = None) -> None:
    everything = {"format": "mlmd-jobs", "version": 1, "jobs": dict(jobs), **({"intent": intent} if intent else {})}
    write_atomically(folder / JOBS, json.dumps(everything, indent=1).encode())


def outcome_of(folder: Path, name: str) -> Outcome | None:
    """What the last job of a replica has come to; None while nothing has."""
    with suppress(OSError, ValueError, TypeError):
        return Outcome(**json.loads((folder / FOLDER / f"{name}.json").read_text(encoding="utf-8")))
    return None


def keep_outcome(folder: Path, name: str, outcome: Outcome) -> None:
    """Write down what the job of a replica has come to."""
    write_atomically(folder / FOLDER / f"{name}.json", json.dumps(asdict(outcome), indent=1).encode())


def forget_outcome(folder: Path, name: str) -> None:
    """A new job of a replica has come to nothing yet."""
    (folder / FOLDER / f"{name}.json").unlink(missing_ok=True)


def in_queue(jobs: Sequence[str]) -> dict[str, Place]:
    """Those of some jobs that wait or run.

    Raises:
        StorageError: when Slurm does not answer.
        InputError: when there is no Slurm here.
    """
    if not jobs:
        return {}
    whole = sorted({job.partition("_")[0] for job in jobs})
    return {job: place for job, place in _asked(f"--jobs={','.join(whole)}").items() if job in jobs}


def _asked(which: str) -> dict[str, Place]:
    """What squeue says of the jobs that one of its options chooses."""
    if shutil.which("squeue") is None:
        raise InputError(
            "squeue was not found, so there is no Slurm here: where the jobs of these replicas stand is not known. Use "
            "a machine of their cluster."
        )
    command = ["squeue", "--noheader", "--array", "--format=%i|%T|%r", which]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"squeue does not answer ({error}). Try again later.") from None
    # a job that is over for some minutes is an invalid one
    if answer.returncode and "invalid job id" not in answer.stderr.lower():
        raise StorageError(f"squeue does not answer: {answer.stderr.strip()}. Try again later.")
    lines = (line.strip().split("|") for line in answer.stdout.splitlines())
    return {job: Place("running" if state in _RUNNING else "queued", reason) for job, state, reason in lines}
