"""Replicas as jobs of Slurm, submitted by submitit: one job array, one run in each job.

A job is this program on a node, which starts the run in a process of its own as `mlmd.engine.replicas` does, tries one
that fails once more from its checkpoint, and writes down what came of it. Before the limit of its time, or when it has
to make room, Slurm sends SIGUSR2: the run makes a checkpoint, and the job goes back to the queue.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlmd.config.slurm import Slurm
from mlmd.engine.jobs import (
    FOLDER,
    Outcome,
    forget_outcome,
    in_queue,
    keep_intent,
    keep_jobs,
    keep_outcome,
    outcome_of,
    with_lost,
)
from mlmd.engine.replicas import ReplicaRuns, ready
from mlmd.engine.run_process import GRACE, HOPELESS, RunProcess, simulation, start_run
from mlmd.engine.status import status
from mlmd.errors import InputError, SimulationError, StorageError
from mlmd.rundir import LOST, STOP, Messages, is_running, open_run

INSTALL_HINT = "Install it with `pip install 'mlmd[slurm]'`, or run them on this machine with --here."
_LOOK = 0.2
"""Seconds between looks at the run and for a request to stop."""
_WARNING = 90
"""Seconds before the limit of time at which Slurm sends its signal."""
_TIMES = 10_000
"""How often a job may go back to the queue; each time it has come farther."""
_SENT_TO_ALL = {signal.SIGUSR1, signal.SIGUSR2}
"""Signals that Slurm sends to all processes of a job, of which only the one that answers may know."""
_UNTIL_KILLED = 600.0
"""Seconds that a job without its run waits for Slurm, which has ended the run, to take it back or end it too."""


class ReplicaJob:
    """What a job does; submitit calls it on the node, and `checkpoint` when Slurm wants the node back."""

    def __init__(self, folder: Path, name: str, flags: Sequence[str]) -> None:
        """
        Args:
            folder: of all replicas.
            name: of this one.
            flags: of its ``mlmd simulate``.
        """
        self.folder, self.name, self.flags = folder, name, tuple(flags)
        self._going: RunProcess | None = None

    def __call__(self) -> str:
        """Run it, and once more when it fails; what came of it.

        Raises:
            SimulationError: when it failed, so that the job has failed.
        """
        for tries in (1, 2):
            if (self.folder / STOP).exists():
                code, words = 75, f"stopped by the file {STOP} before it began"
            else:
                code, words = self._run(tries)
            keep_outcome(self.folder, self.name, Outcome(tries, code, words))
            if code == 0:
                return "done"
            if self._asked():  # one that was asked while it began has no checkpoint to make
                return words
            if code == 75 and not self._has_lost_its_device():
                time.sleep(_UNTIL_KILLED)
                return words
            if code in HOPELESS:
                break
        raise SimulationError(f"{self.name}: {words}")

    def checkpoint(self) -> Any:
        """Stop the run after a checkpoint, and give what the next job has to do."""
        from submitit.helpers import DelayedSubmission

        one = self._going
        if one is not None:
            _ask(one)
            deadline = time.monotonic() + min(GRACE, _WARNING - 20.0)
            while not _has_ended(one.process.pid) and time.monotonic() < deadline:
                time.sleep(_LOOK)
        return DelayedSubmission(ReplicaJob(self.folder, self.name, self.flags))

    def _run(self, tries: int) -> tuple[int, str]:
        """Exit code and last words of the run."""
        own = self.folder / self.name
        with _held_back(_SENT_TO_ALL):
            one = self._going = start_run(self.name, simulation(own, self.flags), tries)
        try:
            while one.process.poll() is None:
                if (self.folder / STOP).exists():
                    _ask(one)
                time.sleep(_LOOK)
            return one.process.returncode, one.last_words()
        finally:
            self._going = None
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()
            one.close()

    def _asked(self) -> bool:
        """Whether a person has stopped the run, and not Slurm."""
        return (self.folder / STOP).exists() or (self.folder / self.name / STOP).exists()

    def _has_lost_its_device(self) -> bool:
        with suppress(StorageError):
            return bool(open_run(self.folder / self.name).manifest["state"] == LOST)
        return False


def submit_replicas(
    input_path: Path | str,
    slurm: Slurm,
    out: Path | str | None = None,
    *,
    platform: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    n_processes: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> ReplicaRuns:
    """Submit a job for every replica of an input that is not done and has none; nothing is waited for.

    Args:
        input_path: a TOML file with ``[replicas]``.
        slurm: what each job asks for.
        out: folder of all, by default ``<input stem>.run`` in the current folder; nodes have to see it.
        platform: of OpenMM; ``auto`` chooses on the node.
        device: where the potential computes.
        threads: of each run; by default as many as it has cores.
        n_processes: jobs that run at a time; by default as many as Slurm lets.
        tell: called with every message for a person.

    Raises:
        InputError: the input is wrong, submitit or Slurm is not here, or Slurm refuses the jobs.
        StorageError: the folder belongs to another input, or Slurm does not answer.
        InUseError: another process is running in the folder.
    """
    executor_of = _submitit()
    with ready(input_path, out, n_processes) as (folder, _, left, _, _):
        jobs = with_lost(folder)
        alive = in_queue([jobs[name] for name in left if name in jobs])
        new = [name for name in left if jobs.get(name) not in alive and not _goes_on(folder / name)]
        if new:
            (folder / STOP).unlink(missing_ok=True)
            messages = Messages(folder, tell)
            for name in new:
                before = outcome_of(folder, name)
                if before is not None and before.failed:
                    job = f"job {jobs[name]}" if name in jobs else "its job"  # the list may have been removed
                    messages(f"{name}: {job} failed and is submitted anew: {before.words}")
                forget_outcome(folder, name)
            flags = ["--platform", platform, "--device", device, "--threads", str(threads or slurm.cpus)]
            executor = executor_of(folder=folder / FOLDER, max_num_timeout=_TIMES)
            array = f"mlmd-{secrets.token_hex(4)}"
            keep_intent(folder, array, new)
            ids = _submit(executor, slurm, array, [ReplicaJob(folder, name, flags) for name in new], n_processes)
            keep_jobs(folder, dict(zip(new, ids, strict=True)))
            others = f"; {len(left) - len(new)} are there already" if len(new) < len(left) else ""
            messages(f"{len(new)} job{'s' * (len(new) != 1)} submitted to Slurm, {_range(ids)}{others}")
    return ReplicaRuns(folder, status(folder))


def _submitit() -> Any:
    """submitit's executor for Slurm.

    Raises:
        InputError: when submitit or Slurm is not here.
    """
    try:
        from submitit import SlurmExecutor
    except ImportError as error:
        raise InputError(
            f"jobs of Slurm are submitted by submitit, which is not here ({error}). {INSTALL_HINT}"
        ) from None
    for program in ("sbatch", "srun", "squeue"):
        if shutil.which(program) is None:
            raise InputError(
                f"replicas: slurm: {program} was not found, so there is no Slurm here. Submit from a machine of the "
                "cluster, or run them on this one with --here."
            )
    return SlurmExecutor


def _submit(
    executor: Any, slurm: Slurm, array: str, jobs: Sequence[ReplicaJob], at_once: int | None
) -> list[str]:  # fmt: skip
    """Submit jobs as one array, which is called `array`; how Slurm numbers them.

    Raises:
        InputError: with what sbatch says against it.
    """
    options = {"memory": "mem", "partition": "partition", "account": "account"}
    named = {option: getattr(slurm, key) for key, option in options.items() if getattr(slurm, key) is not None}
    try:
        executor.update_parameters(
            job_name=array, time=math.ceil(slurm.time / 60.0), cpus_per_task=slurm.cpus, signal_delay_s=_WARNING,
            # since Slurm 22.05 srun asks for one core where it is not told
            srun_args=[f"--cpus-per-task={slurm.cpus}"],
            additional_parameters={"requeue": True, **named, **slurm.extra},
            **({"gpus_per_node": slurm.gpus} if slurm.gpus else {}),
            **({"setup": list(slurm.setup)} if slurm.setup else {}),
            **({"array_parallelism": at_once} if at_once else {}),
        )  # fmt: skip
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        raise InputError(f"Slurm refuses the jobs: {str(error).strip()} See replicas: slurm in the input.") from None
    return [str(one.job_id) for one in submitted]


def _goes_on(folder: Path) -> bool:
    """Whether somebody runs it otherwise."""
    with suppress(StorageError):
        return is_running(open_run(folder))
    return False


def _range(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} … {ids[-1]}"


def _ask(one: RunProcess) -> None:
    """Ask a run to stop, once for all who want it to: asked twice it would leave without a checkpoint."""
    with _held_back(_SENT_TO_ALL):  # Slurm may ask between the look and the request
        if not one.asked:
            one.stop()


def _has_ended(pid: int) -> bool:
    """Whether a child has ended, looked at without taking its exit code, which the one who waits for it wants."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


@contextmanager
def _held_back(signals: set[signal.Signals]) -> Iterator[None]:
    """No signal comes meanwhile, nor ever reaches a process that is started here."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
