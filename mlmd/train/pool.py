"""Processes that work for this one: they leave Ctrl-C to it, use one thread each, and end when it has gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Task = TypeVar("Task")
Result = TypeVar("Result")


@contextmanager
def pool(n_processes: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """Processes for `each`; what they are doing is given up where this ends by an error or an interrupt.

    Args:
        n_processes: how many at most.
        begin: called in each process first; like the functions for `each` it stands in a module.
        arguments: of `begin`.
    """
    context = get_context("spawn")  # the threads of torch do not survive a fork
    # a process that ends while it starts reads nothing: what does not fit into its pipe would be waited for without end
    given = context.Queue()
    for _ in range(n_processes):
        given.put((begin, arguments))
    processes = ProcessPoolExecutor(n_processes, context, _begin, (os.getpid(), given))
    try:
        yield processes
    except BaseException:
        for process in list((processes._processes or {}).values()):  # `terminate_workers` of Python 3.14
            process.terminate()
        raise
    finally:
        processes.shutdown(wait=True, cancel_futures=True)
        given.cancel_join_thread()  # of processes that were never needed
        given.close()


def each(processes: ProcessPoolExecutor, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    """Results of a function in the order of its tasks; those that are not asked for any more are not begun.

    Raises:
        BrokenProcessPool: when a process ends unasked, e.g. for want of memory.
    """
    with _deaf():  # processes are started here, and Ctrl-C would reach them before they can leave it to us
        futures = [processes.submit(function, task) for task in tasks]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def each_when_done(
    processes: ProcessPoolExecutor, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> Iterator[tuple[int, Result]]:
    """Number of each task and its result, as soon as it is there; those that are not asked for any more are not begun.

    Raises:
        BrokenProcessPool: when a process ends unasked; what the others had done by then has been given before.
    """
    with _deaf():
        numbers = {processes.submit(function, task): number for number, task in enumerate(tasks)}
    broken: BrokenProcessPool | None = None
    try:
        for future in as_completed(numbers):
            try:
                result = future.result()
            except BrokenProcessPool as error:
                broken = error
                continue
            yield numbers[future], result
    finally:
        for future in numbers:
            future.cancel()
    if broken is not None:
        raise broken


def why_ended() -> str:
    """What a person can do about processes that ended unasked.

    Each imports the script that this process runs. One whose calls do not stand under ``if __name__ == "__main__":``
    would begin them again in every process, which Python forbids.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    try:
        unguarded = script is not None and "__main__" not in Path(script).read_text(encoding="utf-8")
    except (OSError, ValueError):
        unguarded = False
    if unguarded:
        return (
            f"Each process imports {Path(str(script)).name} first: put what it does under `if __name__ == "
            '"__main__":`, or give n_processes = 1.'
        )
    return "Is there enough memory? Try fewer processes."


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is ignored, also by processes that are started here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(parent: int, given: Queue[tuple[Callable[..., None], Sequence[Any]]]) -> None:
    """What a process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    begin, arguments = given.get()
    begin(*arguments)


def _follow(parent: int) -> None:
    """End with the parent, however that ends."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)
