"""Every kind of potential, with structures it should be right on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from classical import carbide, embedded, silicon, silicon_t2, tetrahedral
from learned_pairs import DESCRIPTORS, random_pair, random_process
from made_potentials import random_mtp
from random_deeppot import random_deeppot
from random_gap import random_gap
from random_networks import random_nep
from random_snap import random_snap
from random_soap import random_soap
from random_symmetry import random_symmetry

from mlmd.potentials import Potential
from mlmd.potentials.combine import Sum
from mlmd.potentials.mtp import load as load_mtp
from mlmd.potentials.pair import ZBL, LennardJones, Morse


@dataclass(frozen=True)
class Case:
    """A potential and what it is tried on."""

    name: str
    make: Callable[[], Potential]
    elements: tuple[str, ...]
    """Of the structures."""
    spacing: float
    """Å, typical distance of neighbours."""
    precision: str = "float64"

    @property
    def rounding(self) -> float:
        """Relative difference allowed between two ways to compute the same thing."""
        return 1e-10 if self.precision == "float64" else 5e-5

    def crystal(self, seed: int = 0) -> Atoms:
        """Eight atoms in a triclinic cell smaller than the cutoff, off their places."""
        return _scattered(self, seed, pbc=True)

    def cluster(self, seed: int = 0) -> Atoms:
        """The same atoms without periodicity, far from the origin of a cell of zeros."""
        atoms = _scattered(self, seed, pbc=False)
        return Atoms(atoms.symbols, positions=atoms.positions + 7.0)

    def slab(self, seed: int = 0) -> Atoms:
        """The same atoms, periodic in the plane of the first two cell vectors only."""
        return _scattered(self, seed, pbc=(True, True, False))


def _scattered(case: Case, seed: int, pbc: object) -> Atoms:
    generator = np.random.default_rng(seed)
    cell = case.spacing * np.array([[2.0, 0.0, 0.0], [0.4, 2.1, 0.0], [-0.3, 0.5, 1.9]])
    corners = np.array([[a, b, c] for a in (0, 0.5) for b in (0, 0.5) for c in (0, 0.5)])
    symbols = [case.elements[index % len(case.elements)] for index in range(8)]
    atoms = Atoms(symbols, scaled_positions=corners, cell=cell, pbc=pbc)
    atoms.positions += generator.uniform(-0.06, 0.06, (8, 3)) * case.spacing
    return atoms


def _argon(precision: str = "float64") -> LennardJones:
    return LennardJones(epsilon="10.4 meV", sigma="3.4 Å", cutoff="7 Å", precision=precision)


def _mixture() -> LennardJones:
    argon, krypton = {"epsilon": 0.0104, "sigma": 3.4}, {"epsilon": 0.0141, "sigma": 3.65}
    return LennardJones(pairs={"Ar": argon, "Kr": krypton}, cutoff="7 Å")


def _morse() -> Morse:
    return Morse(depth="0.33 eV", width="0.72 Å", r0="2.87 Å", cutoff="6 Å", elements=["Cu"])


def _process(precision: str = "float64", descriptor: str = "symmetry", **settings: object) -> Potential:
    return random_process(DESCRIPTORS[descriptor](), precision, **settings)


def _sum() -> Sum:
    return Sum([random_mtp(("Si", "O"), 8), ZBL(cutoff="2.5 Å", onset="1 Å"), _morse_of_all()])


def _morse_of_all() -> Morse:
    return Morse(depth="0.1 eV", width="0.5 Å", r0="2 Å", cutoff="6.5 Å")


CASES = (
    Case("lennard-jones", _argon, ("Ar",), 3.6),
    Case("lennard-jones-float32", lambda: _argon("float32"), ("Ar",), 3.6, "float32"),
    Case("lennard-jones-mixture", _mixture, ("Ar", "Kr"), 3.7),
    Case("morse", _morse, ("Cu",), 2.7),
    Case("zbl", lambda: ZBL(cutoff="3 Å", onset="1 Å"), ("W", "He"), 1.7),
    Case("zbl-of-lammps", lambda: ZBL(cutoff="3 Å", onset="1.5 Å", switching="lammps"), ("W", "He"), 1.7),
    Case("sum", _sum, ("Si", "O"), 2.1),
    Case("mtp-1-element", lambda: random_mtp(("Cu",), 12), ("Cu",), 2.6),
    Case("mtp-2-elements", lambda: random_mtp(("Si", "O"), 10), ("Si", "O"), 2.1),
    Case("mtp-3-elements", lambda: random_mtp(("Li", "Y", "Cl"), 8), ("Li", "Y", "Cl"), 2.7),
    Case("eam", lambda: embedded(elements=("Cu",)), ("Cu",), 2.6),
    Case("eam-float32", lambda: embedded("float32"), ("Cu", "Ni"), 2.6, "float32"),
    Case("finnis-sinclair", lambda: embedded(fs=True), ("Cu", "Ni"), 2.6),
    Case("stillinger-weber", silicon, ("Si",), 2.4),
    Case("stillinger-weber-mixture", tetrahedral, ("Si", "C", "Ge"), 2.4),
    Case("stillinger-weber-float32", lambda: silicon("float32"), ("Si",), 2.4, "float32"),
    Case("tersoff", carbide, ("Si", "C"), 2.1),
    Case("tersoff-lambda3", silicon_t2, ("Si",), 2.4),
    Case("tersoff-float32", lambda: carbide("float32"), ("Si", "C"), 2.1, "float32"),
    Case("nep", lambda: random_nep(("Si", "O")), ("Si", "O"), 2.1),
    Case("nep-float32", lambda: random_nep(("Si", "O"), "float32"), ("Si", "O"), 2.1, "float32"),
    Case("symmetry", lambda: random_symmetry(("Si", "O")), ("Si", "O"), 2.1),
    Case("symmetry-quintic", lambda: random_symmetry(("Cu",), taper="quintic", onset=0.5), ("Cu",), 2.6),
    Case("symmetry-float32", lambda: random_symmetry(("Si", "O"), "float32"), ("Si", "O"), 2.1, "float32"),
    Case("snap", lambda: random_snap(("W", "Be"), 6), ("W", "Be"), 2.5),
    Case("snap-quadratic", lambda: random_snap(("W",), 4, quadratic=True, rmin0=0.3), ("W",), 2.5),
    Case("snap-densities", lambda: random_snap(("In", "P"), 3, chemflag=True), ("In", "P"), 2.5),
    Case("snap-float32", lambda: random_snap(("W", "Be"), 4, "float32"), ("W", "Be"), 2.5, "float32"),
    Case("soap-linear", lambda: random_soap(("Si", "O")), ("Si", "O"), 2.1),
    Case("soap-network", lambda: random_soap(("Si", "O"), n_neurons=7, products="with-sum"), ("Si", "O"), 2.1),
    Case("soap-polynomial", lambda: random_soap(("Cu",), basis="polynomial", normalised=False), ("Cu",), 2.6),
    Case("soap-float32", lambda: random_soap(("Si", "O"), "float32"), ("Si", "O"), 2.1, "float32"),
    Case("gap-of-two-descriptors", lambda: random_pair("soap-and-symmetry", "gap-of-two"), ("Si", "O"), 2.1),
    Case("gap", random_gap, ("Si", "O"), 2.1),
    Case("gap-distances", lambda: random_gap(kinds=["distance_2b"]), ("Si", "O"), 2.1),
    Case("gap-float32", lambda: random_gap("float32"), ("Si", "O"), 2.1, "float32"),
    Case("terms-of-two-descriptors", lambda: random_pair("moments-and-symmetry", "terms"), ("Si", "O"), 2.1),
    Case("deeppot-se", lambda: random_deeppot(("Si", "O")), ("Si", "O"), 2.1),
    Case("deeppot-se-of-pairs", lambda: random_deeppot(("Si", "O"), type_one_side=False), ("Si", "O"), 2.1),
    Case("deeppot-se-float32", lambda: random_deeppot(("Si", "O"), "float32"), ("Si", "O"), 2.1, "float32"),
    Case("kernel-gaussian", lambda: _process(width=8.0), ("Si", "O"), 2.1),
    Case("kernel-polynomial", lambda: _process(descriptor="soap", kernel="polynomial", power=3), ("Si", "O"), 2.1),
    Case("kernel-float32", lambda: _process("float32", width=8.0), ("Si", "O"), 2.1, "float32"),
    Case("mtp-float32", lambda: random_mtp(("Si", "O"), 10, "float32"), ("Si", "O"), 2.1, "float32"),
)


def published(folder: Path) -> Case:
    """The moment tensor potential of Li3YCl6 (Qi et al., Mater. Today Phys. 21, 100463, 2021)."""
    file = folder / "models_mvl" / "Li3YCl6" / "mtp.2021.06" / "fitted.mtp.PBE.PBE"
    return Case("mtp-published", lambda: load_mtp(file, ("Li", "Y", "Cl")), ("Li", "Y", "Cl"), 2.8)
