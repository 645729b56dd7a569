"""The equations of a training set in parts, worked through by several processes.

The frames are dealt into a fixed number of shards, and the triangle of every shard is computed by one process with one
thread, so that results are the same bit for bit whatever the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlmd.errors import InputError, StorageError
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.modelfile import restore
from mlmd.train.equations import Sigma, triangle
from mlmd.train.pool import each, pool, why_ended

N_SHARDS = 16
"""Parts of a training set; their results can be kept, and the first ones are a smaller training set."""


@dataclass(frozen=True)
class Problem:
    """What the equations of a training set are made of."""

    frames: tuple[LabelledFrame, ...]
    sigma: Sigma
    baseline: np.ndarray
    """(n_elements,) eV."""
    spec: dict[str, Any]
    """Of the potential."""
    seed: int
    """Of the order in which frames are dealt."""
    lone: np.ndarray | None = None
    """Basis functions of single atoms, (n_elements, n_basis), where the baseline is exact for them; see `equations`."""

    @property
    def n_equations(self) -> int:
        """Rows of the least-squares problem."""
        return sum(
            (frame.energy is not None)
            + (0 if frame.forces is None else frame.forces.size)
            + (0 if frame.stress is None else 6)
            for frame in self.frames
        )

    def shards(self) -> list[tuple[LabelledFrame, ...]]:
        """The frames in random order, dealt so that all parts have about as many atoms; no part is empty."""
        order = np.random.default_rng(self.seed).permutation(len(self.frames))
        n_shards = min(N_SHARDS, len(order))
        shards: list[list[LabelledFrame]] = [[] for _ in range(n_shards)]
        n_atoms = [0] * n_shards
        for index in order:
            least = min(range(n_shards), key=lambda shard: (n_atoms[shard], shard))
            shards[least].append(self.frames[index])
            n_atoms[least] += len(self.frames[index].atoms)
        return [tuple(shard) for shard in shards]


@dataclass(frozen=True)
class Task:
    """One shard at some parameters."""

    shard: int
    state: dict[str, np.ndarray]
    nonlinear: bool


@dataclass(frozen=True)
class Outcome:
    """The triangle of a shard."""

    shard: int
    factor: np.ndarray
    n_rows: int


Solver = Callable[[Sequence[Task]], Iterator[Outcome]]
"""Gives the outcomes of tasks as they are finished, in any order."""


@contextmanager
def solver(problem: Problem, n_processes: int) -> Iterator[Solver]:
    """Processes that hold the training set, no more than there are shards; with one it is this process.

    Raises:
        StorageError: when a process ends unasked, e.g. for want of memory.
        InputError: what a shard's equations raise.
    """
    shards = problem.shards()
    n_processes = min(n_processes, len(shards))
    if n_processes == 1:
        worker = _Worker(problem, shards)
        yield lambda tasks: (worker(task) for task in tasks)
        return

    def solve(tasks: Sequence[Task]) -> Iterator[Outcome]:
        try:
            yield from each(processes, _run, tasks)
        except BrokenProcessPool:
            raise StorageError(f"a process that computes equations ended unasked. {why_ended()}") from None

    with pool(n_processes, _begin, problem, shards) as processes:
        yield solve


class _Worker:
    """Shards and a potential whose parameters come with each task."""

    def __init__(self, problem: Problem, shards: Sequence[Sequence[LabelledFrame]]) -> None:
        self.problem, self.shards = problem, shards
        self._potential: LearnedPotential | None = None

    def __call__(self, task: Task) -> Outcome:
        state = {name: torch.from_numpy(np.array(values)) for name, values in task.state.items()}
        if self._potential is None:
            self._potential = restore(self.problem.spec, state)
        self._potential.load_state_dict(state)
        factor, n_rows = triangle(
            self._potential,
            self.shards[task.shard],
            self.problem.sigma,
            self.problem.baseline,
            nonlinear=task.nonlinear,
            lone=self.problem.lone,
        )
        return Outcome(shard=task.shard, factor=factor.numpy(), n_rows=n_rows)


_worker: _Worker | None = None


def _begin(problem: Problem, shards: Sequence[Sequence[LabelledFrame]]) -> None:
    """What a process does first."""
    global _worker  # noqa: PLW0603 - the only thing a pool's process can keep
    _worker = _Worker(problem, shards)


def _run(task: Task) -> Outcome:
    if _worker is None:
        raise InputError("the process has no training set.")
    return _worker(task)


def state_of(potential: LearnedPotential) -> dict[str, np.ndarray]:
    """All numbers of a potential as arrays."""
    return {name: tensor.detach().numpy().copy() for name, tensor in potential.state_dict().items()}
