"""Extended XYZ trajectories: an index of where frames begin, and ASE for what stands in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mlmd.errors import StorageError

if TYPE_CHECKING:
    import ase


@dataclass(frozen=True)
class ExtXYZReader:
    """The complete frames of an extended XYZ file; a last frame that does not end with a line end is not seen."""

    path: Path
    n_atoms: int
    offsets: tuple[int, ...]
    """Byte at which each frame begins, and the byte where the last one ends."""
    sizes: tuple[int, ...] = ()
    """Atoms of each frame, where they may differ."""

    @property
    def n_frames(self) -> int:
        """Number of complete frames."""
        return len(self.offsets) - 1

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""
        positions = [structure.get_positions()[atoms] for structure in self.structures(frames)]
        return np.array(positions, dtype=float).reshape(len(frames), -1, 3)

    def velocities(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray | None:
        """Velocities of some atoms in some frames, (n, n_atoms, 3) Å/fs; None where a frame has none."""
        from mlmd.io.structures import file_velocities

        found = []
        for structure in self.structures(frames):
            velocities = file_velocities(structure)
            if velocities is None:
                return None
            found.append(velocities[atoms])
        return np.array(found, dtype=float).reshape(len(frames), -1, 3)

    def cells(self, frames: range) -> np.ndarray | None:
        """Cells, (n, 3, 3) Å, rows are vectors, or None when the file has no cells."""
        from ase.io.extxyz import key_val_str_to_dict

        lattices = [key_val_str_to_dict(comment).get("Lattice") for comment in self._comments(frames)]
        if any(lattice is None for lattice in lattices):
            return None
        # ASE hands the lattice out with vectors as columns.
        return np.array(lattices, dtype=float).reshape(-1, 3, 3).transpose(0, 2, 1)

    def told(self, frame: int) -> dict[str, Any]:
        """What the comment line of a frame says, by name."""
        from ase.io.extxyz import key_val_str_to_dict

        (comment,) = self._comments(range(frame, frame + 1))
        return dict(key_val_str_to_dict(comment))

    def structures(self, frames: range) -> Iterator[ase.Atoms]:
        """The frames as ASE structures."""
        import ase.io

        with self.path.open("rb") as file:
            for frame in frames:
                file.seek(self.offsets[frame])
                text = file.read(self.offsets[frame + 1] - self.offsets[frame]).decode()
                yield ase.io.read(StringIO(text), index=0, format="extxyz")  # type: ignore[misc]

    def _comments(self, frames: range) -> Iterator[str]:
        with self.path.open("rb") as file:
            for frame in frames:
                file.seek(self.offsets[frame])
                file.readline()
                yield file.readline().decode().strip()


def open_extxyz(path: Path, *, varying: bool = False) -> ExtXYZReader:
    """Find out where the complete frames of an extended XYZ file begin.

    Args:
        path: of the file.
        varying: whether the number of atoms may change from frame to frame; that of the first counts as `n_atoms` then.

    Raises:
        StorageError: when the file is missing, is no XYZ file, or unexpectedly holds frames of different size.
    """
    offsets: list[int] = [0]
    sizes: list[int] = []
    try:
        with path.open("rb") as file:
            while (size := _skip_frame(file, path, len(offsets))) is not None:
                if not varying and sizes and size != sizes[-1]:
                    raise StorageError(
                        f"{path}: frame {len(offsets)} has {size} atoms, the one before {sizes[-1]}. "
                        "A trajectory has the same atoms in all its frames."
                    )
                sizes.append(size)
                offsets.append(file.tell())
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    return ExtXYZReader(path, sizes[0] if sizes else 0, tuple(offsets), tuple(sizes) if varying else ())


def _skip_frame(file: BinaryIO, path: Path, frame: int) -> int | None:
    """Number of atoms of the frame that was skipped, or None when no complete frame follows."""
    first = file.readline()
    if not first.strip():
        return None
    try:
        n_atoms = int(first)
    except ValueError:
        raise StorageError(f"{path}: frame {frame} does not begin with a number of atoms.") from None
    lines, last = 0, b""
    for line in islice(file, n_atoms + 1):
        lines, last = lines + 1, line
    return n_atoms if lines == n_atoms + 1 and last.endswith(b"\n") else None
