"""Fits that are linear in their coefficients: least squares, and around them the radial functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mlmd.fitting.least_squares import combine, whole_factor
from mlmd.potentials import has_energy
from mlmd.train import checkpoint
from mlmd.train.curve import learning_curve, triangles
from mlmd.train.figures import Fitted
from mlmd.train.job import Job
from mlmd.train.optimise import State, begin, iterate, n_linear, put
from mlmd.train.regularise import FREE, Choice, choose, free_columns, penalties
from mlmd.train.run import Clock, Progress, Step
from mlmd.train.shards import Outcome, Solver, solver

MOST_PARAMETERS = 2000
"""Up to which a covariance is kept unasked: 32 MB."""


def fit(job: Job, folder: Path, n_processes: int, progress: Progress) -> Fitted:
    """Find the coefficients of the potential of a job, from where a killed training stood.

    Args:
        job: its potential gets the coefficients.
        folder: of the training.
        n_processes: at work on the equations.
        progress: called with every step.

    Raises:
        InputError, SimulationError, StorageError: as `iterate`, `checkpoint.read` and `solver`.
    """
    with solver(job.problem, n_processes) as compute:
        state = _optimised(job, folder, compute, progress)
        outcomes = triangles(job, state, compute, lambda done, total: progress(Step("learning curve", done, total)))
    assert state.best_radial is not None and state.best_linear is not None
    linear, choice = state.best_linear, None
    facts: dict[str, Any] = {"loss": state.best, "iterations": state.n_iterations}
    messages: tuple[str, ...] = ()
    if job.chosen_by is not None:
        progress(Step(f"regularisation by {job.chosen_by}", 0, 1))
        choice, linear = choose(job, outcomes)
        facts |= choice.facts()
        unit = "eV" if has_energy(job.potential) else "eV/Å"
        messages = (choice.text(getattr(job.config.fit, "amplitude", None), unit),)
    _keep_covariance(job, outcomes, choice)
    curve = learning_curve(job, state, outcomes, choice)
    put(job.potential, state.best_radial, linear, job.problem.baseline, job.problem.lone)
    return Fitted(curve=curve, facts=facts, messages=messages)


def _keep_covariance(job: Job, outcomes: Sequence[Outcome], choice: Choice | None) -> None:
    """Give the regressor R of the whole problem, of data and prior, where a spread is wanted.

    Args:
        job: its potential gets it.
        outcomes: the triangles of all shards, in their order, at the radial functions that are kept.
        choice: how strongly coefficients are regularised, where the data have chosen.

    Raises:
        InputError: when a parameter is not determined.
    """
    expansion, wanted = job.potential.expansion, job.config.uncertainty.spread
    n = n_linear(job.potential)
    if wanted is False or (wanted == "auto" and (expansion.relative or n > MOST_PARAMETERS)):
        return
    whole = combine(torch.from_numpy(outcome.factor) for outcome in outcomes)
    penalty, prior = penalties(job, whole, choice)
    penalty[expansion.n_basis :].clamp_(min=FREE)  # data may leave constants open, e.g. where all compositions agree
    expansion.set_factor(whole_factor(whole, columns=(free_columns(job),), penalty=penalty, prior=prior))


def _optimised(job: Job, folder: Path, compute: Solver, progress: Progress) -> State:
    """The last state of the optimisation."""
    n_shards = len(job.problem.shards())
    state = checkpoint.read(folder, job.digest)
    if state is None:
        state = begin(job.potential, n_shards, job.problem.n_equations, radial=job.radial)
    clock = Clock(len(state.outcomes) / state.n_shards)

    def told(now: State) -> None:
        losses = (*now.of_part, *now.history)
        loss = now.best if math.isfinite(now.best) else (losses[-1] if losses else None)
        whole = "" if now.n_shards == n_shards else f" on {now.n_shards} of {n_shards} parts of the data"
        trying = math.isfinite(now.best)  # else the coefficients that are there are judged
        iteration = f"iteration {now.n_iterations + (not now.finished)}"
        what = f"{iteration if trying else 'linear fit'}{whole}" if job.radial else "linear fit"
        progress(Step(what, len(now.outcomes), now.n_shards, clock(len(now.outcomes) / now.n_shards), loss))

    return iterate(
        job.potential,
        state,
        compute,
        n_shards=n_shards,
        radial=job.radial,
        free_constants=job.free_constants,
        max_iterations=job.max_iterations,
        tolerance=job.tolerance,
        regularisation=job.regularisation,
        keep=lambda now: checkpoint.write(folder, now, job.digest),
        told=told,
    )
