"""Energy, forces and stress of one structure: through mlmd's own types, and as an ASE calculator.

python examples/01_energy_and_forces.py
python examples/01_energy_and_forces.py --mtp fitted.mtp --elements Cu --structure copper.extxyz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms

from mlmd.ase import Calculator
from mlmd.io.structures import read_structure
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential, mtp
from mlmd.potentials.pair import LennardJones

ARGON = Path(__file__).parents[1] / "inputs" / "argon.extxyz"


def by_graph(potential: Potential, atoms: Atoms) -> None:
    """Structures become a graph: the atoms and their pairs within the cutoff. A graph may hold several structures."""
    stretched = atoms.copy()
    stretched.set_cell(1.02 * atoms.cell.array, scale_atoms=True)
    graph = build_graph([atoms, stretched], potential.cutoff)
    prediction = potential.predict(graph)
    print(f"{graph.n_atoms} atoms in {graph.n_structures} structures, {graph.pairs.shape[1]} pairs")
    for name, energy, stress in zip(("as read", "stretched"), prediction.energy, prediction.stress, strict=True):
        print(f"{name:10} {energy / len(atoms):.6f} eV/atom, mean stress {stress.trace() / 3:+.6f} eV/Å³")
    print(f"largest force {prediction.forces.norm(dim=1).max():.6f} eV/Å")


def by_ase(potential: Potential, atoms: Atoms) -> float:
    """The same to rounding for everything that ASE does, by the compiled kernel where there is one.

    Returns the error of a force against a difference of energies.
    """
    atoms = atoms.copy()
    atoms.calc = Calculator(potential)
    force, step = atoms.get_forces()[0, 0], 1e-4
    energies = []
    for shift in (step, -2 * step):
        atoms.positions[0, 0] += shift
        energies.append(atoms.get_potential_energy())
    difference = -(energies[0] - energies[1]) / (2 * step)
    print(f"force on atom 0 along x {force:+.8f} eV/Å, by differences of the energy {difference:+.8f} eV/Å")
    return abs(float(force) - difference)


def main() -> None:
    """Rattle a crystal and look at it twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mtp", type=Path, help="file of a moment tensor potential; without it, Lennard-Jones argon")
    parser.add_argument("--elements", nargs="+", help="its elements in the order of the file")
    parser.add_argument("--structure", type=Path, default=ARGON)
    parser.add_argument("--short", action="store_true", help="a small cell")
    options = parser.parse_args()
    potential: Potential
    if options.mtp is None:
        potential = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8.5 Å")
    else:
        potential = mtp.load(options.mtp, elements=options.elements)
    atoms = read_structure(options.structure, (1, 1, 1) if options.short else (3, 3, 3))
    atoms.positions += np.random.default_rng(1).normal(scale=0.05, size=atoms.positions.shape)
    by_graph(potential, atoms)
    assert by_ase(potential, atoms) < 1e-6


if __name__ == "__main__":
    main()
