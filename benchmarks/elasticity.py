"""Relaxed crystals and their elastic constants, of anything that ASE can compute; used by properties.py."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

FORCE = 1e-4
"""eV/Å: atoms and cells are relaxed until no force is larger."""
STRAIN = 2e-3
"""Of the finite differences: the third-order terms cancel, and stresses of 0.02 GPa and more are far from rounding."""

VOIGT = np.zeros((6, 3, 3))
"""Unit strains in Voigt order, shears as ε_4 = 2ε_yz = 1 (Nye, Physical Properties of Crystals, 1957)."""
for _i, (_j, _k) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
    VOIGT[_i, _j, _k] += 0.5
    VOIGT[_i, _k, _j] += 0.5


def relaxed(atoms: Atoms, *, cell: bool = True) -> Atoms:
    """The nearest minimum of the energy: atoms, and the cell with all its lengths and angles.

    Raises:
        RuntimeError: when it is not reached.
    """
    calculator, atoms = atoms.calc, atoms.copy()
    atoms.calc = calculator
    for optimizer in (FIRE, LBFGS):  # far from the minimum, and near it
        target = FrechetCellFilter(atoms) if cell else atoms
        if optimizer(target, logfile=None).run(fmax=FORCE * (100 if optimizer is FIRE else 1), steps=3000):
            continue
        raise RuntimeError(f"{atoms.get_chemical_formula()} did not relax to {FORCE} eV/Å.")
    return atoms


def elastic_tensor(atoms: Atoms, *, relax: bool = True) -> np.ndarray:
    """C_ij = dσ_i/dε_j in GPa, (6, 6) in Voigt order xx yy zz yz xz xy, of a crystal without stress.

    Central differences of the stress, each strained cell with its atoms relaxed (Le Page, Saxe, Phys. Rev. B 65,
    104104 (2002)). The result is made symmetric, which it is but for rounding.

    Args:
        atoms: a relaxed crystal with its calculator.
        relax: False leaves the atoms where the strain carries them ("clamped ions").
    """
    columns = []
    for j in range(6):
        stresses = []
        for sign in (1, -1):
            strained = atoms.copy()
            strained.calc = atoms.calc
            strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * STRAIN * VOIGT[j]), scale_atoms=True)
            if relax:
                strained = relaxed(strained, cell=False)
            stresses.append(strained.get_stress())
        columns.append((stresses[0] - stresses[1]) / (2 * STRAIN))
    tensor = np.array(columns).T / units.GPa
    return (tensor + tensor.T) / 2


def bulk_modulus(tensor: np.ndarray) -> float:
    """-V dP/dV under hydrostatic pressure, in the unit of the tensor: B = 1 / Σ_{i,j ≤ 3} S_ij with S = C⁻¹.

    In cubic crystals this is (C11 + 2 C12) / 3; in others it is Reuss' average (Hill, Proc. Phys. Soc. A 65, 349
    (1952)).
    """
    return float(1 / np.linalg.inv(tensor)[:3, :3].sum())


def cubic_constants(tensor: np.ndarray) -> dict[str, float]:
    """C11, C12, C44 as means over the directions that are equal in cubic crystals."""
    return {
        "C11": float(np.diag(tensor)[:3].mean()),
        "C12": float((tensor[0, 1] + tensor[0, 2] + tensor[1, 2]) / 3),
        "C44": float(np.diag(tensor)[3:].mean()),
    }


def trigonal_constants(tensor: np.ndarray) -> dict[str, float]:
    """C11, C33, C12, C13, C44 as means over the directions that are equal in trigonal and hexagonal crystals."""
    return {
        "C11": float((tensor[0, 0] + tensor[1, 1]) / 2),
        "C33": float(tensor[2, 2]),
        "C12": float(tensor[0, 1]),
        "C13": float((tensor[0, 2] + tensor[1, 2]) / 2),
        "C44": float((tensor[3, 3] + tensor[4, 4]) / 2),
    }
