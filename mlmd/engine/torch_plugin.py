"""Whether OpenMM-Torch's plugin works here: run as a process of its own, which it may take with it.

    python torch_plugin.py question.npz answer.npz

A plugin that was built for another PyTorch than the one installed is not imported, or ends its process, or computes
something else. The question holds the name of a file of a module, positions (nm), box (nm, or nothing) and OpenMM's
platform; the answer its energy (kJ/mol) and forces (kJ/mol/nm). Before that one atom is asked for.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are called like packages

import json
import warnings
from pathlib import Path

import numpy as np
import openmm
import torch


class Square(torch.nn.Module):
    """E = |r|², kJ/mol and nm."""

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """The energy."""
        return positions.square().sum()


def ask(
    force: openmm.Force, positions: np.ndarray, box: np.ndarray, platform: str, properties: dict[str, str]
) -> tuple[float, np.ndarray]:
    """Energy (kJ/mol) and forces (n_atoms, 3) (kJ/mol/nm) by one force of OpenMM.

    Args:
        force: of OpenMM-Torch.
        positions: (n_atoms, 3) nm.
        box: (3, 3) nm, or of size 0.
        platform: of OpenMM.
        properties: of the platform.
    """
    system = openmm.System()
    for _ in positions:
        system.addParticle(1.0)
    if box.size:
        system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in box))
    system.addForce(force)
    where = openmm.Platform.getPlatformByName(platform)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), where, properties)
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, np.array(state.getForces(asNumpy=True)._value)


def main() -> None:
    """Ask for one atom, then for the system of the question."""
    import openmmtorch

    question = np.load(sys.argv[1])
    settings = json.loads(str(question["settings"]))
    platform, properties = settings["platform"], settings["properties"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have other formats
        module = torch.jit.script(Square())
    place = np.array([[0.1, 0.2, 0.3]])
    energy, forces = ask(openmmtorch.TorchForce(module), place, np.zeros(0), platform, properties)
    if abs(energy - 0.14) > 1e-6 or np.abs(forces + 2.0 * place).max() > 1e-6:
        sys.exit(f"of one atom in a parabola of 0.14 kJ/mol it gives {energy:g} kJ/mol and forces {forces.tolist()}")
    if settings["module"] is None:
        np.savez(sys.argv[2], energy=energy, forces=forces)
        return
    force = openmmtorch.TorchForce(settings["module"])
    force.setUsesPeriodicBoundaryConditions(bool(question["box"].size))
    force.setOutputsForces(settings["returns_forces"])
    energy, forces = ask(force, question["positions"], question["box"], platform, properties)
    partial = Path(sys.argv[2]).with_suffix(".part.npz")
    np.savez(partial, energy=energy, forces=forces)
    partial.replace(sys.argv[2])


if __name__ == "__main__":
    main()
