"""Energy and forces of a force field with a region of a potential in it, behind the same door as any potential.

The System that is integrated is mlmd's own, with one force; that of the force field computes only, in a context of its
own. So everything around a potential (bias, guards, checkpoints, volume moves) is what it is elsewhere.

OpenMM's CPU platform sums over pairs in the order of its neighbour list, which it makes anew when atoms have moved far
enough since the last. Here it is told when, before it would itself, so that a run that continues has the list that the
run before had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openmm

from mlmd import units
from mlmd.engine.forces import NM
from mlmd.engine.frame import Frame, frame_of
from mlmd.engine.region import GROUP, Mixed
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation

MLMM_COLUMNS = ("ML energy [eV]", "MM energy [eV]")
"""What is added to the log: the potential's part of the potential energy, and the force field's."""
_FIELD = 0xFFFFFFFF & ~(1 << GROUP)
_OLD = 0.1
"""Part of the cutoff by which an atom may move before the list is made again; OpenMM allows 0.125."""
_FAR = 1.0
"""nm: a shift of all atoms after which OpenMM makes its list again."""
_FORCE = units.EV_PER_KJMOL / NM


class MixedEvaluator:
    """What the engine calls every step."""

    def __init__(self, mixed: Mixed, device: str, platform: str, properties: Mapping[str, str]) -> None:
        """
        Args:
            mixed: system and potential.
            device: where the potential computes.
            platform: of OpenMM, where the force field is computed.
            properties: of the platform.
        """
        self._mixed, system = mixed, mixed.system
        mixed.compute.begin(device)
        self._context = openmm.Context(
            system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform), dict(properties)
        )
        self._periodic = bool(mixed.atoms.pbc.all())
        self._particles = np.zeros((system.getNumParticles(), 3))
        self._has_sites = system.getNumParticles() > len(mixed.places)
        self._cutoff = _cutoff(system) if platform == "CPU" else None
        self._listed: np.ndarray | None = None
        """(n_atoms, 3) nm, where atoms were when the list was made."""
        self._cell = np.zeros((3, 3))
        self._frame: Frame | None = None

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV) and forces (eV/Å) at positions (n_atoms, 3) Å and cell (3, 3) Å; the virial is not known.

        Raises:
            SimulationError: when OpenMM or the potential fails.
        """
        try:
            frame = self._set_cell(cell)
            return self._evaluate(frame.to_engine(positions) / NM, frame)
        except Exception as error:
            if (failure := self._mixed.compute.failure) is not None:
                self._mixed.compute.failure = None
                raise failure from None
            raise SimulationError(f"OpenMM cannot compute the force field: {error}") from None

    def _evaluate(self, positions: np.ndarray, frame: Frame) -> Evaluation:
        if self._cutoff is not None:
            self._keep_list(positions)
        self._place(positions)
        energies, total = [], np.zeros_like(positions)
        for groups in (1 << GROUP, _FIELD):
            state = self._context.getState(energy=True, forces=True, groups=groups)
            energies.append(float(state.getPotentialEnergy()._value) * units.EV_PER_KJMOL)
            total += state.getForces(asNumpy=True)._value[self._mixed.places]
        parts = dict(zip(MLMM_COLUMNS, energies, strict=True))
        forces = np.ascontiguousarray(frame.to_user(total * _FORCE))
        return Evaluation(sum(energies), forces, np.full((3, 3), np.nan), parts=parts)

    def _set_cell(self, cell: np.ndarray) -> Frame:
        """Give OpenMM the cell in its form; how space is turned to get there."""
        if self._frame is not None and np.array_equal(cell, self._cell):
            return self._frame
        reduced, frame = frame_of(cell, self._mixed.atoms.pbc)
        if self._periodic:
            self._context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in reduced / NM))
        self._cell, self._frame, self._listed = np.array(cell), frame, None
        return frame

    def _place(self, positions: np.ndarray) -> None:
        self._particles[self._mixed.places] = positions
        self._context.setPositions(self._particles)
        if self._has_sites:
            self._context.computeVirtualSites()

    def _keep_list(self, positions: np.ndarray) -> None:
        """Have OpenMM make its list at these positions (n_atoms, 3) nm, where the last is old."""
        assert self._cutoff is not None
        if self._listed is not None:
            moved = positions - self._listed
            if np.einsum("ij,ij->i", moved, moved).max() < (_OLD * self._cutoff) ** 2:
                return
        for shift in (_FAR, 0.0):
            self._place(positions + shift)
            self._context.getState(energy=True, groups=0)  # of no force: what is done before any is computed
        self._listed = positions.copy()

    def state(self) -> dict[str, np.ndarray]:
        """Where the lists were made, the potential's too."""
        own = {f"region/{name}": one for name, one in self._mixed.compute.prepare().state().items()}
        return own if self._listed is None else {**own, "listed": self._listed, "listed_cell": self._cell}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        own = {name.removeprefix("region/"): one for name, one in state.items() if name.startswith("region/")}
        self._mixed.compute.prepare().restore(own)
        self._listed = None
        if (listed := state.get("listed")) is not None and self._cutoff is not None:
            self._set_cell(np.array(state["listed_cell"]))
            self._keep_list(np.array(listed))


def _cutoff(system: openmm.System) -> float | None:
    """nm, of the shortest list of pairs; None where there is no list."""
    found = []
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce | openmm.CustomNonbondedForce) and force.getNonbondedMethod() > 0:
            found.append(force.getCutoffDistance()._value)
    return min(found) if found else None


def field_platform(platform: str, device: str, threads: int | None) -> tuple[str, dict[str, str]]:
    """OpenMM's platform for the force field, and its properties.

    What the user names; else the GPU where the potential computes on one; else the CPU. There one thread is the
    default: more add numbers in an order that is never the same, so that no continued run would be the run before.

    Args:
        platform: of the command line.
        device: where the potential computes.
        threads: of the command line.
    """
    known = [openmm.Platform.getPlatform(n).getName() for n in range(openmm.Platform.getNumPlatforms())]
    if platform == "auto":
        platform = next(name for name in ("CUDA" if device.startswith("cuda") else "CPU", "CPU") if name in known)
    properties = {
        "CPU": {"Threads": str(threads or 1), "DeterministicForces": "true"},
        "CUDA": {"Precision": "mixed", "DeterministicForces": "true"},
    }
    return platform, properties.get(platform, {})


def why_inexact(field: Mapping[str, Any]) -> str | None:
    """Why no run in parts is the run in one; None where it is. Of "openmm" and "properties" of the force field."""
    threads = field["properties"].get("Threads", "1")
    if threads == "1":
        return None
    return (
        f"the force field is computed by {threads} threads, which add numbers in an order that is never the same: a "
        "run in parts is no run in one to the last digit, but continues statistically. Without --threads it is exact"
    )
