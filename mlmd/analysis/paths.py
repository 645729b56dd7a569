"""Paths of atoms relative to what is at rest, in blocks of atoms or of frames, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mlmd.analysis.unwrap import drift_path, unwrapped
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory

BLOCK_BYTES = 128e6
"""Paths in memory at once."""


def check_path(trajectory: Trajectory, what: str, n_least: int = 10) -> None:
    """Refuse what has no path in time that an analysis could follow.

    Args:
        trajectory: to be looked at.
        what: the analysis, in words that begin a sentence.
        n_least: frames.

    Raises:
        InputError: for a replica that exchanged, too few frames, and unequal intervals.
    """
    origin = trajectory.provenance
    if origin.exchanged:
        raise InputError(
            f"{what} follows atoms, but those of {origin.path} jump where replicas exchange. Take independent runs, "
            "without exchange_every."
        )
    if trajectory.n_frames < n_least:
        raise InputError(
            f"{what} needs at least {n_least} frames; {origin.path} has {trajectory.n_frames}. Run longer, or lower "
            "[output] trajectory_every."
        )
    intervals = np.diff(trajectory.times)
    if len(intervals) and not np.ptp(intervals) <= 1e-3 * origin.interval:
        raise InputError(
            f"{what} needs frames at equal intervals; those of {origin.path} are {intervals.min():g} to "
            f"{intervals.max():g} fs apart."
        )


def still(trajectory: Trajectory, drift: str | Sequence[str]) -> np.ndarray:
    """As `drift_path`: how what is taken to be at rest has moved since the first frame, (n_frames, 3) Å.

    One atom alone is taken as it is: nothing else is there that it could be moving against.
    """
    return drift_path(trajectory, "none" if drift == "cell" and trajectory.n_atoms == 1 else drift)


def frames_at_rest(trajectory: Trajectory, atoms: np.ndarray, rest: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Unwrapped positions of some atoms in the mean cell, relative to what is at rest, chunk by chunk.

    Args:
        trajectory: with any cell.
        atoms: indices.
        rest: (n_frames, 3) Å, of `still`.

    Yields:
        Which frames, and their positions (n, n_atoms, 3) Å.
    """
    first = 0
    for positions in unwrapped(trajectory, atoms):
        frames = slice(first, first + len(positions))
        yield frames, positions - rest[frames, None]
        first = frames.stop


def paths_at_rest(trajectory: Trajectory, atoms: np.ndarray, rest: np.ndarray) -> Iterator[np.ndarray]:
    """Whole paths of some atoms at a time, (n_frames, n_atoms, 3) Å; arguments as for `frames_at_rest`."""
    n_block = max(1, int(BLOCK_BYTES / (24 * trajectory.n_frames)))
    for first in range(0, len(atoms), n_block):
        part = atoms[first : first + n_block]
        paths = np.empty((trajectory.n_frames, len(part), 3))
        for frames, positions in frames_at_rest(trajectory, part, rest):
            paths[frames] = positions
        yield paths


def mean_cell(trajectory: Trajectory) -> np.ndarray:
    """The cell that unwrapped positions refer to, (3, 3) Å, rows are vectors."""
    cell: np.ndarray = trajectory.cells[0] if trajectory.constant_cell else trajectory.cells.mean(axis=0)
    return cell


def mean_places(trajectory: Trajectory, atoms: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where atoms are on average, and how far they are from there.

    Args:
        trajectory, atoms, rest: as for `frames_at_rest`.

    Returns:
        (n_atoms, 3) Å in the mean cell, unwrapped, and the root mean square distance from there, (n_atoms,) Å.
    """
    first: np.ndarray | None = None
    sums, squares = np.zeros((len(atoms), 3)), np.zeros(len(atoms))
    for _, positions in frames_at_rest(trajectory, atoms, rest):
        first = positions[0].copy() if first is None else first
        moved = positions - first
        sums += moved.sum(axis=0)
        squares += np.einsum("tai,tai->a", moved, moved)
    mean = sums / trajectory.n_frames
    spread = np.sqrt(np.maximum(squares / trajectory.n_frames - np.sum(mean**2, axis=1), 0.0))
    return mean + (0.0 if first is None else first), spread
