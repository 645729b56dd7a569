"""What a step of a small system costs: OpenMM's steps beside mlmd's own, one run and eight replicas.

    python benchmarks/small_systems.py [--steps 40000] [--replicas 8]

108 atoms of copper with the potential that comes with mlmd (moment tensors), and of argon with Lennard-Jones: Langevin
dynamics, guards, log and trajectory as by default. Every number is `mlmd simulate` by the clock, for twice the steps
and for the steps, so that what a process needs to begin is not in the difference. Runs take turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase.build
import ase.io
from machine import machine

SYSTEMS = {
    "copper, moment tensors": ("Cu", 3.65, '"Cu"', "300 K"),
    "argon, Lennard-Jones": (
        "Ar", 5.4, '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "7.65 Å" }', "40 K"
    ),
}  # fmt: skip
INPUT = """
structure = "atoms.extxyz"
potential = {potential}
timestep = "2 fs"
seed = 1
{engine}
{replicas}
[[stage]]
kind = "nvt"
temperature = "{temperature}"
duration = "{duration} fs"
"""


def seconds(folder: Path, system: str, engine: str, n_steps: int, n_replicas: int) -> float:
    """Of a run, or of replicas that differ in their seeds."""
    element, lattice, potential, temperature = SYSTEMS[system]
    folder.mkdir(parents=True)
    ase.io.write(folder / "atoms.extxyz", ase.build.bulk(element, "fcc", lattice, cubic=True).repeat(3))
    replicas = f"replicas = {{ seeds = {n_replicas} }}" if n_replicas > 1 else ""
    text = INPUT.format(
        potential=potential, engine=f'engine = "{engine}"', replicas=replicas, temperature=temperature,
        duration=2 * n_steps,
    )  # fmt: skip
    (folder / "input.toml").write_text(text)
    command = [sys.executable, "-m", "mlmd", "simulate", "input.toml", "--quiet"]
    start = time.perf_counter()
    subprocess.run([*command, *(["--threads", "1"] if n_replicas == 1 else [])], cwd=folder, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40_000, help="that are compared with twice as many")
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="the smallest counts")
    arguments = parser.parse_args()
    print(machine())
    titles = f"{'one run':>12} {'speed':>6} {'replicas':>12} {'of one':>7} {'of one of OpenMM':>17}"
    print(f"{'system':24} {'engine':8} {titles}")
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), 0
        for system in SYSTEMS:
            found: dict[tuple[str, int], list[float]] = {}
            for _ in range(arguments.repeats):
                for engine in ("openmm", "native"):
                    for n_replicas in (1, arguments.replicas):
                        times = []
                        for n_steps in (arguments.steps, 2 * arguments.steps):
                            times.append(seconds(folder / str(count), system, engine, n_steps, n_replicas))
                            count += 1
                        found.setdefault((engine, n_replicas), []).append((times[1] - times[0]) / arguments.steps)
            best = {key: 1e6 * min(values) for key, values in found.items()}
            usual = best["openmm", 1]
            for engine in ("openmm", "native"):
                one, all_ = best[engine, 1], best[engine, arguments.replicas]
                print(
                    f"{system:24} {engine:8} {one:9.1f} µs {usual / one:6.2f} {all_:9.1f} µs {all_ / one:7.2f} "
                    f"{all_ / usual:17.2f}"
                )


if __name__ == "__main__":
    main()
