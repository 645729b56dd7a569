"""Distorted molecules whose number is known: what properties are learned from in the tests."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule

MOLECULES = ("CH4", "H2O", "NH3", "CO2", "C2H2", "C2H4", "C2H6", "CH3OH", "HCN", "H2CO")


def made(name: str, seed: int) -> Atoms:
    """A distorted molecule with a made-up number, `spread`, the sum of inverse distances."""
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
    atoms.info["spread"] = float(np.sum(1 / distances))
    return atoms


def all_made() -> list[Atoms]:
    """Four of each."""
    return [made(name, seed) for name in MOLECULES for seed in range(4)]
