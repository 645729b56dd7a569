"""What fits cost as the data grow: exponents of time and memory, and the memory for a million environments.

    python benchmarks/kernel_cost.py --data mlearn [--environments 1000000]

Each fit is a process of its own with one thread, to more and more labels of lithium (Zuo et al., J. Phys. Chem. A 124,
731, 2020), by the settings of `benchmarks/random_features.py`. Time is that of the processor, memory what a process
came to have at most beyond what it had before the fit; exponents are slopes in logarithms between two sizes. Of
the full kernel the two parts of its work are told too: covariances, and Cholesky's decomposition.

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
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.train import kernel_fit
from mlmd.train.run import Step

FITS: dict[str, FitTable] = {
    "full kernel": KernelFit(kernel="gaussian", width=WIDTH, amplitude=AMPLITUDE),
    "gap": GAPFit(n_sparse=200, kernel="gaussian", width=WIDTH, amplitude=AMPLITUDE),
    "random-features": RandomFeaturesFit(n_random=200, width=WIDTH, amplitude=AMPLITUDE),
    "linear": LinearFit(),
}
ROWS = {"full kernel": (1000, 2000, 4000, 8000, 16000)}
MORE_ROWS = (2000, 4000, 8000, 16000)
LARGE = {"linear": 'kind = "linear"', "random-features": 'kind = "random-features"\nn_random = 200'}


def megabytes(who: int = resource.RUSAGE_SELF) -> float:
    """The largest resident size so far."""
    return resource.getrusage(who).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


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
    parser.add_argument("--only", choices=FITS, help="one fit")
    parser.add_argument("--one", nargs=2, metavar=("FIT", "ROWS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one[0], int(given.one[1]), given.data)
        return
    print(f"{machine()}, one thread\n")
    print("| fit | rows | seconds | MB | time ~ rows^ | memory ~ rows^ |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in [given.only] if given.only else FITS:
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
    if given.environments:
        large(given.data, given.environments)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
