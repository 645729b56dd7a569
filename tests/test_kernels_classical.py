"""The compiled classical potentials against the torch ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from classical import carbide, embedded, silicon, silicon_t2, tetrahedral
from kernel_systems import SYSTEMS, assert_kernel_is_its_reference, needs_kernels, system
from lammps_oracle import evaluate, potentials

from mlmd.errors import MlmdError
from mlmd.kernels import Fused
from mlmd.potentials import eam, stillinger_weber, tersoff
from mlmd.potentials.fused import FusedEvaluator
from mlmd.potentials.pair import ZBL, LennardJones, Morse

pytestmark = needs_kernels

ARGON, KRYPTON = {"epsilon": 0.0104, "sigma": 3.4}, {"epsilon": 0.0141, "sigma": 3.65}
COPPER, NICKEL = {"depth": 0.33, "width": 0.72, "r0": 2.87}, {"depth": 0.42, "width": 0.7, "r0": 2.78}
BETWEEN = {"depth": 0.4, "width": 0.71, "r0": 2.8}

FAMILIES: dict[str, tuple[Callable[[str], Any], float]] = {
    "lennard-jones": (lambda p: LennardJones(epsilon=0.0104, sigma=3.4, cutoff=7, precision=p), 3.8),
    "lennard-jones-mixture": (
        lambda p: LennardJones(pairs={"Ar": ARGON, "Kr": KRYPTON}, cutoff=7, onset=5, precision=p), 3.4),
    "morse": (
        lambda p: Morse(pairs={"Cu": COPPER, "Ni": NICKEL, "Cu-Ni": BETWEEN}, cutoff=6, precision=p), 2.5),
    "zbl": (lambda p: ZBL(cutoff=4, onset=1, elements=["W", "He", "Si"], precision=p), 1.7),
    "zbl-of-lammps": (
        lambda p: ZBL(cutoff=4, onset=2, elements=["W", "He", "Si"], switching="lammps", precision=p), 1.7),
    "eam": (lambda p: embedded(p, elements=("Cu",)), 2.4),
    "eam-alloy": (embedded, 2.4),
    "finnis-sinclair": (lambda p: embedded(p, elements=("Fe", "Al", "C"), fs=True), 2.4),
    "stillinger-weber": (silicon, 2.5),
    "stillinger-weber-3": (tetrahedral, 2.2),
    "tersoff": (carbide, 1.9),
    "tersoff-lambda3": (silicon_t2, 2.3),
}  # fmt: skip
"""Potentials by precision, and a distance of nearest atoms at which energies are no small differences of large ones."""


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(family: str, precision: str, name: str) -> None:
    make, spacing = FAMILIES[family]
    reference = make("float64")
    assert_kernel_is_its_reference(make(precision), reference, system(name, reference.elements, spacing))


@pytest.mark.parametrize("family", ["morse", "finnis-sinclair", "stillinger-weber-3", "tersoff"])
def test_threads_change_rounding_only(family: str) -> None:
    make, spacing = FAMILIES[family]
    potential = make("float64")
    assert_kernel_is_its_reference(potential, potential, system("liquid", potential.elements, spacing), n_threads=3)


def test_a_pair_of_species_that_is_not_alike_in_both_orders_is_refused() -> None:
    kernel = FAMILIES["morse"][0]("float64").kernel()
    numbers = kernel.numbers.copy()
    numbers[2 + 3] *= 1.1  # the depth for the first species with the second
    with pytest.raises(MlmdError, match="other order"):
        Fused(dataclasses.replace(kernel, numbers=numbers), np.zeros(2), 2, np.zeros(3), 0.5)


@pytest.mark.parametrize("family", ["eam-alloy", "finnis-sinclair"])
def test_a_density_above_the_table_goes_on_straight(family: str) -> None:
    potential = FAMILIES[family][0]("float64")
    dense = system("crystal", potential.elements, 1.2)
    assert_kernel_is_its_reference(potential, potential, dense)


def test_zbl_of_any_element_has_no_kernel_since_species_do_not_tell_its_charges() -> None:
    assert ZBL(cutoff=3).kernel() is None


OF_LAMMPS = (
    (eam, "Cu_u3.eam", "eam", ("Cu",), 3.6),
    (eam, "NiAlH_jea.eam.alloy", "eam/alloy", ("Ni", "Al", "H"), 3.6),
    (eam, "AlFe_mm.eam.fs", "eam/fs", ("Al", "Fe"), 3.9),
    (stillinger_weber, "Si.sw", "sw", ("Si",), 5.4),
    (stillinger_weber, "GaN.sw", "sw", ("Ga", "N"), 4.6),
    (tersoff, "Si.tersoff", "tersoff", ("Si",), 5.4),
    (tersoff, "SiC.tersoff", "tersoff", ("C", "Si"), 4.4),
    (tersoff, "SiO.tersoff", "tersoff", ("Si", "O"), 4.6),
)


@pytest.mark.parametrize(("module", "file", "style", "elements", "constant"), OF_LAMMPS, ids=[o[1] for o in OF_LAMMPS])
def test_the_kernel_agrees_with_lammps(module: Any, file: str, style: str, elements: tuple, constant: float) -> None:
    path = potentials() / file
    potential, atoms = module.load(path), disordered(elements, constant, "fcc" if module is eam else "diamond")
    evaluator = FusedEvaluator(potential.kernel(), potential.elements, atoms.numbers, atoms.pbc, 0.5)
    found = evaluator.evaluate(atoms.positions, atoms.cell.array)
    names = "" if style == "eam" else " ".join(elements)
    expected = evaluate(atoms, elements, style, f"* * {path} {names}")
    assert found.energy == pytest.approx(expected.energy, abs=1e-8 * len(atoms))
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.virial, expected.virial, rtol=0, atol=1e-6 * len(atoms))


def disordered(elements: tuple, constant: float, lattice: str) -> Atoms:
    """A strained crystal of 64 or 32 atoms off their places, elements at random."""
    generator = np.random.default_rng(3)
    atoms = bulk("Cu", lattice, a=constant, cubic=True) * 2
    atoms.symbols = generator.choice(elements, len(atoms))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + generator.normal(0, 0.04, (3, 3))), scale_atoms=True)
    atoms.rattle(0.12, seed=4)
    return atoms
