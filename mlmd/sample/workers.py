"""Processes that label, seen from the one that asks them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from ase import Atoms

from mlmd.sample.method import CalculatorMethod
from mlmd.sample.worker import OUTPUT, Order

_BOOT = (
    "import os, sys; from multiprocessing.connection import Connection; "
    "descriptor = int(sys.argv[1]); os.set_inheritable(descriptor, False); asked = Connection(descriptor); "
    "sys.path[:] = asked.recv(); from mlmd.sample.worker import work; work(asked)"
)
"""A fresh interpreter, not a copy of this one: nothing of the caller's program is imported or run again."""
_GRACE = 2.0
"""Seconds that programs have to end after they were asked to."""


@dataclass
class Worker:
    """A process of its own group, so that the programs it starts can be ended with it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    folder: Path
    ready: bool = False
    task: int | None = None
    """Number of the structure it is computing."""

    def ask(self, number: int, atoms: Atoms) -> None:
        """Give it a structure; if it has died, its connection says so at the next look."""
        self.task = number
        with suppress(OSError):
            self.connection.send((number, atoms))

    def how_it_ended(self) -> str:
        """Words about a process that is dead."""
        code = self.process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def last_words(self) -> str:
        """The last lines that it printed while it was starting."""
        with suppress(OSError):
            return "\n".join((self.folder / OUTPUT).read_text(errors="replace").splitlines()[-5:])
        return ""


def start(order: Order) -> Worker:
    """Start a process in the folder of its order, which exists."""
    ours, theirs = Pipe()
    with (order.folder / OUTPUT).open("wb") as output, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(theirs.fileno())],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=order.folder,
            pass_fds=(theirs.fileno(),), process_group=0,
        )  # fmt: skip
    places = [str(Path(place).absolute()) for place in sys.path if place]
    if isinstance(order.method, CalculatorMethod):
        # the present folder comes last: a calculator that lies here is found, a file json.py here replaces nothing
        places.append(str(Path.cwd()))
    with suppress(OSError):
        ours.send(places)
        ours.send(order)
    return Worker(process, ours, order.folder)


def end(workers: Sequence[Worker]) -> None:
    """End processes and everything they started: those that wait for work at once, the others after a request."""
    for worker in workers:
        worker.connection.close()
        _signal(worker, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while any(_lives(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in workers:
        _signal(worker, signal.SIGKILL)
        worker.process.wait()


def _signal(worker: Worker, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, number)


def _lives(worker: Worker) -> bool:
    """Whether anything of a worker's group is still there."""
    worker.process.poll()
    try:
        os.killpg(worker.process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
