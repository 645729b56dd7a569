"""How fast mlmd's kernels for a GPU are, beside those for processors and beside torch on the same GPU.

    python benchmarks/gpu.py [--nep nep.txt] [--atoms 1000 10000 100000 1000000] [--steps 100] [--threads 16]
    python benchmarks/gpu.py --simulate     # also the time of a step of `mlmd simulate --device cuda`

A crystal of copper swings about its places: displacements of 0.12 Å along each axis, root mean square, with a period of
200 fs and steps of 2 fs, as at some hundred kelvin, so that neighbours are searched as often as in a hot run. Columns
are µs of a step and atoms times steps in a second: of kernels whose positions stay on the device and are changed there
("resident"), of the evaluator that a run has, whose positions and forces are numpy arrays, of the kernel for processors
and of torch on the GPU. Potentials: the copper that comes with mlmd (a moment tensor potential), and a radial-angular
network of the usual size with random numbers (or the file that is given, whose first element the atoms are then of).
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import torch
from ase import Atoms
from ase.data import atomic_numbers
from crystals import crystal
from machine import machine

from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.fitting.network import Network
from mlmd.kernels.native import GPU_CHOICE
from mlmd.models import path as bundled
from mlmd.potentials import Evaluator, modelfile, nep_file
from mlmd.potentials.evaluate import SKIN, GraphEvaluator, evaluator
from mlmd.potentials.nep import NEP
from mlmd.potentials.on_gpu import GpuEvaluator, gpu_evaluator

INPUT = """
structure = "atoms.extxyz"
potential = "Cu"
timestep = "2 fs"
[[stage]]
kind = "nvt"
temperature = "300 K"
duration = "{duration} fs"
"""
LATTICE = 3.65  # Å
AMPLITUDE, PERIOD = 0.12 * math.sqrt(2), 100  # Å, steps
MOST_FOR_TORCH = 30_000  # atoms; more take more memory than there is
MOST_FOR_PROCESSORS = 300_000  # atoms; more only take longer


def network(precision: str) -> NEP:
    """Copper that nobody has fitted: five functions of each kind, degree 4, 30 neurons, cutoffs of 6 and 5 Å."""
    descriptor = RadialAngular(
        elements=("Cu",), cutoff="6 Å", angular_cutoff="5 Å", n_radial=5, n_radial_basis=9, n_angular=5,
        n_angular_basis=9, l_max=4, four_body=True, five_body=True,
    )  # fmt: skip
    regressor = Network(n_features=descriptor.n_features, n_neurons=30, n_kinds=1)
    generator = torch.Generator().manual_seed(0)
    regressor.randomise(generator)
    with torch.no_grad():
        for functions in (descriptor.radial, descriptor.angular):
            functions.coefficients.copy_(0.1 * torch.randn(functions.coefficients.shape, generator=generator))
        descriptor.scaling.fill_(0.1)
    return NEP(descriptor, regressor).to(getattr(torch, precision))


def swinging(atoms: Atoms, device: torch.device | str) -> Callable[[int], torch.Tensor]:
    """Positions at a step."""
    generator = torch.Generator().manual_seed(1)
    phase = (2 * math.pi * torch.rand((len(atoms), 3), generator=generator, dtype=torch.float64)).to(device)
    places = torch.tensor(atoms.positions, device=device)
    return lambda step: places + AMPLITUDE * torch.sin(phase + 2 * math.pi * step / PERIOD)


def seconds(step: Callable[[int], object], n_steps: int) -> float:
    """Of a step, after some that do not count."""
    for k in range(min(n_steps, 5)):
        step(k)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for k in range(5, 5 + n_steps):
        step(k)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / n_steps


def on_card(potential: Any, atoms: Atoms) -> GpuEvaluator:
    """The kernels, ready for a system."""
    return gpu_evaluator(potential.kernel(), potential.elements, atoms.numbers, atoms.pbc, SKIN, "cuda")


def resident(potential: Any, atoms: Atoms, n_steps: int) -> tuple[float, int]:
    """Seconds of a step with positions on the device, and how many searches there were. Moving atoms is not counted."""
    kernel, cell, at = on_card(potential, atoms).kernel, atoms.cell.array, swinging(atoms, "cuda")

    def move(step: int) -> None:
        kernel.atoms.positions.copy_(at(step))

    def both(step: int) -> None:
        move(step)
        kernel.step(cell, receive=False)

    whole = seconds(both, n_steps)
    n_searches = kernel.atoms.n_searches
    return whole - seconds(move, n_steps), n_searches


def by_arrays(potential: Any, atoms: Atoms, n_steps: int, device: str, *, graph: bool = False) -> float:
    """Seconds of a step of what a run has: numpy arrays in, numpy arrays out."""
    if graph:
        potential.to(device)
        ready: Evaluator = GraphEvaluator(potential, atoms.numbers, atoms.pbc, device=device)
    else:
        ready = on_card(potential, atoms) if device == "cuda" else evaluator(potential, atoms.numbers, atoms.pbc)
    at, kept = swinging(atoms, "cpu"), {}
    for step in range(min(n_steps, 20) + 5):
        kept[step] = at(step).numpy()
    return seconds(lambda step: ready.evaluate(kept[step % len(kept)], atoms.cell.array), n_steps)


def table(name: str, make: Callable[[str], Any], given: argparse.Namespace) -> None:
    """One potential, all sizes and both precisions."""
    print(f"\n{name}: µs of a step (atoms times steps in a second)")
    print("| atoms | precision | resident | searched every | run's evaluator | processors | torch on the GPU |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for n_atoms in given.atoms:
        for precision in ("float32", "float64"):
            potential = make(precision)
            atoms = crystal("Cu", n_atoms, lattice="fcc", constant=LATTICE)
            atoms.numbers[:] = atomic_numbers[potential.elements[0]]
            n = len(atoms)
            few = max(5, min(given.steps, int(2e6 / n)))
            steps = max(10, min(10 * given.steps, int(5e7 / n)))
            alone, n_searches = resident(copy.deepcopy(potential), atoms, steps)
            cells = [_cell(n, alone), f"{(steps + 5) / max(1, n_searches):.0f} steps"]
            cells.append(_cell(n, by_arrays(copy.deepcopy(potential), atoms, min(steps, 200), "cuda")))
            slow = n <= MOST_FOR_PROCESSORS
            cells.append(_cell(n, by_arrays(copy.deepcopy(potential), atoms, few, "cpu")) if slow else "")
            small = n <= MOST_FOR_TORCH
            cells.append(_cell(n, by_arrays(copy.deepcopy(potential), atoms, few, "cuda", graph=True)) if small else "")
            print(f"| {n} | {precision} | {' | '.join(cells)} |", flush=True)
            torch.cuda.empty_cache()


def _cell(n_atoms: int, taken: float) -> str:
    return f"{1e6 * taken:.4g} ({n_atoms / taken:.2g})"


def simulated(n_atoms: int, n_steps: int) -> None:
    """What a step of `mlmd simulate` takes, from two runs of different length, with all that a run does."""
    taken, environment = [], {**os.environ, GPU_CHOICE: "on"}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        atoms = crystal("Cu", n_atoms, lattice="fcc", constant=LATTICE)
        ase.io.write(folder / "atoms.extxyz", atoms)
        for length in (n_steps, 5 * n_steps):
            file = folder / f"{length}.toml"
            file.write_text(INPUT.format(duration=2 * length))
            start = time.perf_counter()
            command = [sys.executable, "-m", "mlmd", "simulate", str(file), "--device", "cuda"]
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
            taken.append(time.perf_counter() - start)
    print(f"| {len(atoms)} | {_cell(len(atoms), (taken[1] - taken[0]) / (4 * n_steps))} |", flush=True)


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", default=[1000, 4000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--nep", type=Path, help="a file of GPUMD in place of random numbers")
    parser.add_argument("--simulate", action="store_true", help="run `mlmd simulate --device cuda` too")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device: there is nothing to measure here.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {machine()}, {given.threads} threads")
    file = given.nep
    table(
        "radial-angular network" if file is None else str(file),
        network if file is None else lambda precision: nep_file.load(file, precision),
        given,
    )
    table("moment tensors (Cu)", lambda one: modelfile.load(bundled("Cu")).to(getattr(torch, one)), given)
    if given.simulate:
        print("\n`mlmd simulate` with Cu, nvt, float64: µs of a step (atoms times steps in a second)")
        print("| atoms | whole step |\n| ---: | ---: |")
        for n_atoms in given.atoms:
            simulated(n_atoms, max(20, min(2000, int(2e7 / n_atoms))))


if __name__ == "__main__":
    main()
