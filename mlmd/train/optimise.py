"""Radial coefficients by variable projection: the linear coefficients are always the best ones for them.

The model is linear in the weights w of its features and in the energies k of its elements, and nonlinear in the radial
coefficients c. With R of [A_w A_k A_c | y] at the present coefficients a step minimises

    ‖A_w w' + A_k k' + A_c δc - y‖² + λ ‖D δc‖²,    D the norms of the columns of A_c,

over w', k' and δc together: Levenberg and Marquardt's step for c while w and k, which enter linearly, are free
(Golub and Pereyra, SIAM J. Numer. Anal. 10, 413, 1973, in Kaufman's form, BIT 15, 49, 1975). The loss is what remains
when w and k are solved for at fixed c. At first a part of the training set does; when that is no longer worth it, all
of it takes part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mlmd.errors import InputError, SimulationError
from mlmd.fitting.least_squares import combine, solve
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.faint import stronger
from mlmd.train.shards import Outcome, Solver, Task, state_of

_FIRST_DAMPING = 1e-2
_LEAST_DAMPING, _MOST_DAMPING = 1e-9, 1e6
_PART = 4
"""The part that takes part first: one shard of so many."""
_ENOUGH_ROWS = 20
"""Equations that a part must have for each parameter."""
_STEADY = 0.05
"""All frames take part once the loss of the part falls by less than this: later it would be fitted too closely."""


@dataclass(frozen=True)
class State:
    """Where an optimisation stands: all that the next step depends on."""

    radial: np.ndarray
    """c to be tried next."""
    linear: np.ndarray
    """(w, k) at which the derivatives by c are taken next; zeros before the first solution."""
    n_shards: int
    """The first so many shards take part."""
    damping: float = _FIRST_DAMPING
    best: float = math.inf
    """Lowest loss on the shards that take part: root mean square of the weighted residuals."""
    best_radial: np.ndarray | None = None
    best_linear: np.ndarray | None = None
    best_factor: np.ndarray | None = None
    exact: bool = False
    """Whether the derivatives by c in `best_factor` are taken at `best_linear`, not at what a step expected."""
    again: bool = False
    """Whether `radial` is `best_radial`, only to take the derivatives again."""
    n_steps: int = 0
    """Coefficients that were judged, the first ones included, and again those that all shards judge after a part."""
    history: tuple[float, ...] = ()
    """Loss of the first solution of all shards and after each iteration with them, or so far of a part of them.

    An iteration whose step was not accepted leaves the loss as it was.
    """
    of_part: tuple[float, ...] = ()
    """The history with a part of the shards, once all of them take part; the last one is of the coefficients with which
    they begin."""
    started: bool = False
    """Whether `linear` is a solution, at which derivatives by c can be taken."""
    finished: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """Shards that are done at `radial` and `linear`."""

    @property
    def n_iterations(self) -> int:
        """Steps that were tried, with a part of the shards or with all of them; at most as many as were allowed."""
        return sum(max(len(losses) - 1, 0) for losses in (self.of_part, self.history))


def n_of_part(n_shards: int) -> int:
    """Shards that take part first, where a part of the training set is enough for that."""
    return max(1, n_shards // _PART)


def n_linear(potential: LearnedPotential) -> int:
    """Parameters that the energy is linear in."""
    expansion = potential.expansion
    return expansion.n_basis + expansion.n_kinds


def begin(potential: LearnedPotential, n_shards: int, n_rows: int, *, radial: bool) -> State:
    """The first state.

    Args:
        potential: with the radial coefficients to begin with.
        n_shards: of the training set.
        n_rows: equations of the training set, about.
        radial: whether the radial coefficients are optimised.
    """
    coefficients = np.zeros(0) if potential.radial is None else potential.radial.detach().numpy().copy()
    part = n_of_part(n_shards)
    enough = n_rows * part / n_shards >= _ENOUGH_ROWS * (n_linear(potential) + coefficients.size)
    return State(
        radial=coefficients,
        linear=np.zeros(n_linear(potential)),
        n_shards=part if radial and enough else n_shards,
    )


def prior_of(potential: LearnedPotential) -> Tensor | None:
    """What regularises the coefficients besides a penalty relative to the norms of their columns."""
    return None if potential.expansion.relative else potential.expansion.prior()


def put(
    potential: LearnedPotential,
    radial: np.ndarray,
    linear: np.ndarray,
    baseline: np.ndarray | float = 0.0,
    lone: np.ndarray | None = None,
) -> None:
    """Set the coefficients of a potential.

    Args:
        potential: its numbers are overwritten.
        radial: c.
        linear: w and k.
        baseline: (n_elements,) eV, which is added to k for the constants.
        lone: basis functions of single atoms (n_elements, n_basis) where these have the energies of the baseline.
    """
    expansion = potential.expansion
    coefficients = linear[: expansion.n_basis]
    constants = linear[expansion.n_basis :] + baseline
    if lone is not None:
        constants = constants - lone @ coefficients
    with torch.no_grad():
        if potential.radial is not None:
            potential.radial.copy_(torch.from_numpy(radial))
        expansion.coefficients.copy_(torch.from_numpy(coefficients))
        expansion.constants.copy_(torch.from_numpy(constants))


def iterate(
    potential: LearnedPotential,
    state: State,
    compute: Solver,
    *,
    n_shards: int,
    radial: bool,
    free_constants: bool,
    max_iterations: int,
    tolerance: float,
    regularisation: float,
    keep: Callable[[State], None],
    told: Callable[[State], None],
) -> State:
    """Solve, and step until the loss falls by less than the tolerance.

    Args:
        potential: of the right shape; its numbers are overwritten.
        state: to begin or to continue from.
        compute: gives the triangles of shards.
        n_shards: of the training set.
        radial: whether c is optimised; else one linear solution is all.
        free_constants: whether k is free; else it stays zero, and single atoms have the energies of the baseline.
        max_iterations: steps at most, counting those that were not accepted.
        tolerance: of the relative change of the loss.
        regularisation: γ of the linear coefficients, relative to the norms of their columns.
        keep: is given every state worth keeping.
        told: is given every state for display.

    Returns:
        The last state, with the best coefficients.

    Raises:
        InputError: when there is nothing to learn.
        SimulationError: when no finite solution is found.
    """
    expansion = potential.expansion
    rules = _Rules(
        n_features=expansion.n_basis,
        n_free=n_linear(potential),
        free_constants=free_constants,
        n_shards=n_shards,
        radial=radial,
        max_iterations=max_iterations,
        tolerance=tolerance,
        regularisation=regularisation,
        stronger=partial(stronger, potential),
        prior=prior_of(potential),
    )
    while not state.finished:
        for moment in _triangles(potential, state, compute, radial):
            state = moment
            keep(state)
            told(state)
        state = _judge(state, rules)
        keep(state)
        told(state)
    return state


@dataclass(frozen=True)
class _Rules:
    """What does not change during an optimisation; see `iterate`."""

    n_features: int
    n_free: int
    """Linear coefficients, w and k."""
    free_constants: bool
    n_shards: int
    radial: bool
    max_iterations: int
    tolerance: float
    regularisation: float
    stronger: Callable[[Tensor], Tensor]
    """Of coefficients, by how much that is stronger in some, from a triangle."""
    prior: Tensor | None = None

    @property
    def linear(self) -> slice:
        """Columns of the linear coefficients that are free."""
        return slice(0, self.n_free if self.free_constants else self.n_features)

    def penalty(self, factor: Tensor, damping: float) -> Tensor:
        """Relative penalties of the columns."""
        n = factor.shape[1] - 1
        of_linear = factor.new_full((self.n_free,), self.regularisation)
        of_linear[: self.n_features] *= self.stronger(factor)
        return torch.cat([of_linear, factor.new_full((n - self.n_free,), damping)])


def _triangles(potential: LearnedPotential, state: State, compute: Solver, radial: bool) -> Iterator[State]:
    """States with one more shard done each."""
    put(potential, state.radial, state.linear)
    numbers = state_of(potential)
    tasks = [
        Task(shard, numbers, radial and state.started) for shard in range(state.n_shards) if shard not in state.outcomes
    ]
    for outcome in compute(tasks):
        state = replace(state, outcomes=state.outcomes | {outcome.shard: outcome})
        yield state


def _judge(state: State, rules: _Rules) -> State:
    """What follows from the triangles of all shards that take part."""
    outcomes = [state.outcomes[shard] for shard in sorted(state.outcomes)]
    factor = combine(torch.from_numpy(outcome.factor) for outcome in outcomes)
    done = state.outcomes
    state = replace(state, outcomes={})
    if state.again:
        return _step(replace(state, best_factor=factor.numpy(), again=False, exact=True), rules)
    solution = solve(factor, columns=(rules.linear,), penalty=rules.penalty(factor, 0.0), prior=rules.prior)
    loss = solution.residual / math.sqrt(sum(outcome.n_rows for outcome in outcomes))
    if not math.isfinite(loss) and not math.isfinite(state.best):
        raise SimulationError("the least-squares problem has no finite solution: are labels or weights extreme?")
    linear = solution.x[: rules.n_free].numpy()
    if not rules.radial:
        found = replace(state, best=loss, best_radial=state.radial, best_linear=linear)
        # the triangles do not depend on linear coefficients: a learning curve is made of the same ones
        return replace(found, history=(loss,), finished=True, outcomes=done)
    if not state.started:
        if not linear[: rules.n_features].any():
            raise InputError(
                "the energies of single atoms explain the data wholly: there are no forces, and no differences of "
                "energy, to learn from. Add structures out of equilibrium."
            )
        return replace(state, linear=linear, started=True, history=(loss,))
    state = replace(state, n_steps=state.n_steps + 1)
    return _accept(state, factor, linear, loss, rules) if loss < state.best else _reject(state, rules)


def _accept(state: State, factor: Tensor, linear: np.ndarray, loss: float, rules: _Rules) -> State:
    """Go on from better coefficients."""
    change = (state.best - loss) / loss if math.isfinite(state.best) else math.inf
    state = replace(
        state,
        best=loss,
        best_radial=state.radial,
        best_linear=linear,
        best_factor=factor.numpy(),
        history=(*state.history, loss) if math.isfinite(state.best) else (loss,),
        damping=max(state.damping / 3, _LEAST_DAMPING),
        exact=False,
    )
    last = state.n_steps > rules.max_iterations
    if state.n_shards < rules.n_shards and (last or change < _STEADY):
        # the same coefficients, judged by all frames
        return replace(state, n_shards=rules.n_shards, best=math.inf, linear=linear, history=(), of_part=state.history)
    return replace(state, finished=True) if last or change < rules.tolerance else _step(state, rules)


def _reject(state: State, rules: _Rules) -> State:
    """Try another step from the best coefficients."""
    state = replace(state, history=(*state.history, state.best))
    if state.n_steps > rules.max_iterations or state.damping > _MOST_DAMPING:
        if state.n_shards == rules.n_shards or state.best_radial is None or state.best_linear is None:
            return replace(state, finished=True)
        # a part of the data has done what it can: the same coefficients, judged by all frames
        return replace(
            state,
            n_shards=rules.n_shards,
            best=math.inf,
            radial=state.best_radial,
            linear=state.best_linear,
            history=(),
            of_part=state.history,
        )
    if state.exact or state.best_radial is None or state.best_linear is None:
        return _step(replace(state, damping=state.damping * 4), rules)
    # perhaps the derivatives are to blame: take them again where they belong
    return replace(state, radial=state.best_radial, linear=state.best_linear, again=True)


def _step(state: State, rules: _Rules) -> State:
    """Coefficients to be tried next, from the best ones."""
    assert state.best_factor is not None and state.best_radial is not None
    factor = torch.from_numpy(state.best_factor)
    columns = (rules.linear, slice(rules.n_free, factor.shape[1] - 1))
    found = solve(factor, columns=columns, penalty=rules.penalty(factor, math.sqrt(state.damping)))
    change = found.x[rules.n_free :].numpy().reshape(state.best_radial.shape)
    return replace(state, radial=state.best_radial + change, linear=found.x[: rules.n_free].numpy())
