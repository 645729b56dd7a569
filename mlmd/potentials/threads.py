"""Independent pieces of a calculation, one thread for each.

torch by itself divides every single operation among threads, with a barrier after each: hundreds of small
operations gain little from that, and lose much when a core is busy with something else. A thread that
keeps its piece to itself waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results in the order of the items, which do not depend on the number of threads.

    As many threads work as torch would use (`torch.set_num_threads`).
    """
    n_threads = torch.get_num_threads()

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)  # of the thread that calls it
        return function(item)

    try:
        if n_threads == 1 or len(items) == 1:
            return [alone(item) for item in items]
        return list(_workers(n_threads).map(alone, items))
    finally:
        torch.set_num_threads(n_threads)


@cache
def _workers(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="mlmd")
