"""What other busy processes cost the steps of a small system, by how threads wait for each other.

    python benchmarks/busy.py [--atoms 500] [--threads 2] [--busy 0 2] [--seconds 2] [--rounds 3]

Copper by the moment tensor potential that comes with mlmd is evaluated again and again while so many other processes
compute as well. Prints the mean time of an evaluation, µs, in the best of several rounds, for settings of GNU's OpenMP,
which it reads when it is loaded: every number is that of a new process, and settings take turns. `mlmd` sets 1000.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import ase.build
import numpy as np
import torch

from mlmd.models import path
from mlmd.potentials.fused import FusedEvaluator, kernel_of
from mlmd.potentials.modelfile import load

NAME = "GOMP_SPINCOUNT"
SETTINGS: dict[str, dict[str, str]] = {"none": {}, **{count: {NAME: count} for count in ("0", "1000", "10000")}}
SKIN = 1.0  # Å
RATTLE = 0.03  # Å, less than half the skin: no pairs are searched
BUSY = "while True: pass"


def evaluate(n_atoms: int, n_threads: int, seconds: float) -> float:
    """µs per evaluation in this process."""
    torch.set_num_threads(n_threads)
    atoms = ase.build.bulk("Cu", cubic=True).repeat(round((n_atoms / 4) ** (1 / 3)))
    potential = load(path("Cu"))
    kernel = kernel_of(potential)
    assert kernel is not None, "the kernels are not compiled"
    evaluator = FusedEvaluator(kernel, potential.elements, atoms.numbers, atoms.pbc, SKIN)
    generator, cell = np.random.default_rng(0), atoms.cell.array
    moved = [atoms.positions + generator.normal(0, RATTLE, atoms.positions.shape) for _ in range(8)]
    evaluator.evaluate(atoms.positions, cell)
    start, n = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        evaluator.evaluate(moved[n % len(moved)], cell)
        n += 1
    return (time.perf_counter() - start) / n * 1e6


def measure(arguments: argparse.Namespace, setting: str, n_busy: int) -> float:
    """The same in a new process, beside others that are busy."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
    try:
        own = {name: value for name, value in os.environ.items() if name not in (NAME, "OMP_WAIT_POLICY")}
        command = [sys.executable, __file__, "--here"]
        for name in ("atoms", "threads", "seconds"):
            command += [f"--{name}", str(getattr(arguments, name))]
        return float(subprocess.check_output(command, env=own | SETTINGS[setting]))
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(evaluate(arguments.atoms, arguments.threads, arguments.seconds))
        return
    cases = [(setting, n_busy) for setting in SETTINGS for n_busy in arguments.busy]
    rounds = [{case: measure(arguments, *case) for case in cases} for _ in range(arguments.rounds)]
    best = {case: min(one[case] for one in rounds) for case in cases}
    print(f"| {NAME} | " + " | ".join(f"{n_busy} busy" for n_busy in arguments.busy) + " |")
    print("| --- |" + " ---: |" * len(arguments.busy))
    for setting in SETTINGS:
        print(f"| {setting} | " + " | ".join(f"{best[setting, n_busy]:.0f}" for n_busy in arguments.busy) + " |")


if __name__ == "__main__":
    main()
