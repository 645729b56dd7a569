"""Structure files, read by ASE and checked by us (ASE accepts nan, overlapping atoms and empty files)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers

from mlmd.config.files import no_such_file
from mlmd.errors import InputError
from mlmd.io import fixed, pdbx
from mlmd.io.validity import check_structure, partial_occupancies

FORMATS: dict[str, str] = {
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".cif": "cif",
    ".vasp": "vasp",
    ".poscar": "vasp",
    ".pdb": "proteindatabank",
    ".pdbx": "pdbx",
    ".mmcif": "pdbx",
    ".gro": "gromacs",
    ".data": "lammps-data",
    ".lmp": "lammps-data",
    ".lammps": "lammps-data",
}
"""File ending -> ASE's name of the format (POSCAR* and CONTCAR* are VASP's, mmCIF is read by us); none can execute
code."""

MAX_ATOMS = 20_000_000
"""More atoms than this in a supercell is a typing error."""

_FRAME = re.compile(r"(.+)@(-?\d+)")


def read_structure(path: str | Path, supercell: Sequence[int] = (1, 1, 1)) -> Atoms:
    """One checked structure.

    Elements, positions (Å), cell, periodicity, masses, charges and velocities are kept, anything else that
    the file says is dropped. ``name.extxyz@3`` is frame 3 of a file, counted from 0; ``@-1`` is the last.

    Args:
        path: a file of one of the `FORMATS`.
        supercell: repeats along the three cell vectors.

    Returns:
        Atoms whose ``info["constrained"]`` lists the atoms that the file itself wants fixed (selective
        dynamics of a POSCAR), where there are any: only the input file decides what is frozen.

    Raises:
        InputError: the file is missing, of an unknown format or damaged, has several frames, partly occupied
            sites, or is not a sound structure (see `check_structure`).
    """
    path, frame = split_frame(Path(path))
    atoms = _clean(_only(_frames(path, frame), path, frame), path)
    check_structure(atoms, path.name)
    return _repeat(atoms, supercell, path.name)


def read_reference(path: str | Path) -> Atoms:
    """One structure as its file has it, with partly occupied sites, vacancies (X) and further arrays, unchecked.

    For what is compared with, not simulated. ``name.extxyz@3`` is a frame, as for `read_structure`.

    Raises:
        InputError: the file is missing, of an unknown format or damaged, or has several frames.
    """
    path, frame = split_frame(Path(path))
    return _only(_frames(path, frame), path, frame)


def file_velocities(atoms: Atoms) -> np.ndarray | None:
    """(n_atoms, 3) Å/fs as the structure file gave them, or None when it gave none."""
    if not atoms.has("momenta"):
        return None
    velocities: np.ndarray = atoms.get_velocities() * units.fs
    return velocities


def split_frame(path: Path) -> tuple[Path, int | None]:
    """A path and the frame that stands after an @ in its name."""
    match = _FRAME.fullmatch(path.name)
    if match is None or path.exists():
        return path, None
    return path.with_name(match[1]), int(match[2])


def _format(path: Path) -> str:
    """ASE's name of the file's format."""
    if path.name.upper().startswith(("POSCAR", "CONTCAR")):
        return "vasp"
    known = FORMATS.get(path.suffix.lower())
    if known is None:
        endings = ", ".join(FORMATS)
        raise InputError(f"{path.name} has no ending that tells its format. Known: {endings}, POSCAR, CONTCAR.")
    return "pdbx" if known == "cif" and pdbx.is_pdbx(path) else known


def _frames(path: Path, frame: int | None) -> list[Atoms]:
    """One frame, or the first two of a file (two are one too many)."""
    from ase.io import read

    if not path.is_file():
        raise InputError("structure " + (f"{path}: not a file." if path.exists() else no_such_file(path)))
    kind = _format(path)
    if kind == "lammps-data":
        _require_masses(path)
    wanted: Any = slice(0, 2) if frame is None else slice(frame, frame + 1 or None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "pdbx":
                found = pdbx.read(path)[wanted]
            else:
                found = read(path, index=wanted, format=kind, do_not_split_by_at_sign=True)
    except Exception as error:  # readers raise whatever a wrong file happens to trigger
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"structure {path}: cannot be read: {error.strerror}.") from None
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise InputError(
            f"{path.name} cannot be read as {kind} ({reason}). Is it damaged, or another format?"
        ) from None
    return found if isinstance(found, list) else [found]


def _require_masses(path: Path) -> None:
    """Only masses or type labels tell the elements of LAMMPS data; else ASE takes type 1 for hydrogen."""
    text = path.read_text(errors="replace")
    if not re.search(r"^\s*(Masses|Atom Type Labels)\b", text, re.MULTILINE):
        raise InputError(f"{path.name}: a section Masses or Atom Type Labels is needed to know the elements.")


def _only(frames: list[Atoms], path: Path, frame: int | None) -> Atoms:
    """The only frame of a file, or the one asked for."""
    if not frames and frame is not None:
        raise InputError(f"{path.name} has no such frame as {frame}: they are counted from 0, and @-1 is the last.")
    if not frames:
        raise InputError(f"{path.name} has no structure at all.")
    if len(frames) > 1:
        raise InputError(f'{path.name} has several structures. Choose one: "{path.name}@0" is the first, @-1 the last.')
    return frames[0]


def _clean(read: Atoms, path: Path) -> Atoms:
    """What mlmd uses of a structure, in a new object."""
    sites = partial_occupancies(read)
    if sites:
        listed = "; ".join(sites[:8]) + ("; ..." if len(sites) > 8 else "")
        raise InputError(
            f"{path.name} has {len(sites)} partly occupied sites: {listed}. Make an ordered cell of it first."
        )
    atoms = Atoms(numbers=_numbers(read), positions=read.positions, cell=read.cell, pbc=read.pbc)
    keep: dict[str, Callable[[Any], None]] = {
        "masses": atoms.set_masses,
        "initial_charges": atoms.set_initial_charges,
    }
    for name, store in keep.items():
        if read.has(name):
            store(read.get_array(name))
    if read.has("momenta"):
        atoms.set_array("momenta", read.get_array("momenta"), float, (3,))
    fixed.mark(atoms, *fixed.of_constraints(read))
    return atoms


def _numbers(atoms: Atoms) -> np.ndarray:
    """Atomic numbers; ions of a GROMACS file by their names (ASE takes NA for nitrogen and CL for carbon)."""
    numbers: np.ndarray = atoms.get_atomic_numbers()
    if atoms.has("residuenames") and atoms.has("atomtypes"):
        names = zip(atoms.get_array("residuenames"), atoms.get_array("atomtypes"), strict=True)
        for index, (residue, atom) in enumerate(names):
            symbol = str(atom).strip("+-0123456789 ").capitalize()
            if str(residue).strip("+-0123456789 ").capitalize() == symbol in atomic_numbers:
                numbers[index] = atomic_numbers[symbol]
    return numbers


def _repeat(atoms: Atoms, supercell: Sequence[int], name: str) -> Atoms:
    """The supercell."""
    if tuple(supercell) == (1, 1, 1):
        return atoms
    for axis, count in enumerate(supercell):
        if count > 1 and not atoms.pbc[axis]:
            raise InputError(f"{name} is not periodic along cell vector {axis + 1}; supercell must be 1 there.")
    n_atoms = len(atoms) * int(np.prod([int(count) for count in supercell], dtype=object))
    if n_atoms > MAX_ATOMS:
        raise InputError(
            f"supercell {list(supercell)} of {name} has {n_atoms:,} atoms; at most {MAX_ATOMS:,} can be used."
        )
    return atoms.repeat(tuple(supercell))
