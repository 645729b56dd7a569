"""DeePMD-kit's folders of training data (``type.raw``, ``set.*/*.npy``); Å, eV, eV/Å, and virial = -V·stress in eV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mlmd.errors import InputError, did_you_mean
from mlmd.io.labels import RawFrame

_LABELS = {"energy": (), "force": (3,), "virial": (9,)}


def read_systems(path: Path, type_map: str | None) -> list[RawFrame]:
    """The frames of a system, or of all the systems in a folder and the folders below it.

    A system is a folder with a ``type.raw``; its name is the group of its frames.

    Args:
        path: the folder.
        type_map: symbols of the types 0, 1, ... joined by commas; by default they stand in ``type_map.raw``.

    Raises:
        InputError: no system, unknown elements, arrays that are missing, damaged or do not fit together, and the
            formats without fixed types in all frames (``real_atom_types.npy``).
    """
    systems = [path] if (path / "type.raw").is_file() else sorted(raw.parent for raw in path.rglob("type.raw"))
    if not systems:
        raise InputError(
            f"{path} is a folder without labelled structures: a DeePMD system has type.raw, type_map.raw and "
            "set.*/coord.npy. Give the files themselves when it holds extended XYZ files."
        )
    return [frame for system in systems for frame in _read_system(system, path, type_map)]


def _read_system(system: Path, root: Path, type_map: str | None) -> Iterator[RawFrame]:
    name = system.name or system.resolve().name
    label = str(system.relative_to(root.parent)) if system != root else name
    numbers = _numbers(system, label, type_map)
    periodic = not (system / "nopbc").exists()
    sets = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
    if not sets:
        raise InputError(f"{label} has no set.* folder. Make it from the .raw files with DeePMD's raw_to_set.sh.")
    for folder in sets:
        where = f"{label}/{folder.name}"
        if (folder / "real_atom_types.npy").exists():
            raise InputError(
                f"{where} is in the mixed format (real_atom_types.npy), which is not read. Write it as ordinary "
                "systems with dpdata: MultiSystems(), load_systems_from_file with deepmd/npy/mixed, to deepmd/npy."
            )
        coordinates = _array(folder / "coord.npy", where, None, (len(numbers), 3))
        if coordinates is None:
            raise InputError(f"{where} has no coord.npy.")
        n_frames = len(coordinates)
        cells = _array(folder / "box.npy", where, n_frames, (3, 3)) if periodic else None
        if periodic and cells is None:
            raise InputError(f"{where} has no box.npy. A system without periodicity needs a file named nopbc.")
        labels = {
            kind: _array(folder / f"{kind}.npy", where, n_frames, (len(numbers), 3) if shape == (3,) else shape)
            for kind, shape in _LABELS.items()
        }
        for index in range(n_frames):
            given = {kind: array[index] for kind, array in labels.items() if array is not None}
            cell = None if cells is None else cells[index]
            atoms = Atoms(numbers=numbers, positions=coordinates[index], cell=cell, pbc=periodic)
            per_atom = {"force": given.pop("force")} if "force" in given else {}
            yield RawFrame(atoms, {**given, "group": name}, per_atom, f"{where}@{index}")


def _numbers(system: Path, label: str, type_map: str | None) -> np.ndarray:
    """Atomic numbers of a system."""
    try:
        types = np.array((system / "type.raw").read_text().split(), dtype=int)
        given = (system / "type_map.raw").read_text().split() if (system / "type_map.raw").is_file() else []
    except (OSError, ValueError) as error:
        raise InputError(f"{label}/type.raw is not a list of type numbers ({error}).") from None
    symbols = [word.strip() for word in type_map.split(",")] if type_map is not None else given
    if not symbols:
        raise InputError(
            f'{label} has no type_map.raw, so its elements are not known. Say them: type_map = "O,H" (type 0 is O).'
        )
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) == 0:
            raise InputError(f"{label}: {symbol!r} is not an element. {did_you_mean(symbol, chemical_symbols[1:])}")
    if types.size == 0 or types.min() < 0 or types.max() >= len(symbols):
        largest = f"up to {types.max()}" if types.size else "for no atoms"
        raise InputError(f"{label}: type.raw has types {largest}, but the type map has {len(symbols)}: {symbols}.")
    return np.array([atomic_numbers[symbol] for symbol in symbols])[types]


def _array(path: Path, where: str, n_frames: int | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array of frames as float64, or None when it does not exist."""
    if not path.exists():
        return None
    try:
        array = np.load(path, allow_pickle=False)
        if array.dtype.kind not in "fiu":
            raise ValueError(f"it holds {array.dtype}")
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0][:150]
        raise InputError(f"{where}/{path.name} cannot be read as an array of numbers ({reason}).") from None
    per_frame = int(np.prod(shape, dtype=int))
    rows = array.size // per_frame
    if array.size != rows * per_frame or (n_frames is not None and rows != n_frames):
        needed = f"{n_frames} × {per_frame}" if n_frames is not None else f"a multiple of {per_frame}"
        raise InputError(f"{where}/{path.name} has {array.size} numbers (shape {array.shape}); {needed} are needed.")
    return array.astype(np.float64).reshape(rows, *shape)
