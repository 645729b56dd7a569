"""Processor cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def n_cores() -> int:
    """Those that the operating system lets it run on, and no more than the quota of a container pays for."""
    return min([n_allowed(), *(max(1, math.ceil(one)) for one in _quotas(_ROOT))])


def n_allowed() -> int:
    """Those that the operating system lets it run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Cores whose time the control groups of this process may use (Linux's cgroups, of both versions).

    Within a container its own group is seen as the top of all; else every group above has its say too.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if kinds else "")
        group = top / path.lstrip("/")
        for folder in (group, *(one for one in group.parents if one.is_relative_to(top))):
            try:
                if kinds:
                    quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
            except (OSError, ValueError):
                continue
            if quota.strip() not in ("max", "-1"):
                yield int(quota) / int(period)
