"""Something done in a thread of its own while its owner waits for something else, in compiled code or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


def leaves_core(hardware: Mapping[str, Any]) -> bool:
    """Whether the potential leaves a core of the run free; `hardware` is what run.json says of platform and threads."""
    return bool(hardware.get("cores", 1) > (hardware["threads"] if hardware["device"] == "cpu" else 1))


class Beside:
    """One thread, begun when there is something to do and ended with this object."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="beside")

    def both(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Do the first in the thread and the second here, and come back when both are done, however they end.

        What is given back and what is raised is that of one after the other: where the first fails, its error is told.
        Ctrl-C while it waits is passed on when the first is done: what that uses may be closed then, and not before.
        """
        future = self._thread.submit(first)
        try:
            found = second()
        except Exception:
            _wait(future)
            future.result()
            raise
        finally:
            _wait(future)
        return future.result(), found


def _wait(future: Future[Any]) -> None:
    """Until it is done, with an interrupt after that."""
    interrupted: BaseException | None = None
    while not future.done():
        try:
            wait((future,))
        except BaseException as error:  # a signal's
            interrupted = error
    if interrupted is not None:
        raise interrupted
