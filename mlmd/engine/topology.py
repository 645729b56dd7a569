"""Names and bonds: what PDB and PDBx/mmCIF files say of atoms beside their places, read and written by OpenMM."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import openmm
from openmm import app, unit

from mlmd.engine.forces import NM
from mlmd.errors import InputError
from mlmd.io.pdbx import is_pdbx
from mlmd.io.structures import split_frame
from mlmd.rundir import write_atomically

_PDB = (".pdb", ".ent")
_PDBX = (".pdbx", ".mmcif")
_MOST = 99_999
"""Atoms that the columns of a PDB file can count."""


def has_names(path: Path) -> bool:
    """Whether a structure file is one of PDB or of PDBx/mmCIF."""
    return path.suffix.lower() in (*_PDB, *_PDBX) or (path.suffix.lower() == ".cif" and is_pdbx(path))


def read_named(path: Path) -> tuple[app.Topology, np.ndarray]:
    """The topology of a file and positions (n_atoms, 3) Å; ``name.pdb@1`` is model 1, counted from 0.

    Raises:
        InputError: for files of other kinds, and for damaged ones.
    """
    file, frame = split_frame(path)
    if not has_names(file):
        raise InputError(
            f"{file.name} does not name residues and bonds, which a force field goes by. Give a PDB or PDBx/mmCIF file."
        )
    reader = app.PDBFile if file.suffix.lower() in _PDB else app.PDBxFile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = reader(str(file))
        n_models = found.getNumFrames()
        if frame is None and n_models > 1:
            raise InputError(
                f'{file.name} has several structures. Choose one: "{file.name}@0" is the first, @-1 the last.'
            )
        if frame is not None and not -n_models <= frame < n_models:
            raise InputError(f"{file.name} has no such frame as {frame}: they are counted from 0, and @-1 is the last.")
        which = 0 if frame is None else frame % n_models
        positions = np.array(found.getPositions(asNumpy=True, frame=which).value_in_unit(unit.angstrom))
    except InputError:
        raise
    except Exception as error:  # readers raise whatever a wrong file happens to trigger
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise InputError(f"{file.name} cannot be read ({reason}). Is it damaged?") from None
    return found.topology, positions


def topology_of(path: Path, atoms: ase.Atoms) -> app.Topology | None:
    """The topology of a structure file, where it has one of these atoms in this order."""
    if not has_names(split_frame(path)[0]):
        return None
    try:
        topology, _ = read_named(path)
    except InputError:  # what is enough for positions may not be enough for names
        return None
    numbers = [0 if atom.element is None else atom.element.atomic_number for atom in topology.atoms()]
    return topology if numbers == atoms.numbers.tolist() else None


def cell_of(topology: app.Topology) -> np.ndarray | None:
    """(3, 3) Å, rows are vectors; None without periodicity."""
    vectors = topology.getPeriodicBoxVectors()
    return None if vectors is None else np.array(vectors.value_in_unit(unit.angstrom), dtype=float)


def without_sites(topology: app.Topology) -> app.Topology:
    """The atoms alone: without what has no element, such as the charges beside the atoms of some water."""
    sites = [atom for atom in topology.atoms() if atom.element is None]
    if not sites:
        return topology
    modeller = app.Modeller(topology, np.zeros((topology.getNumAtoms(), 3)) * unit.nanometer)
    modeller.delete(sites)
    return modeller.topology


def molecules_of(n_atoms: int, bonds: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n_atoms,) number of the molecule that an atom belongs to: what bonds hold together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(bonds, dtype=int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n_atoms, n_atoms))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def whole(positions: np.ndarray, cell: np.ndarray, bonds: Sequence[tuple[int, int]]) -> np.ndarray:
    """Positions (n_atoms, 3) Å at which no molecule is cut by a side of the cell (3, 3) Å.

    Force fields take a bond from here to there, not to the nearest image.
    """
    neighbours: list[list[int]] = [[] for _ in positions]
    for one, other in bonds:
        neighbours[one].append(other)
        neighbours[other].append(one)
    placed, seen, inverse = positions.copy(), np.zeros(len(positions), dtype=bool), np.linalg.inv(cell)
    for start in range(len(positions)):
        waiting = [] if seen[start] else [start]
        seen[start] = True
        while waiting:
            one = waiting.pop()
            for other in neighbours[one]:
                if not seen[other]:
                    crossed = np.rint((placed[other] - placed[one]) @ inverse)
                    if crossed.any():
                        placed[other] -= crossed @ cell
                    seen[other] = True
                    waiting.append(other)
    return placed


def topology_name(topology: app.Topology) -> str:
    """The file of a run folder that a topology is written to: PDB, or PDBx/mmCIF where its columns are too narrow."""
    return "topology.pdb" if topology.getNumAtoms() <= _MOST else "topology.cif"


def write_topology(folder: Path, topology: app.Topology, positions: np.ndarray) -> None:
    """Write names, bonds and positions (n_atoms, 3) Å, as programs want them beside a trajectory."""
    name = topology_name(topology)
    writer: Any = app.PDBFile if name.endswith(".pdb") else app.PDBxFile
    text = io.StringIO()
    writer.writeFile(topology, [openmm.Vec3(*one) for one in positions / NM] * unit.nanometer, text, keepIds=True)
    write_atomically(folder / name, text.getvalue().encode())
