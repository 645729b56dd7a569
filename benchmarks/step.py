"""What a step costs besides the potential: Langevin dynamics of a null potential, guards, log and trajectory on.

    python benchmarks/step.py [n_atoms ...]

Prints a table of µs per step on OpenMM's platforms, and the line ``a + b n_atoms`` through them. The times are
the smallest of several repeats; µs of processor time are given too, for machines that do other things meanwhile.
With ``--profile N`` it prints instead where the time goes for N atoms.
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

from mlmd.config import NVT, load_simulate
from mlmd.engine.forces import Forces
from mlmd.engine.frame import IDENTITY
from mlmd.engine.outputs import DCD, Log
from mlmd.engine.schedule import stage_records
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.engine.system import body_of, maxwell_boltzmann
from mlmd.potentials import Evaluation

INPUT = """
structure = "atoms.extxyz"
potential = {{ kind = "lennard-jones", epsilon = "0.01 eV", sigma = "3 Å", cutoff = "5 Å" }}  # never asked
timestep = "2 fs"
[[stage]]
kind = "nvt"
temperature = "300 K"
duration = "{n_steps} fs"
"""
REPEATS = 5


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


def stage_of(n_atoms: int, n_steps: int, platform: str, folder: Path) -> tuple[DynamicsStage, Log, DCD]:
    """A stage of dynamics as a run sets it up, with the defaults of an input file for everything that is written."""
    side = round((n_atoms / 4) ** (1 / 3) + 0.5)
    atoms = ase.build.bulk("Cu", cubic=True).repeat(side)[:n_atoms]
    ase.io.write(folder / "atoms.extxyz", atoms, format="extxyz")
    (folder / "input.toml").write_text(INPUT.format(n_steps=2 * n_steps))
    config = load_simulate(folder / "input.toml")
    (record,), (stage,) = stage_records(config), config.stage
    assert isinstance(stage, NVT)
    body = body_of(config, atoms)
    velocities = maxwell_boltzmann(body, 300.0, np.random.default_rng(1))
    forces = Forces(Null(n_atoms), atoms.cell.array, max_force=config.guard.max_force)
    threads = {"Threads": "1"} if platform == "CPU" else {}
    made = DynamicsStage(
        stage, record, body, forces, Particles(atoms.positions, velocities, atoms.cell.array, IDENTITY),
        template=atoms, hardware=Hardware(platform, threads), seed=np.random.SeedSequence(1), guard=config.guard,
        usual_temperature=None, start_time=0.0, first=True,
    )  # fmt: skip
    trajectory = DCD(folder / "trajectory.dcd", n_atoms, record.trajectory_every * record.timestep)
    return made, Log(folder / "log.csv"), trajectory


def run(n_atoms: int, n_steps: int, platform: str) -> Callable[[], None]:
    """A function that runs a new stage once."""
    with tempfile.TemporaryDirectory() as name:
        stage, log, trajectory = stage_of(n_atoms, n_steps, platform, Path(name))
    return lambda: stage.run(log, trajectory, pause=lambda: None, progress=lambda moment: None)


def measure(n_atoms: int, platform: str) -> tuple[float, float]:
    """µs per step: wall clock and processor, the smallest of several repeats."""
    n_steps = max(500, 1_000_000 // n_atoms)
    wall, processor = [], []
    for _ in range(REPEATS):
        go = run(n_atoms, n_steps, platform)
        clock, used = time.perf_counter(), time.process_time()
        go()
        wall.append((time.perf_counter() - clock) / n_steps * 1e6)
        processor.append((time.process_time() - used) / n_steps * 1e6)
    return min(wall), min(processor)


def profile(n_atoms: int) -> None:
    """Where the time goes on the Reference platform."""
    go, profiler = run(n_atoms, 5000, "Reference"), cProfile.Profile()
    profiler.runcall(go)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(14)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_atoms", type=int, nargs="*", default=[500, 1000, 8000])
    parser.add_argument("--profile", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.profile:
        profile(arguments.profile)
        return
    print("| platform | atoms | µs/step | µs/step (processor) |\n| --- | ---: | ---: | ---: |")
    for platform in ("Reference", "CPU"):
        table = [(n_atoms, *measure(n_atoms, platform)) for n_atoms in arguments.n_atoms]
        for n_atoms, wall, processor in table:
            print(f"| {platform} | {n_atoms} | {wall:.0f} | {processor:.0f} |")
        if len(table) > 1:
            slope, start = np.polyfit([row[0] for row in table], [row[1] for row in table], 1)
            print(f"\n{platform}: {start:.0f} µs + {slope:.3f} µs per atom\n")


if __name__ == "__main__":
    main()
