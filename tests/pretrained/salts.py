"""Structures that models of others are asked about."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk


def lithium_chloride(seed: int = 1) -> Atoms:
    """Eight ions off their places in a skewed cell."""
    return _skewed("LiCl", 5.1, seed)


def sodium_chloride(seed: int = 1) -> Atoms:
    """Eight ions off their places in a skewed cell."""
    return _skewed("NaCl", 5.64, seed)


def _skewed(formula: str, constant: float, seed: int) -> Atoms:
    atoms = bulk(formula, "rocksalt", constant, cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 1.02, 0.05], [0.03, 0.0, 0.98]], scale_atoms=True)
    atoms.rattle(0.15, seed=seed)
    return atoms


def open_above(atoms: Atoms) -> Atoms:
    """Periodic in two directions."""
    atoms.pbc = (True, True, False)
    return atoms


def ion_pair(formula: str = "LiCl", constant: float = 5.1) -> Atoms:
    """Two ions off their places, which are their own neighbours through the boundary."""
    atoms = bulk(formula, "rocksalt", constant)
    atoms.positions += [[0.1, 0.05, -0.1], [0.0, -0.1, 0.08]]
    return atoms


def lithium_fluoride() -> Atoms:
    """Two ions with bonds to themselves that make angles."""
    atoms = bulk("LiF", "rocksalt", 4.0)
    atoms.positions[0] += [0.1, 0.05, -0.1]
    return atoms


def thin() -> Atoms:
    """A crystal whose bonds are too long for angles."""
    return Atoms("LiNa", [[0, 0, 0], [2.6, 2.4, 2.5]], cell=[5.0, 5.1, 5.2], pbc=True)


def molecule() -> Atoms:
    """Three ions in the open."""
    return Atoms("LiClLi", [[0, 0, 0], [2.1, 0, 0.3], [4.0, 0.6, 0]])


def water() -> Atoms:
    """A molecule in the open."""
    return Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.6], [0, -0.75, 0.58]])


def lithium_chlorides() -> list[Atoms]:
    """A crystal, a slab, a molecule, two atoms that do not see each other, and one alone."""
    crystals = [lithium_chloride(), open_above(lithium_chloride(2))]
    return [*crystals, molecule(), Atoms("LiCl", [[0, 0, 0], [9, 0, 0]]), Atoms("Cl", [[1, 2, 3]])]
