"""Random features against the full Gaussian process whose kernel they approximate: time of the fit, errors of forces.

    python benchmarks/random_features.py --data mlearn [--rows 5000] [--random 200 400 800]

Both are fitted to the same energies, forces and stresses of the same structures of Zuo et al. (J. Phys. Chem. A 124,
731, 2020), lithium, with the same symmetry functions, Gaussian kernel, width, amplitude and expected errors, and are
tested on the published test set. Times are those of the processor, one thread, from structures to coefficients: the
features and their derivatives are worked out in both. The kernel's matrix is decomposed by Cholesky's method with the
products of matrices of BLAS.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine

from mlmd.config import ACSF, GAPFit, KernelFit, LinearFit, RandomFeaturesFit, Train
from mlmd.config.fits import FitTable
from mlmd.io.labelled import LabelledFrame, read_labelled
from mlmd.train import kernel_fit
from mlmd.train.dataset import baseline, smallest_distance
from mlmd.train.equations import triangle
from mlmd.train.evaluate import errors, predict
from mlmd.train.job import Job, sigma_of
from mlmd.train.optimise import put
from mlmd.train.regularise import solution
from mlmd.train.shards import Problem
from mlmd.train.start import start

DESCRIPTOR = ACSF(cutoff=5.0, n_radial=6, n_angular=2, angular="G5")
WIDTH, AMPLITUDE = 12.0, 10.0


def some(frames: list[LabelledFrame], n_rows: int) -> tuple[LabelledFrame, ...]:
    """Random structures with so many labels in all, or a few more."""
    chosen: list[LabelledFrame] = []
    for index in np.random.default_rng(1).permutation(len(frames)):
        chosen.append(frames[index])
        if Problem(tuple(chosen), sigma_of(Train(data="none")), np.zeros(1), {}, 1).n_equations >= n_rows:
            break
    return tuple(chosen)


def job_of(frames: tuple[LabelledFrame, ...], fit: FitTable) -> Job:
    """A training as `mlmd train` prepares it, without files."""
    config = Train(data="none", descriptor=DESCRIPTOR, fit=fit, baseline="fit")
    energies = baseline(frames, ("Li",), "fit")
    potential = start(config, frames, smallest_distance(frames), ("Li",))
    problem = Problem(frames, sigma_of(config), energies, potential.spec(), config.seed)
    return Job(Path("in.toml"), config, frames, (), "", (), potential, problem, None, ())


def fitted(frames: tuple[LabelledFrame, ...], fit: FitTable) -> tuple[Job, float]:
    """A fit, and the seconds it took, without a learning curve."""
    clock = time.process_time()
    job = job_of(frames, fit)
    if isinstance(fit, KernelFit):
        kernel_fit.solve_all(job, 1, lambda step: None)
    else:
        factor, _ = triangle(job.potential, frames, job.problem.sigma, job.problem.baseline, nonlinear=False)
        linear, _ = solution(job, factor, None)
        put(job.potential, np.zeros(0), linear, job.problem.baseline)
    return job, time.process_time() - clock


def main() -> None:
    """Fit, test, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mlearn's extended XYZ files")
    parser.add_argument("--rows", type=int, nargs="+", default=[5000, 10000], help="labels to fit to")
    parser.add_argument("--random", type=int, nargs="+", default=[100, 200, 400, 800], help="random functions")
    given = parser.parse_args()
    torch.set_num_threads(1)
    whole = read_labelled(given.data / "Li_train.xyz.xz")
    test = read_labelled(given.data / "Li_test.xyz.xz")
    fitted(some(whole, 200), RandomFeaturesFit(n_random=10, width=WIDTH))  # what is loaded only once
    print(f"{machine()}, one thread\n")
    print("| rows | fit | seconds | of the kernel's | forces (meV/Å) | energy (meV/atom) |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for n_rows in given.rows:
        frames = some(whole, n_rows)
        fits: dict[str, FitTable] = {"full kernel": KernelFit(kernel="gaussian", width=WIDTH, amplitude=AMPLITUDE)}
        fits |= {
            f"random features, {n}": RandomFeaturesFit(n_random=n, width=WIDTH, amplitude=AMPLITUDE)
            for n in given.random
        }
        fits["gap, 200"] = GAPFit(n_sparse=200, kernel="gaussian", width=WIDTH, amplitude=AMPLITUDE)
        fits["linear"] = LinearFit()
        first, error = 0.0, 0.0
        for name, fit in fits.items():
            job, seconds = fitted(frames, fit)
            table = errors(test, predict(job.potential, test))
            forces, energy = table.row("forces").rmse, table.row("energy").rmse
            first, error = first or seconds, error or forces
            print(
                f"| {job.problem.n_equations:,} | {name} | {seconds:.2f} | {seconds / first:.3f} "
                f"| {forces:.2f} ({100 * (forces / error - 1):+.1f} %) | {energy:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
