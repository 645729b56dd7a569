"""Text dumps of LAMMPS in which atoms come and go, read in place and known by their id.

Own code because ASE's reader drops the column id: when an atom leaves, all that stand behind it become others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlmd.errors import InputError, StorageError
from mlmd.io.lammps_dump import (
    cell_of,
    check_units,
    complete_frames,
    numbers_of,
    position_columns,
    positions_of,
    read_head,
    table_of,
)

if TYPE_CHECKING:
    import ase


@dataclass(frozen=True)
class GrowingDump:
    """The complete frames of a dump; a torn last frame is not seen."""

    path: Path
    offsets: tuple[int, ...]
    """Byte at which each frame begins, and the byte where the last one ends."""
    sizes: tuple[int, ...]
    """Atoms of each frame."""
    has_ids: bool

    @property
    def n_frames(self) -> int:
        """Number of complete frames."""
        return len(self.sizes)

    def structures(self, frames: range) -> Iterator[ase.Atoms]:
        """The frames as ASE structures, in the order of the file; the array id has the identities."""
        return (self._structure(frame) for frame in frames)

    def _structure(self, frame: int) -> ase.Atoms:
        import ase

        with self.path.open("rb") as file:
            file.seek(self.offsets[frame])
            head = read_head(file, self.path, frame)
            assert head is not None
            text = file.read(self.offsets[frame + 1] - file.tell())
        if "element" not in head.columns or self.has_ids != ("id" in head.columns):
            raise StorageError(f"{self.path}: frame {frame} has other columns than the first one.")
        names, _, scaled = position_columns(self.path, head.columns)
        wanted = [head.columns.index(name) for name in (*names, *(("id",) if self.has_ids else ()))]
        table = table_of(self.path, frame, text, head.n_atoms, wanted)
        positions = positions_of(table[:, : len(names)], scaled, head)
        atoms = ase.Atoms(
            numbers_of(self.path, text, head.columns.index("element")), positions, cell=cell_of(head)[0],
            pbc=[word.startswith("p") for word in head.box[-3:]],
        )  # fmt: skip
        if self.has_ids:
            atoms.set_array("id", table[:, -1].astype(np.int64))
        return atoms


def open_growing_dump(path: Path) -> GrowingDump:
    """Find out where the complete frames begin.

    Raises:
        InputError: when its units are not Å, or its columns tell no elements or no positions.
        StorageError: when the file is missing or is no text dump.
    """
    frames = list(complete_frames(path))
    if not frames:
        return GrowingDump(path, (0,), (), False)
    first = frames[0][0]
    check_units(path, first)
    if "element" not in first.columns:
        raise InputError(f"{path} has no column of elements. Write it with `dump_modify ... element`.")
    position_columns(path, first.columns)
    return GrowingDump(
        path, (0, *(end for _, end in frames)), tuple(head.n_atoms for head, _ in frames), "id" in first.columns
    )
