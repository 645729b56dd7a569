"""The learning curve: errors of fits to the first parts of the data, all with the radial functions found last."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from mlmd.fitting.least_squares import combine, solve
from mlmd.train.evaluate import errors, predict
from mlmd.train.figures import LearningCurve
from mlmd.train.job import Job
from mlmd.train.optimise import State, n_linear, prior_of, put
from mlmd.train.shards import Solver, Task, state_of


def with_triangles(job: Job, state: State, compute: Solver, progress: Callable[[int, int], None]) -> State:
    """The state with the triangles of all shards at the best coefficients; arguments as those of `learning_curve`."""
    assert state.best_radial is not None and state.best_linear is not None
    put(job.potential, state.best_radial, state.best_linear)
    shards = job.problem.shards()
    numbers = state_of(job.potential)
    found = dict(state.outcomes)
    left = [shard for shard in range(len(shards)) if shard not in found]
    for outcome in compute([Task(shard, numbers, nonlinear=False) for shard in left]):
        found[outcome.shard] = outcome
        progress(len(found), len(shards))
    return replace(state, outcomes=found)


def learning_curve(job: Job, state: State, compute: Solver, progress: Callable[[int, int], None]) -> LearningCurve:
    """Linear fits to 1, 2, 4, ... shards of the training set.

    Args:
        job: its potential's numbers are overwritten.
        state: the last one of the optimisation; triangles that it holds are not computed again.
        compute: gives the triangles of shards.
        progress: called with the number of shards done and of all.
    """
    state = with_triangles(job, state, compute, progress)
    assert state.best_radial is not None
    shards = job.problem.shards()
    factors = [torch.from_numpy(state.outcomes[shard].factor) for shard in sorted(state.outcomes)]
    n_basis = job.potential.expansion.n_basis
    columns_free = slice(0, n_linear(job.potential) if job.free_constants else n_basis)
    sizes = sorted({n for power in range(8) if (n := 2**power) < len(shards)} | {len(shards)})
    penalty = torch.full((n_linear(job.potential),), job.regularisation, dtype=torch.float64)
    prior = prior_of(job.potential)
    counts: list[int] = []
    columns: dict[tuple[str, str], list[float]] = {(s, p): [] for s in ("train", "test") for p in ("energy", "forces")}
    for size in sizes:
        found_at = solve(combine(factors[:size]), columns=(columns_free,), penalty=penalty, prior=prior)
        linear = found_at.x.numpy()
        put(job.potential, state.best_radial, linear, job.problem.baseline)
        some = [frame for shard in shards[:size] for frame in shard]
        counts.append(len(some))
        for name, frames in (("train", some), ("test", job.test_above)):
            table = errors(frames, predict(job.potential, frames)) if frames else None
            for quantity in ("energy", "forces"):
                columns[name, quantity].append(table.row(quantity).rmse if table else math.nan)
    return LearningCurve(
        n_frames=tuple(counts),
        train_energy=tuple(columns["train", "energy"]),
        train_forces=tuple(columns["train", "forces"]),
        test_energy=tuple(columns["test", "energy"]),
        test_forces=tuple(columns["test", "forces"]),
        loss=state.history,
    )
