"""Atoms as OpenMM sees them: masses, frozen atoms, integrators, contexts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import ase
import numpy as np
import openmm

from mlmd import units
from mlmd.config import NPT, NVE, NVT, Deposit, Langevin, Simulate
from mlmd.config.stages import temperatures_of
from mlmd.engine.forces import NM, Forces, positions_in
from mlmd.engine.layer import layer_integrator
from mlmd.errors import InputError

PS = 1e3
"""One ps in fs."""
SPEED = NM / PS
"""One nm/ps in Å/fs."""
TOLERANCE = 1e-6
"""Relative error of distances that are fixed."""


@dataclass(frozen=True)
class Body:
    """What stays the same while nobody comes or goes: who the atoms are and how they may move."""

    numbers: np.ndarray
    """(n_atoms,) atomic numbers."""
    masses: np.ndarray
    """(n_atoms,) amu."""
    mobile: np.ndarray
    """(n_atoms,) bool."""
    pbc: np.ndarray
    """(3,) bool."""
    remove_com: bool
    constraints: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.zeros((0, 2), int), np.zeros(0)))
    """Pairs of atoms (n, 2) at fixed distances (n,) Å."""
    molecules: np.ndarray | None = None
    """(n_atoms,) number of the molecule of each atom, where a change of the volume moves molecules as a whole."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def n_dof(self) -> int:
        """Degrees of freedom that carry kinetic energy."""
        return 3 * int(self.mobile.sum()) - (3 if self.remove_com else 0) - len(self.constraints[0])

    def temperature(self, kinetic: float) -> float:
        """K, from the kinetic energy in eV."""
        return 2.0 * kinetic / (self.n_dof * units.KB)

    def kinetic_energy(self, velocities: np.ndarray) -> float:
        """eV, from velocities (n_atoms, 3) Å/fs."""
        squares = np.einsum("ij,ij->i", velocities, velocities)
        return 0.5 * units.KINETIC * float(self.masses @ squares)


def body_of(config: Simulate, atoms: ase.Atoms) -> Body:
    """Masses, frozen atoms and constraints of a structure (in the user's orientation).

    Raises:
        InputError: for indices that do not exist, when nothing could move, or when no degree of freedom is left.
    """
    masses = np.array(atoms.get_masses(), dtype=float)
    if config.hydrogen_mass is not None:
        masses[atoms.numbers == 1] = config.hydrogen_mass
    mobile = ~_frozen(config, atoms)
    if not mobile.any():
        raise InputError("every atom is frozen: nothing can move. Select fewer in [frozen].")
    remove_com = config.remove_com_motion
    if remove_com is None:
        remove_com = bool(mobile.all()) and len(atoms) > 1
    if remove_com and not mobile.all():
        raise InputError("remove_com_motion = true cannot go with frozen atoms, which hold the centre already.")
    body = Body(np.array(atoms.numbers), masses, mobile, np.array(atoms.pbc), remove_com)
    if body.n_dof <= 0:
        raise InputError("one atom whose centre of mass is held cannot move. Set remove_com_motion = false.")
    return body


def with_constraints(body: Body, pairs: np.ndarray, distances: np.ndarray, molecules: np.ndarray) -> Body:
    """A body with pairs of atoms (n, 2) at fixed distances (n,) Å and molecules (n_atoms,); frozen pairs need none.

    Raises:
        InputError: where one atom of a pair is frozen and the other is not, and when nothing could move.
    """
    still = ~body.mobile[pairs]
    if (torn := np.flatnonzero(still.any(axis=1) & ~still.all(axis=1))).size:
        one, other = pairs[torn[0]]
        raise InputError(
            f"frozen: of atoms {one} and {other}, at a fixed distance (mlmm: constraints, rigid_water), only one is "
            "frozen. Freeze whole molecules, or take the constraints away."
        )
    kept = ~still.all(axis=1)
    made = replace(body, constraints=(pairs[kept], distances[kept]), molecules=molecules)
    if made.n_dof <= 0:
        raise InputError("with these constraints and frozen atoms nothing can move.")
    return made


def _frozen(config: Simulate, atoms: ase.Atoms) -> np.ndarray:
    frozen = np.zeros(len(atoms), dtype=bool)
    if config.frozen is None:
        return frozen
    wrong = [index for index in config.frozen.indices if index >= len(atoms)]
    if wrong:
        raise InputError(f"frozen: there is no atom {wrong[0]}: the structure has {len(atoms)}, counted from 0.")
    absent = [symbol for symbol in config.frozen.elements if symbol not in atoms.symbols]
    if absent:
        raise InputError(f"frozen: the structure has no {absent[0]}.")
    frozen[list(config.frozen.indices)] = True
    frozen |= np.isin(atoms.get_chemical_symbols(), config.frozen.elements)
    if config.frozen.below is not None:
        frozen |= atoms.positions[:, 2] < config.frozen.below
    return frozen


def maxwell_boltzmann(body: Body, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Velocities (n_atoms, 3) Å/fs drawn at a temperature, frozen atoms at rest, drift removed."""
    spread = np.sqrt(units.KB * temperature / (units.KINETIC * body.masses))
    velocities = rng.standard_normal((body.n_atoms, 3)) * (spread * body.mobile)[:, None]
    if body.remove_com:
        velocities -= body.masses @ velocities / body.masses.sum()
    return velocities


def make_integrator(stage: NVE | NVT | NPT | Deposit, timestep: float, seed: int) -> openmm.Integrator:
    """OpenMM's integrator of a stage.

    NVE: leapfrog Verlet. Langevin: the middle scheme (Zhang, Liu, Wu, Shao, Liu, J. Phys. Chem. A 123, 6056 (2019)).
    Nosé–Hoover: chains with leapfrog (Zhang et al. 2019; Martyna, Klein, Tuckerman, J. Chem. Phys. 97, 2635 (1992)).
    Deposition: see `mlmd.engine.layer`.

    Args:
        stage: of the input.
        timestep: fs.
        seed: of the random forces, positive.
    """
    if isinstance(stage, NVE):
        return openmm.VerletIntegrator(timestep / PS)
    if isinstance(stage, Deposit):
        return layer_integrator(stage, timestep, seed)
    temperature = temperatures_of(stage)[0]
    if isinstance(stage.thermostat, Langevin):
        integrator = openmm.LangevinMiddleIntegrator(temperature, stage.thermostat.friction * PS, timestep / PS)
        integrator.setRandomNumberSeed(seed)
        return integrator
    thermostat = stage.thermostat
    return openmm.NoseHooverIntegrator(temperature, thermostat.frequency * PS, timestep / PS, thermostat.chain_length)


def make_context(
    body: Body,
    forces: Forces,
    integrator: openmm.Integrator,
    platform: str,
    properties: dict[str, str],
    force: openmm.Force | None = None,
) -> openmm.Context:
    """A context whose only force is ours, or another that gives the same."""
    system = openmm.System()
    for mass, mobile in zip(body.masses, body.mobile, strict=True):
        system.addParticle(float(mass) if mobile else 0.0)
    if body.pbc.all():
        system.setDefaultPeriodicBoxVectors(*(forces.cell / NM))
    for (one, other), distance in zip(*body.constraints, strict=True):
        system.addConstraint(int(one), int(other), float(distance) / NM)
    if system.getNumConstraints():
        integrator.setConstraintTolerance(TOLERANCE)
    system.addForce(openmm.PythonForce(forces) if force is None else force)
    if body.remove_com:
        system.addForce(openmm.CMMotionRemover(1))
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform), properties)


def set_cell(context: openmm.Context, cell: np.ndarray) -> None:
    """Give OpenMM the cell (3, 3) Å, in reduced form."""
    context.setPeriodicBoxVectors(*(openmm.Vec3(*row) for row in cell / NM))


def positions_of(context: openmm.Context) -> np.ndarray:
    """(n_atoms, 3) nm, unwrapped, as OpenMM holds them."""
    return positions_in(context.getState(positions=True))


def velocities_of(context: openmm.Context) -> np.ndarray:
    """(n_atoms, 3) Å/fs as the integrator holds them (leapfrog: half a step back)."""
    array: np.ndarray = context.getState(velocities=True).getVelocities(asNumpy=True)._value
    return array * SPEED


def choose_platform(platform: str, threads: int | None, device: str) -> tuple[str, dict[str, str]]:
    """OpenMM's platform and its properties.

    ``auto`` is CUDA where OpenMM has it and the potential computes there (`device`), else Reference: the force is ours,
    and around it Reference costs less per step than the CPU platform (``benchmarks/step.py``).

    Raises:
        InputError: for a platform that is not installed.
    """
    known = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if platform == "auto":
        platform = "CUDA" if "CUDA" in known and device.startswith("cuda") else "Reference"
    if platform not in known:
        raise InputError(f"OpenMM has no platform {platform!r} here. It has {', '.join(known)}.")
    properties: dict[str, Any] = {}
    if platform == "CPU" and threads:
        properties = {"Threads": str(threads)}
    if platform in ("CUDA", "OpenCL", "HIP"):
        properties = {"Precision": "mixed"}
    return platform, properties
