"""OpenMM-ML runs potentials of mlmd by name, whole systems and parts of them."""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import openmm
import pytest
from openmm import app, unit
from runs import fcc_argon

from mlmd.errors import InputError
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


def asked(system: openmm.System, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å)."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions / 10.0)
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


def test_a_part_of_a_system_may_be_computed_by_it() -> None:
    """In OpenMM-ML's mixed system the part alone feels the potential, the rest and their pairs the force field."""
    atoms = fcc_argon(2)
    atoms.pbc = False
    n, part = len(atoms), list(range(5, 17))
    system = openmm.System()
    field = openmm.NonbondedForce()
    field.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    for _ in range(n):
        system.addParticle(39.95)
        field.addParticle(0.0, 0.33, 0.9)
    system.addForce(field)
    mixed = openmmml.MLPotential("mlmd", **ARGON).createMixedSystem(topology(n), system, part)
    energy, _ = asked(mixed, atoms.positions)
    by_field = openmm.XmlSerializer.clone(system)
    inside = by_field.getForce(0)
    for i in part:
        for j in part:
            if i < j:
                inside.addException(i, j, 0.0, 1.0, 0.0)
    rest, _ = asked(by_field, atoms.positions)
    own = predictor(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.0))(atoms[part]).energy
    assert energy == pytest.approx(rest + own, rel=1e-8)
    assert abs(own) > 0.1


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="Did you mean 'lennard-jones'"):
        openmmml.MLPotential("mlmd", kind="lenard-jones")
    with pytest.raises(InputError, match="knows Cu; the topology has Ar"):
        openmmml.MLPotential("mlmd", path="Cu").createSystem(topology(3))
