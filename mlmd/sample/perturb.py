"""Frames a little strained and rattled: a potential that is to know elastic constants must see strained cells."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlmd.errors import InputError
from mlmd.io.validity import check_structure


def check_amounts(strain: float, rattle: float) -> None:
    """Refuse amounts that nobody means.

    Args:
        strain: dimensionless.
        rattle: Å.

    Raises:
        InputError: for a negative amount, a strain of 0.5 or more, a displacement of 1 Å or more.
    """
    if not 0.0 <= strain < 0.5:
        raise InputError(f"--strain {strain:g}: a fraction from 0 to below 0.5 is needed, e.g. 0.03 for 3 %.")
    if not 0.0 <= rattle < 1.0:
        raise InputError(f"--rattle {rattle:g} Å: a length from 0 to below 1 Å is needed, e.g. 0.05.")


def strained(atoms: Atoms, strain: float, rng: np.random.Generator) -> Atoms:
    """The structure in a homogeneously strained cell, x' = x (1 + ε).

    ε is symmetric, so that nothing is only rotated; its six components are uniform between -strain and +strain.

    Raises:
        InputError: when the structure is not periodic in all directions.
    """
    if not atoms.pbc.all():
        raise InputError("--strain: the cell is not periodic in all directions. Leave --strain out.")
    components = rng.uniform(-strain, strain, size=6)
    tensor = np.zeros((3, 3))
    tensor[np.triu_indices(3)] = components
    tensor = np.triu(tensor) + np.triu(tensor, 1).T
    result: Atoms = atoms.copy()
    result.set_cell(atoms.cell.array @ (np.eye(3) + tensor))
    result.positions = atoms.positions @ (np.eye(3) + tensor)
    return result


def rattled(atoms: Atoms, amount: float, rng: np.random.Generator, name: str) -> Atoms:
    """The structure with every coordinate displaced by a normal deviate of this standard deviation (Å).

    Raises:
        InputError: when atoms come to lie on each other.
    """
    result: Atoms = atoms.copy()
    result.positions = atoms.positions + rng.normal(scale=amount, size=atoms.positions.shape)
    check_structure(result, f"{name} after --rattle {amount:g} Å")
    return result
