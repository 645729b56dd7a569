"""Replica exchange: who may change places with whom, by what chance, and how configurations move.

A replica samples configurations x, and volumes V at constant pressure, with the weight exp(-u(x, V)),

    u = β (s U(x) + B(x) + P V),

where s is the factor on the potential U, and B a static bias. Replicas i and j, at x_i and x_j, change places with the
probability min(1, exp Δ),

    Δ = u_i(x_i) + u_j(x_j) - u_i(x_j) - u_j(x_i),

for temperatures alone (β_i - β_j)(U_i - U_j) (Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999)), at constant
pressure besides (β_i P_i - β_j P_j)(V_i - V_j) (Okabe, Kawata, Okamoto, Mikami, Chem. Phys. Lett. 335, 435 (2001));
with other potentials and biases it is Hamiltonian exchange (Sugita, Kitao, Okamoto, J. Chem. Phys. 113, 6042 (2000)).
Velocities are multiplied by √(T_new / T_old), which cancels the kinetic energies. Whatever a thermostat and a barostat
remember stays with the temperature: it is independent of positions and velocities in the ensemble.

OpenMM's ReplicaExchangeSampler (8.6) moves one Simulation from replica to replica by its State, without volume moves of
ours, biases of PLUMED, and what thermostats remember; it draws from Python's global generator, so that a run continued
from its checkpoint is another one; and its trajectories are written by its own reporter. It is not used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlmd import units
from mlmd.engine.frame import Frame
from mlmd.engine.system import SPEED, positions_of, set_cell, velocities_of
from mlmd.errors import SimulationError

if TYPE_CHECKING:
    from mlmd.engine.stage import DynamicsStage

_KEY = 0x65786368
"""Of the random numbers of exchanges among those of a seed."""


_SAME = 1e-5
"""Å, by which cells may differ that are meant to be the same: for 1 GPa and edges of 20 Å some 0.1 meV."""


@dataclass(frozen=True)
class Tried:
    """An exchange of two neighbours that was tried."""

    pair: tuple[int, int]
    probability: float
    accepted: bool


class Misplaced(Exception):
    """A replica that cannot go on from the configuration of another, and why."""

    def __init__(self, replica: int, why: SimulationError) -> None:
        """Take its number, and what failed in its new place."""
        super().__init__(str(why))
        self.replica, self.why = replica, why


@dataclass(frozen=True)
class Configuration:
    """What changes its place."""

    positions: np.ndarray
    """(n_atoms, 3) nm, unwrapped."""
    velocities: np.ndarray
    """(n_atoms, 3) nm/ps, as the integrator holds them."""
    cell: np.ndarray
    """(3, 3) Å."""
    frame: Frame
    energy: float
    """eV, of the potential without its factor."""
    temperature: float
    """K, of the velocities."""

    @property
    def volume(self) -> float:
        """Å³."""
        return float(np.linalg.det(self.cell))


def axes_of(shape: Sequence[int]) -> list[int]:
    """Numbers of the lists along which replicas have neighbours; `shape` are the lengths of all, seeds last."""
    return [axis for axis, length in enumerate(shape[:-1]) if length > 1]


def neighbours(shape: Sequence[int]) -> list[tuple[int, int]]:
    """All pairs of replicas that are neighbours along one of the lists, in the order of the lists."""
    return [pair for axis in axes_of(shape) for first in (0, 1) for pair in _pairs(shape, axis, first)]


def pairs_of(shape: Sequence[int], number: int) -> list[tuple[int, int]]:
    """The pairs that an exchange, counted from 0, tries: even and odd ones in turn, along one list after the other."""
    axes = axes_of(shape)
    axis = axes[number % len(axes)]
    first = number // len(axes) % 2 if shape[axis] > 2 else 0
    return _pairs(shape, axis, first)


def _pairs(shape: Sequence[int], axis: int, first: int) -> list[tuple[int, int]]:
    stride = math.prod(shape[axis + 1 :])
    places = enumerate(itertools.product(*map(range, shape)))
    return [(n, n + stride) for n, at in places if at[axis] % 2 == first and at[axis] + 1 < shape[axis]]


def attempt(
    stages: list[DynamicsStage], scales: list[float], pairs: list[tuple[int, int]], seed: int, number: int
) -> list[Tried]:
    """Try an exchange, and let those that accept change places.

    The random numbers follow from the seed and the number of the exchange alone: it can be made again.

    Args:
        stages: of the replicas, all at the same step.
        scales: factors on their potentials.
        pairs: that try.
        seed: of the run.
        number: of the exchange, counted from 0.

    Raises:
        SimulationError: where replicas at constant volume have not the same cell.
        Misplaced: where a replica cannot go on from the configuration of another.
    """
    chances = np.random.default_rng(np.random.SeedSequence([seed, _KEY, number])).random(len(pairs))
    involved = sorted({one for pair in pairs for one in pair})
    at = {one: _configuration(stages[one], scales[one]) for one in involved}
    for one, other in pairs:
        _check_cells((stages[one], stages[other]), (at[one].cell, at[other].cell))
    tried = []
    for (one, other), chance in zip(pairs, chances, strict=True):
        exponent = log_probability((stages[one], stages[other]), (scales[one], scales[other]), (at[one], at[other]))
        # a uniform number in (0, 1]
        accepted = math.log1p(-chance) < exponent
        if accepted:
            for here, there in ((one, other), (other, one)):
                try:
                    _place(stages[here], at[there])
                except SimulationError as error:
                    raise Misplaced(here, error) from None
        tried.append(Tried((one, other), math.exp(min(0.0, exponent)), accepted))
    return tried


def _check_cells(stages: tuple[DynamicsStage, DynamicsStage], cells: tuple[np.ndarray, np.ndarray]) -> None:
    """At constant volume the cell would go from replica to replica with nothing that weighs it."""
    if any(stage.record.pressure is None for stage in stages) and np.abs(cells[0] - cells[1]).max() > _SAME:
        raise SimulationError(
            f"replicas that exchange at constant volume need the same cell, and these have {_edges(cells[0])} and "
            f"{_edges(cells[1])}. Take the cell from a run of its own, as the structure, or exchange in npt."
        )


def _edges(cell: np.ndarray) -> str:
    return " x ".join(f"{length:.6g}" for length in np.linalg.norm(cell, axis=1)) + " Å"


def log_probability(
    stages: tuple[DynamicsStage, DynamicsStage],
    scales: tuple[float, float],
    at: tuple[Configuration, Configuration],
) -> float:
    """Δ of two replicas, whose configurations are `at`; -inf where a replica could not be at that of the other.

    A bias that knows nothing of a configuration, e.g. one outside its grid, keeps its replica from it.
    """
    total = sum(_reduced(stage, scale, one) for stage, scale, one in zip(stages, scales, at, strict=True))
    try:
        total -= sum(_reduced(stage, scale, one) for stage, scale, one in zip(stages, scales, at[::-1], strict=True))
    except SimulationError:
        return -math.inf
    return total if math.isfinite(total) else -math.inf


def _reduced(stage: DynamicsStage, scale: float, at: Configuration) -> float:
    """u of a configuration in a replica."""
    temperature, pressure = stage.target_temperature, stage.record.pressure
    assert temperature is not None
    energy = scale * at.energy
    total = energy + stage.forces.bias_at(at.positions, at.cell, energy, stage.global_step)
    if pressure is not None:
        total += pressure[0] * units.BAR * at.volume
    return total / (units.KB * temperature)


def _configuration(stage: DynamicsStage, scale: float) -> Configuration:
    """Where a replica is, and how hot; its bias has ended the step then."""
    answer, temperature = stage.answer(), stage.target_temperature
    assert temperature is not None
    stage.forces.finish_step()
    return Configuration(
        answer.positions, velocities_of(stage.context) / SPEED, stage.forces.cell, stage.frame,
        answer.potential.energy / scale, temperature,
    )  # fmt: skip


def _place(stage: DynamicsStage, at: Configuration) -> None:
    """Let a replica go on from a configuration, with velocities of its own temperature."""
    temperature = stage.target_temperature
    assert temperature is not None
    stage.frame = at.frame
    if stage.body.pbc.all():
        set_cell(stage.context, at.cell)
    stage.context.setPositions(at.positions)
    stage.context.setVelocities(at.velocities * math.sqrt(temperature / at.temperature))
    stage.forces.go_to(positions_of(stage.context), at.cell, stage.global_step)
