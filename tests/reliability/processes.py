"""The command line in processes of their own, that can be killed.

They are forked from a server that has imported everything once, so that starting one takes no seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import mutations
from faults import BETWEEN, Fault, install

PRELOAD = ["mlmd.engine.course", "mlmd.engine.run", "mlmd.cli.simulate", "mlmd.potentials.load", "ase.io.extxyz"]
DEADLINE = 120.0
"""Seconds after which a child counts as hanging."""
INTERRUPTED = 130
"""The exit code of Ctrl-C."""


def start(
    arguments: Sequence[object], errors: Path, *, killed_at: int | None = None, fault: Fault | None = None
) -> BaseProcess:
    """Start ``mlmd ARGUMENTS``; its messages go to the file `errors`.

    Args:
        arguments: of the command.
        errors: file that receives stderr.
        killed_at: kill the process with SIGKILL at its n-th change that is no write to files beside its --out.
        fault: or let this happen.
    """
    words = list(map(str, arguments))
    if killed_at is not None:
        fault = Fault(BETWEEN, killed_at, str(Path(words[words.index("--out") + 1]).parent))
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a forked child must find no threads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_command, args=(words, str(errors), fault), daemon=True)
    process.start()
    return process


def mlmd(arguments: Sequence[object], errors: Path, *, killed_at: int | None = None, fault: Fault | None = None) -> int:
    """Run ``mlmd ARGUMENTS`` to its end and give its exit code, -9 when it was killed."""
    process = start(arguments, errors, killed_at=killed_at, fault=fault)
    process.join(DEADLINE)
    assert process.exitcode is not None, "the command hangs"
    return process.exitcode


def killed_at_random(
    path: Path, folder: Path, errors: Path, *, n_kills: int, usual: float, rng: random.Random
) -> Iterator[Path]:
    """Run an input, kill it at random times within `usual` seconds and continue, until it has been killed so often.

    A run that has ended is given, and another one begins if kills are left: in folders of their own within `folder`.
    """
    kills, folders, ended = 0, (folder / f"killed{n}" for n in count()), False
    out = next(folders)
    while kills < n_kills or not ended:
        process = start(["simulate", path, "--out", out, "--threads", 1], errors)
        process.join(rng.uniform(0.0, usual) if kills < n_kills else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0, errors.read_text()
        yield out
        ended = kills >= n_kills
        out = out if ended else next(folders)


def killed_at_every_write(path: Path, out: Path, errors: Path, *, first: int = 1) -> int:
    """Run an input, where the n-th process dies at its n-th write, until one lives to the end; gives its n.

    Deaths are at every kind of write, also while an earlier one is repaired.
    """
    for n in count(first):
        code = mlmd(["simulate", path, "--out", out, "--threads", 1], errors, killed_at=n)
        if code != -signal.SIGKILL:
            break
    assert code == 0, errors.read_text()
    return n


def begin_limited(arguments: Sequence[object], errors: Path, size: int) -> BaseProcess:
    """Start a command whose files cannot grow beyond a size (bytes), as on a disk that is nearly full."""
    process = multiprocessing.get_context("forkserver").Process(
        target=_limited, args=(list(map(str, arguments)), str(errors), size), daemon=True
    )
    process.start()
    return process


def _limited(arguments: list[str], errors: str, size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # Python ignores the signal that comes with it
    _command(arguments, errors, None)


def seconds_to_end(pid: int, is_alive: Callable[[], bool], most: float = DEADLINE) -> float:
    """Wait for a process to end; the seconds that took, without those in which other programs had its core.

    Linux counts how long a process was ready to run and did not (the second number of ``schedstat``): on a busy machine
    most of the time. What it sleeps, waits for others or computes is its own.
    """
    began = time.monotonic()
    first = last = _held_up(pid) or 0.0
    while is_alive() and time.monotonic() < began + most:
        last = _held_up(pid) or last
        time.sleep(0.002)
    return time.monotonic() - began - (last - first)


def _held_up(pid: int) -> float | None:
    """Seconds so far in which a process was ready to run and did not; None where nothing tells."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) * 1e-9
    except (OSError, IndexError):
        return None


def wait_for(path: Path, process: BaseProcess) -> None:
    """Wait until a process has made a file."""
    while not path.exists():
        assert process.is_alive()
        time.sleep(0.005)


def _command(arguments: list[str], errors: str, fault: Fault | None) -> None:
    from mlmd.cli import main

    mutations.apply(os.environ.get(mutations.VARIABLE))
    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["mlmd", *arguments]
    if fault is not None:
        install(fault)
    try:  # multiprocessing's own way out takes milliseconds, in which Ctrl-C would end it with 1
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 0)
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
