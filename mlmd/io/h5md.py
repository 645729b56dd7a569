"""H5MD trajectories (de Buyl, Colberg, Höfling, Comput. Phys. Commun. 185, 1546 (2014)), read in place by h5py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.errors import InputError, ModelError, StorageError
from mlmd.io.frames import spans

if TYPE_CHECKING:
    import ase
    import h5py

_LENGTHS = {"Angstrom": 1.0, "angstrom": 1.0, "Å": 1.0, "A": 1.0, "nm": 10.0, "pm": 0.01, "bohr": 0.529177210903}
_TIMES = {"fs": 1.0, "ps": 1e3, "ns": 1e6}


@dataclass(frozen=True)
class H5MDReader:
    """The frames of one group of particles."""

    path: Path
    group: str
    """``/particles/NAME``."""
    n_atoms: int
    n_frames: int
    scale: float
    """Å in the unit of length of positions."""
    box_scale: float
    """Å in the unit of length of the box."""
    times: np.ndarray | None
    """(n_frames,) fs, where the file tells their unit."""
    images: bool
    """Whether the file counts how often atoms have crossed the cell."""
    numbers: np.ndarray | None
    """(n_atoms,) atomic numbers, where species are named as elements."""

    @property
    def unwrapped(self) -> bool | None:
        """True with images; positions alone tell nothing."""
        return True if self.images else None

    @property
    def first(self) -> ase.Atoms:
        """The first frame, of a file that tells elements."""
        import ase

        cells = self.cells(range(1))
        pbc = np.zeros(3, dtype=bool)
        with _opened(self.path) as file:
            box = file[self.group].get("box")
            if box is not None and "boundary" in box.attrs:
                words = [one.decode() if isinstance(one, bytes) else str(one) for one in box.attrs["boundary"]]
                pbc = np.array([word == "periodic" for word in words])
        cell = None if cells is None else cells[0]
        return ase.Atoms(numbers=self.numbers, positions=self.read(range(1))[0], cell=cell, pbc=pbc)

    def read(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Positions of some atoms in some frames, (n, n_atoms, 3) Å, float64."""
        found = np.empty((len(frames), len(np.arange(self.n_atoms)[atoms]), 3))
        cells = self.cells(frames) if self.images else None
        done = 0
        with _opened(self.path) as file:
            particles = file[self.group]
            for part in spans(frames, self.n_atoms):
                rows, own = slice(part.start, part.stop, part.step), slice(done, done + len(part))
                found[own] = particles["position/value"][rows][:, atoms]
                found[own] *= self.scale
                if cells is not None:
                    found[own] += np.asarray(particles["image/value"][rows][:, atoms], dtype=float) @ cells[own]
                done += len(part)
        return found

    def cells(self, frames: range) -> np.ndarray | None:
        """Cells, (n, 3, 3) Å, rows are vectors; None without a box."""
        rows = slice(frames.start, frames.stop, frames.step)
        with _opened(self.path) as file:
            box = file[self.group].get("box")
            if box is None or "edges" not in box:
                return None
            edges = box["edges"]
            changing = hasattr(edges, "keys")  # a group with a value of each frame, or one dataset for all
            values = edges["value"][rows] if changing else np.asarray(edges[()])[None]
        values = np.asarray(values, dtype=float) * self.box_scale
        matrices = values if values.shape[1:] == (3, 3) else values[:, :, None] * np.eye(3)
        return matrices if changing else np.repeat(matrices, len(frames), axis=0)


def open_h5md(path: Path) -> H5MDReader:
    """Read what an H5MD file says of its particles.

    Raises:
        ModelError: without h5py.
        InputError: when it has several groups of particles, its unit of length is not told, or it counts how often
            atoms have crossed a cell that it does not tell.
        StorageError: when the file is missing, no H5MD file, or has no positions.
    """
    if not path.is_file():
        raise StorageError(f"{path} cannot be read: No such file or directory.")
    with _opened(path) as file:
        groups = list(file["particles"]) if "particles" in file else []
        if not groups:
            raise StorageError(f"{path} has no group /particles: it is no H5MD trajectory.")
        if len(groups) > 1 and "all" not in groups:
            raise InputError(f"{path} has several groups of particles ({', '.join(groups)}); one is needed, or 'all'.")
        name = f"particles/{'all' if 'all' in groups else groups[0]}"
        particles = file[name]
        if "position/value" not in particles:
            raise StorageError(f"{path}: /{name} has no position/value.")
        values = particles["position/value"]
        if values.ndim != 3 or values.shape[2] != 3:
            raise StorageError(f"{path}: /{name}/position/value is {values.shape}; (frames, atoms, 3) is needed.")
        images = "image/value" in particles
        if images and particles["image/value"].shape != values.shape:
            raise StorageError(f"{path}: /{name}/image/value is {particles['image/value'].shape}, not {values.shape}.")
        edges = particles.get("box/edges")
        if images and edges is None:
            raise InputError(
                f"{path} has /{name}/image, how often atoms have crossed the cell, and no /{name}/box/edges, the cell. "
                "Write the edges into the file, or take image out of it and say whether positions are unwrapped."
            )
        scale = _scale(path, f"{name}/position/value", values)
        return H5MDReader(
            path, name, int(values.shape[1]), int(values.shape[0]), scale, _box_scale(path, name, edges, scale),
            _times(particles["position"]), images, _numbers(particles),
        )  # fmt: skip


def _opened(path: Path) -> h5py.File:
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModelError(f'{path}: reading H5MD needs h5py. Install it: pip install "mlmd[h5md]".') from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise StorageError(f"{path} cannot be read as HDF5: {error}.") from None


def _unit(item: Any) -> str | None:
    unit = item.attrs.get("unit")
    return unit.decode() if isinstance(unit, bytes) else None if unit is None else str(unit)


def _box_scale(path: Path, name: str, edges: Any, scale: float) -> float:
    """Of the box, which may have a unit of its own; else that of positions."""
    if edges is None:
        return scale
    where = f"{name}/box/edges/value" if hasattr(edges, "keys") else f"{name}/box/edges"
    values = edges["value"] if hasattr(edges, "keys") else edges
    return scale if _unit(values) is None else _scale(path, where, values)


def _scale(path: Path, where: str, values: Any) -> float:
    unit = _unit(values)
    if unit not in _LENGTHS:
        got = "does not tell its unit of length" if unit is None else f"has lengths in {unit!r}"
        raise InputError(
            f"{path} {got}; one of {', '.join(_LENGTHS)} is needed. Write it into the file with h5py: "
            f"file['{where}'].attrs['unit'] = 'Angstrom'."
        )
    return _LENGTHS[unit]


def _times(position: Any) -> np.ndarray | None:
    if "time" not in position or (unit := _unit(position["time"])) not in _TIMES:
        return None
    time = position["time"]
    n_frames = position["value"].shape[0]
    if time.shape == ():  # one number is the interval, with an offset as attribute
        return (float(time.attrs.get("offset", 0.0)) + float(time[()]) * np.arange(n_frames)) * _TIMES[unit]
    return np.asarray(time[:n_frames], dtype=float) * _TIMES[unit]


def _numbers(particles: Any) -> np.ndarray | None:
    """Of species that are an enumeration of element symbols: plain integers may mean anything."""
    import h5py
    from ase.data import atomic_numbers

    if "species" not in particles:
        return None
    species = particles["species"]
    values = species["value"] if isinstance(species, h5py.Group) else species
    names = h5py.check_enum_dtype(values.dtype)
    if names is None or not set(names) <= set(atomic_numbers):
        return None
    of_value = {value: atomic_numbers[name] for name, value in names.items()}
    codes = np.asarray(values[0] if values.ndim == 2 else values[()])
    return np.array([of_value[int(code)] for code in codes])
