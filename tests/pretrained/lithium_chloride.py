"""Structures of two elements that random networks are asked about."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk


def salt(seed: int = 1) -> Atoms:
    """Eight ions off their places in a skewed cell."""
    atoms = bulk("LiCl", "rocksalt", 5.1, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 1.02, 0.05], [0.03, 0.0, 0.98]], scale_atoms=True)
    atoms.rattle(0.15, seed=seed)
    return atoms


def slab() -> Atoms:
    """Periodic in two directions."""
    atoms = salt(2)
    atoms.pbc = (True, True, False)
    return atoms


def molecule() -> Atoms:
    """Three atoms in the open."""
    return Atoms("LiClLi", [[0, 0, 0], [2.1, 0, 0.3], [4.0, 0.6, 0]])


def structures() -> list[Atoms]:
    """A crystal, a slab, a molecule, two atoms that do not see each other, and one alone."""
    return [salt(), slab(), molecule(), Atoms("LiCl", [[0, 0, 0], [9, 0, 0]]), Atoms("Cl", [[1, 2, 3]])]
