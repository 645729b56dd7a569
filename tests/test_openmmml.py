"""OpenMM-ML runs potentials of mlmd by name, whole systems and parts of them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit
from runs import fcc_argon

from mlmd.errors import InputError
from mlmd.models import path as path_of
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.pair import LennardJones
from mlmd.units import EV_PER_KJMOL

openmmml = pytest.importorskip("openmmml")

ARGON = {"kind": "lennard-jones", "epsilon": "0.0104 eV", "sigma": "3.4 Å", "cutoff": "6 Å"}


def topology(n_atoms: int, symbol: str = "Ar", box: np.ndarray | None = None) -> app.Topology:
    made = app.Topology()
    chain = made.addChain()
    for _ in range(n_atoms):
        made.addAtom(symbol, app.Element.getBySymbol(symbol), made.addResidue(symbol, chain))
    if box is not None:
        made.setPeriodicBoxVectors(box * unit.angstrom)
    return made


def asked(system: openmm.System, positions: np.ndarray, **parameters: float) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å)."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions / 10.0)
    for name, value in parameters.items():
        context.setParameter(name, value)
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * EV_PER_KJMOL
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return energy, np.array(forces) * EV_PER_KJMOL / 10.0


def test_the_name_is_registered() -> None:
    (point,) = entry_points(group="openmmml.potentials", name="mlmd")
    assert point.value == "mlmd.engine.openmmml:Factory"


@pytest.mark.parametrize("periodic", [True, False])
def test_a_system_of_openmm_ml_has_the_energy_and_the_forces(periodic: bool) -> None:
    atoms = fcc_argon(3)
    atoms.pbc = periodic
    found = predictor(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.0))(atoms)
    box = atoms.cell.array if periodic else None
    system = openmmml.MLPotential("mlmd", **ARGON).createSystem(topology(len(atoms), box=box))
    energy, forces = asked(system, atoms.positions)
    assert energy == pytest.approx(found.energy, rel=1e-10)
    assert np.abs(forces - found.forces).max() < 1e-9


def by_field(n: int) -> openmm.System:
    """Argon by a force field."""
    system = openmm.System()
    field = openmm.NonbondedForce()
    field.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    for _ in range(n):
        system.addParticle(39.95)
        field.addParticle(0.0, 0.33, 0.9)
    system.addForce(field)
    return system


def without_pairs(system: openmm.System, part: list[int]) -> openmm.System:
    """The same without what is between the atoms of a part."""
    rest = openmm.XmlSerializer.clone(system)
    inside = rest.getForce(0)
    for i in part:
        for j in part:
            if i < j:
                inside.addException(i, j, 0.0, 1.0, 0.0)
    return rest


def test_a_part_of_a_system_may_be_computed_by_it() -> None:
    """In OpenMM-ML's mixed system the part alone feels the potential, the rest and their pairs the force field."""
    atoms = fcc_argon(2)
    atoms.pbc = False
    n, part = len(atoms), list(range(5, 17))
    system = by_field(n)
    mixed = openmmml.MLPotential("mlmd", **ARGON).createMixedSystem(topology(n), system, part)
    energy, _ = asked(mixed, atoms.positions)
    rest, _ = asked(without_pairs(system, part), atoms.positions)
    own = predictor(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.0))(atoms[part]).energy
    assert energy == pytest.approx(rest + own, rel=1e-8)
    assert abs(own) > 0.1


def test_a_mixed_system_goes_over_from_the_field_to_the_potential() -> None:
    """At lambda_interpolate = 0 all is the force field's, at 1 the mixed system's, in between their weighted sum."""
    atoms = fcc_argon(2)
    atoms.pbc = False
    n, part = len(atoms), list(range(5, 17))
    system = by_field(n)
    potential = openmmml.MLPotential("mlmd", **ARGON)
    field, field_forces = asked(system, atoms.positions)
    mixed, mixed_forces = asked(potential.createMixedSystem(topology(n), system, part), atoms.positions)
    assert abs(mixed - field) > 1e-3
    both = potential.createMixedSystem(topology(n), system, part, interpolate=True)
    for weight in (0.0, 0.25, 1.0):
        energy, forces = asked(both, atoms.positions, lambda_interpolate=weight)
        assert energy == pytest.approx((1 - weight) * field + weight * mixed, rel=1e-7)
        assert np.abs(forces - (1 - weight) * field_forces - weight * mixed_forces).max() < 1e-6


def test_a_system_is_copied_without_loading_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = fcc_argon(3)
    system = openmmml.MLPotential("mlmd", **ARGON).createSystem(topology(len(atoms), box=atoms.cell.array))
    energy, forces = asked(system, atoms.positions)
    monkeypatch.setattr("mlmd.engine.python_force.load_potential", None)
    text = openmm.XmlSerializer.serialize(system)
    for other in (copy.deepcopy(system), openmm.XmlSerializer.deserialize(text)):
        assert asked(other, atoms.positions)[0] == energy
        assert np.array_equal(asked(other, atoms.positions)[1], forces)


def test_a_system_that_was_stored_is_run_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Path("model.mlmd")
    model.write_bytes(path_of("Cu").read_bytes())
    system = openmmml.MLPotential("mlmd", path="model.mlmd").createSystem(topology(2, "Cu"))
    positions = np.array([[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    energy, _ = asked(system, positions)
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    program = (
        "import sys, openmm; system = openmm.XmlSerializer.deserialize(open(sys.argv[1]).read());"
        "context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform('Reference'));"
        "context.setPositions([[0.0, 0.0, 0.0], [0.23, 0.0, 0.0]]);"
        "print(context.getState(energy=True).getPotentialEnergy()._value)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "system.xml")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=True)
    assert float(answer.stdout) * EV_PER_KJMOL == pytest.approx(energy, rel=1e-9)
    model.write_bytes(path_of("Si").read_bytes())
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert answer.returncode != 0
    assert "model.mlmd is not the file any more" in answer.stderr


def test_keywords_of_other_potentials_are_no_mistake() -> None:
    atoms = fcc_argon(2)
    atoms.pbc = False
    potential = openmmml.MLPotential("mlmd", **ARGON)
    plain, _ = asked(potential.createSystem(topology(len(atoms))), atoms.positions)
    given = {"charge": 0, "multiplicity": 1, "precision": "single", "interpolate": False, "device": "cpu"}
    energy, _ = asked(potential.createSystem(topology(len(atoms)), **given), atoms.positions)
    assert energy == plain
    potential.createMixedSystem(topology(len(atoms)), by_field(len(atoms)), [0, 1, 2], mlLongRange=False)
    with pytest.raises(InputError, match="cutof: give options of the potential to MLPotential"):
        potential.createSystem(topology(len(atoms)), cutof=3.0, charge=0)
    with pytest.raises(InputError, match="interpolate: only a mixed system"):
        potential.createSystem(topology(len(atoms)), interpolate=True)


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="Did you mean 'lennard-jones'"):
        openmmml.MLPotential("mlmd", kind="lenard-jones")
    with pytest.raises(InputError, match="knows Cu; the topology has Ar"):
        openmmml.MLPotential("mlmd", path="Cu").createSystem(topology(3))
