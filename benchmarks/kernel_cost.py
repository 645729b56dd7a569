"""What fits cost as the data grow: exponents of time and memory, and the memory for a million environments.

    python benchmarks/kernel_cost.py --data mlearn [--environments 1000000]

Each fit is a process of its own with one thread, to more and more labels of lithium (Zuo et al., J. Phys. Chem. A 124,
731, 2020), by the settings of `benchmarks/random_features.py`. Time is that of the processor, memory what a process
came to have at most beyond what it had before the fit; exponents are slopes in logarithms between two sizes. Of
the full kernel the two parts of its work are told too: covariances, whose time grows as the square of the rows and is
most of it where labels are forces, and Cholesky's decomposition, whose time grows as the third power and is most of it
in the end; from how many rows on, as far as the largest size tells, is told below. With energies alone covariances cost
little, and the third power is seen at once: the last rows are of `kernel-ridge`, to random numbers, 32 for each row.

With --environments the command `mlmd train` itself is measured, from a file of so many atoms: copies of the same
structures with other random displacements, with a small descriptor, because memory is asked for and not accuracy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import machine
from random_features import AMPLITUDE, WIDTH, fitted, job_of, some

from mlmd.config import GAPFit, KernelFit, LinearFit, RandomFeaturesFit
from mlmd.config.fits import FitTable
from mlmd.fitting.kernel_ridge import KernelRidge
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.train import kernel_fit
from mlmd.train.run import Step

FITS: dict[str, FitTable] = {
    "full kernel": KernelFit(kernel="gaussian", width=WIDTH, amplitude=AMPLITUDE),
    "gap": GAPFit(n_sparse=200, kernel="gaussian", width=WIDTH, amplitude=AMPLITUDE),
    "random-features": RandomFeaturesFit(n_random=200, width=WIDTH, amplitude=AMPLITUDE),
    "linear": LinearFit(),
}
RIDGE = "kernel-ridge"
NAMES = (*FITS, RIDGE)
ROWS = {"full kernel": (1000, 2000, 4000, 8000, 16000), RIDGE: (1500, 3000, 6000, 12000)}
MORE_ROWS = (2000, 4000, 8000, 16000)
LARGE = {"linear": 'kind = "linear"', "random-features": 'kind = "random-features"\nn_random = 200'}


def megabytes() -> float:
    """The largest resident size of this process so far."""
    if sys.platform == "linux":  # where ru_maxrss counts the process that has started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def one(name: str, n_rows: int, data: Path) -> None:
    """Print what one fit costs as JSON."""
    torch.set_num_threads(1)
    whole = read_labelled(data / "Li_train.xyz.xz")
    fitted(some(whole, 200), FITS[name])  # what is loaded only once
    frames, before = some(whole, n_rows), megabytes()
    if name != "full kernel":
        job, seconds = fitted(frames, FITS[name])
        parts = {}
    else:
        job, reached = job_of(frames, FITS[name]), {"start": time.process_time()}

        def told(step: Step) -> None:
            reached[step.what] = time.process_time()

        kernel_fit.solve_all(job, 1, told)
        seconds = time.process_time() - reached["start"]
        covariances, decomposed = reached["covariances"], reached["columns decomposed"]
        parts = {"covariances": covariances - reached["derivatives of features"], "Cholesky": decomposed - covariances}
    print(
        json.dumps({"rows": job.problem.n_equations, "seconds": seconds, "MB": megabytes() - before, "parts": parts}),
    )


def ridge(n_rows: int) -> None:
    """Print what a kernel of energies alone costs as JSON."""
    torch.set_num_threads(1)
    rows = torch.randn((n_rows, 32), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for n in (200, n_rows):  # what is loaded only once first
        before, begun = megabytes(), time.process_time()
        kernel = KernelRidge(n_features=32, kernel="gaussian", width=8.0, regularisation=1e-3)
        kernel.fit(rows[:n], torch.sin(rows[:n]).sum(dim=1))
    print(
        json.dumps({"rows": n_rows, "seconds": time.process_time() - begun, "MB": megabytes() - before, "parts": {}}),
    )


def perturbed(frames: list[LabelledFrame], n_atoms: int) -> Iterator[LabelledFrame]:
    """Copies with random displacements of 0.02 Å, until there are so many atoms."""
    generator, done = np.random.default_rng(2), 0
    while True:
        for index, frame in enumerate(frames):
            atoms = frame.atoms.copy()
            atoms.positions += generator.normal(0, 0.02, atoms.positions.shape)
            forces = frame.forces + generator.normal(0, 0.02, atoms.positions.shape)
            yield replace(frame, atoms=atoms, forces=forces - forces.mean(axis=0), source=f"copy {done + index}")
            done += len(atoms)
            if done >= n_atoms:
                return


def large(data: Path, n_atoms: int) -> None:
    """Print time and memory of `mlmd train` for so many atoms."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        frames = [frame for frame in read_labelled(data / "Li_train.xyz.xz") if len(frame.atoms) > 50]
        write_labelled(folder / "data.extxyz", list(perturbed(frames, n_atoms)))
        print("\n| fit of a million environments | minutes | memory (GB) |\n| --- | ---: | ---: |", flush=True)
        for name, fit in LARGE.items():
            source = folder / f"{name}.toml"
            source.write_text(
                'data = "data.extxyz"\ntest_fraction = 0\n[descriptor]\nkind = "acsf"\ncutoff = "4.2 Å"\nn_radial = 8\n'
                f"n_angular = 0\n[fit]\n{fit}\n"
            )
            watch = (
                "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
                "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_maxrss, used.ru_utime)"
            )
            command = [sys.executable, "-m", "mlmd", "train", str(source), "--processes", "1", "--quiet"]
            answer = subprocess.run(
                [sys.executable, "-c", watch, *command], check=True, capture_output=True, text=True, cwd=folder
            )
            size, seconds = answer.stdout.split()[-2:]
            print(f"| {name} | {float(seconds) / 60:.1f} | {float(size) / 1e6:.2f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mlearn's extended XYZ files")
    parser.add_argument("--environments", type=int, default=0, help="of the large trainings; none by default")
    parser.add_argument("--only", choices=NAMES, help="one fit")
    parser.add_argument("--one", nargs=2, metavar=("FIT", "ROWS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, n_rows = given.one[0], int(given.one[1])
        ridge(n_rows) if name == RIDGE else one(name, n_rows, given.data)
        return
    print(f"{machine()}, one thread\n")
    print("| fit | rows | seconds | MB | time ~ rows^ | memory ~ rows^ |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    equal = ""
    for name in [given.only] if given.only else NAMES:
        last: dict[str, float] = {}
        for n_rows in ROWS.get(name, MORE_ROWS):
            command = [sys.executable, __file__, "--data", str(given.data), "--one", name, str(n_rows)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(answer.stdout.splitlines()[-1])
            numbers = {"seconds": found["seconds"], "MB": max(found["MB"], 0.1), **found["parts"]}
            slopes = {
                key: math.log(numbers[key] / last[key]) / math.log(found["rows"] / last["rows"]) for key in last
                if key != "rows"
            }  # fmt: skip
            shown = "| | |" if not last else f"| {slopes['seconds']:.2f} | {slopes['MB']:.2f} |"
            print(f"| {name} | {found['rows']:,} | {found['seconds']:.2f} | {found['MB']:.0f} {shown}", flush=True)
            for part in found["parts"]:
                slope = f"{slopes[part]:.2f}" if last else ""
                print(f"| {name}: {part} | {found['rows']:,} | {numbers[part]:.2f} | | {slope} | |", flush=True)
            last = {"rows": found["rows"], **numbers}
        if "Cholesky" in last:
            equal = f"{last['covariances'] / last['Cholesky'] * last['rows']:,.0f}"
    if equal:
        print(f"\nOf the full kernel Cholesky's decomposition is most of the time from about {equal} rows on.")
    if given.environments:
        large(given.data, given.environments)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
