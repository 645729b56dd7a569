"""Dispersion by s-dftd3 as a potential, alone and as a part of a sum."""

from __future__ import annotations

from typing import Any

import ase.build
import numpy as np
import pytest

from mlmd.config import PotentialTable
from mlmd.errors import InputError
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.load import load_potential

pytest.importorskip("dftd3")


def load(*tables: dict[str, Any]) -> Any:
    return load_potential([PotentialTable.model_validate(table) for table in tables])


def test_water_has_the_energy_that_the_program_publishes() -> None:
    """The documentation of s-dftd3 1.7 prints it for PBE with the damping of Becke and Johnson."""
    found = predictor(load({"kind": "d3", "method": "PBE"}))(ase.build.molecule("H2O"))
    assert found.energy == pytest.approx(-0.009781920198843976, rel=1e-9)
    assert found.forces[0, 2] == pytest.approx(0.00009572, abs=1e-8)


def argon() -> ase.Atoms:
    atoms = ase.build.bulk("Ar", "fcc", 5.3, cubic=True)
    atoms.rattle(0.2, seed=1)
    return atoms


@pytest.mark.parametrize("cutoff", [None, "9 Å"])
def test_forces_and_virial_are_derivatives(cutoff: str | None) -> None:
    answer = predictor(load({"kind": "d3", "method": "PBE", **({"cutoff": cutoff} if cutoff else {})}))
    atoms, step = argon(), 1e-4
    found = answer(atoms)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[2, 1] += sign * step
        energies.append(answer(moved).energy)
    # central differences of second order, and the third derivative of a soft potential
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(found.forces[2, 1], abs=1e-7)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + sign * step), scale_atoms=True)
        energies.append(answer(strained).energy)
    assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(np.trace(found.virial), abs=2e-5)


def test_it_is_added_to_another_potential() -> None:
    repulsion = {"kind": "zbl", "cutoff": "4 Å"}
    both, d3, zbl = (
        predictor(load(*tables))(argon())
        for tables in (({"kind": "d3", "method": "PBE"}, repulsion), ({"kind": "d3", "method": "PBE"},), (repulsion,))
    )
    assert both.energy == pytest.approx(d3.energy + zbl.energy, rel=1e-12)
    assert np.abs(both.virial - d3.virial - zbl.virial).max() < 1e-10
    assert d3.energy < -0.1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"method": "no functional"}, "no parameters of d3bj for the method no functional"),
        ({"method": "PBE", "damping": "d5"}, "d5"),
        ({"method": "PBE", "cutoff": "9 eV"}, "is not a unit of length"),
        ({}, "method must be given"),
    ],
)
def test_mistakes_are_told(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load({"kind": "d3", **table})
    assert message in str(caught.value)
