"""Compiled radial-angular networks against the torch ones, and against calorine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from kernel_systems import SYSTEMS, assert_kernel_is_its_reference, needs_kernels, system
from random_networks import random_nep
from test_nep import PUBLISHED, calorine, crystal, fitted_zbl

from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.fused import FusedEvaluator
from mlmd.potentials.nep_file import load

pytestmark = needs_kernels

SIZES: dict[str, dict[str, object]] = {
    "one cutoff": {"angular_cutoff": "5 Å"},
    "one cutoff, longer radial basis": {"angular_cutoff": "5 Å", "n_radial_basis": 12, "n_angular_basis": 3},
    "one cutoff, longer angular basis": {"angular_cutoff": "5 Å", "n_radial_basis": 3, "n_angular_basis": 12},
    "cutoffs that hardly differ": {"angular_cutoff": "4.9 Å"},
    "cutoffs of the elements": {"cutoff": ["5 Å", "4.2 Å"], "angular_cutoff": ["3 Å", "4.2 Å"]},
    "one function, one polynomial": {"n_radial": 1, "n_radial_basis": 1, "n_angular": 1, "n_angular_basis": 1},
    "two of each": {"n_radial": 2, "n_radial_basis": 2, "n_angular": 2, "n_angular_basis": 2},
    "many functions": {"n_radial": 25, "n_radial_basis": 14, "n_angular": 26, "n_angular_basis": 15},
    "three-body only": {"four_body": False, "five_body": False},
    "four-body": {"five_body": False},
    "five-body": {"four_body": False},
    "radial only": {"l_max": 0, "four_body": False, "five_body": False},
    "common network": {"common": True},
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(name: str, precision: str) -> None:
    elements = ("Li", "Y", "Cl")
    potential, reference = random_nep(elements, precision), random_nep(elements)
    assert_kernel_is_its_reference(potential, reference, system(name, elements, 2.4))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_kernel_is_the_reference_for_all_sizes(sizes: str) -> None:
    potential = random_nep(("Si", "O"), **SIZES[sizes])
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Si", "O"), 2.2))


@pytest.mark.parametrize("l_max", range(1, 9))
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_for_every_degree(l_max: int, precision: str) -> None:
    sizes = {"l_max": l_max, "four_body": l_max > 1}
    potential, reference = random_nep(("Si",), precision, **sizes), random_nep(("Si",), **sizes)
    assert_kernel_is_its_reference(potential, reference, system("crystal", ("Si",), 2.4))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_rounding_only(n_threads: int) -> None:
    potential = random_nep(("Li", "Cl"))
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Li", "Cl"), 2.4), n_threads=n_threads)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_for_published_files(shared: Path, name: str, precision: str) -> None:
    file, spacing = PUBLISHED[name]
    potential, reference = load(shared / file, precision), load(shared / file)
    atoms = crystal(potential.elements, spacing)
    if potential.elements == ("C",):  # in a lattice that carbon does not have, forces are what large numbers leave over
        atoms = bulk("C", "diamond", a=3.57, cubic=True) * (2, 2, 2)
        atoms.rattle(0.1, seed=0)
    assert_kernel_is_its_reference(potential, reference, atoms)


def test_the_kernel_is_the_reference_for_fitted_zbl_and_cutoffs_of_the_elements(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "nep.txt").write_text(fitted_zbl((shared / PUBLISHED["LLZO, ZBL"][0]).read_text(), 4))
    potential = load(tmp_path / "nep.txt")
    assert_kernel_is_its_reference(potential, potential, crystal(potential.elements, 1.7))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_give_the_numbers_of_calorine(shared: Path, name: str) -> None:
    file, spacing = PUBLISHED[name]
    potential = load(shared / file)
    atoms = crystal(potential.elements, spacing, n=4, seed=5)
    energy, forces, virial = calorine(shared / file, atoms)
    fused = evaluator(potential, atoms.numbers, atoms.pbc)
    assert isinstance(fused, FusedEvaluator)
    found = fused.evaluate(atoms.positions, atoms.cell.array)
    assert found.energy == pytest.approx(energy, abs=1e-6)
    assert np.abs(found.forces - forces).max() < 1e-6
    assert np.abs(found.virial - virial).max() < 1e-6 * max(1.0, np.abs(virial).max())
