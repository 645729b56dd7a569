"""Argon as OpenMM computes it by itself: an oracle for the engine, and a potential that is fast on few atoms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openmm

from mlmd import units
from mlmd.potentials import Evaluation

EPSILON, SIGMA, CUTOFF = 0.0104, 3.4, 6.5
"""eV and Å; the energy goes to zero between 0.9 of the cutoff and the cutoff."""
LENNARD_JONES = f'{{ kind = "lennard-jones", epsilon = "{EPSILON} eV", sigma = "{SIGMA} Å", cutoff = "{CUTOFF} Å" }}'
_KJ = units.EV_PER_KJMOL


def system(masses: np.ndarray, cell: np.ndarray) -> openmm.System:
    """OpenMM's own Lennard-Jones system; masses (n_atoms,) amu, cell (3, 3) Å in reduced form."""
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors(*(cell / 10))
    force = openmm.CustomNonbondedForce(f"4*{EPSILON / _KJ!r}*(s^12-s^6); s={SIGMA / 10!r}/r")
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(CUTOFF / 10)
    force.setUseSwitchingFunction(True)  # OpenMM's is the quintic too
    force.setSwitchingDistance(0.9 * CUTOFF / 10)
    for mass in masses:
        made.addParticle(float(mass))
        force.addParticle([])
    made.addForce(force)
    return made


class Argon:
    """The same system as a potential of mlmd; it gives no virial."""

    cutoff = CUTOFF
    elements = ()

    def __init__(self, precision: str = "float64") -> None:
        """No parameters."""

    def evaluator(self, numbers: np.ndarray, pbc: np.ndarray, **options: Any) -> _ArgonEvaluator:
        """For a periodic system of so many atoms."""
        return _ArgonEvaluator(len(numbers))

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "argon in openmm"}


class _ArgonEvaluator:
    def __init__(self, n_atoms: int) -> None:
        big = 100.0 * np.eye(3)
        platform = openmm.Platform.getPlatformByName("CPU")
        self._context = openmm.Context(
            system(np.ones(n_atoms), big), openmm.VerletIntegrator(1.0), platform, {"Threads": "1"}
        )

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy and forces; the virial is not a number."""
        self._context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in cell / 10))
        self._context.setPositions(positions / 10)
        state = self._context.getState(energy=True, forces=True)
        forces = state.getForces(asNumpy=True)._value * (_KJ / 10)
        return Evaluation(state.getPotentialEnergy()._value * _KJ, forces, np.full((3, 3), np.nan))

    def state(self) -> dict[str, np.ndarray]:
        """Nothing that matters."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing."""
