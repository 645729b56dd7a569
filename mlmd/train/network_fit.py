"""Training of a neural network, or of a committee of them, from where a killed training stood.

Of a batch of structures the loss is the mean of the squared residuals. It is lowered by AdamW, whose learning rate
rises in the first steps and falls along a cosine, by an extended Kalman filter on some residuals of each structure, or
by L-BFGS on all of them at once. What is kept in the end is the exponential moving average of the weights (of L-BFGS,
the last ones). Order and start are those of the seed, so that the same data give the same numbers, whatever the number
of threads and however often the training was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mlmd.config import NetworkFit
from mlmd.errors import SimulationError
from mlmd.fitting.committee import Committee
from mlmd.fitting.network import Network
from mlmd.potentials.threads import in_threads
from mlmd.train import adamw, kalman, lbfgs
from mlmd.train.checkpoint import Pace
from mlmd.train.figures import Fitted, LearningCurve
from mlmd.train.job import Job
from mlmd.train.network_loss import JACOBIANS, Sample, Scaling, absorb, lonely, residuals, samples_of, sensitivities
from mlmd.train.network_state import NetworkState, keep, kept
from mlmd.train.run import Clock, Progress, Step

Result = TypeVar("Result")

_HELD_OUT = 0.1
"""Part of the training structures that says when to stop, where patience is given."""
_DECAY = 1e-2
"""Part of a weight by which a step with a learning rate of one would make it smaller."""
_AT_ONCE = 16
"""Structures, at most, whose gradient is taken together: memory stays bounded."""


def fit(
    job: Job, folder: Path, n_threads: int, progress: Progress, make: Callable[[Job, int], Training] | None = None
) -> Fitted:
    """Train the network, or the committee, of the potential of a job.

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
    state = kept(folder, job.digest) or training.begin()
    n_steps = training.n_steps * len(training.members)
    clock, pace = Clock(training.n_done(state) / n_steps), Pace()
    try:
        while not state.finished:
            n_epochs = state.n_epochs
            state = training.after(state)
            if state.n_epochs > n_epochs:
                progress(training.told(state, clock(training.n_done(state) / n_steps)))
            pace(partial(keep, folder, state, job.digest))
    finally:  # also when it is stopped by a signal
        keep(folder, state, job.digest)
    loss = training.finish(state)
    curve = LearningCurve((), (), (), (), (), losses=(*state.earlier, state.history), step=training.settings.step)
    return Fitted(curve=curve, facts={"loss": loss, f"{training.settings.step}s": state.n_epochs})


class Training:
    """Samples, the networks that are trained on them one after the other, and the steps of their training."""

    def __init__(self, job: Job, n_threads: int, *, jacobians: float = JACOBIANS) -> None:
        """Prepare the structures of a job; `jacobians` are the bytes of them that may be kept.

        Raises:
            InputError: when there is nothing to learn.
        """
        fit, regressor, problem = job.config.fit, job.potential.regressor, job.problem
        assert isinstance(fit, NetworkFit) and isinstance(regressor, Network | Committee)
        self.settings, self.n_threads = fit, n_threads
        self.members: tuple[Network, ...] = (
            tuple(regressor.members) if isinstance(regressor, Committee) else (regressor,)  # type: ignore[arg-type]
        )
        self.network = self.members[0]  # at work; the others get their numbers in the end
        self.seed, self._baseline = problem.seed, torch.from_numpy(problem.baseline)
        samples = self._prepared(job, jacobians)
        n_apart = 0 if fit.patience is None else max(1, round(_HELD_OUT * len(samples)))
        order = np.random.default_rng(self.seed).permutation(len(samples))
        self.all = samples
        self.apart = [samples[index] for index in sorted(order[:n_apart])]
        self.used = [samples[index] for index in sorted(order[n_apart:])]
        self.n_batches = 1 if fit.optimiser == "l-bfgs" else math.ceil(len(self.used) / fit.batch)
        self.n_steps = fit.n_epochs * self.n_batches
        pairs = [(name, one) for name, one in self._named() if name != "constants" or job.free_constants]
        self._names, self.parameters = [name for name, _ in pairs], [one for _, one in pairs]
        others = [[one.get_parameter(name) for name in self._names] for one in self.members[1:]]
        self._begins = [
            torch.nn.utils.parameters_to_vector(own).detach().numpy().copy() for own in (self.parameters, *others)
        ]
        decays = [torch.full_like(one, _DECAY if _is_matrix(name, one) else 0.0) for name, one in pairs]
        self.decay = torch.nn.utils.parameters_to_vector(decays).numpy()
        # weights of matrices are drawn with this variance; what a bias or a constant will be is of order one
        variances = [torch.full_like(one, 1 / one.shape[-1] if _is_matrix(name, one) else 1.0) for name, one in pairs]
        self.variances = torch.nn.utils.parameters_to_vector(variances)
        self.groups = _by_element(self.parameters, len(job.potential.elements))
        self.mean_rows = sum(one.n_rows for one in self.used) / self.n_batches

    def _prepared(self, job: Job, jacobians: float) -> list[Sample]:
        """The structures as the network sees them."""
        problem = job.problem
        samples, self.scaling = samples_of(
            job.potential, problem.frames, problem.sigma, problem.baseline, jacobians=jacobians
        )
        self.alone = None if job.free_constants else lonely(job.potential, self.scaling)
        return samples

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Names and values of the parameters of the network at work."""
        return list(self.network.named_parameters())

    def begin(self, done: np.ndarray | None = None, earlier: tuple[tuple[float, ...], ...] = ()) -> NetworkState:
        """The first state of the next member: the random weights of its network.

        Args:
            done: (n, n_weights) of the members that are trained.
            earlier: the history of each.
        """
        done = np.empty((0, len(self._begins[0]))) if done is None else done
        vector = self._begins[len(done)]
        makes: Mapping[str, Callable[[], Mapping[str, np.ndarray]]] = {
            "adamw": lambda: adamw.begin(vector),
            "kalman": lambda: _arrays(kalman.begin(self.variances, self.groups)),
            "l-bfgs": dict,
        }
        memory = makes[self.settings.optimiser]()
        return NetworkState(vector, average=vector, best=vector, done=done, memory=memory, earlier=earlier)

    def after(self, state: NetworkState) -> NetworkState:
        """The state after one step.

        Raises:
            SimulationError: when numbers are not finite.
        """
        epoch, number = divmod(state.n_steps, self.n_batches)
        drawn = self._drawn(len(state.done))
        order = np.random.default_rng([self.seed, epoch, len(state.done)]).permutation(len(drawn))
        some = [drawn[index] for index in order[number :: self.n_batches]]
        steps = {"adamw": self._by_adamw, "kalman": self._by_kalman, "l-bfgs": self._by_lbfgs}
        moved = steps[self.settings.optimiser](state, some)
        if not (math.isfinite(moved.squares) and np.isfinite(moved.weights).all()):
            smaller = "Give a smaller learning_rate; are" if self.settings.optimiser == "adamw" else "Are"
            raise SimulationError(
                f"the network diverged in {self.settings.step} {epoch + 1}: numbers are not finite. {smaller} "
                "labels or weights extreme?"
            )
        n_steps = state.n_steps + 1
        # the first weights are soon forgotten
        part = 0.0 if self.settings.optimiser == "l-bfgs" else min(self.settings.ema, n_steps / (n_steps + 9))
        average = part * state.average + (1 - part) * moved.weights
        moved = replace(moved, average=average, n_steps=n_steps)
        return self._epoch_done(moved) if n_steps % self.n_batches == 0 else moved

    def _drawn(self, member: int) -> Sequence[Sample]:
        """The structures that a member learns from: all, or as many with replacement."""
        if not self.settings.bootstrap:
            return self.used
        generator = np.random.default_rng([self.seed, member, 1])
        return [self.used[index] for index in generator.integers(len(self.used), size=len(self.used))]

    def _by_adamw(self, state: NetworkState, samples: Sequence[Sample]) -> NetworkState:
        """Weights after a step of AdamW."""
        squares, gradient = self.gradient(state.weights, samples)
        if not (math.isfinite(squares) and np.isfinite(gradient).all()):
            return replace(state, squares=math.nan)
        rate = self.settings.learning_rate * adamw.schedule(state.n_steps, self.n_steps)
        weights, memory = adamw.step(
            state.weights, state.memory, gradient, n_done=state.n_steps, rate=rate, decay=self.decay
        )
        n_rows = sum(one.n_rows for one in samples)
        return replace(
            state, weights=weights, memory=memory, squares=state.squares + squares, n_rows=state.n_rows + n_rows
        )

    def _by_kalman(self, state: NetworkState, samples: Sequence[Sample]) -> NetworkState:
        """Weights after some residuals of each structure."""
        generator = np.random.default_rng([self.seed, state.n_steps, len(state.done), 1])
        tasks = [(one, _some_rows(one, self.settings.components, generator)) for one in samples]
        found = self._differentiably(
            state.weights,
            lambda: in_threads(
                lambda task: sensitivities(self.network, *task, self.scaling, self.alone, self.parameters),
                tasks,
                self.n_threads,
            ),
        )
        values, slopes = (torch.cat(parts) for parts in zip(*found, strict=True))
        if not bool(torch.isfinite(values).all() and torch.isfinite(slopes).all()):
            return replace(state, squares=math.nan)
        noise, drift = kalman.schedule(state.n_steps, self.n_steps)
        weights, memory = kalman.update(
            torch.from_numpy(state.weights),
            {name: torch.from_numpy(one) for name, one in state.memory.items()},
            values,
            slopes,
            groups=self.groups,
            noise=noise,
            drift=drift * self.variances,
            n_threads=self.n_threads,
        )
        squares, n_rows = state.squares + float(values.square().sum()), state.n_rows + len(values)
        return replace(state, weights=weights.numpy(), memory=_arrays(memory), squares=squares, n_rows=n_rows)

    def _by_lbfgs(self, state: NetworkState, samples: Sequence[Sample]) -> NetworkState:
        """Weights after a step of L-BFGS; finished where there is none that lowers the loss."""
        n_rows = sum(one.n_rows for one in samples)

        def mean(weights: np.ndarray) -> tuple[float, np.ndarray]:
            squares, gradient = self.gradient(weights, samples)
            return squares / n_rows, gradient * (self.mean_rows / n_rows)

        found = lbfgs.step(state.weights, state.memory, mean)
        if found is None:
            squares = float(state.memory["value"][0]) * n_rows if state.memory else mean(state.weights)[0] * n_rows
            return replace(state, squares=squares, n_rows=n_rows, finished=True)
        weights, memory = found
        return replace(state, weights=weights, memory=memory, squares=float(memory["value"][0]) * n_rows, n_rows=n_rows)

    def gradient(self, weights: np.ndarray, samples: Sequence[Sample]) -> tuple[float, np.ndarray]:
        """Sum of squared residuals at some weights, and its gradient, over the mean number of residuals of a batch."""

        def of_some(some: Sequence[Sample]) -> tuple[float, Tensor]:
            squares, slopes = self._slopes(some)
            return squares, torch.nn.utils.parameters_to_vector(slopes)

        pieces = [samples[start : start + _AT_ONCE] for start in range(0, len(samples), _AT_ONCE)]
        squares, slopes = zip(*self._differentiably(weights, lambda: [of_some(one) for one in pieces]), strict=True)
        return sum(squares), torch.stack(slopes).sum(dim=0).numpy()

    def _slopes(self, samples: Sequence[Sample]) -> tuple[float, Sequence[Tensor]]:
        """Sum of squared residuals, and its derivatives by the parameters over the mean number of rows."""
        found = residuals(self.network, samples, self.scaling, self.alone, n_threads=self.n_threads)
        squares = found.square().sum()
        return float(squares.detach()), torch.autograd.grad(squares / self.mean_rows, self.parameters)

    def _residuals(self, samples: Sequence[Sample]) -> Tensor:
        """(n_rows,), not to be differentiated."""
        return residuals(
            self.network, samples, self.scaling, self.alone, n_threads=self.n_threads, differentiable=False
        )

    def _differentiably(self, weights: np.ndarray, function: Callable[[], Result]) -> Result:
        """What a function gives while the network has some weights, by which derivatives can be taken."""
        self._put(weights)
        for one in self.parameters:
            one.requires_grad_(True)
        try:
            return function()
        finally:  # what is made of the network later wants plain numbers
            for one in self.parameters:
                one.requires_grad_(False)

    def _epoch_done(self, state: NetworkState) -> NetworkState:
        """The losses of an epoch, and whether it was the last one."""
        loss = math.sqrt(state.squares / state.n_rows)
        last = state.finished or state.n_steps == self.n_steps
        state = replace(state, history=(*state.history, loss), squares=0.0, n_rows=0, finished=False)
        if self.settings.patience is None:
            state = replace(state, best=state.average)
        else:
            told = self.loss(state.average, self.apart)
            best = state.average if told < min(state.held_out, default=math.inf) else state.best
            state = replace(state, held_out=(*state.held_out, told), best=best)
            since = len(state.held_out) - 1 - int(np.argmin(state.held_out))
            last = last or since >= self.settings.patience
        if last and len(state.done) + 1 < len(self.members):
            return self.begin(np.vstack([state.done, state.best]), (*state.earlier, state.history))
        return replace(state, finished=last)

    @property
    def memory(self) -> float:
        """Bytes that the optimiser needs besides the structures."""
        n = len(self.decay)
        needs = {
            "adamw": 6 * n,
            "kalman": 3 * sum(len(own) ** 2 for own in self.groups),
            "l-bfgs": 2 * lbfgs.N_PAIRS * n,
        }
        return 8.0 * needs[self.settings.optimiser]

    def n_done(self, state: NetworkState) -> int:
        """Steps that are done, with all that members might have taken that are trained."""
        return len(state.done) * self.n_steps + state.n_steps

    def told(self, state: NetworkState, seconds_left: float | None) -> Step:
        """What is said after an epoch."""
        history = state.history or state.earlier[-1]
        member = len(state.done) + bool(state.history)
        of = f"member {member} of {len(self.members)}, " if len(self.members) > 1 else ""
        n_epochs = len(state.history) or self.settings.n_epochs
        return Step(f"{of}{self.settings.step}s", n_epochs, self.settings.n_epochs, seconds_left, history[-1])

    def loss(self, weights: np.ndarray, samples: Sequence[Sample]) -> float:
        """Root mean square of the weighted residuals, of a network or of the mean of some.

        Args:
            weights: (n_weights,) or (n_networks, n_weights).
            samples: structures.
        """
        weights = np.atleast_2d(weights)
        squares, n_rows = 0.0, 0
        for start in range(0, len(samples), self.settings.batch):
            some = samples[start : start + self.settings.batch]
            found: Tensor | float = 0.0
            for one in weights:  # residuals of a mean are the mean of the residuals
                self._put(one)
                found = found + self._residuals(some) / len(weights)
            assert isinstance(found, Tensor)
            squares, n_rows = squares + float(found.square().sum()), n_rows + len(found)
        return math.sqrt(squares / n_rows)

    def finish(self, state: NetworkState) -> float:
        """Make the networks those of plain features and whole energies; gives the loss for all training structures."""
        trained = np.vstack([state.done, state.best])
        loss = self.loss(trained, self.all)
        for network, weights in zip(self.members, trained, strict=True):
            with torch.no_grad():
                parameters = [network.get_parameter(name) for name in self._names]
                torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), parameters)
                if self.alone is not None:
                    network.constants.sub_(network.energies(self.alone, torch.arange(len(self.alone))))
                network.constants.add_(self._baseline)
            absorb(network, self.scaling)
        return loss

    def _put(self, weights: np.ndarray) -> None:
        """Give the network at work its numbers."""
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), self.parameters)

    scaling: Scaling
    alone: Tensor | None


def _is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter multiplies what comes in."""
    return parameter.ndim > 2 or name == "output"


def _by_element(parameters: Sequence[Tensor], n_kinds: int) -> list[Tensor]:
    """Numbers of the weights of each element; what is common to all is with those of the first."""
    owners = []
    for one in parameters:
        kinds = torch.arange(n_kinds) if len(one) == n_kinds else torch.zeros(len(one), dtype=torch.long)
        owners.append(kinds.repeat_interleave(one[0].numel()))
    owner = torch.cat(owners)
    return [own for kind in range(n_kinds) if len(own := (owner == kind).nonzero().squeeze(1))]


def _some_rows(sample: Sample, n_components: int, generator: np.random.Generator) -> list[int]:
    """The residual of the energy, and some of those of forces and stress, drawn at random."""
    first = sample.energy is not None
    others = first + generator.permutation(sample.n_rows - first)[:n_components]
    return [*range(first), *sorted(others.tolist())]


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: one.numpy() for name, one in tensors.items()}
