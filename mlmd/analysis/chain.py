"""The molecules of a protein without breaks: every frame as if the cell did not repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlmd.errors import InputError, StorageError
from mlmd.io.frames import Trajectory
from mlmd.rundir import TOPOLOGIES

if TYPE_CHECKING:
    import mdtraj

NM = 10.0
"""Å."""


@dataclass(frozen=True)
class Selected:
    """Atoms of a trajectory with their names, residues and bonds."""

    topology: mdtraj.Topology
    """Of these atoms."""
    atoms: np.ndarray
    """(n_atoms,) their indices in the trajectory."""
    steps: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Atoms, and those that they are bonded to and that are placed before them, bond by bond from the first ones."""
    molecules: tuple[np.ndarray, ...]
    """Atoms that bonds hold together."""

    def frames(self, trajectory: Trajectory) -> Iterator[mdtraj.Trajectory]:
        """The frames, some at a time, as if there were no cell: each molecule is whole, nearest to the first one in the
        first frame, and where it has gone from there in all others, less than half a cell from one to the next.
        """
        import mdtraj

        apart = None
        for part in trajectory.chunks(atoms=self.atoms):
            positions = part.positions
            if trajectory.pbc.all():
                positions, apart = self._whole(positions, part.cells, apart)
            yield mdtraj.Trajectory((positions / NM).astype(np.float32), self.topology, time=part.times / 1e3)

    def _whole(
        self, positions: np.ndarray, cells: np.ndarray, apart: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions (n_frames, n_atoms, 3) Å in cells (n_frames, 3, 3) Å, and how far molecules are from the first.

        The latter, (n_molecules, 3) in units of the cell, is that of the last frame, and given that of the frame before
        the first: a molecule half a cell away would else jump from one side of the first to the other.
        """
        reduced = np.einsum("tai,tij->taj", positions, np.linalg.inv(cells))
        for atoms, before in self.steps:
            reduced[:, atoms] -= np.rint(reduced[:, atoms] - reduced[:, before])
        centres = np.stack([reduced[:, own].mean(axis=1) for own in self.molecules], axis=1)
        found = centres - centres[:, :1]
        before = found[0] - np.rint(found[0]) if apart is None else apart
        followed = np.unwrap(np.concatenate([before[None], found]), period=1.0, axis=0)[1:]
        for number, own in enumerate(self.molecules):
            reduced[:, own] += np.rint(followed - found)[:, number, None]
        return np.einsum("tai,tij->taj", reduced, cells), followed[-1]


def selected(trajectory: Trajectory, topology: Path | None, selection: str) -> Selected:
    """Choose atoms by their names.

    Args:
        trajectory: of all atoms.
        topology: PDB or PDBx/mmCIF file with the same atoms in the same order; by default that of the run folder.
        selection: in the words of mdtraj, such as "protein" or "protein and chainid 0".

    Raises:
        InputError: without a topology, when it is of other atoms, or the selection is none or empty.
        StorageError: when the file cannot be read.
    """
    import mdtraj

    path = topology or _of_run(Path(trajectory.provenance.path))
    try:
        known = mdtraj.load_topology(str(path))
    except Exception as error:  # readers raise whatever a damaged file leads them to
        raise StorageError(f"{path} cannot be read as a topology ({type(error).__name__}: {error}).") from None
    numbers = [0 if atom.element is None else atom.element.atomic_number for atom in known.atoms]
    if numbers != trajectory.numbers.tolist():
        raise InputError(
            f"{path} has other atoms than {trajectory.provenance.path}: {len(numbers)} and {trajectory.n_atoms}, or in "
            "another order. Give the structure with which the run began (--topology)."
        )
    try:
        atoms = known.select(selection)
    except Exception as error:  # its parser raises several kinds
        raise InputError(f"{selection!r} is no selection that mdtraj understands ({error}).") from None
    if len(atoms) < 3:
        raise InputError(
            f"{selection!r} selects {len(atoms)} atoms of {path}; three at least are needed. Other molecules than "
            'proteins: --select "resname LIG".'
        )
    subset = known.subset(atoms)
    steps, molecules = _order(len(atoms), [(one.index, other.index) for one, other in subset.bonds])
    return Selected(subset, atoms, steps, molecules)


def _of_run(path: Path) -> Path:
    for name in TOPOLOGIES:
        if (path / name).exists():
            return path / name
    raise InputError(
        f"{path} has no {TOPOLOGIES[0]}, which names residues: runs of PDB files have one. Give a PDB file with the "
        "same atoms in the same order (--topology FILE)."
    )


def _order(
    n_atoms: int, bonds: list[tuple[int, int]]
) -> tuple[tuple[tuple[np.ndarray, np.ndarray], ...], tuple[np.ndarray, ...]]:
    """`Selected.steps` and `Selected.molecules`: from the first atom of each molecule along its bonds."""
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for one, other in bonds:
        neighbours[one].append(other)
        neighbours[other].append(one)
    molecule = np.full(n_atoms, -1)
    edge, steps, n_molecules = [], [], 0
    for start in range(n_atoms):
        if molecule[start] < 0:
            molecule[start] = n_molecules
            waiting = [start]
            while waiting:
                new = [other for other in neighbours[waiting.pop()] if molecule[other] < 0]
                molecule[new] = n_molecules
                waiting += new
            edge.append(start)
            n_molecules += 1
    placed = np.zeros(n_atoms, dtype=bool)
    placed[edge] = True
    while edge:
        found: dict[int, int] = {other: one for one in edge for other in neighbours[one] if not placed[other]}
        edge = list(found)
        placed[edge] = True
        if found:
            steps.append((np.array(edge), np.array(list(found.values()))))
    return tuple(steps), tuple(np.flatnonzero(molecule == number) for number in range(n_molecules))
