"""DScribe's descriptors of whole structures as an oracle, and structures at random to compare with it."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from ase import Atoms

ELEMENTS = ("H", "C", "O", "S")


def dscribe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`dscribe.descriptors`, made to run with the ASE of today; the test is skipped where it is not installed."""
    descriptors = pytest.importorskip("dscribe.descriptors")
    from dscribe.core import System

    def from_atoms(atoms: Atoms) -> Atoms:
        return System(symbols=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)

    # DScribe 2.1.2 gives ASE both momenta and velocities, which it refuses since 3.27
    monkeypatch.setattr(System, "from_atoms", staticmethod(from_atoms))
    return descriptors


def molecule(n_atoms: int, seed: int, length: float = 5.0) -> Atoms:
    """Atoms at random places of a cube, 0.9 Å from each other or more."""
    return _spread(n_atoms, seed, np.eye(3) * length, periodic=False)


def crystal(n_atoms: int, seed: int) -> Atoms:
    """The same in a triclinic cell with its boundaries."""
    skew = np.random.default_rng(seed).uniform(-0.7, 0.7, (3, 3))
    return _spread(n_atoms, seed, np.diag([4.0, 4.5, 5.0]) + skew, periodic=True)


def _spread(n_atoms: int, seed: int, cell: np.ndarray, *, periodic: bool) -> Atoms:
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        scaled = rng.uniform(size=(n_atoms, 3))
        atoms = Atoms(rng.choice(ELEMENTS, n_atoms), cell=cell, pbc=periodic, scaled_positions=scaled)
        if (atoms.get_all_distances(mic=periodic)[np.triu_indices(n_atoms, 1)] > 0.9).all():
            return atoms
    raise AssertionError("too dense")
