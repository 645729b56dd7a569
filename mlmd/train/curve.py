"""The learning curve: errors of fits to more and more of the data, all with the settings that all of them led to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import torch

from mlmd.fitting.least_squares import combine
from mlmd.io.labelled import LabelledFrame
from mlmd.train.evaluate import errors, predict
from mlmd.train.figures import LearningCurve
from mlmd.train.job import Job
from mlmd.train.optimise import State, n_of_part, put
from mlmd.train.regularise import Choice, solution
from mlmd.train.shards import Outcome, Solver, Task, state_of

Structures = TypeVar("Structures", bound=Sized)


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
    factors = [torch.from_numpy(outcome.factor) for outcome in outcomes]

    def solve(n_shards: int) -> None:
        assert state.best_radial is not None
        linear, _ = solution(job, combine(factors[:n_shards]), choice)
        put(job.potential, state.best_radial, linear, job.problem.baseline, job.problem.lone)

    shards = job.problem.shards()
    n_first = sum(map(len, shards[: n_of_part(len(shards))])) if state.of_part else 0
    curve = curve_of_shards(job, solve)
    return replace(curve, losses=(state.history,), losses_of_part=state.of_part, n_of_part=n_first)


def curve_of_shards(job: Job, solve: Callable[[int], None]) -> LearningCurve:
    """Errors of fits to 1, 2, 4, ... shards of the training set, in the end to all of them; its losses are empty.

    Args:
        job: its potential is what is fitted.
        solve: puts the fit to so many shards into it.
    """
    shards = job.problem.shards()
    starts = list(accumulate(map(len, shards), initial=0))
    frames = tuple(frame for shard in shards for frame in shard)
    sizes = sorted({n for power in range(8) if (n := 2**power) < len(shards)} | {len(shards)})

    def fit(size: int) -> Callable[[Sequence[LabelledFrame]], tuple[float, ...]]:
        solve(size)
        return errors_of

    def errors_of(some: Sequence[LabelledFrame]) -> tuple[float, ...]:
        table = errors(some, predict(job.potential, some))
        return tuple(table.row(quantity).rmse for quantity in ("energy", "forces"))

    train, test = errors_by_size(sizes, fit, lambda size: frames[: starts[size]], job.test_above)
    (train_energy, train_forces), (test_energy, test_forces) = zip(*train, strict=True), zip(*test, strict=True)
    return LearningCurve(
        n_frames=tuple(starts[size] for size in sizes),
        train_energy=train_energy,
        train_forces=train_forces,
        test_energy=test_energy,
        test_forces=test_forces,
        losses=(),
    )


def errors_by_size(
    sizes: Sequence[int],
    fit: Callable[[int], Callable[[Structures], tuple[float, ...]]],
    trained_on: Callable[[int], Structures],
    test: Structures,
) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Errors of fits to more and more of the training set: of the structures trained on, and of the test set.

    Args:
        sizes: in whatever unit the next two count.
        fit: makes the fit of a size; gives what tells its errors for some structures.
        trained_on: the structures of that fit.
        test: may be empty.

    Returns:
        Errors for each size, in the order in which they are told; nan for a test set without structures.
    """
    found: tuple[list[tuple[float, ...]], list[tuple[float, ...]]] = ([], [])
    for size in sizes:
        errors_of = fit(size)
        own = errors_of(trained_on(size))
        found[0].append(own)
        found[1].append(errors_of(test) if len(test) else (math.nan,) * len(own))
    return found
