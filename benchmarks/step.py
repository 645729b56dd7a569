"""What a step of a run costs: the engine by itself, and the whole step beside its potential alone.

    python benchmarks/step.py [--atoms 500 1000 8000] [--threads 2] [--repeats 5]

Langevin dynamics, guards on, log and trajectory as often as by default. The first table has a null potential: µs per
step on OpenMM's platforms, wall clock and processor, and the line ``a + b n_atoms`` through them. The second has copper
with the potential that comes with mlmd at 300 K: µs of a step of the run, and of the evaluation of the same positions
one after the other by a second evaluator, its list of neighbours kept and searched as in the run. Both take turns, and
the smallest of the repeats counts. With ``--profile N`` it prints instead where the engine's time goes for N atoms.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import torch
from ase import Atoms
from machine import machine

from mlmd.config import NVT, load_simulate
from mlmd.engine.forces import Forces
from mlmd.engine.frame import IDENTITY
from mlmd.engine.outputs import DCD, Log
from mlmd.engine.schedule import stage_records
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.engine.system import body_of, maxwell_boltzmann
from mlmd.models import path as bundled
from mlmd.potentials import Evaluation, Evaluator, modelfile
from mlmd.potentials.evaluate import evaluator

INPUT = """
structure = "atoms.extxyz"
potential = "Cu"
timestep = "2 fs"
[[stage]]
kind = "nvt"
temperature = "{temperature} K"
duration = "{n_steps} fs"
"""
LATTICE = 3.65  # Å, of copper with the potential that comes with mlmd


class Null:
    """No forces, at once."""

    def __init__(self, n_atoms: int) -> None:
        self._answer = Evaluation(0.0, np.zeros((n_atoms, 3)), np.zeros((3, 3)))

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Zeros."""
        return self._answer

    def state(self) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing."""


class Recorded:
    """An evaluator that keeps the configurations it is asked about."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self.configurations: list[tuple[np.ndarray, np.ndarray]] = []

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The evaluator's answer."""
        self.configurations.append((positions.copy(), cell.copy()))
        return self._evaluator.evaluate(positions, cell)

    def state(self) -> dict[str, np.ndarray]:
        """Of the evaluator."""
        return self._evaluator.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The evaluator."""
        self._evaluator.restore(state)


def crystal(n_atoms: int) -> Atoms:
    """Copper, as near to a cube as that number of atoms allows, a multiple of four.

    Raises:
        ValueError: when the number is not one.
    """
    n_cells, rest = divmod(n_atoms, 4)
    if rest:
        raise ValueError(f"{n_atoms} atoms: a multiple of four is needed")
    a = max(n for n in range(1, round(n_cells ** (1 / 3)) + 1) if n_cells % n == 0)
    b = max(n for n in range(1, round((n_cells // a) ** 0.5) + 1) if (n_cells // a) % n == 0)
    return ase.build.bulk("Cu", cubic=True, a=LATTICE).repeat((a, b, n_cells // (a * b)))


def stage_of(
    atoms: Atoms, potential: Evaluator, n_steps: int, platform: str, folder: Path, temperature: float
) -> tuple[DynamicsStage, Log, DCD]:
    """A stage of dynamics as a run sets it up, with the defaults of an input file for everything that is written."""
    ase.io.write(folder / "atoms.extxyz", atoms, format="extxyz")
    (folder / "input.toml").write_text(INPUT.format(n_steps=2 * n_steps, temperature=temperature))
    config = load_simulate(folder / "input.toml")
    (record,), (stage,) = stage_records(config), config.stage
    assert isinstance(stage, NVT)
    body = body_of(config, atoms)
    # half of it goes into the potential energy
    velocities = maxwell_boltzmann(body, 2.0 * temperature, np.random.default_rng(1))
    forces = Forces(potential, atoms.cell.array, max_force=config.guard.max_force)
    threads = {"Threads": "1"} if platform == "CPU" else {}
    made = DynamicsStage(
        stage, record, body, forces, Particles(atoms.positions, velocities, atoms.cell.array, IDENTITY),
        template=atoms, hardware=Hardware(platform, threads), seed=np.random.SeedSequence(1), guard=config.guard,
        usual_temperature=None, start_time=0.0, first=True,
    )  # fmt: skip
    trajectory = DCD(folder / "trajectory.dcd", len(atoms), record.trajectory_every * record.timestep)
    return made, Log(folder / "log.csv"), trajectory


def run(atoms: Atoms, potential: Evaluator, n_steps: int, platform: str = "Reference") -> Callable[[], None]:
    """A function that runs a new stage once; atoms that nothing holds are cold, so that they stay apart."""
    temperature = 0.01 if isinstance(potential, Null) else 300.0
    with tempfile.TemporaryDirectory() as name:
        stage, log, trajectory = stage_of(atoms, potential, n_steps, platform, Path(name), temperature)
    return lambda: stage.run(log, trajectory, pause=lambda: None, progress=lambda moment: None)


def clocked(function: Callable[[], object], n_steps: int) -> tuple[float, float]:
    """µs per step: wall clock and processor."""
    clock, used = time.perf_counter(), time.process_time()
    function()
    return (time.perf_counter() - clock) / n_steps * 1e6, (time.process_time() - used) / n_steps * 1e6


def engine(n_atoms: int, platform: str, repeats: int) -> tuple[float, float]:
    """µs per step of a null potential: wall clock and processor, the smallest of several repeats."""
    n_steps = max(500, 1_000_000 // n_atoms)
    atoms = crystal(n_atoms)
    times = [clocked(run(atoms, Null(n_atoms), n_steps, platform), n_steps) for _ in range(repeats)]
    return min(wall for wall, _ in times), min(processor for _, processor in times)


def whole(n_atoms: int, precision: str, repeats: int) -> tuple[float, float]:
    """µs per step of a run of copper, and of its potential alone at the same positions."""
    n_steps = max(200, 400_000 // n_atoms)
    atoms, potential = crystal(n_atoms), modelfile.load(bundled("Cu"), precision)

    def ready() -> Evaluator:
        return evaluator(potential, atoms.numbers, atoms.pbc)

    recorded = Recorded(ready())
    run(atoms, recorded, n_steps)()
    steps, alone = [], []
    for _ in range(repeats):
        steps.append(clocked(run(atoms, ready(), n_steps), n_steps)[0])
        kernel = ready()
        alone.append(clocked(lambda one=kernel: [one.evaluate(*at) for at in recorded.configurations], n_steps)[0])
    return min(steps), min(alone)


def profile(n_atoms: int) -> None:
    """Where the time goes on the Reference platform."""
    go, profiler = run(crystal(n_atoms), Null(n_atoms), 5000), cProfile.Profile()
    profiler.runcall(go)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(14)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="*", default=[500, 1000, 8000], help="multiples of four")
    parser.add_argument("--threads", type=int, default=2, help="of the potential")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", type=int, metavar="N")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.profile:
        profile(arguments.profile)
        return
    print(f"{machine()}\n\n| platform | atoms | µs/step | µs/step (processor) |\n| --- | ---: | ---: | ---: |")
    lines = []
    for platform in ("Reference", "CPU"):
        table = [(n_atoms, *engine(n_atoms, platform, arguments.repeats)) for n_atoms in arguments.atoms]
        for n_atoms, wall, processor in table:
            print(f"| {platform} | {n_atoms} | {wall:.0f} | {processor:.0f} |", flush=True)
        if len(table) > 1:
            slope, start = np.polyfit([row[0] for row in table], [row[1] for row in table], 1)
            lines.append(f"{platform}: {start:.0f} µs + {slope:.3f} µs per atom")
    print("", *lines, sep="\n")
    print(
        f"\n{arguments.threads} threads\n\n| Cu, precision | atoms | whole step (µs) | potential alone (µs) | ratio |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for precision in ("float64", "float32"):
        for n_atoms in arguments.atoms:
            step, alone = whole(n_atoms, precision, arguments.repeats)
            print(f"| {precision} | {n_atoms} | {step:.0f} | {alone:.0f} | {step / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
