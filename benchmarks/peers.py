"""Programs that compute forces, each ready to move the same atoms for some steps and to say how long forces took.

Every program integrates Newton's equations from the same positions at 300 K, so that atoms move and lists of neighbours
are followed and searched again as in a run. Only what gives forces is timed: the list and the potential. LAMMPS
(`lammps_peer.py`) integrates by itself, the others are integrated here by velocity Verlet between the timed calls.
With one thread the time is that of the processor, which other processes of the machine disturb less; with more it is
that of the clock on the wall.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from mlmd.potentials import Potential
from mlmd.potentials.evaluate import SKIN, evaluator

TEMPERATURE = 300.0
TIMESTEP = 1.0  # fs


@dataclass(frozen=True, eq=False)
class Program:
    """One program with one potential on one structure."""

    name: str
    threads: int
    precision: str
    pairs: str
    """How the list of neighbours is kept."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å at the start."""
    advance: Callable[[int], tuple[float, float]]
    """Move the atoms by a number of steps; seconds that each took, and those of them for the list (nan: not known)."""


def clock(threads: int) -> Callable[[], float]:
    """What measures programs with so many threads, s."""
    return time.process_time if threads == 1 else time.perf_counter


Timed = tuple[np.ndarray, float, float]
"""Forces, the seconds that they took, and those of them for the list."""


def verlet(atoms: Atoms, compute: Callable[[np.ndarray], Timed]) -> Callable[[int], tuple[float, float]]:
    """An `advance` by velocity Verlet of what gives forces (eV/Å) and the seconds they took."""
    positions = atoms.positions.copy()
    inverse_masses = 1.0 / atoms.get_masses()[:, None]
    step = TIMESTEP * units.fs
    generator = np.random.default_rng(2)
    velocities = generator.normal(size=positions.shape) * np.sqrt(units.kB * TEMPERATURE * inverse_masses)
    velocities -= velocities.mean(axis=0)
    forces = compute(positions)[0]

    def advance(n_steps: int) -> tuple[float, float]:
        nonlocal forces
        spent = listing = 0.0
        for _ in range(n_steps):
            velocities[:] += 0.5 * step * forces * inverse_masses
            positions[:] += step * velocities
            forces, seconds, of_list = compute(positions)
            velocities[:] += 0.5 * step * forces * inverse_masses
            spent, listing = spent + seconds, listing + of_list
        return spent / n_steps, listing / n_steps

    return advance


def mlmd(
    name: str, potential: Potential, atoms: Atoms, *, precision: str, threads: int = 1, skin: float = SKIN
) -> Program:
    """mlmd as the engine calls it; a skin of 0 searches pairs at every call."""
    ready: Any = evaluator(potential, atoms.numbers, atoms.pbc, skin=skin)
    cell, now = atoms.cell.array, clock(threads)

    def compute(positions: np.ndarray) -> Timed:
        torch.set_num_threads(threads)
        before, start = ready.seconds, now()
        forces = ready.evaluate(positions, cell).forces
        spent = now() - start
        listing, computing = (after - earlier for after, earlier in zip(ready.seconds, before, strict=True))
        return forces, spent, spent * listing / (listing + computing)

    pairs = f"kept, skin {skin:g} Å" if skin else "searched at every call"
    return Program(f"mlmd, {name}", threads, precision, pairs, compute(atoms.positions)[0], verlet(atoms, compute))


def calorine(file: Path, atoms: Atoms) -> tuple[Program, Program]:
    """NEP_CPU through calorine: by an ASE calculator, and the time of its C++ function alone.

    Both search pairs at every call and have one thread.
    """
    from calorine.calculators import CPUNEP

    atoms = atoms.copy()
    calculator, now = CPUNEP(str(file)), clock(1)
    searched = "searched at every call"

    def through_ase(positions: np.ndarray) -> Timed:
        atoms.positions[:] = positions
        start = now()
        calculator.calculate(atoms, ["energy", "forces"])
        return calculator.results["forces"], now() - start, np.nan

    first = through_ase(atoms.positions.copy())[0]

    def alone(positions: np.ndarray) -> Timed:
        calculator.nepy.set_positions(list(positions.T.flatten()))
        start = now()
        _, forces, _ = calculator.nepy.get_potential_forces_and_virials()
        seconds = now() - start
        return np.array(forces).reshape(-1, len(atoms)).T, seconds, np.nan

    version = importlib.metadata.version("calorine")
    return (
        Program(f"calorine {version}, CPUNEP", 1, "float64", searched, first, verlet(atoms, through_ase)),
        Program(f"calorine {version}, its C++ alone", 1, "float64", searched, first, verlet(atoms, alone)),
    )


def motep(file: Path, elements: Sequence[str], atoms: Atoms) -> Program:
    """motep's engine in C, called without the ASE calculator around it."""
    from motep.calculator import make_mtp_engine
    from motep.io.mlip.mtp import read_mtp

    atoms = atoms.copy()
    data = read_mtp(file)
    data.species = [Atoms(symbol).numbers[0] for symbol in elements]
    engine, now = make_mtp_engine("cext")(data, mode="run"), clock(1)

    def compute(positions: np.ndarray) -> Timed:
        atoms.positions[:] = positions
        start = now()
        forces = engine.calculate(atoms)["forces"]
        return forces, now() - start, np.nan

    name = f"motep {importlib.metadata.version('motep')}, C engine"
    return Program(name, 1, "float64", "kept, skin 0.3 Å", compute(atoms.positions.copy())[0], verlet(atoms, compute))
