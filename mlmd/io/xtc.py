"""XTC trajectories (GROMACS, OpenMM): frames found by their headers, coordinates unpacked by MDTraj.

The headers alone tell where every frame begins, its time and its cell, so that a file torn by a crash still gives
its complete frames (MDTraj refuses the whole read).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.errors import StorageError
from mlmd.io.frames import spans

ANGSTROM_PER_NM = 10.0
_HEADER = struct.Struct(">3i f 9f i")
"""Magic number, atoms, step, time (ps), cell (nm), atoms again; big-endian."""
_MAGIC = 1995
_COMPRESSION_HEADER = 36  # precision, smallest and largest integers, bits, number of bytes that follow
_MAX_UNCOMPRESSED = 9  # so few atoms are stored as plain floats


@dataclass(frozen=True)
class XTCReader:
    """The complete frames of an XTC file; a torn last frame is not seen."""

    path: Path
    n_atoms: int
    times: np.ndarray
    """(n_frames,) fs, as written in the file."""
    steps: np.ndarray
    """(n_frames,) steps, as written in the file."""
    _cells: np.ndarray
    _offsets: np.ndarray

    @property
    def n_frames(self) -> int:
        """Number of complete frames."""
        return len(self.times)

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""
        from mdtraj.formats import XTCTrajectoryFile

        if not frames:
            return np.zeros((0, len(np.arange(self.n_atoms)[atoms]), 3))
        found = []
        with XTCTrajectoryFile(str(self.path)) as file:
            file.offsets = self._offsets  # MDTraj would go through the whole file for them
            for part in spans(frames, self.n_atoms):
                file.seek(part.start)
                positions = file.read(n_frames=part[-1] - part.start + 1)[0]
                found.append(positions[:: part.step, atoms].astype(np.float64) * ANGSTROM_PER_NM)
        return np.concatenate(found)

    def cells(self, frames: range) -> np.ndarray | None:
        """Cells, (n, 3, 3) Å, rows are vectors, or None when the file has no cells."""
        if not self._cells.any():
            return None
        return self._cells[slice(frames.start, frames.stop, frames.step)]


def open_xtc(path: Path) -> XTCReader:
    """Scan the frame headers of an XTC file.

    Raises:
        StorageError: when the file is missing or no XTC file, or damaged before its last frame.
    """
    times: list[float] = []
    steps: list[int] = []
    cells: list[list[float]] = []
    offsets: list[int] = []
    n_atoms = 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = 0
            while len(header := file.read(_HEADER.size)) == _HEADER.size:
                magic, n_atoms, step, time, *cell, _ = _HEADER.unpack(header)
                if magic != _MAGIC:
                    raise StorageError(f"{path} is not an XTC trajectory, or damaged after frame {len(times)}.")
                file.seek(_body_size(file.read(_COMPRESSION_HEADER), n_atoms), 1)
                if file.tell() > size:
                    break
                offsets.append(begin)
                begin = file.tell()
                times.append(time)
                steps.append(step)
                cells.append(cell)
    except struct.error:  # torn within a header
        pass
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    boxes = np.array(cells, dtype=float).reshape(-1, 3, 3) * ANGSTROM_PER_NM
    return XTCReader(
        path, n_atoms, np.array(times, dtype=float) * 1e3, np.array(steps, dtype=np.int64), boxes,
        np.array(offsets, dtype=np.int64),
    )  # fmt: skip


def _body_size(head: bytes, n_atoms: int) -> int:
    """Bytes from the end of the compression header to the next frame (negative for the few uncompressed atoms)."""
    if n_atoms <= _MAX_UNCOMPRESSED:
        return 12 * n_atoms - len(head)
    n_bytes: int = struct.unpack(">i", head[-4:])[0]
    return -(-n_bytes // 4) * 4
