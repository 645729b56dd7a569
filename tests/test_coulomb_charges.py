"""Fixed charges: Madelung's constants, OpenMM's Ewald sum, derivatives, and what has no energy."""

from __future__ import annotations

from typing import Any

import ase.build
import numpy as np
import openmm
import pytest
import torch
from openmm import unit

from mlmd.config import PotentialTable
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import evaluator, predictor
from mlmd.potentials.load import load_potential
from mlmd.potentials.pair import COULOMB
from mlmd.units import EV_PER_KJMOL

pytest.importorskip("torchpme")

SALT = {"kind": "coulomb", "charges": {"Na": 1, "Cl": -1}, "cutoff": "8 Å"}


def load(**table: Any) -> Any:
    return load_potential([PotentialTable.model_validate(SALT | table)])


def salt(rattle: float = 0.1) -> ase.Atoms:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(rattle, seed=1)
    return atoms


@pytest.mark.parametrize(
    ("structure", "nearest", "madelung"),
    [
        ("rocksalt", 0.5, 1.747564594633),
        ("cesiumchloride", np.sqrt(3) / 2, 1.762674773070),
        ("zincblende", np.sqrt(3) / 4, 1.638055053388),
    ],
)
def test_crystals_have_their_madelung_constants(structure: str, nearest: float, madelung: float) -> None:
    """D. Borwein, J. M. Borwein, K. F. Taylor, J. Math. Phys. 26, 2999 (1985)."""
    a = 4.0
    atoms = ase.build.bulk("NaCl", structure, a=a)
    energy = predictor(load())(atoms).energy
    assert energy == pytest.approx(-madelung * COULOMB / (nearest * a), rel=1e-7)


def test_energy_and_forces_are_those_of_openmms_particle_mesh() -> None:
    atoms = salt().repeat(2)
    atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [1.0, 0, 0], [-0.5, 0.8, 0]]), scale_atoms=True)
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    for symbol in atoms.symbols:
        system.addParticle(1.0)
        force.addParticle({"Na": 1.0, "Cl": -1.0}[symbol], 1.0, 0.0)
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(0.55)
    force.setEwaldErrorTolerance(1e-7)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    state = context.getState(energy=True, forces=True)
    found = predictor(load())(atoms)
    expected = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * EV_PER_KJMOL
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * EV_PER_KJMOL / 10
    assert found.energy == pytest.approx(expected, rel=1e-6)  # constants of CODATA of other years among it
    assert np.abs(found.forces - forces).max() < 2e-5 * np.abs(forces).max()


def test_forces_and_virial_are_derivatives_in_crystals_and_in_the_open() -> None:
    answer, step = predictor(load()), 1e-4
    cluster = salt()
    cluster.pbc = False
    for atoms in (salt(), cluster):
        found, energies = answer(atoms), []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[3, 2] += sign * step
            energies.append(answer(moved).energy)
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(found.forces[3, 2], abs=1e-6)
        for i, j in ((0, 0), (0, 1)):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                moved = atoms.copy()
                moved.set_cell(atoms.cell.array @ strain)
                moved.positions = atoms.positions @ strain
                energies.append(answer(moved).energy)
            assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(found.virial[i, j], abs=1e-5)


def test_several_structures_and_a_run_give_the_same_numbers() -> None:
    potential, atoms = load(), salt()
    cluster = salt()
    cluster.pbc = False
    both = potential.predict(build_graph([atoms, cluster, atoms], potential.cutoff))
    alone = predictor(potential)(atoms)
    assert both.energy[[0, 2]].tolist() == pytest.approx([alone.energy] * 2, rel=1e-12)
    assert torch.isnan(both.stress[1]).all()
    found = evaluator(potential, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    assert found.energy == pytest.approx(alone.energy, rel=1e-12)
    assert found.energies is not None and found.energies.sum() == pytest.approx(found.energy, rel=1e-12)


def test_the_cutoff_is_a_matter_of_time_alone() -> None:
    atoms = salt()
    energies = [predictor(load(cutoff=cutoff))(atoms).energy for cutoff in ("6 Å", "8 Å", "11 Å")]
    assert np.ptp(energies) < 1e-7 * abs(energies[0])
    coarse = predictor(load(cutoff="6 Å", accuracy=1e-3))(atoms).energy
    assert 1e-8 < abs(coarse / energies[0] - 1) < 1e-3


def test_it_is_stored_with_what_is_fitted_above_it(tmp_path: Any) -> None:
    potential = load()
    modelfile.save(potential, tmp_path / "salt.mlmd")
    again = modelfile.load(tmp_path / "salt.mlmd")
    assert predictor(again)(salt()).energy == predictor(potential)(salt()).energy


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"charges": {"Na": "one"}}, "charges: Na: 'one' is not a number"),
        ({"charges": {}}, "is not a table of charges"),
        ({"charges": {"Na": 1}, "elements": ["Na", "Cl"]}, "Cl has none"),
        ({"cutoff": "0 Å"}, "cutoff"),
        ({"accuracy": 0.5}, "accuracy: 0.5: a number from"),
        ({"precision": "float32"}, "float64 alone"),
    ],
)
def test_mistakes_are_told(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(**table)
    assert message in str(caught.value)


def test_structures_without_an_energy_are_refused() -> None:
    with pytest.raises(InputError, match=r"add up to \+4 e"):
        predictor(load(charges={"Na": 1, "Cl": 0}))(salt())
    slab = salt()
    slab.pbc = (True, True, False)
    with pytest.raises(InputError, match="periodic in three directions, or in none"):
        predictor(load())(slab)
