"""Langevin dynamics of a layer and Newton's of all other atoms, below a wall where there is one.

The middle scheme (Zhang, Liu, Wu, Shao, Liu, J. Phys. Chem. A 123, 6056 (2019)) for every atom i,

    v ← v + Δt F/m,   x ← x + ½ Δt v,   v ← v + b_i [(e^{-γΔt} - 1) v + √(1 - e^{-2γΔt}) √(kT/m) R],   x ← x + ½ Δt v

with b_i = 1 in the layer and 0 elsewhere, where it is leapfrog Verlet. OpenMM's own Langevin integrators know one
friction for all. At a wall an atom above it is turned downwards, v_z ← -|v_z|, which keeps its energy.
"""

from __future__ import annotations

import math

import numpy as np
import openmm

from mlmd import units
from mlmd.config import Deposit
from mlmd.engine.forces import NM

_FAR = 1e9
"""nm, where the walls are that nothing reaches."""


def layer_integrator(stage: Deposit, timestep: float, seed: int) -> openmm.CustomIntegrator:
    """The integrator of a stage of deposition; no atom is in the layer before `set_layer` says so.

    Args:
        stage: of the input.
        timestep: fs.
        seed: of the random forces, positive.
    """
    integrator = openmm.CustomIntegrator(timestep / 1e3)
    integrator.addPerDofVariable("layer", 0.0)
    if stage.bath is not None:
        kept = math.exp(-stage.bath.friction * timestep)
        integrator.addGlobalVariable("kept", kept)
        # kT in kJ/mol, OpenMM's unit of m v²
        kick = math.sqrt((1.0 - kept**2) * units.KB * stage.bath.temperature / units.EV_PER_KJMOL)
        integrator.addGlobalVariable("kick", kick)
    integrator.addComputePerDof("v", "v+dt*f/m")
    integrator.addComputePerDof("x", "x+0.5*dt*v")
    if stage.bath is not None:
        integrator.addComputePerDof("v", "v+layer*((kept-1)*v+kick*gaussian/sqrt(m))")
    if stage.at_ceiling == "reflect":
        integrator.addPerDofVariable("wall", _FAR)
        integrator.addComputePerDof("v", "select(step(x-wall), -abs(v), v)")
    integrator.addComputePerDof("x", "x+0.5*dt*v")
    # leapfrog's velocities are half a step behind; those that have just met the bath are not
    integrator.setKineticEnergyExpression("m*u*u/2; u=v+(1-layer)*0.5*dt*f/m")
    integrator.setRandomNumberSeed(seed)
    return integrator


def set_layer(integrator: openmm.CustomIntegrator, layer: np.ndarray) -> None:
    """Say which atoms (n_atoms,) bool are thermostatted."""
    integrator.setPerDofVariableByName("layer", np.repeat(layer.astype(float)[:, None], 3, axis=1))


def set_wall(integrator: openmm.CustomIntegrator, height: float, n_atoms: int) -> None:
    """Put the wall at a height in Å."""
    walls = np.full((n_atoms, 3), _FAR)
    walls[:, 2] = height / NM
    integrator.setPerDofVariableByName("wall", walls)
