"""The command line in processes of their own, that can be killed.

They are forked from a server that has imported everything once, so that starting one takes no seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOAD = ["mlmd.engine.course", "mlmd.engine.run", "mlmd.cli.simulate", "mlmd.potentials.load", "ase.io.extxyz"]
DEADLINE = 120.0
"""Seconds after which a child counts as hanging."""


def start(arguments: Sequence[object], errors: Path, *, killed_at: int | None = None) -> BaseProcess:
    """Start ``mlmd ARGUMENTS``; its messages go to the file `errors`.

    Args:
        arguments: of the command.
        errors: file that receives stderr.
        killed_at: kill the process with SIGKILL at its n-th change to the file system (see `_die_at`).
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a forked child must find no threads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_command, args=(list(map(str, arguments)), str(errors), killed_at), daemon=True)
    process.start()
    return process


def mlmd(arguments: Sequence[object], errors: Path, *, killed_at: int | None = None) -> int:
    """Run ``mlmd ARGUMENTS`` to its end and give its exit code, -9 when it was killed."""
    process = start(arguments, errors, killed_at=killed_at)
    process.join(DEADLINE)
    assert process.exitcode is not None, "the command hangs"
    return process.exitcode


def wait_for(path: Path, process: BaseProcess) -> None:
    """Wait until a process has made a file."""
    while not path.exists():
        assert process.is_alive()
        time.sleep(0.005)


def _command(arguments: list[str], errors: str, killed_at: int | None) -> None:
    from mlmd.cli import main

    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["mlmd", *arguments]
    if killed_at is not None:
        _die_at(killed_at)
    main()


def _die_at(count: int) -> None:
    """Kill this process at its n-th change to the file system that others depend on.

    Counted are files just opened for writing, which are empty then, and before they happen: fsync, rename,
    truncation and removal.
    """
    left = count

    def strike() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            strike()
            return original(*arguments, **options)

        return call

    def opening(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open_path(path, mode, *arguments, **options)
        if "w" in mode:
            strike()
        return file

    open_path = Path.open
    Path.open = opening  # type: ignore[method-assign,assignment]
    for name in ("fsync", "replace", "rename", "truncate", "unlink"):
        setattr(os, name, watched(getattr(os, name)))
