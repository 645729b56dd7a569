"""Independent pieces of a calculation, one thread for each.

torch by itself divides every single operation among threads, with a barrier after each: hundreds of small
operations gain little from that, and lose much when a core is busy with something else. A thread that
keeps its piece to itself waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_available: ContextVar[int | None] = ContextVar("available threads", default=None)


@contextmanager
def undivided() -> Iterator[int]:
    """Let this thread do its torch operations alone; gives the number of threads that are there for pieces.

    May stand within itself: the number is then the outer one.
    """
    outer = _available.get()
    if outer is not None:
        yield outer
        return
    n_threads = torch.get_num_threads()
    token = _available.set(n_threads)
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)
        _available.reset(token)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], n_threads: int) -> list[Result]:
    """Results in the order of the items, which do not depend on the number of threads."""

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)  # holds for the thread that calls it
        return function(item)

    if n_threads == 1 or len(items) == 1:
        return [alone(item) for item in items]
    return list(_workers(n_threads).map(alone, items))


@cache
def _workers(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="mlmd")
