"""Something done in a thread of its own while its owner waits for something else, in compiled code or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


def leaves_core(hardware: Mapping[str, Any]) -> bool:
    """Whether the potential leaves a core of the run free; `hardware` is what run.json says of platform and threads."""
    return bool(hardware.get("cores", 1) > (hardware["threads"] if hardware["device"] == "cpu" else 1))


class Beside:
    """One thread, begun when there is something to do and ended with this object."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="beside")

    @contextmanager
    def doing(self, job: Callable[[], Result]) -> Iterator[Future[Result]]:
        """Do it while the block goes on, which is left only when it is done, however the block ends.

        Ctrl-C while it waits is passed on when the job is done: what the job uses may be closed then, and not before.

        Returns:
            What gives its result, or raises what it has raised, after the block.
        """
        future = self._thread.submit(job)
        try:
            yield future
        finally:
            interrupted: BaseException | None = None
            while not future.done():
                try:
                    wait((future,))
                except BaseException as error:  # a signal's
                    interrupted = error
            if interrupted is not None:
                raise interrupted
