"""The heat flux of every potential is the speed at which energy moves: d/dt Σ r_i e_i of a body in vacuum."""

from __future__ import annotations

from collections.abc import Callable

import ase.build
import numpy as np
import pytest
from classical import silicon
from potential_cases import CASES, Case

from mlmd import units
from mlmd.engine.fluxes import heat_flux
from mlmd.potentials import Evaluation
from mlmd.potentials.evaluate import GraphEvaluator, evaluator

EXACT = [case for case in CASES if case.precision == "float64"]
STEP = 1e-3
"""fs; central differences err by its square, and by rounding over it."""


def moving(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, positions, velocities and masses (eV fs²/Å²) of a cluster with atoms that go their own ways."""
    atoms = case.cluster()
    velocities = 0.02 * np.random.default_rng(3).standard_normal((len(atoms), 3))
    return atoms.numbers, atoms.positions, velocities, atoms.get_masses() * units.KINETIC


def speed_of_energy(
    case: Case, ask: Callable[[np.ndarray, np.ndarray], Evaluation]
) -> tuple[np.ndarray, np.ndarray, Evaluation]:
    """d/dt Σ r_i e_i (3,) along the motion, what the heat flux says, and the answer it says it from."""
    _, positions, velocities, masses = moving(case)
    cell = np.zeros((3, 3))
    now: Evaluation = ask(positions, cell)
    acceleration = now.forces / masses[:, None]

    def energy_times_place(time: float) -> np.ndarray:
        there = positions + time * velocities + 0.5 * time**2 * acceleration
        speed = velocities + time * acceleration
        energies = ask(there, cell).energies + 0.5 * masses * np.sum(speed**2, axis=1)
        return energies @ there

    rate = (energy_times_place(STEP) - energy_times_place(-STEP)) / (2 * STEP)
    assert now.energies is not None and now.virials is not None
    return rate, heat_flux(now.energies, now.virials, masses, velocities), now


@pytest.mark.parametrize("by", ["kernels", "graph"])
@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_the_heat_flux_is_the_speed_at_which_energy_moves(case: Case, by: str) -> None:
    numbers, pbc = moving(case)[0], np.zeros(3, dtype=bool)
    made = (evaluator if by == "kernels" else GraphEvaluator)(case.make(), numbers, pbc)
    rate, flux, _ = speed_of_energy(case, made.detailed)
    # 1e-6: forces by central differences of energies are known no better at such a step
    assert np.abs(rate - flux).max() < 1e-6 * max(1.0, np.abs(rate).max())


def test_the_symmetric_virial_of_atoms_misses_the_heat_of_three_body_forces() -> None:
    case = Case("silicon", silicon, ("Si",), 2.4)
    numbers, _, velocities, masses = moving(case)
    made = evaluator(case.make(), numbers, np.zeros(3, dtype=bool))
    rate, flux, found = speed_of_energy(case, made.detailed)
    assert found.virials is not None and found.energies is not None
    symmetric = 0.5 * (found.virials + found.virials.transpose(0, 2, 1))
    six = heat_flux(found.energies, symmetric, masses, velocities)
    assert np.abs(rate - six).max() > 3e-3 * np.abs(rate - found.energies @ velocities).max()
    assert np.abs(rate - flux).max() < 1e-6 * np.abs(rate).max()


def test_virials_of_atoms_add_up_to_the_virial_of_a_crystal() -> None:
    atoms = ase.build.bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=2)
    for make in (evaluator, GraphEvaluator):
        found = make(silicon(), atoms.numbers, atoms.pbc).detailed(atoms.positions, atoms.cell.array)
        assert np.abs(found.virials.sum(axis=0) - found.virial).max() < 1e-10
