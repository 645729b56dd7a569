"""Strained and rattled crystals of Li3YCl6 for the student: what molecular dynamics seldom visits.

    python distorted.py OUT.extxyz

Sixty cells of 60 atoms, in three groups: strained (-4 to +6 % in volume, sheared by up to 3 %, atoms displaced by
0.05 Å), rattled (0.1 to 0.2 Å) and compressed (-6 to -20 % in volume, displaced by 0.1 Å), where atoms come closer
than they do at 1200 K.
"""

import sys
from pathlib import Path

import ase.io
import numpy as np

HERE = Path(__file__).parent


def strained(rng: np.random.Generator, volume: tuple[float, float], shear: float, displacement: float) -> ase.Atoms:
    """The crystal with a volume drawn from a range (fractions), sheared, its atoms displaced (Å)."""
    atoms = ase.io.read(HERE.parent / "li3ycl6.cif") * (1, 1, 2)
    strain = rng.uniform(-shear, shear, (3, 3))
    strain = (strain + strain.T) / 2
    strain -= np.eye(3) * np.trace(strain) / 3
    deformation = (np.eye(3) + strain) * np.cbrt((1 + rng.uniform(*volume)) / np.linalg.det(np.eye(3) + strain))
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    atoms.positions += rng.normal(scale=displacement, size=atoms.positions.shape)
    return ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)


def main() -> None:
    """Write the structures, each with its group."""
    rng, frames = np.random.default_rng(1), []
    for _ in range(24):
        frames.append(strained(rng, (-0.04, 0.06), 0.03, 0.05))
        frames[-1].info["config_type"] = "strained"
    for displacement in np.linspace(0.10, 0.20, 18):
        frames.append(strained(rng, (0.0, 0.0), 0.0, displacement))
        frames[-1].info["config_type"] = "rattled"
    for volume in np.linspace(-0.20, -0.06, 18):
        frames.append(strained(rng, (volume, volume), 0.01, 0.10))
        frames[-1].info["config_type"] = "compressed"
    ase.io.write(sys.argv[1], frames, format="extxyz")


if __name__ == "__main__":
    main()
