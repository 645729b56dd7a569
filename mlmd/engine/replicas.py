"""``[replicas]``: many runs of one input, each an ordinary run folder, in processes that know nothing of each other.

Each process is ``mlmd simulate`` on the input of its replica, so that whatever ends one of them harms no other. They
leave signals to this process, which hands them on, and stop after a checkpoint when it has gone, however it went.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlmd.config import check_files
from mlmd.config.replicas import Runs, base_seed, load_runs
from mlmd.cores import n_cores
from mlmd.engine.folder import existing_run, is_finished
from mlmd.engine.run import Options
from mlmd.engine.run_process import GRACE, HOPELESS, RunProcess, simulation, start_run
from mlmd.engine.status import Status, names_in, reached, read_list, status
from mlmd.engine.stop import StopRequest, stop_requests
from mlmd.errors import InputError, MlmdError, ModelError, SimulationError, Stopped, StorageError
from mlmd.rundir import MANIFEST, REPLICAS, STOP, Messages, default_folder, open_run, reserved, write_atomically

if TYPE_CHECKING:
    from mlmd.engine.job import Job

_LOOK = 0.1
"""Seconds between looks at the processes."""
_TELL = 2.0
"""Seconds between looks at their logs."""


@dataclass(frozen=True)
class Moment:
    """What a live line shows of all replicas."""

    n_replicas: int
    n_done: int
    n_failed: int
    running: dict[str, float]
    """How much of itself each that is running has done."""


@dataclass(frozen=True)
class ReplicaRuns:
    """A folder of replicas."""

    path: Path
    statuses: tuple[Status, ...]


@dataclass
class _Crew:
    """What is to be done, by how many at a time, and what has come of it."""

    command: Callable[[str], list[str]]
    n_processes: int
    n_replicas: int
    """That were not done before."""
    waiting: deque[tuple[str, int]]
    """Names, and how often each has been tried."""
    running: dict[str, RunProcess] = field(default_factory=dict)
    failed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Exit code and message of those that failed for good."""
    stopped: set[str] = field(default_factory=set)


def simulate_replicas(
    input_path: Path | str,
    out: Path | str | None = None,
    *,
    platform: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    n_processes: int | None = None,
    max_hours: float | None = None,
    progress: Callable[[Moment], None] = lambda moment: None,
    tell: Callable[[str], None] = lambda text: None,
) -> ReplicaRuns:
    """Run every replica of an input, or continue those that are not done.

    Of independent ones, one that fails is tried once more; those that exchange fail and stop together.

    Args:
        input_path: a TOML file with ``[replicas]``.
        out: folder of all, by default ``<input stem>.run`` in the current folder.
        platform: of OpenMM; ``auto`` chooses.
        device: where the potential computes.
        threads: of each process; by default the cores are shared out, and replicas that exchange have all of them.
        n_processes: replicas that run at a time; by default as many as there are cores for, and one on a GPU.
        max_hours: stop all after so many hours, to be continued.
        progress: called every few seconds, and with every line of a log of replicas that exchange.
        tell: called with every message for a person.

    Raises:
        InputError, ModelError: the input or something it names is wrong.
        StorageError: the folder belongs to another input, or cannot be written.
        InUseError: another process is running in the folder.
        SimulationError: some replicas failed twice; all others are done.
        Stopped: on request, each after a checkpoint.
    """
    with ready(input_path, out, n_processes) as (folder, runs, left, seed, jobs):
        replicas = runs.replicas
        if not left:
            return ReplicaRuns(folder, status(folder))
        if runs.exchange is not None:
            settings = Options(platform, device, threads, None, max_hours, lambda moment: None, tell)
            _run_together(runs, jobs, folder, seed, settings, progress)
            return ReplicaRuns(folder, status(folder))
        at_once, each = shares(len(left), n_processes, threads, device)
        flags = ["--platform", platform, "--device", device, "--threads", str(each)]
        flags += ["--cores", str(max(1, n_cores() // at_once))]
        crew = _Crew(
            lambda name: simulation(folder / name, flags), at_once, len(left), deque((name, 0) for name in left)
        )
        messages = Messages(folder, tell)
        done = len(replicas) - len(left)
        before = f"; {done} are done already" if done else ""
        messages(f"{_runs(len(left))}, {at_once} at a time with {each} thread{'s' * (each > 1)} each{before}")
        (folder / STOP).unlink(missing_ok=True)
        with stop_requests(folder / STOP) as request, _ended(crew):
            request.limit(max_hours)
            _work(crew, folder, request, messages, lambda: progress(_moment(crew, folder, len(replicas))))
        _conclude(crew, folder, request, messages)
    return ReplicaRuns(folder, status(folder))


@contextmanager
def ready(
    input_path: Path | str, out: Path | str | None, n_processes: int | None
) -> Iterator[tuple[Path, Runs, list[str], int, Sequence[Job]]]:
    """Write the folder of all replicas of an input, or bring it up to date, and hold it.

    Returns:
        The folder, what the input says of all replicas, the names of those that are not done, the seed of all, and
        the jobs of those that exchange.

    Raises:
        InputError, StorageError, InUseError: as `simulate_replicas`.
    """
    source = Path(input_path)
    folder = (Path(out) if out is not None else default_folder(source)).absolute()
    seed = _seed(folder, source)
    runs = load_runs(source, seed)
    if runs.exchange is not None and n_processes is not None:
        raise InputError("--processes: replicas that exchange take turns in one process; --threads is for them too.")
    check_files(runs.replicas[0].config, source)
    _refuse_others(folder, runs)
    with reserved(folder):
        jobs: Sequence[Job] = ()
        if runs.exchange is not None:
            from mlmd.engine.exchange import prepared

            jobs = prepared(runs.replicas)  # what does not go with exchanges is refused before anything is written
        yield folder, runs, _begin(source, folder, runs, seed), seed, jobs


def _run_together(
    runs: Runs, jobs: Sequence[Job], folder: Path, seed: int, settings: Options, progress: Callable[[Moment], None]
) -> None:
    """Run replicas that exchange."""
    from mlmd.engine.exchange import run_exchange

    done = {one.name: 0.0 for one in runs.replicas}

    def share(name: str, part: float) -> None:
        done[name] = part
        progress(Moment(len(done), 0, 0, dict(done)))

    with ExitStack() as stack:
        for one in runs.replicas:
            stack.enter_context(reserved(folder / one.name))
        (folder / STOP).unlink(missing_ok=True)
        request = stack.enter_context(stop_requests(folder / STOP))
        request.limit(settings.max_hours)
        run_exchange(runs, jobs, folder, seed, settings, request, share)


def shares(n_replicas: int, n_processes: int | None, threads: int | None, device: str) -> tuple[int, int]:
    """How many run at a time, and the threads of each: so that they fill the cores, unless something is given."""
    cores = n_cores()
    if n_processes is None:
        from mlmd.potentials.device import choose_device

        n_processes = max(1, cores // (threads or 1)) if choose_device(device) == "cpu" else 1
    at_once = min(n_processes, n_replicas)
    return at_once, threads or max(1, cores // at_once)


# -- the folder ------------------------------------------------------------------------------------------------------


def _seed(folder: Path, source: Path) -> int:
    """What all seeds follow from: of the input, else what was drawn when the folder was begun."""
    given = base_seed(source)
    if given is not None:
        return given
    known = read_list(folder).get("seed") if (folder / REPLICAS).exists() else None
    return known if isinstance(known, int) else secrets.randbelow(2**31)


def _refuse_others(folder: Path, runs: Runs) -> None:
    """Nothing is written into the folder of something else, nor anywhere if one of the replicas is another run.

    Raises:
        StorageError: saying what stands there.
    """
    if folder.is_file():
        raise StorageError(f"{folder} is a file; a folder is needed for the replicas. Give another --out.")
    if not folder.exists():
        return
    if (folder / MANIFEST).exists():
        raise StorageError(f"{folder} is the folder of one run, not of replicas. Give another --out.")
    # what a start that was killed has left is nobody's
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in ("lock", f"{REPLICAS}.tmp"))
    if strangers and not (folder / REPLICAS).exists():
        raise StorageError(
            f"{folder} is not empty and not a folder of replicas (it holds {', '.join(strangers[:3])}). "
            "Give another --out; nothing was touched."
        )
    for one in runs.replicas:
        existing_run(folder / one.name, one.config)
    if (folder / REPLICAS).exists():
        _refuse_other_exchange(folder, runs)


def _refuse_other_exchange(folder: Path, runs: Runs) -> None:
    """Replicas that exchange are one run: no other may join it, and its interval stays what it was."""
    found = read_list(folder)
    before, now = found.get("exchange"), _exchange_as_listed(runs)
    if before == now and (now is None or found["replicas"] == [one.name for one in runs.replicas]):
        return
    was, is_now = (
        "independent" if one is None else f"{one['n_replicas']} that exchange every {one['every']:,} steps"
        for one in (before, now)
    )
    what = f"its replicas are {was}, and are to be {is_now}" if was != is_now else "its replicas have other values"
    raise StorageError(
        f"{folder} belongs to another input: {what}. Replicas that exchange are one run, whose lists and interval "
        "stay: give another --out."
    )


def _exchange_as_listed(runs: Runs) -> dict[str, Any] | None:
    """What the list of replicas says of their exchanges."""
    exchange = runs.exchange
    if exchange is None:
        return None
    return {"every": exchange.every, "shape": list(exchange.shape), "n_replicas": len(runs.replicas)}


def _begin(source: Path, folder: Path, runs: Runs, seed: int) -> list[str]:
    """Write the list and the input of each that is not done; the names of these."""
    replicas, exchange = runs.replicas, _exchange_as_listed(runs)
    before = names_in(folder) if (folder / REPLICAS).exists() else []
    names = [one.name for one in replicas]
    gone = [name for name in before if name not in names]  # of an earlier input: they stay as they are
    content: dict[str, Any] = {"format": "mlmd-replicas", "version": 1, "seed": seed, "replicas": names + gone}
    if exchange is not None:
        content["exchange"] = exchange
    write_atomically(folder / REPLICAS, json.dumps(content, indent=1).encode())
    if source.absolute() != folder / "input.toml":
        write_atomically(folder / "input.toml", source.read_bytes())
    left = []
    for one in replicas:
        own = folder / one.name
        own.mkdir(exist_ok=True)
        if (own / MANIFEST).exists() and is_finished(open_run(own), one.config):
            continue
        write_atomically(own / "input.toml", one.text().encode())
        left.append(one.name)
    return left


# -- the processes ---------------------------------------------------------------------------------------------------


def _work(crew: _Crew, folder: Path, request: StopRequest, messages: Messages, progress: Callable[[], None]) -> None:
    """Start, watch and try again until nothing is left, or, after a request to stop, nothing runs."""
    told, asked = 0.0, False
    while crew.waiting or crew.running:
        if not asked and (reason := request.reason()):
            asked = True
            messages(f"stopping all for {reason}")
            crew.stopped |= {name for name, _ in crew.waiting}
            crew.waiting.clear()
            for one in crew.running.values():
                one.stop()
        while crew.waiting and len(crew.running) < crew.n_processes:
            name, tries = crew.waiting.popleft()
            crew.running[name] = start_run(name, crew.command(name), tries + 1)
        for one in list(crew.running.values()):
            if one.process.poll() is not None:
                del crew.running[one.name]
                _take(crew, one, messages, asked=asked)
        if time.monotonic() - told >= _TELL:
            told = time.monotonic()
            progress()
        time.sleep(_LOOK)


def _take(crew: _Crew, one: RunProcess, messages: Messages, *, asked: bool) -> None:
    """What has come of a process that has ended."""
    code, words = one.process.returncode, one.last_words()
    one.close()
    if code == 0:
        messages(f"{one.name}: done")
    elif code == Stopped.exit_code or asked:  # one that was asked while it began has no checkpoint to make
        crew.stopped.add(one.name)
        messages(f"{one.name}: {words}", echo=not asked)
    elif one.tries == 1 and code not in HOPELESS:
        messages(f"{one.name}: failed and is tried once more from its checkpoint: {words}")
        crew.waiting.append((one.name, one.tries))
    else:
        messages(f"{one.name}: failed: {words}")
        crew.failed[one.name] = code, words


@contextmanager
def _ended(crew: _Crew) -> Iterator[None]:
    """Leave no process behind, whatever happens here."""
    try:
        yield
    finally:
        for one in crew.running.values():
            one.stop()
        for one in crew.running.values():
            try:
                one.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                one.process.kill()


def _conclude(crew: _Crew, folder: Path, request: StopRequest, messages: Messages) -> None:
    """Raise what a person has to know when not all are done."""
    if crew.failed:
        listed = "".join(f"\n  {name}: {words}" for name, (_, words) in crew.failed.items())
        rest = "" if len(crew.failed) == crew.n_replicas else "; the others are done"
        rest = f"; {_runs(len(crew.stopped))} stopped" if crew.stopped else rest
        message = f"{_runs(len(crew.failed))} failed{rest}:{listed}\nThe same command tries them again."
        codes = {code for code, _ in crew.failed.values()}
        kinds: dict[int, type[MlmdError]] = {kind.exit_code: kind for kind in (InputError, ModelError)}
        raise kinds.get(codes.pop() if len(codes) == 1 else 0, SimulationError)(message)
    if crew.stopped:
        why = request.reason() or "a request in their own folders"
        raise Stopped(f"{_runs(len(crew.stopped))} stopped by {why}. The same command continues.")
    messages("all replicas are done")


def _moment(crew: _Crew, folder: Path, n_replicas: int) -> Moment:
    running = {}
    for name in crew.running:
        running[name] = 0.0
        with suppress(StorageError):  # not begun yet
            run = open_run(folder / name)
            running[name] = reached(run) / max(1, run.stages[-1].last_step)
    waiting = len(crew.waiting) + len(crew.stopped)
    return Moment(n_replicas, n_replicas - len(running) - waiting - len(crew.failed), len(crew.failed), running)


def _runs(n: int) -> str:
    return f"{n} replica{'s' * (n != 1)}"
