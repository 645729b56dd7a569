"""Variable projection beside L-BFGS: loss after so many passes over the data, from the same start.

    python benchmarks/optimiser.py --data Li_train.xyz.xz [--level 8] [--frames 60] [--passes 200]

A pass is the triangle of all equations with its derivatives, from which both take what they need; L-BFGS (scipy, all
coefficients together, scaled by the norms of their columns, started from the linear solution) takes loss and gradient.
Loss and gradient alone could be had for something like a tenth of a pass: compare row n of the one with row 10 n of
the other.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from mlmd.fitting.least_squares import solve
from mlmd.io.labelled import read_labelled, write_labelled
from mlmd.train.equations import triangle
from mlmd.train.job import Job, prepare
from mlmd.train.optimise import begin, iterate, n_linear, put
from mlmd.train.shards import Outcome, Task, solver

SHOWN = (2, 5, 10, 20, 50, 100, 200, 500, 1000)


def projected(job: Job, passes: int) -> list[float]:
    """Lowest loss after each pass of `mlmd train`'s own optimiser, all shards at once."""
    losses: list[float] = []
    n_shards = len(job.problem.shards())
    state = begin(job.potential, n_shards, 0, radial=True)  # too few rows for a part: all shards take part
    with solver(job.problem, 1) as compute:

        def counted(tasks: Sequence[Task]) -> Iterator[Outcome]:
            yield from compute(tasks)
            losses.append(math.nan)

        def told(now: object) -> None:
            best = getattr(now, "best", math.inf)
            if losses and math.isfinite(best):
                losses[-1] = best

        iterate(
            job.potential, state, counted, n_shards=n_shards, radial=True, free_constants=True, max_iterations=passes,
            tolerance=1e-6, regularisation=1e-6, keep=lambda now: None, told=told,
        )  # fmt: skip
    return losses


def by_lbfgs(job: Job, passes: int) -> list[float]:
    """Lowest loss after each evaluation of loss and gradient."""
    potential, problem = job.potential, job.problem
    assert potential.radial is not None
    first = potential.radial.detach().numpy().copy()
    n_free = n_linear(potential)
    factor, n_rows = triangle(potential, problem.frames, problem.sigma, problem.baseline, nonlinear=False)
    start = np.concatenate([solve(factor).x.numpy(), first.ravel()])
    put(potential, first, start[:n_free])
    factor, _ = triangle(potential, problem.frames, problem.sigma, problem.baseline, nonlinear=True)
    scale = torch.linalg.vector_norm(factor[:, :-1], dim=0).numpy()
    scale[scale == 0] = 1.0
    losses: list[float] = []

    def loss(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        x = scaled / scale
        put(potential, x[n_free:].reshape(first.shape), x[:n_free])
        factor, _ = triangle(potential, problem.frames, problem.sigma, problem.baseline, nonlinear=True)
        residual = factor[:, :n_free] @ torch.from_numpy(x[:n_free]) - factor[:, -1]
        value = float(residual @ residual)
        losses.append(min([math.sqrt(value / n_rows), *losses[-1:]]))
        return value, (2 * factor[:, :-1].T @ residual).numpy() / scale

    minimize(
        loss, start * scale, jac=True, method="L-BFGS-B", options={"maxfun": passes, "maxiter": passes, "maxcor": 50}
    )
    return losses


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--level", type=int, default=8)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--passes", type=int, default=200)
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} does not exist; give labelled structures with --data.")
    torch.set_num_threads(1)
    frames = read_labelled(options.data)
    chosen = np.random.default_rng(0).permutation(len(frames))[: options.frames]
    with tempfile.TemporaryDirectory() as folder:
        write_labelled(Path(folder) / "data.extxyz", [frames[index] for index in chosen])
        source = Path(folder) / "in.toml"
        source.write_text(f'data = "data.extxyz"\ntest_fraction = 0.0\n[descriptor]\nlevel = {options.level}\n')
        ours, theirs = projected(prepare(source), options.passes), by_lbfgs(prepare(source), options.passes)
    print(f"{options.data.name}, {options.frames} structures, level {options.level}: loss after passes over the data")
    print("| passes | variable projection | L-BFGS |\n|---:|---:|---:|")
    for passes in SHOWN:
        if passes <= max(len(ours), len(theirs)):
            print(f"| {passes} | {ours[min(passes, len(ours)) - 1]:.4f} | {theirs[min(passes, len(theirs)) - 1]:.4f} |")


if __name__ == "__main__":
    main()
