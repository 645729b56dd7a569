"""DCD trajectories (CHARMM, NAMD, OpenMM) read in place: any frames of any atoms, without loading the file.

A DCD file is a header and frames of one size: optionally six doubles of the cell, then x, y and z of all atoms as
float32, each record framed by its length. The number of complete frames therefore follows from the size of the
file; the counter in the header is not trusted, because a run that was killed may have left it behind.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.errors import StorageError
from mlmd.io.frames import spans

_HEADER = struct.Struct("<i4s20i")


@dataclass(frozen=True)
class DCDReader:
    """The complete frames of a DCD file; a torn last frame is not seen."""

    path: Path
    n_atoms: int
    n_frames: int
    steps: np.ndarray
    """(n_frames,) as the header counts them: from the step of the first frame on, in equal intervals."""
    _offset: int
    _layout: np.dtype

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""
        records, chosen = self._records(frames), _slice_of(atoms)
        positions = np.empty((len(frames), len(np.arange(self.n_atoms)[atoms]), 3))
        for number, axis in enumerate("xyz"):
            positions[:, :, number] = records[axis]["data"][:, chosen]
        return positions

    def cells(self, frames: range) -> np.ndarray | None:
        """Cells as lower triangular matrices, (n, 3, 3) Å, or None when the file has no cells."""
        if "cell" not in (self._layout.names or ()):
            return None
        # some at a time, and mapped anew for each: the system maps whole pages around each of the cells
        parts = [np.array(self._records(part)["cell"]["data"], dtype=float) for part in spans(frames, self.n_atoms)]
        a, gamma, b, beta, alpha, c = np.concatenate([np.zeros((0, 6)), *parts]).T
        return standard_cells(np.stack([a, b, c], axis=-1), _cosines(np.stack([alpha, beta, gamma], axis=-1)))

    def _records(self, frames: range) -> np.ndarray:
        # Mapped anew each time: the pages of a long file do not stay in this process's memory.
        table: np.ndarray = np.memmap(self.path, self._layout, "r", self._offset, (self.n_frames,))
        return table[slice(frames.start, frames.stop, frames.step)]


def open_dcd(path: Path) -> DCDReader:
    """Read the header of a DCD file and find out how many complete frames follow it.

    Raises:
        StorageError: when the file is missing, no DCD file, or of a kind that is not read (fixed atoms, big-endian).
    """
    try:
        n_atoms, has_cell, offset, (first, every) = _read_header(path)
        layout = _frame_layout(n_atoms, has_cell=has_cell)
        n_frames = max(0, path.stat().st_size - offset) // layout.itemsize
    except struct.error:
        raise StorageError(f"{path} ends within its header.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    return DCDReader(path, n_atoms, n_frames, first + max(1, every) * np.arange(n_frames), offset, layout)


def _read_header(path: Path) -> tuple[int, bool, int, tuple[int, int]]:
    """Number of atoms, whether frames begin with a cell, the byte at which they begin, first step and interval."""
    with path.open("rb") as file:
        size, magic, *numbers = _HEADER.unpack(file.read(_HEADER.size))
        if magic != b"CORD":
            raise StorageError(f"{path} is not a DCD trajectory (no CORD header).")
        if size != 84:
            raise StorageError(f"{path}: big-endian DCD files are not read. Convert it with mdconvert.")
        if numbers[8]:
            raise StorageError(f"{path}: DCD files with fixed atoms are not read. Convert it with mdconvert.")
        file.seek(84 + 8)
        titles = _integer(file.read(4))
        file.seek(84 + 8 + 4 + titles + 4 + 4)
        n_atoms = _integer(file.read(4))
        # Without a CHARMM version (X-PLOR) the flag is the second half of a double and there is no cell.
        return n_atoms, bool(numbers[10]) and bool(numbers[19]), file.tell() + 4, (numbers[1], numbers[2])


def _slice_of(atoms: slice | np.ndarray) -> slice | np.ndarray:
    """Indices that follow each other as a slice, which is read several times faster."""
    if isinstance(atoms, np.ndarray) and atoms.dtype.kind in "iu" and len(atoms) and atoms[0] >= 0:
        span = slice(int(atoms[0]), int(atoms[0]) + len(atoms))
        if np.array_equal(atoms, np.arange(span.start, span.stop)):
            return span
    return atoms


def _integer(content: bytes) -> int:
    return int(struct.unpack("<i", content)[0])


def _frame_layout(n_atoms: int, *, has_cell: bool) -> np.dtype:
    def record(kind: str, n: int) -> np.dtype:
        return np.dtype([("size", "<i4"), ("data", kind, (n,)), ("end", "<i4")])

    axes = [(axis, record("<f4", n_atoms)) for axis in "xyz"]
    return np.dtype([("cell", record("<f8", 6)), *axes] if has_cell else axes)


def _cosines(angles: np.ndarray) -> np.ndarray:
    # Programs disagree: NAMD and OpenMM write cosines, VMD degrees. No cell has three angles below one degree.
    if np.all(np.abs(angles) <= 1.0):
        return angles
    return np.where(angles == 90.0, 0.0, np.cos(np.radians(angles)))


def standard_cells(lengths: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Cells with a along x and b in the xy plane.

    Args:
        lengths: (n, 3) a, b, c in Å.
        cosines: (n, 3) cosines of alpha (b, c), beta (a, c) and gamma (a, b).

    Returns:
        (n, 3, 3) Å, lower triangular, rows are vectors.
    """
    a, b, c = lengths.T
    cos_alpha, cos_beta, cos_gamma = cosines.T
    sin_gamma = np.sqrt(1.0 - cos_gamma**2)
    cells = np.zeros((len(lengths), 3, 3))
    cells[:, 0, 0] = a
    cells[:, 1, 0], cells[:, 1, 1] = b * cos_gamma, b * sin_gamma
    cells[:, 2, 0], cells[:, 2, 1] = c * cos_beta, c * (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    cells[:, 2, 2] = np.sqrt(np.maximum(c**2 - cells[:, 2, 0] ** 2 - cells[:, 2, 1] ** 2, 0.0))
    return cells
