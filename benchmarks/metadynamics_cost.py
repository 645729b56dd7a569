"""What metadynamics on ten atoms adds to the steps of a large system, and whether PLUMED leaks.

    python benchmarks/metadynamics_cost.py [--atoms 10000] [--threads 1] [--rounds 60] [--precision float64]
    python benchmarks/metadynamics_cost.py --leak 1000000

Well-tempered metadynamics on a grid, of the distance between the centres of two groups of five atoms, with the fastest
of the potentials that come with mlmd, which is found first: all of them evaluate a crystal of about so many atoms. One
run takes turns of some steps without the bias, with the bias after the potential, and, where there is a core for it,
with both at the same time as in a run, so that all have the same memory and lists, and what else the machine does meets
all; the ratio is that of the means over all rounds, its error from resampling rounds. Wall clock and time of the
processor are shown; the latter does not know of other programs, but that they empty the caches.

Below, the processor's time in the calls for several numbers of atoms, on which it does not depend: PLUMED gets pointers
and copies what its variables need. The calls are some times as slow where the caches have forgotten them; where they
are so too after pauses in which this program does nothing, others have emptied the caches, and the ratio is one of a
busy machine.

With ``--leak N`` a run of N steps of four atoms in a bowl with the same metadynamics is made instead; it prints the
memory of the process against steps, and the slope of the line through its second half.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import torch
from ase import Atoms
from machine import machine

from mlmd import models
from mlmd.bias.plumed import PlumedBias, working_in
from mlmd.bias.script import read_script
from mlmd.config import NVT, load_simulate
from mlmd.cores import n_cores
from mlmd.engine.forces import Forces
from mlmd.engine.frame import IDENTITY
from mlmd.engine.observe import Moment
from mlmd.engine.run import simulate
from mlmd.engine.schedule import stage_records
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.engine.system import body_of, maxwell_boltzmann
from mlmd.potentials import Evaluator, modelfile
from mlmd.potentials.evaluate import evaluator

BOTH = ("float32", "float64")
TIMESTEP, TEMPERATURE = 2.0, 300.0  # fs, K
METADYNAMICS = """
first: COM ATOMS=1-5
second: COM ATOMS=6-10
d: DISTANCE ATOMS=first,second NOPBC
METAD ARG=d SIGMA=0.02 HEIGHT=0.5 PACE=500 BIASFACTOR=10 GRID_MIN=0 GRID_MAX=10 TEMP=300
"""
CRYSTALS = {
    "Cu": ("fcc", 3.65), "Ni": ("fcc", 3.52), "Li": ("bcc", 3.45), "Si": ("diamond", 5.47),
}  # fmt: skip
"""Bundled potential -> crystal and its lattice constant, Å; those of compounds come from ``inputs``."""
INPUT = """
structure = "atoms.extxyz"
potential = "{name}"
timestep = "{timestep} fs"
[[stage]]
kind = "nvt"
temperature = "{temperature} K"
duration = "1 ns"
"""
BOWL = """
structure = "atoms.extxyz"
potential = {{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "8 Å" }}
timestep = "5 fs"
seed = 1
[[stage]]
kind = "nvt"
temperature = "20 K"
duration = "{duration} fs"
plumed = "metadynamics.dat"
[output]
log_every = "5 ps"
trajectory_every = "50 ps"
[guard]
max_temperature = "off"
"""
BOWL_METADYNAMICS = """
d: DISTANCE ATOMS=1,2
METAD ARG=d SIGMA=0.02 HEIGHT=0.02 PACE=100 BIASFACTOR=5 GRID_MIN=0 GRID_MAX=3 TEMP=20
UPPER_WALLS ARG=d AT=0.8 KAPPA=500
PRINT ARG=d FILE=COLVAR STRIDE=1000
"""


def crystal(name: str, n_atoms: int) -> Atoms:
    """A crystal that a bundled potential knows, of about so many atoms."""
    if name in CRYSTALS:
        lattice, constant = CRYSTALS[name]
        cell = ase.build.bulk(name, lattice, a=constant, cubic=True)
    else:
        (cell,) = ase.io.read(Path(__file__).parents[1] / "inputs" / f"{name.lower()}.cif", index=":")
    return cell.repeat(max(1, round((n_atoms / len(cell)) ** (1 / 3))))


def seconds_per_atom(name: str, precision: str, n_atoms: int) -> float:
    """Processor time of an evaluation, per atom, the least of several."""
    atoms = crystal(name, n_atoms)
    potential = evaluator(modelfile.load(models.path(name), precision), atoms.numbers, atoms.pbc)
    rng, times = np.random.default_rng(0), []
    for _ in range(5):
        moved = atoms.positions + rng.normal(0.0, 0.03, atoms.positions.shape)
        clock = time.process_time()
        potential.evaluate(moved, atoms.cell.array)
        times.append(time.process_time() - clock)
    return min(times[1:]) / len(atoms)


def fastest(n_atoms: int, precisions: Sequence[str]) -> tuple[str, str]:
    """Name and precision of the fastest bundled potential; all of them are printed."""
    cases = [(name, precision) for name in models.names() for precision in precisions]
    found = {case: seconds_per_atom(*case, n_atoms) for case in cases}
    print("| potential | precision | processor µs per atom and evaluation |\n| --- | --- | ---: |")
    for (name, precision), seconds in sorted(found.items(), key=lambda item: item[1]):
        print(f"| {name} | {precision} | {1e6 * seconds:.3f} |", flush=True)
    return min(found, key=lambda case: found[case])


class Clocked:
    """A bias whose calls are timed, by the wall clock: to ask for the processor's takes a call of the system."""

    def __init__(self, bias: PlumedBias) -> None:
        self.bias, self.seconds, self.independent = bias, 0.0, bias.independent

    def compute(self, *arguments: Any) -> float:
        """The bias's."""
        clock = time.perf_counter()
        energy = self.bias.compute(*arguments)
        self.seconds += time.perf_counter() - clock
        return energy

    def update(self) -> None:
        """The bias's."""
        clock = time.perf_counter()
        self.bias.update()
        self.seconds += time.perf_counter() - clock


def metadynamics(n_atoms: int, mass: float) -> PlumedBias:
    """The bias, in the current folder."""
    Path("metadynamics.dat").write_text(METADYNAMICS)
    return PlumedBias(
        read_script(Path("metadynamics.dat"), allow_unsafe=False),
        masses=np.full(n_atoms, mass),
        timestep=TIMESTEP,
        temperature=TEMPERATURE,
    )


def stage_of(name: str, atoms: Atoms, potential: Evaluator, bias: Clocked) -> DynamicsStage:
    """A stage of dynamics as a run sets it up, in the current folder."""
    ase.io.write("atoms.extxyz", atoms, format="extxyz")
    Path("input.toml").write_text(INPUT.format(name=name, timestep=TIMESTEP, temperature=TEMPERATURE))
    config = load_simulate("input.toml")
    (record,), (stage,) = stage_records(config), config.stage
    assert isinstance(stage, NVT)
    body = body_of(config, atoms)
    velocities = maxwell_boltzmann(body, 2 * TEMPERATURE, np.random.default_rng(1))  # half becomes potential energy
    guard = config.guard
    forces = Forces(
        potential, atoms.cell.array, bias=bias, max_force=guard.max_force, max_displacement=guard.max_displacement,
        free_core=True,
    )  # fmt: skip
    return DynamicsStage(
        stage, record, body, forces, Particles(atoms.positions, velocities, atoms.cell.array, IDENTITY),
        template=atoms, hardware=Hardware("Reference", {}), seed=np.random.SeedSequence(1), guard=guard,
        usual_temperature=None, start_time=0.0, first=True,
    )  # fmt: skip


def clocked(function: Callable[[], object]) -> np.ndarray:
    """Seconds of the wall clock and of the processor."""
    wall, used = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - wall, time.process_time() - used])


def ratio(with_bias: np.ndarray, without: np.ndarray) -> tuple[float, float]:
    """Of the means of (n_rounds,) times, and its standard error over resampled rounds."""
    rng, n = np.random.default_rng(0), len(without)
    picks = rng.integers(n, size=(2000, n))
    resampled = with_bias[picks].mean(axis=1) / without[picks].mean(axis=1)
    return float(with_bias.mean() / without.mean()), float(resampled.std())


def cost(name: str, precision: str, arguments: argparse.Namespace) -> None:
    """Print what the bias adds to a step."""
    atoms = crystal(name, arguments.atoms)
    model = modelfile.load(models.path(name), precision)
    n_steps = arguments.steps
    bias = Clocked(metadynamics(len(atoms), atoms.get_masses()[0]))
    stage = stage_of(name, atoms, evaluator(model, atoms.numbers, atoms.pbc), bias)
    stage.integrator.step(100)  # warms up
    ways = {
        "without": (None, None),
        "one after the other": (bias, None),
        "at the same time": (bias, stage.forces.beside),
    }
    if arguments.threads >= n_cores():
        ways.pop("at the same time")  # a run does not do so then
    times, inside = np.zeros((arguments.rounds, len(ways), 2)), np.zeros(len(ways))
    rng = np.random.default_rng(2)
    for n in range(arguments.rounds):
        for which in rng.permutation(len(ways)):
            stage.forces.bias, stage.forces.beside = list(ways.values())[which]
            bias.seconds = 0.0
            times[n, which] = clocked(lambda: stage.integrator.step(n_steps)) / n_steps
            inside[which] += 1e6 * bias.seconds / n_steps / arguments.rounds
    print(f"\n{name}, {precision}, {len(atoms)} atoms, {arguments.threads} threads, "
          f"{arguments.rounds} rounds of {n_steps} steps\n")  # fmt: skip
    print("| metadynamics | step, wall clock (µs) | ratio | processor (µs) | ratio | in the calls of the bias (µs) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for which, way in enumerate(ways):
        columns = [f"| {way} "]
        for clock in range(2):
            found, error = ratio(times[:, which, clock], times[:, 0, clock])
            columns += [f"{1e6 * times[:, which, clock].mean():.0f}", f"{found:.4f} ± {error:.4f}" if which else ""]
        print(" | ".join(columns), f"| {inside[which]:.0f} |" if which else "| |")
    print()
    print("| atoms | PLUMED, call after call (µs) | after pauses as long as a step (µs) | copy of the forces (µs) |")
    print("| ---: | ---: | ---: | ---: |")
    for n_atoms in (100, 10_000, 100_000):
        plumed, paused, copy = parts(n_atoms, times[:, 0, 1].mean())
        print(f"| {n_atoms:,} | {plumed:.1f} | {paused:.1f} | {copy:.1f} |", flush=True)


def parts(n_atoms: int, pause: float, n_steps: int = 2000) -> tuple[float, float, float]:
    """Processor µs per step of PLUMED for ten of so many atoms, and of one copy of their forces.

    Args:
        n_atoms: of the system.
        pause: seconds of sleep before each call of the second number.
        n_steps: of the first and the last.
    """
    bias, rng = metadynamics(n_atoms, 60.0), np.random.default_rng(0)
    positions, forces = 30.0 * rng.random((n_atoms, 3)), np.zeros((n_atoms, 3))
    cell, virial = 30.0 * np.eye(3), np.zeros((3, 3))

    def go(steps: range, before: Callable[[], None]) -> float:
        spent = 0.0
        for step in steps:
            before()
            clock = time.process_time()
            bias.compute(step, positions, cell, 0.0, forces, virial)
            bias.update()
            spent += time.process_time() - clock
        return 1e6 * spent / len(steps)

    def copy() -> None:
        for _ in range(n_steps):
            forces.copy()

    found = (
        go(range(1, n_steps + 1), lambda: None),
        go(range(n_steps + 1, n_steps + 201), lambda: time.sleep(pause)),
        1e6 * clocked(copy)[1] / n_steps,
    )
    bias.close()
    return found


def resident() -> float:
    """MB of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def leak(n_steps: int) -> None:
    """Print memory against steps of a run with metadynamics."""
    atoms = Atoms("Ar4", [[0, 0, 0], [3.8, 0, 0], [0, 3.8, 0], [0, 0, 3.8]])
    ase.io.write("atoms.extxyz", atoms, format="extxyz")
    Path("metadynamics.dat").write_text(BOWL_METADYNAMICS)
    Path("input.toml").write_text(BOWL.format(duration=5 * n_steps))
    seen: list[tuple[int, float]] = []

    def look(moment: Moment) -> None:
        if moment.step >= (len(seen) + 1) * n_steps / 20:
            seen.append((moment.step, resident()))
            print(f"| {moment.step:,} | {seen[-1][1]:.1f} |", flush=True)

    print("| steps | memory (MB) |\n| ---: | ---: |")
    clock = time.perf_counter()
    simulate(Path("input.toml"), Path("run"), threads=1, platform="Reference", progress=look)
    hills = sum(not line.startswith("#") for line in Path("run/HILLS").read_text().splitlines())
    steps, memory = np.array(seen).T
    late = steps >= n_steps / 2
    slope = np.polyfit(steps[late], memory[late], 1)[0]
    seconds, more = time.perf_counter() - clock, memory[-1] - memory[0]
    print(f"\n{n_steps:,} steps and {hills:,} hills in {seconds:.0f} s: {more:.1f} MB more than after a twentieth; "
          f"{1e6 * slope:.2f} MB per million steps in the second half")  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1, help="of the potential")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=20, help="of a turn")
    parser.add_argument("--potential", choices=models.names(), help="instead of the fastest")
    parser.add_argument("--precision", nargs="+", choices=BOTH, default=BOTH, help="of potentials to choose from")
    parser.add_argument("--leak", type=int, metavar="N", help="memory of a run of so many steps instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as name, working_in(Path(name)):
        if arguments.leak:
            leak(arguments.leak)
        else:
            chosen = (arguments.potential, arguments.precision[0])
            cost(*chosen if arguments.potential else fastest(arguments.atoms, arguments.precision), arguments)


if __name__ == "__main__":
    main()
