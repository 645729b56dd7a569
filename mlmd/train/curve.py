"""The learning curve: errors of fits to the first parts of the data, all with the radial functions found last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from mlmd.fitting.least_squares import combine
from mlmd.train.evaluate import errors, predict
from mlmd.train.figures import LearningCurve
from mlmd.train.job import Job
from mlmd.train.optimise import State, put
from mlmd.train.regularise import Choice, solution
from mlmd.train.shards import Outcome, Solver, Task, state_of


def triangles(job: Job, state: State, compute: Solver, progress: Callable[[int, int], None]) -> list[Outcome]:
    """The equations of every shard at the radial functions found last, in the order of the shards.

    Args:
        job: its potential's numbers are overwritten.
        state: the last one of the optimisation; triangles that it holds are not computed again.
        compute: gives the triangles of shards.
        progress: called with the number of shards done and of all.
    """
    assert state.best_radial is not None and state.best_linear is not None
    put(job.potential, state.best_radial, state.best_linear)
    shards = job.problem.shards()
    numbers = state_of(job.potential)
    found = dict(state.outcomes)
    left = [shard for shard in range(len(shards)) if shard not in found]
    for outcome in compute([Task(shard, numbers, nonlinear=False) for shard in left]):
        found[outcome.shard] = outcome
        progress(len(found), len(shards))
    return [found[shard] for shard in sorted(found)]


def learning_curve(job: Job, state: State, outcomes: Sequence[Outcome], choice: Choice | None) -> LearningCurve:
    """Linear fits to 1, 2, 4, ... shards of the training set.

    Args:
        job: its potential's numbers are overwritten.
        state: the last one of the optimisation.
        outcomes: what `triangles` gives.
        choice: how strongly coefficients are regularised, where the data have chosen.
    """
    assert state.best_radial is not None
    shards = job.problem.shards()
    factors = [torch.from_numpy(outcome.factor) for outcome in outcomes]
    sizes = sorted({n for power in range(8) if (n := 2**power) < len(shards)} | {len(shards)})
    counts: list[int] = []
    columns: dict[tuple[str, str], list[float]] = {(s, p): [] for s in ("train", "test") for p in ("energy", "forces")}
    for size in sizes:
        linear, _ = solution(job, combine(factors[:size]), choice)
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
