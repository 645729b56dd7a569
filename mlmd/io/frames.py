"""What a trajectory is: frames that stay in their file and come in chunks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from mlmd.errors import InputError, did_you_mean

CHUNK_BYTES = 8e6
"""Size of a chunk of positions when the caller does not say."""


class FrameReader(Protocol):
    """A file of frames of the same atoms."""

    @property
    def n_atoms(self) -> int:
        """Atoms in every frame."""

    @property
    def n_frames(self) -> int:
        """Complete frames in the file."""

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""

    def cells(self, frames: range) -> np.ndarray | None:
        """Cells, (n, 3, 3) Å, rows are vectors, or None when the file has no cells."""


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of a trajectory."""

    positions: np.ndarray
    """(n, n_atoms, 3) Å."""
    cells: np.ndarray
    """(n, 3, 3) Å, rows are vectors; zero without periodicity."""
    times: np.ndarray
    """(n,) fs."""


@dataclass(frozen=True)
class Provenance:
    """Where the frames of an analysis come from."""

    path: str
    stage: int | None
    """Number of the stage, counted from 1; None for files that are not of a run."""
    kind: str | None
    first_time: float
    """fs since the beginning of the run; nan, as the other times, where nobody needed to know."""
    last_time: float
    interval: float
    """fs between frames."""
    n_frames: int
    bias: str | None = None
    """File of the bias that acted on the atoms; None when none did."""
    exchanged: bool = False
    """Whether replicas exchanged in this stage, so that atoms jump between frames."""
    scale: float | None = None
    """Factor on the potential that acted on the atoms; None for the potential itself."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with null for times that are not known."""
        return {key: None if _unknown(value) else value for key, value in asdict(self).items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of any analysis of these frames should know."""
        scaled = (
            ""
            if self.scale is None
            else (f"the potential acted {self.scale:g} times as strongly, so averages are those of another one")
        )
        return tuple(filter(None, ("" if self.bias is None else biased(self.bias), scaled)))


def _unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def biased(name: str) -> str:
    """Words about a stage on which the bias of a file acted."""
    return (
        f"this stage was biased: {name} acted on the atoms, so averages, structure and diffusion are not those of the "
        "potential alone"
    )


@dataclass(frozen=True)
class Trajectory:
    """Positions of the same atoms at increasing times, at one temperature."""

    reader: FrameReader
    rows: range
    """Frames of the file that belong to this trajectory."""
    times: np.ndarray
    """(n_frames,) fs since the beginning of the run."""
    cells: np.ndarray
    """(n_frames, 3, 3) Å, rows are vectors; zero without periodicity."""
    numbers: np.ndarray
    """(n_atoms,) atomic numbers."""
    masses: np.ndarray
    """(n_atoms,) amu."""
    pbc: np.ndarray
    """(3,) bool."""
    unwrapped: bool
    """Whether atoms that leave the cell keep going (True) or come back on the other side (False)."""
    temperature: float | None
    """K: target of the thermostat, or mean of the run without one."""
    provenance: Provenance

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.rows)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def symbols(self) -> np.ndarray:
        """(n_atoms,) element symbols."""
        from ase.data import chemical_symbols

        return np.array(chemical_symbols)[self.numbers]

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur, in the order of their first atom."""
        return tuple(dict.fromkeys(self.symbols.tolist()))

    @property
    def constant_cell(self) -> bool:
        """Whether all frames have the same cell."""
        return bool((self.cells == self.cells[:1]).all())

    def volume(self) -> float:
        """Mean volume of the cell, Å³; nan without full periodicity."""
        return float(np.mean(np.abs(np.linalg.det(self.cells)))) if self.pbc.all() else float("nan")

    def atoms_of(self, elements: Sequence[str]) -> np.ndarray:
        """Indices of the atoms of some elements.

        Raises:
            InputError: when an element does not occur.
        """
        for element in elements:
            if element not in self.elements:
                raise InputError(
                    f"There is no {element!r} in {self.provenance.path}. {did_you_mean(element, self.elements)}"
                )
        return np.flatnonzero(np.isin(self.symbols, list(elements)))

    def chunks(
        self, start: int = 0, stop: int | None = None, step: int = 1, n_per_chunk: int | None = None,
        atoms: slice | np.ndarray = slice(None),
    ) -> Iterator[Frames]:  # fmt: skip
        """Frames start, start + step, ... before stop, some at a time.

        Args:
            start, stop, step: as in a slice, step > 0.
            n_per_chunk: frames in memory at once; by default about `CHUNK_BYTES`.
            atoms: which atoms to read.
        """
        frames = range(self.n_frames)[start:stop:step]
        n_atoms = max(1, len(np.arange(self.n_atoms)[atoms]))
        size = n_per_chunk or max(1, int(CHUNK_BYTES / (24 * n_atoms)))
        for first in range(0, len(frames), size):
            part = frames[first : first + size]
            where = slice(part.start, part.stop, part.step)
            yield Frames(self.reader.read(self.rows[where], atoms), self.cells[where], self.times[where])


def spans(frames: range, n_atoms: int) -> Iterator[range]:
    """Frames, some at a time: so many that all atoms from the first to the last of them are about `CHUNK_BYTES`.

    For readers of files in which frames are stored whole, whatever atoms are asked for.
    """
    size = max(1, int(CHUNK_BYTES / (24 * max(1, n_atoms) * frames.step)))
    for first in range(0, len(frames), size):
        yield frames[first : first + size]


@dataclass(frozen=True)
class ArrayReader:
    """Frames that are already in memory."""

    positions: np.ndarray
    """(n_frames, n_atoms, 3) Å."""
    boxes: np.ndarray | None
    """(n_frames, 3, 3) Å."""
    numbers: np.ndarray | None = None
    """(n_frames, n_atoms) atomic numbers, where the file tells elements."""

    @property
    def n_atoms(self) -> int:
        """Atoms in every frame."""
        return int(self.positions.shape[1])

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.positions)

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""
        return np.asarray(self.positions[slice(frames.start, frames.stop, frames.step)][:, atoms], dtype=float)

    def cells(self, frames: range) -> np.ndarray | None:
        """Cells, (n, 3, 3) Å, rows are vectors."""
        return None if self.boxes is None else self.boxes[slice(frames.start, frames.stop, frames.step)]
