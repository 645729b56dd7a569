"""The files a run appends to: log.csv and the trajectory, cut back to a checkpoint before a run continues."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import cell_to_cellpar

from mlmd.errors import StorageError
from mlmd.io.labels import SCALED

LOG_HEADER = (
    "step,stage,time [ps],potential energy [eV],kinetic energy [eV],energy per atom [eV],temperature [K],"
    "pressure [bar],volume [Å^3],density [g/cm^3],target temperature [K],bias energy [eV]\n"
)
NEEDS_ENERGY = ("potential energy [eV]", "energy per atom [eV]", "pressure [bar]")
"""Columns that the log of a potential without an energy does not have."""
_TAIL = 1 << 20


def log_columns(*, has_energy: bool) -> list[str]:
    """Names of the columns of log.csv, of a potential with or without an energy."""
    return [name for name in LOG_HEADER.rstrip("\n").split(",") if has_energy or name not in NEEDS_ENERGY]


@dataclass(frozen=True)
class Snapshot:
    """One moment in the user's orientation."""

    step: int
    """Global step."""
    time: float
    """fs."""
    positions: np.ndarray
    """(n_atoms, 3) Å, unwrapped."""
    cell: np.ndarray
    """(3, 3) Å."""
    velocities: np.ndarray | None = None
    """(n_atoms, 3) Å/fs."""
    energy: float | None = None
    """eV, of the potential."""
    forces: np.ndarray | None = None
    """(n_atoms, 3) eV/Å."""
    spread: np.ndarray | None = None
    """(n_atoms,) eV/Å, expected errors of the forces."""
    grade: np.ndarray | None = None
    """(n_atoms,) extrapolation grades."""
    scale: float = 1.0
    """Factor on the potential in energy and forces."""


def to_atoms(snapshot: Snapshot, template: ase.Atoms) -> ase.Atoms:
    """A snapshot as ASE atoms with energy, forces and velocities where known."""
    atoms = ase.Atoms(template.numbers, snapshot.positions, cell=snapshot.cell, pbc=template.pbc)
    atoms.set_masses(template.get_masses())
    atoms.info.update(step=snapshot.step, time_fs=snapshot.time)
    if template.has("id"):  # which atom is which, where others come and go
        atoms.set_array("id", template.arrays["id"])
    if template.has("initial_charges"):
        atoms.set_initial_charges(template.get_initial_charges())
    for name in ("spread", "grade"):
        if (values := getattr(snapshot, name)) is not None:
            atoms.set_array(name, values)
    if snapshot.scale != 1.0:
        atoms.info[SCALED] = snapshot.scale
    if snapshot.velocities is not None:
        from ase import units

        atoms.set_velocities(snapshot.velocities / units.fs)
    if snapshot.forces is not None:
        known = {} if snapshot.energy is None else {"energy": snapshot.energy}
        atoms.calc = SinglePointCalculator(atoms, **known, forces=snapshot.forces)
    return atoms


class AppendOnly:
    """A file that only grows, so that its size at a checkpoint says what to keep of it."""

    mutable = 0
    """Bytes at the beginning that may change later; they do not count in the fingerprint."""

    def __init__(self, path: Path) -> None:
        """Open for appending; a new file begins with `header`."""
        self.path = path
        self._file = path.open("r+b" if path.exists() else "w+b")
        if not self._file.seek(0, os.SEEK_END):
            self._file.write(self.header())

    def header(self) -> bytes:
        """What a new file begins with."""
        return b""

    def append(self, content: bytes) -> None:
        """Add to the end."""
        self._file.write(content)

    def commit(self) -> None:
        """Make everything written so far durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class Log(AppendOnly):
    """log.csv: one row of numbers, without anything that depends on the clock."""

    def __init__(self, path: Path, more: Sequence[str] = (), *, has_energy: bool = True) -> None:
        """`more` are names of columns behind those of `log_columns`."""
        self._names = ",".join([*log_columns(has_energy=has_energy), *more])
        super().__init__(path)

    def header(self) -> bytes:
        """Names with units."""
        return f"{self._names}\n".encode()

    def row(self, step: int, stage: int, values: Iterable[float]) -> None:
        """Add a row: global step, number of the stage counted from 1, and the other columns of the header.

        The time comes first among them and is written exactly: after a microsecond ten digits do not tell steps apart.
        """
        time, *others = values
        words = [str(step), str(stage), f"{time:.15g}", *(f"{value:.10g}" for value in others)]
        self.append((",".join(words) + "\n").encode())
        self._file.flush()


class DCD(AppendOnly):
    """CHARMM/NAMD binary trajectory: cell lengths and angles, float32 positions in Å, frames of one size.

    The header counts frames; it is brought up to date at every commit. The order of cell numbers is that of
    CHARMM: a, cos γ, b, cos β, cos α, c with cosines, as NAMD and OpenMM write them (angles in degrees are
    understood by all readers and what is written here).
    """

    mutable = 92

    def __init__(self, path: Path, n_atoms: int, frame_time: float) -> None:
        """`frame_time` is the time between frames in fs."""
        self._n_atoms = n_atoms
        self._frame_time = frame_time
        super().__init__(path)

    def header(self) -> bytes:
        """The three header records."""
        akma = 48.88821
        control = [0, 1, 1, 0, 0, 0, 0, 0, 0]
        first = struct.pack("<4s9if10i", b"CORD", *control, self._frame_time / akma, 1, *([0] * 8), 24)
        titles = struct.pack("<i80s", 1, b"Created by mlmd".ljust(80))
        records = (first, titles, struct.pack("<i", self._n_atoms))
        return b"".join(_record(content) for content in records)

    @property
    def frame_size(self) -> int:
        """Bytes of one frame."""
        return 8 + 48 + 3 * (8 + 4 * self._n_atoms)

    def frame(self, snapshot: Snapshot) -> None:
        """Add a frame."""
        a, b, c, alpha, beta, gamma = cell_to_cellpar(snapshot.cell) if snapshot.cell.any() else [0.0] * 6
        columns = snapshot.positions.T.astype("<f4")
        self.append(_record(struct.pack("<6d", a, gamma, b, beta, alpha, c)) + b"".join(map(_record_of, columns)))

    def commit(self) -> None:
        """Bring the count of frames up to date and make everything durable."""
        end = self._file.seek(0, os.SEEK_END)
        count = (end - len(self.header())) // self.frame_size
        self._file.seek(8)
        self._file.write(struct.pack("<i", count))
        self._file.seek(20)
        self._file.write(struct.pack("<i", count))
        self._file.seek(0, os.SEEK_END)
        super().commit()


def _record(content: bytes) -> bytes:
    length = struct.pack("<i", len(content))
    return length + content + length


def _record_of(column: np.ndarray) -> bytes:
    return _record(column.tobytes())


class XTC(AppendOnly):
    """GROMACS compressed trajectory (positions rounded to 0.01 Å); each frame stands alone, so frames are appended."""

    def frame(self, snapshot: Snapshot) -> None:
        """Add a frame, encoded by mdtraj."""
        from mdtraj.formats import XTCTrajectoryFile

        with tempfile.TemporaryDirectory() as folder:
            name = Path(folder) / "frame.xtc"
            with XTCTrajectoryFile(str(name), "w") as file:
                file.write(
                    np.float32(snapshot.positions[None] / 10.0),
                    time=np.array([snapshot.time / 1e3], dtype=np.float32),
                    step=np.array([snapshot.step % 2**31]),
                    box=np.float32(snapshot.cell[None] / 10.0),
                )
            self.append(name.read_bytes())


class ExtXYZ(AppendOnly):
    """Extended XYZ: text, positions with velocities and forces."""

    def __init__(self, path: Path, template: ase.Atoms) -> None:
        """`template` gives numbers, masses and periodicity."""
        self._template = template
        super().__init__(path)

    def follow(self, template: ase.Atoms) -> None:
        """Write other atoms from now on."""
        self._template = template

    def frame(self, snapshot: Snapshot) -> None:
        """Add a frame."""
        self.structure(to_atoms(snapshot, self._template))

    def structure(self, atoms: ase.Atoms) -> None:
        """Add a frame with all that ASE knows of it."""
        import io

        text = io.StringIO()
        ase.io.write(text, atoms, format="extxyz")
        self.append(text.getvalue().encode())


Trajectory = DCD | XTC | ExtXYZ


def open_trajectory(path: Path, kind: str, template: ase.Atoms, frame_time: float) -> Trajectory:
    """The trajectory writer of an input's ``trajectory_format``; `frame_time` in fs."""
    makers: dict[str, Callable[[], Trajectory]] = {
        "dcd": lambda: DCD(path, len(template), frame_time),
        "xtc": lambda: XTC(path),
        "extxyz": lambda: ExtXYZ(path, template),
    }
    return makers[kind]()


def fingerprint(path: Path, size: int, mutable: int = 0) -> str:
    """SHA-256 of the last MiB before `size`, the changeable beginning left out."""
    start = max(mutable, size - _TAIL)
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(max(0, size - start))).hexdigest()


def measure(folder: Path, names: Mapping[str, int]) -> dict[str, Any]:
    """Size and fingerprint of each file that exists, made durable first; `names` gives the changeable bytes of each."""
    table = {}
    for name, mutable in names.items():
        path = folder / name
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            size = path.stat().st_size
            table[name] = {"size": size, "sha256": fingerprint(path, size, mutable)}
    return table


def last_step(log: Path) -> int | None:
    """Global step of the last whole row of `log.csv`; None where there is none, or the file is none.

    A row that a killed process did not finish does not count.
    """
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
        rows = file.read().split(b"\n")[:-1]
    word = rows[-1].partition(b",")[0] if rows else b""
    return int(word) if word.isdigit() else None


def differences(folder: Path, recorded: Mapping[str, Mapping[str, Any]], names: Mapping[str, int]) -> dict[str, str]:
    """Files that do not begin any more with what they were at a checkpoint, and what is wrong with each.

    Args:
        folder: of the run.
        recorded: size and fingerprint of each file at the checkpoint, as `measure` gives them.
        names: the changeable bytes at the beginning of each file.
    """
    wrong = {}
    for name, entry in recorded.items():
        path, size = folder / name, int(entry["size"])
        if not path.exists() or path.stat().st_size < size:
            wrong[name] = f"{path} is missing or shorter than at the last checkpoint"
        elif fingerprint(path, size, names.get(name, 0)) != entry["sha256"]:
            wrong[name] = f"{path} was changed since the last checkpoint"
    return wrong


def rewind(folder: Path, recorded: Mapping[str, Mapping[str, Any]], names: Mapping[str, int]) -> list[str]:
    """Cut every file back to what it was at a checkpoint; files that did not exist then go.

    Returns:
        What was cut, in words.

    Raises:
        StorageError: when a file is shorter than it was or its kept part has changed. Nothing is cut then.
    """
    for why in differences(folder, recorded, names).values():
        raise StorageError(f"{why}; restore it from a backup, or see what `mlmd repair {folder}` would cost.")
    cut = []
    for name in names:
        path, size = folder / name, int(recorded.get(name, {"size": 0})["size"])
        if not path.exists():
            continue
        excess = path.stat().st_size - size
        if name not in recorded:
            path.unlink()
        elif excess:
            os.truncate(path, size)
        if excess:
            cut.append(f"{name}: {excess} bytes after the checkpoint removed")
    return cut
