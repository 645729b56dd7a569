"""Mean squared displacements over all pairs of frames, element by element and along each axis.

MSD(m) = ⟨|r(t + m) - r(t)|²⟩ over all t and atoms, from two sums that are cheap for all lags at once
(Calandrini et al., École thématique de la Société Française de la Neutronique 2011, 12, 201, section 4.2): one of
squares by recursion, one of products, Σ r(t)·r(t + m), by fast Fourier transform. The trajectory is read once or a
few times in blocks of atoms, so that memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from mlmd.analysis.directions import direction
from mlmd.analysis.einstein import WindowStatistics, sampled_lags, slow_waves
from mlmd.analysis.unwrap import drift_path, unwrapped
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory

READ_BYTES = 128e6
"""Positions in memory at once."""
TRANSFORM_BYTES = 16e6
"""Of them, what is Fourier transformed at once."""
MAX_WINDOWS = 100_000
"""Windows of one lag that are looked at one by one."""
_MIN_FRAMES = 10
AXES = ("xyz", "x", "y", "z")
"""What an MSD is taken of: the displacement, or its part along one axis."""


@dataclass(frozen=True)
class MSD:
    """Mean squared displacement of the atoms of one element."""

    element: str
    n_atoms: int
    times: np.ndarray
    """(n_lags,) fs, all lags from 0."""
    values: np.ndarray
    """(n_lags, 3 + n_directions) Å² along x, y and z, and along the directions."""
    windows: dict[str, WindowStatistics]
    """At some lags, for each of `AXES` and of the directions."""
    directions: tuple[str, ...] = ()

    @property
    def total(self) -> np.ndarray:
        """(n_lags,) Å², sum over x, y and z."""
        total: np.ndarray = self.values[:, :3].sum(axis=1)
        return total


def mean_squared_displacements(
    trajectory: Trajectory,
    elements: Sequence[str] | None = None,
    drift: str | Sequence[str] = "cell",
    along: Sequence[str] = (),
) -> dict[str, MSD]:
    """MSD of each element, without the motion of what is taken to be at rest.

    Args:
        trajectory: frames at equal intervals.
        elements: by default all.
        drift: ``"cell"`` (centre of mass of all atoms), ``"none"``, or the elements of a framework.
        along: directions (`mlmd.analysis.directions`) besides x, y and z.

    Raises:
        InputError: for fewer than ten frames, unequal intervals, elements that do not occur, no directions, and a
            replica that exchanged.
    """
    if trajectory.provenance.exchanged:
        raise InputError(
            f"{trajectory.provenance.path}: its atoms jump where replicas exchange, and have no path to diffuse along. "
            "Take independent runs, without exchange_every."
        )
    check_times(trajectory)
    rest = drift_path(trajectory, drift)
    chosen = tuple(elements) if elements else trajectory.elements
    directions = {name: direction(trajectory, name) for name in along}
    return {element: _msd_of(trajectory, element, rest, directions) for element in chosen}


def msd_of_path(path: np.ndarray, interval: float, name: str) -> MSD:
    """MSD of one path, (n_frames, 3), under a name; `interval` is that of its frames in fs."""
    sums = _Sums(len(path), {})
    sums.add((path - path[0]).T[None])
    values = sums.msd()
    return MSD(name, 1, interval * np.arange(len(path)), values, sums.statistics(1, values))


def check_times(trajectory: Trajectory, what: str = "a mean squared displacement") -> None:
    """Make sure that there are frames at equal intervals, which something needs.

    Raises:
        InputError: for fewer than ten frames, and unequal intervals.
    """
    origin = trajectory.provenance
    if trajectory.n_frames < _MIN_FRAMES:
        raise InputError(
            f"{origin.path} has {trajectory.n_frames} frames; {what} needs at least "
            f"{_MIN_FRAMES}. Run longer, or lower [output] trajectory_every."
        )
    intervals = np.diff(trajectory.times)
    if not np.ptp(intervals) <= 1e-3 * origin.interval:
        raise InputError(
            f"{origin.path}: frames are not at equal intervals ({intervals.min():g} to {intervals.max():g} fs)."
        )


def _msd_of(trajectory: Trajectory, element: str, rest: np.ndarray, directions: Mapping[str, np.ndarray]) -> MSD:
    atoms = trajectory.atoms_of([element])
    sums = _Sums(trajectory.n_frames, directions)
    for block in _blocks(trajectory, atoms, rest):
        sums.add(block)
    times = trajectory.provenance.interval * np.arange(trajectory.n_frames)
    values = sums.msd() / len(atoms)
    return MSD(element, len(atoms), times, values, sums.statistics(len(atoms), values), tuple(directions))


def _blocks(trajectory: Trajectory, atoms: np.ndarray, rest: np.ndarray) -> Iterator[np.ndarray]:
    """Paths of some atoms at a time relative to their first position, (n_atoms, 3, n_frames) Å, until the next ones."""
    per_atom = 24 * trajectory.n_frames
    n_read, n_block = max(1, int(READ_BYTES / per_atom)), max(1, int(TRANSFORM_BYTES / (4 * per_atom)))
    room = np.empty((min(n_read, len(atoms)), 3, trajectory.n_frames))  # one for all: a block of it may still be held
    for first in range(0, len(atoms), n_read):
        part, frame = atoms[first : first + n_read], 0
        paths = room[: len(part)]
        for positions in unwrapped(trajectory, part):
            stop = frame + len(positions)
            np.subtract(positions.transpose(1, 2, 0), rest[frame:stop].T, out=paths[:, :, frame:stop])
            frame = stop
        paths -= paths[:, :, :1].copy()  # small numbers: the sums below are differences of squares
        for start in range(0, len(part), n_block):
            yield paths[start : start + n_block]


class _Sums:
    """Sums over atoms from which MSDs and their fluctuations follow."""

    def __init__(self, n_frames: int, directions: Mapping[str, np.ndarray]) -> None:
        self._n_frames = n_frames
        self._names = (*AXES, *directions)
        self._vectors = np.array(list(directions.values())).reshape(-1, 3)
        n_axes = 3 + len(directions)
        self._size = fft.next_fast_len(2 * n_frames, real=True)
        self._squares = np.zeros((n_axes, n_frames))
        self._spectrum = np.zeros((n_axes, self._size // 2 + 1))
        self._lags = sampled_lags(n_frames)
        # Windows of a long lag differ little from one frame to the next: a sixteenth of the lag apart is enough.
        steps = np.maximum(1, np.maximum(self._lags // 16, n_frames // MAX_WINDOWS))
        self._starts = [np.arange(0, n_frames - lag, step) for lag, step in zip(self._lags, steps, strict=True)]
        self._products = [np.zeros((n_axes, len(starts))) for starts in self._starts]

    def add(self, paths: np.ndarray) -> None:
        """Add the paths of some atoms, (n_atoms, 3, n_frames) Å."""
        if len(self._vectors):
            paths = np.concatenate([paths, np.einsum("kd,adt->akt", self._vectors, paths)], axis=1)
        self._squares += np.einsum("adt,adt->dt", paths, paths)
        transform = fft.rfft(paths, self._size, axis=2)
        self._spectrum += np.einsum("adf,adf->df", transform.real, transform.real)
        self._spectrum += np.einsum("adf,adf->df", transform.imag, transform.imag)
        for index, lag in enumerate(self._lags):
            step = self._starts[index][1]
            begin, end = paths[:, :, :-lag:step], paths[:, :, lag::step]
            self._products[index] += np.einsum("adt,adt->dt", begin, end)

    def msd(self) -> np.ndarray:
        """Sum over atoms of the MSD at all lags, (n_frames, n_axes) Å²."""
        n = self._n_frames
        products = fft.irfft(self._spectrum, self._size, axis=1)[:, :n]
        head = np.cumsum(self._squares, axis=1)[:, ::-1]  # squares of the frames at which windows begin ...
        tail = np.cumsum(self._squares[:, ::-1], axis=1)[:, ::-1]  # ... and end
        msd = (head + tail - 2.0 * products) / (n - np.arange(n))
        msd[:, 0] = 0.0
        return np.maximum(msd, 0.0).T

    def statistics(self, n_atoms: int, msd: np.ndarray) -> dict[str, WindowStatistics]:
        """How the mean over atoms varies from window to window, for each axis; `msd` is (n_frames, n_axes) Å²."""
        columns: list[tuple[np.ndarray, ...]] = []
        for lag, starts, products in zip(self._lags, self._starts, self._products, strict=True):
            along = (self._squares[:, starts] + self._squares[:, starts + lag] - 2.0 * products) / n_atoms
            series = np.concatenate([along[:3].sum(axis=0, keepdims=True), along])
            half = int(np.searchsorted(starts, (starts[-1] + 1) / 2))
            columns.append((slow_waves(series), series[:, :half].mean(axis=1), series[:, half:].mean(axis=1)))
        means = np.column_stack([msd[:, :3].sum(axis=1), msd])[self._lags]
        waves, first, second = (np.stack(parts, axis=1) for parts in zip(*columns, strict=True))
        return {
            axis: WindowStatistics(self._lags, means[:, row], waves[row], first[row], second[row])
            for row, axis in enumerate(self._names)
        }
