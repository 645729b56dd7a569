"""Positions that keep going: what a displacement is when the cell is periodic and changes its shape.

With a constant cell, unwrapped positions are used as they are. Under a barostat every position is scaled with the
cell, so that the stored coordinate of an atom that has travelled far jumps by (distance travelled) × (strain): a
mean squared displacement of such coordinates grows without bound. Bullerjahn, von Bülow, Heidari, Hénin and Hummer
(J. Chem. Theory Comput. 2023, 19, 3406) therefore add up displacements between images on the torus, frame by
frame. Here this is done in reduced coordinates, which the barostat does not touch, times the mean cell: the same D
for a liquid, for any triclinic cell, and no random walk of lattice atoms that happen to sit on the border of the
cell (added Cartesian displacements of wrapped positions give those the walk of the border).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mlmd.errors import InputError
from mlmd.io.frames import Frames, Trajectory

LARGEST_STEP = 0.4
"""Of the cell between frames; beyond, the image an atom moved to is a guess."""
JUMP = 0.75
"""Of the cell between frames: what no atom moves, and what one does that comes back on the other side."""
NO_JUMP = 0.25
"""Of the cell between frames: what atoms move. Wrapped positions jump and move nowhere between; independent ones do."""
ONE_CELL = 1.01
"""Of the cell: what wrapped positions extend over, with the rounding of a file."""


def unwrapped(trajectory: Trajectory, atoms: slice | np.ndarray = slice(None)) -> Iterator[np.ndarray]:
    """Positions without jumps at the cell's borders and without the barostat's scaling, chunk by chunk.

    Args:
        trajectory: with any cell.
        atoms: which atoms.

    Yields:
        (n_frames_of_chunk, n_atoms, 3) Å.

    Raises:
        InputError: when the positions are wrapped and atoms move too far between frames to be followed; and at the end
            when those of a file were said to be unwrapped and are not.
    """
    periodic = bool(trajectory.pbc.any())
    doubt = _Doubt(trajectory) if periodic and trajectory.unwrapped and trajectory.provenance.stage is None else None
    if not periodic or (trajectory.unwrapped and trajectory.constant_cell):
        for frames in trajectory.chunks(atoms=atoms):
            if doubt is not None and doubt.stands:
                doubt.see(np.einsum("tai,tij->taj", frames.positions, _inverse(frames)))
            yield frames.positions
        if doubt is not None:
            doubt.tell()
        return
    mean_cell = trajectory.cells.mean(axis=0)
    follow = _Follower(trajectory)
    for frames in trajectory.chunks(atoms=atoms):
        reduced = np.einsum("tai,tij->taj", frames.positions, _inverse(frames))
        if doubt is not None and doubt.stands:
            doubt.see(reduced)
        yield (reduced if trajectory.unwrapped else follow(reduced)) @ mean_cell
    if doubt is not None:
        doubt.tell()


def _inverse(frames: Frames) -> np.ndarray:
    if np.abs(np.linalg.det(frames.cells)).min() < 1e-6:
        raise InputError("A periodic trajectory needs a cell with a volume in every frame.")
    return np.linalg.inv(frames.cells)


class _Doubt:
    """Whether positions that were said to be unwrapped jump by a cell from frame to frame, and never leave one cell."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._pbc = trajectory.pbc
        self._path = trajectory.provenance.path
        self._last: np.ndarray | None = None
        self._jumps, self._between = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
        self._lowest, self._highest = np.full(3, np.inf), np.full(3, -np.inf)

    @property
    def stands(self) -> bool:
        """Whether along some direction atoms have stayed within one cell so far; else nothing more has to be seen."""
        return bool(self._within.any())

    @property
    def _within(self) -> np.ndarray:
        found: np.ndarray = self._pbc & (self._highest - self._lowest < ONE_CELL)
        return found

    def see(self, reduced: np.ndarray) -> None:
        before = reduced[:1] if self._last is None else self._last
        steps = np.abs(np.diff(np.concatenate([before, reduced]), axis=0))
        jumps, far = (np.count_nonzero(steps > least, axis=(0, 1)) for least in (JUMP, NO_JUMP))
        self._jumps += jumps
        self._between += far - jumps
        self._lowest = np.minimum(self._lowest, reduced.min(axis=(0, 1), initial=np.inf))
        self._highest = np.maximum(self._highest, reduced.max(axis=(0, 1), initial=-np.inf))
        self._last = reduced[-1:]

    def tell(self) -> None:
        if (self._within & (self._jumps > self._between)).any():
            raise InputError(
                f"{self._path}: these positions are wrapped: atoms jump by a cell from one frame to the next, and none "
                "is ever outside of one cell. Say unwrapped=False (--wrapped)."
            )


class _Follower:
    """Undoes wrapping: every atom is taken to have moved to the nearest image of its last position."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._pbc = trajectory.pbc
        self._path = trajectory.provenance.path
        self._last: np.ndarray | None = None
        self._images: np.ndarray | None = None

    def __call__(self, reduced: np.ndarray) -> np.ndarray:
        before = reduced[:1] if self._last is None else self._last
        steps = np.diff(np.concatenate([before, reduced]), axis=0)
        jumps = np.where(self._pbc, -np.rint(steps), 0.0)
        if np.abs((steps + jumps)[..., self._pbc]).max(initial=0.0) > LARGEST_STEP:
            raise InputError(
                f"{self._path}: atoms move by more than {LARGEST_STEP} of the cell between frames, so wrapped "
                "positions do not tell where they went. Write frames more often, or unwrapped positions."
            )
        images = np.cumsum(jumps, axis=0) + (0.0 if self._images is None else self._images)
        self._last, self._images = reduced[-1:], images[-1:]
        return reduced + images


def drift_path(trajectory: Trajectory, drift: str | Sequence[str]) -> np.ndarray:
    """Position of what is taken to be at rest, at every frame, relative to the first.

    Args:
        trajectory: any.
        drift: ``"cell"`` (centre of mass of all atoms), ``"none"``, or the elements of a framework (their centre
            of mass).

    Returns:
        (n_frames, 3) Å.

    Raises:
        InputError: when an element does not occur, or one atom would be its own reference.
    """
    if drift == "none":
        return np.zeros((trajectory.n_frames, 3))
    chosen: slice | np.ndarray = slice(None)
    if drift != "cell":
        chosen = trajectory.atoms_of([drift] if isinstance(drift, str) else list(drift))
    elif trajectory.n_atoms == 1:
        raise InputError('One atom is at rest relative to its own centre of mass. Give drift = "none" (--drift none).')
    weights = trajectory.masses[chosen] / trajectory.masses[chosen].sum()
    path = np.concatenate([np.einsum("a,tai->ti", weights, part) for part in unwrapped(trajectory, chosen)])
    return path - path[0]
