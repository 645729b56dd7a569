"""Memory that a training needs at once, and that the machine has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame

_PART = 0.9
"""Of the memory that is available, what one training may take."""


def available() -> float:
    """Bytes that programs can have without others being moved to disk (Linux); elsewhere all that is built in."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return 1024.0 * int(amount.split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def refuse_large(n_rows: int, others: float) -> None:
    """Refuse a matrix of all rows with all rows for which there is no room.

    Args:
        n_rows: labels.
        others: bytes that are needed besides.

    Raises:
        InputError: with what to do instead.
    """
    needed, there = 8.0 * n_rows**2 + others, available()
    if needed > _PART * there:
        raise InputError(
            f'fit: kind = "kernel": the {n_rows:,} energies, forces and stresses need {needed / 1e9:.1f} GB (the '
            f"square of their number), and {there / 1e9:.1f} GB are available. Give fewer structures, "
            '"gap" or "random-features", whose memory does not grow with their number.'
        )


def bytes_of_slopes(frames: Sequence[LabelledFrame], n_features: int) -> float:
    """What the derivatives of features take that are kept for all structures."""
    return (
        8.0
        * n_features
        * sum(
            len(frame.atoms) * ((0 if frame.forces is None else frame.forces.size) + (0 if frame.stress is None else 6))
            for frame in frames
        )
    )


def bytes_of_environments(frames: Sequence[LabelledFrame], n_features: int) -> float:
    """What a kernel of structures that compares their atoms takes: all rows, thrice, and the matrices of the fit."""
    return 8.0 * (3 * n_features * sum(len(frame.atoms) for frame in frames) + 5 * len(frames) ** 2)


def refuse_environments(frames: Sequence[LabelledFrame], n_features: int) -> None:
    """Refuse structures with more atoms than there is room for.

    Raises:
        InputError: with what to do instead.
    """
    needed, there = bytes_of_environments(frames, n_features), available()
    if needed > _PART * there:
        raise InputError(
            f"fit: kernel: {sum(len(frame.atoms) for frame in frames):,} atoms with {n_features:,} features are "
            f"compared one by one, which needs {needed / 1e9:.1f} GB, and {there / 1e9:.1f} GB are available. Give "
            'fewer structures, a smaller descriptor, or descriptor = { kind = "average", ... } with another kernel.'
        )
