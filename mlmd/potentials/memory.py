"""Memory that a step gives back and the next one takes again.

glibc returns large arrays to the system when they are freed, and the system hands out zeroed pages for the next ones:
tens of thousands of page faults at every step of a network, a tenth to a fifth of its time. With higher thresholds
the freed memory stays with the process, which is not larger for it than its largest step (mallopt(3)).
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = 1 << 30, 1 << 25
"""Bytes: freed memory that stays; the smallest array in pages of its own, which glibc allows up to 32 MiB."""
VARIABLES = {"MALLOC_TRIM_THRESHOLD_": str(TRIM_THRESHOLD), "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD)}
"""The same for a process that is yet to begin, in glibc's environment variables."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees; gives whether it does.

    Nothing happens without glibc, and where the user has set glibc's own variables (`VARIABLES`, `GLIBC_TUNABLES`).
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in (*VARIABLES, "GLIBC_TUNABLES")):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD) and mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD))
