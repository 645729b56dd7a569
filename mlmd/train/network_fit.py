"""Training of a neural network by AdamW, from where a killed training stood.

Of a batch of structures the loss is the mean of the squared residuals. Steps follow Loshchilov and Hutter (ICLR 2019);
the learning rate rises in the first steps and falls along a cosine. What is kept in the end is the exponential moving
average of the weights. Order and start are those of the seed, so that the same data give the same numbers, whatever
the number of threads and however often the training was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.config import NetworkFit
from mlmd.errors import SimulationError
from mlmd.fitting.network import Network
from mlmd.train.checkpoint import read_numbers, write_numbers
from mlmd.train.figures import Fitted, LearningCurve
from mlmd.train.job import Job
from mlmd.train.network_loss import Sample, Scaling, absorb, lonely, residuals, samples_of
from mlmd.train.run import Progress, Step

_KEEP_EVERY = 10.0
"""Seconds between states that are written."""
_HELD_OUT = 0.1
"""Part of the training structures that says when to stop, where patience is given."""
_WARM_UP = 0.02
"""Part of the steps in which the learning rate rises."""
_LAST_RATE = 1e-2
"""Of the learning rate, what is left of it in the end."""
_MOMENTS = (0.9, 0.999)
"""Decay of the means of gradients and of their squares at each step."""
_SMALL = 1e-8
_DECAY = 1e-2
"""Part of a weight by which a step with a learning rate of one would make it smaller."""


@dataclass(frozen=True)
class NetworkState:
    """Where a training stands: all that the next step depends on."""

    weights: np.ndarray
    """All parameters, one after the other."""
    first: np.ndarray
    """Mean of the gradients."""
    second: np.ndarray
    """Mean of their squares."""
    average: np.ndarray
    """Of the weights."""
    best: np.ndarray
    """The average with the lowest loss on the structures that are kept apart."""
    n_steps: int = 0
    squares: float = 0.0
    """Sum of the squared residuals of the present epoch so far."""
    history: tuple[float, ...] = ()
    """Loss of every epoch, while the weights changed: root mean square of the weighted residuals."""
    held_out: tuple[float, ...] = ()
    """Loss of the structures that are kept apart after every epoch, with the average of the weights."""
    finished: bool = False


_ARRAYS = ("weights", "first", "second", "average", "best")


def fit(
    job: Job, folder: Path, n_threads: int, progress: Progress, make: Callable[[Job, int], Training] | None = None
) -> Fitted:
    """Train the network of the potential of a job.

    Args:
        job: its potential gets the weights.
        folder: of the training, where states are kept.
        n_threads: at work on the structures.
        progress: called after every epoch.
        make: the training, of the job and the number of threads; by default of networks of frozen descriptors.

    Raises:
        InputError: when there is nothing to learn.
        SimulationError: when the weights are not finite any more.
        StorageError: when the state that was kept is damaged.
    """
    training = (make or Training)(job, n_threads)
    state = read_numbers(folder, _state, job.digest) or training.begin()
    begun, n_begun, kept = time.monotonic(), state.n_steps, time.monotonic()
    try:
        while not state.finished:
            state = training.after(state)
            if state.n_steps % training.n_batches == 0:
                done, total = len(state.history), training.settings.epochs
                left = (training.n_steps - state.n_steps) * (time.monotonic() - begun) / (state.n_steps - n_begun)
                progress(Step("epochs", done, total, left, state.history[-1]))
            if time.monotonic() - kept > _KEEP_EVERY:
                _keep(folder, state, job.digest)
                kept = time.monotonic()
    finally:  # also when it is stopped by a signal
        _keep(folder, state, job.digest)
    loss = training.finish(state)
    curve = LearningCurve((), (), (), (), (), loss=state.history, step="epoch")
    return Fitted(curve=curve, facts={"loss": loss, "epochs": len(state.history)})


class Training:
    """Samples, the network that is trained on them, and the steps of its training."""

    def __init__(self, job: Job, n_threads: int) -> None:
        """Prepare the structures of a job.

        Raises:
            InputError: when there is nothing to learn.
        """
        fit, network, problem = job.config.fit, job.potential.regressor, job.problem
        assert isinstance(fit, NetworkFit) and isinstance(network, Network)
        self.settings, self.network, self.n_threads = fit, network, n_threads
        self.seed, self._baseline = problem.seed, torch.from_numpy(problem.baseline)
        samples = self._prepared(job)
        n_apart = 0 if fit.patience is None else max(1, round(_HELD_OUT * len(samples)))
        order = np.random.default_rng(self.seed).permutation(len(samples))
        self.all = samples
        self.apart = [samples[index] for index in sorted(order[:n_apart])]
        self.used = [samples[index] for index in sorted(order[n_apart:])]
        self.n_batches = math.ceil(len(self.used) / fit.batch)
        self.n_steps = fit.epochs * self.n_batches
        named = [(name, one) for name, one in self._named() if name != "constants" or job.free_constants]
        self.parameters = [one for _, one in named]
        decays = [torch.full_like(one, _DECAY if one.ndim > 2 or name == "output" else 0.0) for name, one in named]
        self.decay = torch.nn.utils.parameters_to_vector(decays)
        self.mean_rows = sum(one.n_rows for one in self.used) / self.n_batches

    def _prepared(self, job: Job) -> list[Sample]:
        """The structures as the network sees them."""
        samples, self.scaling = samples_of(job.potential, job.problem.frames, job.problem.sigma, job.problem.baseline)
        self.alone = None if job.free_constants else lonely(job.potential, self.scaling)
        return samples

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Names and values of the parameters of the network."""
        return list(self.network.named_parameters())

    def begin(self) -> NetworkState:
        """The first state: the random weights of the network."""
        vector = torch.nn.utils.parameters_to_vector(self.parameters).detach().numpy().copy()
        zeros = np.zeros_like(vector)
        return NetworkState(weights=vector, first=zeros, second=zeros, average=vector, best=vector)

    def after(self, state: NetworkState) -> NetworkState:
        """The state after one step.

        Raises:
            SimulationError: when numbers are not finite.
        """
        epoch, number = divmod(state.n_steps, self.n_batches)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.used))
        some = [self.used[index] for index in order[number :: self.n_batches]]
        squares, gradient = self.gradient(state.weights, some)
        if not (math.isfinite(squares) and np.isfinite(gradient).all()):
            raise SimulationError(
                f"the network diverged in epoch {epoch + 1}: numbers are not finite. Give a smaller learning_rate; are "
                "labels or weights extreme?"
            )
        state = self._stepped(replace(state, squares=state.squares + squares), gradient)
        return self._epoch_done(state) if state.n_steps % self.n_batches == 0 else state

    def gradient(self, weights: np.ndarray, samples: Sequence[Sample]) -> tuple[float, np.ndarray]:
        """Sum of squared residuals at some weights, and its gradient, over the mean number of residuals of a batch."""
        self._put(weights)
        for one in self.parameters:
            one.requires_grad_(True)
        try:
            squares, slopes = self._slopes(samples)
        finally:  # what is made of the network later wants plain numbers
            for one in self.parameters:
                one.requires_grad_(False)
        return squares, torch.nn.utils.parameters_to_vector(slopes).numpy()

    def _slopes(self, samples: Sequence[Sample]) -> tuple[float, Sequence[Tensor]]:
        """Sum of squared residuals, and its derivatives by the parameters over the mean number of rows."""
        found = residuals(self.network, samples, self.scaling, self.alone, n_threads=self.n_threads)
        squares = found.square().sum()
        return float(squares.detach()), torch.autograd.grad(squares / self.mean_rows, self.parameters)

    def _stepped(self, state: NetworkState, gradient: np.ndarray) -> NetworkState:
        """A step of AdamW."""
        n_steps, (one, two) = state.n_steps + 1, _MOMENTS
        first = one * state.first + (1 - one) * gradient
        second = two * state.second + (1 - two) * gradient**2
        direction = (first / (1 - one**n_steps)) / (np.sqrt(second / (1 - two**n_steps)) + _SMALL)
        rate = self.settings.learning_rate * schedule(state.n_steps, self.n_steps)
        weights = state.weights - rate * (direction + self.decay.numpy() * state.weights)
        kept = min(self.settings.ema, n_steps / (n_steps + 9))  # the first weights are soon forgotten
        average = kept * state.average + (1 - kept) * weights
        return replace(state, weights=weights, first=first, second=second, average=average, n_steps=n_steps)

    def _epoch_done(self, state: NetworkState) -> NetworkState:
        """The losses of an epoch, and whether it was the last one."""
        loss = math.sqrt(state.squares / sum(one.n_rows for one in self.used))
        last = state.n_steps == self.n_steps
        state = replace(state, history=(*state.history, loss), squares=0.0, finished=last)
        if self.settings.patience is None:
            return replace(state, best=state.average)
        told = self.loss(state.average, self.apart)
        if told < min(state.held_out, default=math.inf):
            return replace(state, held_out=(*state.held_out, told), best=state.average)
        since = len(state.held_out) - int(np.argmin(state.held_out))
        return replace(state, held_out=(*state.held_out, told), finished=last or since >= self.settings.patience)

    def loss(self, weights: np.ndarray, samples: Sequence[Sample]) -> float:
        """Root mean square of the weighted residuals."""
        self._put(weights)
        squares, n_rows = 0.0, 0
        for start in range(0, len(samples), self.settings.batch):
            some = samples[start : start + self.settings.batch]
            found = self._residuals(some)
            squares, n_rows = squares + float(found.square().sum()), n_rows + len(found)
        return math.sqrt(squares / n_rows)

    def _residuals(self, samples: Sequence[Sample]) -> Tensor:
        """(n_rows,), not to be differentiated."""
        return residuals(
            self.network, samples, self.scaling, self.alone, n_threads=self.n_threads, differentiable=False
        )

    def finish(self, state: NetworkState) -> float:
        """Make the network one of plain features and whole energies; gives its loss for all training structures."""
        loss = self.loss(state.best, self.all)
        with torch.no_grad():
            if self.alone is not None:
                self.network.constants.sub_(self.network.energies(self.alone, torch.arange(len(self.alone))))
            self.network.constants.add_(self._baseline)
        absorb(self.network, self.scaling)
        return loss

    def _put(self, weights: np.ndarray) -> None:
        """Give the network its numbers."""
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), self.parameters)

    scaling: Scaling
    alone: Tensor | None


def schedule(step: int, n_steps: int) -> float:
    """Part of the learning rate at a step of so many: it rises in a line, then falls along a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, _WARM_UP * n_steps))
    return rise * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / n_steps)))


def _keep(folder: Path, state: NetworkState, key: str) -> None:
    """Write a state."""
    fields = asdict(state)
    arrays = {name: fields.pop(name) for name in _ARRAYS}
    write_numbers(folder, arrays, fields, key)


def _state(arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> NetworkState:
    """The state that `_keep` was given."""
    fields: dict[str, Any] = {**numbers, **arrays}
    return NetworkState(**fields | {name: tuple(numbers[name]) for name in ("history", "held_out")})
