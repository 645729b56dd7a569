"""Elastic constants by strain: published numbers, Cauchy's relation, energies, closed forms, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.build
import ase.io
import ase.units
import numpy as np
import pytest
from classical import silicon
from command_line import mlmd

from mlmd.analysis.moduli import moduli
from mlmd.ase import Calculator
from mlmd.errors import InputError
from mlmd.potentials.pair import LennardJones
from mlmd.sample.elastic import elastic

ARGON = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="10 Å", onset="6 Å")


def diamond() -> ase.Atoms:
    return ase.build.bulk("Si", "diamond", 5.43, cubic=True)


def test_silicon_of_stillinger_and_weber_has_its_published_constants() -> None:
    # GPa, Balamane, Halicioglu, Tiller, Phys. Rev. B 46, 2250 (1992)
    found = elastic(silicon(), diamond())
    for (row, column), value in {(0, 0): 151.4, (0, 1): 76.4, (3, 3): 56.4}.items():
        assert found.tensor[row, column] == pytest.approx(value, rel=0.005)
    assert found.moduli["bulk (Hill)"].value == pytest.approx(101.4, rel=0.005)
    assert found.error.max() < 0.1
    assert found.stable and not found.notes
    assert found.equation_of_state["bulk modulus"].value == pytest.approx(101.4, rel=0.01)
    assert found.equation_of_state["volume"].value == pytest.approx(5.43095**3, rel=1e-4)  # LAMMPS


def test_sublattices_that_are_free_to_move_make_silicon_softer_in_shear_alone() -> None:
    free, clamped = (elastic(silicon(), diamond(), clamped=one, with_equation=False) for one in (False, True))
    # by symmetry no other strain moves them
    assert np.abs((free.tensor - clamped.tensor)[:3, :3]).max() < 0.01 * free.tensor[0, 0]
    assert free.tensor[3, 3] < 0.6 * clamped.tensor[3, 3]
    assert any("not relaxed" in note for note in clamped.notes)


def test_pairs_about_centres_of_symmetry_obey_cauchy() -> None:
    found = elastic(ARGON, ase.build.bulk("Ar", "fcc", 5.3), with_equation=False)  # one atom, axes of the cell askew
    assert found.tensor[0, 1] == pytest.approx(found.tensor[3, 3], rel=1e-3)
    assert found.equation_of_state == {}


def test_the_tensor_is_the_curvature_of_the_energy() -> None:
    # a hexagonal crystal, its basis free to move, along a strain that mixes all six components
    crystal = elastic(ARGON, ase.build.bulk("Ar", "hcp", a=3.75, c=6.1), clamped=True, with_equation=False)
    strain = 2e-3 * np.array([[1.0, 0.4, -0.3], [0.4, -0.7, 0.5], [-0.3, 0.5, 0.2]])
    voigt = np.array([*np.diag(strain), 2 * strain[1, 2], 2 * strain[0, 2], 2 * strain[0, 1]])
    energies = []
    for sign in (1, 0, -1):
        atoms = crystal.atoms.copy()
        atoms.calc = Calculator(ARGON)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True)
        energies.append(atoms.get_potential_energy())
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / crystal.atoms.get_volume() / ase.units.GPa
    assert curvature == pytest.approx(voigt @ crystal.tensor @ voigt, rel=1e-3)


def test_moduli_of_a_cubic_crystal_are_the_closed_forms() -> None:
    c11, c12, c44 = 170.0, 120.0, 75.0
    tensor = np.diag([c11] * 3 + [c44] * 3)
    tensor[:3, :3] += c12 * (1 - np.eye(3))
    found = moduli(tensor)
    assert found["bulk (Voigt)"] == pytest.approx((c11 + 2 * c12) / 3)
    assert found["bulk (Reuss)"] == pytest.approx((c11 + 2 * c12) / 3)
    assert found["shear (Voigt)"] == pytest.approx((c11 - c12 + 3 * c44) / 5)
    assert found["shear (Reuss)"] == pytest.approx(5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12)))
    steel = np.diag([100.0 + 2 * 60.0] * 3 + [60.0] * 3)  # isotropic: λ = 100, μ = 60
    steel[:3, :3] += 100.0 * (1 - np.eye(3))
    assert moduli(steel)["Young (Hill)"] == pytest.approx(60.0 * (3 * 100.0 + 2 * 60.0) / 160.0)
    assert moduli(steel)["Poisson (Hill)"] == pytest.approx(100.0 / 320.0)
    assert abs(moduli(steel)["universal anisotropy"]) < 1e-12


def test_a_crystal_that_shears_by_itself_is_not_stable() -> None:
    found = elastic(ARGON, ase.Atoms("Ar", cell=[3.6] * 3, pbc=True), clamped=True, with_equation=False)
    assert not found.stable
    assert any("not stable" in note for note in found.notes)


def test_what_is_no_crystal_at_rest_has_no_numbers_that_mislead() -> None:
    far = elastic(ARGON, ase.build.bulk("Ar", "fcc", 5.9), relax=False)  # its minimum is at 5.24 Å
    assert not far.equation_of_state and any("no minimum of the energy" in note for note in far.notes)
    slab = ase.build.fcc111("Ar", (1, 1, 4), a=5.25, vacuum=8.0, periodic=True)
    found = elastic(ARGON, slab, relax=False, with_equation=False)
    assert any("Å along c are empty" in note for note in found.notes)
    assert not elastic(ARGON, ase.build.bulk("Ar", "fcc", 5.3), with_equation=False).notes


def test_a_crystal_that_is_not_stable_has_no_moduli_of_its_inverse() -> None:
    found = moduli(np.diag([100.0, 100.0, 100.0, 40.0, 40.0, -5.0]))
    assert np.isnan(found["shear (Reuss)"]) and np.isnan(found["universal anisotropy"])
    assert found["bulk (Voigt)"] == pytest.approx(100.0 / 3.0)


def test_a_stress_that_is_left_is_told() -> None:
    found = elastic(silicon(), ase.build.bulk("Si", "diamond", 5.3), relax=False, with_equation=False)
    assert any("GPa is left in the cell" in note for note in found.notes)


def test_what_has_no_elastic_constants_is_refused() -> None:
    with pytest.raises(InputError, match="periodic in all three directions"):
        elastic(silicon(), ase.Atoms("Si2", positions=[[0, 0, 0], [2.3, 0, 0]]))
    with pytest.raises(InputError, match="give one from 1e-5"):
        elastic(silicon(), diamond(), strain=0.5)


def test_the_command_prints_what_the_function_gives(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "cu.extxyz", ase.build.bulk("Cu", cubic=True))
    answer = mlmd("elastic", tmp_path / "cu.extxyz", "--potential", "Cu", "--no-eos", "--json")
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)
    assert found["stable"] and found["equation_of_state"] == {}
    assert found["elastic_constants_GPa"][0][0] > found["elastic_constants_GPa"][0][1] > 0
    shown = mlmd("elastic", tmp_path / "cu.extxyz", "--potential", "Cu", "--no-eos")
    assert shown.code == 0 and "bulk (Hill)" in shown.out and "stable" in shown.out
