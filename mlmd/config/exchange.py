"""Which stages of replicas exchange, and what has to be so that they may: ``[replicas] exchange_every``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlmd.config.bias import LowerWall, Umbrella, UpperWall
from mlmd.config.deposit import Deposit
from mlmd.config.ending import stop_of
from mlmd.config.engine import engine_of
from mlmd.config.simulate import Simulate
from mlmd.config.stages import NPT, NVE, NVT, Dynamics, Minimize, Rerun, Stage, temperatures_of
from mlmd.errors import InputError
from mlmd.units import with_unit

OF_PATHS = frozenset(
    ("diffusion", "van-hove", "density", "vacf", "bonds", "dynamic-structure-factor", "viscosity", "conductivity",
     "thermal-conductivity", "infrared")
)  # fmt: skip
"""Analyses that follow atoms, or a flux, in time."""
STATIC = (Umbrella, UpperWall, LowerWall)
"""Biases whose energy is a function of the positions alone, so that it can be told of the positions of another."""


@dataclass(frozen=True)
class Exchange:
    """How replicas exchange."""

    every: int
    """Steps from one exchange to the next, counted from the start of each stage."""
    shape: tuple[int, ...]
    """Lengths of the lists, in the order in which replicas are counted; the last one is that of seeds, between which
    there is no exchange."""
    stages: tuple[int, ...]
    """Indices of the stages that have exchanges."""
    n_steps: tuple[int, ...]
    """Steps of all stages."""

    def due(self, stage: int, step: int) -> int:
        """Exchanges up to a step of a stage, that step included; there is none at the last step of a stage."""
        earlier = sum(self._within(n, self.n_steps[n]) for n in range(stage))
        return earlier + self._within(stage, step)

    def _within(self, stage: int, step: int) -> int:
        return min(step, self.n_steps[stage] - 1) // self.every if stage in self.stages else 0


def exchange_of(every: float, shape: tuple[int, ...], configs: Sequence[Simulate]) -> Exchange:
    """How the replicas of these inputs exchange.

    Args:
        every: fs.
        shape: lengths of the lists, seeds last.
        configs: the inputs, in the order of the lists.

    Raises:
        InputError: with one line for each thing that stands against it.
    """
    first = configs[0]
    stages = tuple(index for index in range(len(first.stage)) if _exchanges(index, configs))
    # a rerun is refused beside [replicas]
    n_steps = tuple(0 if isinstance(stage, Rerun) else stage.n_steps(first.timestep) for stage in first.stage)
    problems = [*_problems(every, shape, configs, stages, n_steps)]
    if problems:
        raise InputError("\n".join(problems))
    return Exchange(round(every / first.timestep), shape, stages, n_steps)


def _exchanges(index: int, configs: Sequence[Simulate]) -> bool:
    """Whether a stage has one temperature and pressure in each replica, and not the same in all."""
    own = [config.stage[index] for config in configs]
    differ = any(one != own[0] for one in own) or len({config.scale for config in configs}) > 1
    return differ and all(map(_is_held, own))


def _is_held(stage: Stage) -> bool:
    """Whether a thermostat holds one temperature, and a barostat, where there is one, one pressure."""
    if not isinstance(stage, NVT | NPT) or len(set(temperatures_of(stage))) > 1:
        return False
    return not isinstance(stage, NPT) or len(set(stage.pressure)) == 1


def _problems(
    every: float, shape: tuple[int, ...], configs: Sequence[Simulate], stages: tuple[int, ...], n_steps: tuple[int, ...]
) -> Iterator[str]:
    first = configs[0]
    shown, steps = with_unit(every, "time"), every / first.timestep
    if all(length == 1 for length in shape[:-1]):
        yield (
            "exchange_every: there is nothing to exchange: list two temperatures, pressures, scales or centres at "
            "least. Runs that differ in their seeds alone are the same ensemble."
        )
        return
    if (engine := engine_of(first)) != "openmm":
        yield f'exchange_every: replicas that exchange take turns in OpenMM. Leave engine = "{engine}" out.'
    yield from _stage_problems(first)
    yield from _cell_problems(configs, stages)
    if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
        whole = with_unit(max(1, round(steps)) * first.timestep, "time")
        yield (
            f"exchange_every: {shown} is no whole number of timesteps of {with_unit(first.timestep, 'time')}. The "
            f"nearest that is: {whole}."
        )
    elif not stages:
        yield (
            "exchange_every: no stage has exchanges. They are in stages of nvt and npt at one temperature, temperature "
            '= "replica", and not in minimizations and ramps.'
        )
    elif all(n_steps[index] <= round(steps) for index in stages):
        yield f"exchange_every: {shown} is not shorter than any stage with exchanges: there would be none."
    for name in () if first.analysis is None else first.analysis.run:
        if name in OF_PATHS:
            yield (
                f"analysis: {name}: atoms jump where replicas exchange, and have no path to follow in time. Leave it "
                "out, or exchange_every."
            )


def _stage_problems(first: Simulate) -> Iterator[str]:
    for number, stage in enumerate(first.stage, 1):
        place = f"stage {number} ({stage.kind})"
        if isinstance(stage, Minimize):
            continue
        if isinstance(stage, NVE):
            yield f"{place}: replicas that exchange need a temperature in every stage of dynamics. Use nvt."
        if isinstance(stage, Deposit):
            yield f"{place}: replicas that exchange need the same atoms in all, and in this stage atoms arrive."
        if stop_of(first, number - 1) is not None:
            yield f"{place}: stop: replicas that exchange end together, each at its duration. Leave it out."
        for bias in stage.bias if isinstance(stage, Dynamics) else ():
            if not isinstance(bias, STATIC):
                yield (
                    f"{place}: bias: {bias.kind} changes with what its own replica has seen, so that replicas cannot "
                    "exchange under it. Umbrellas and walls can; or leave exchange_every out."
                )


def _cell_problems(configs: Sequence[Simulate], exchanging: tuple[int, ...]) -> Iterator[str]:
    """Stages of nvt that exchange, and that replicas would begin in cells of their own.

    Configurations would carry their cells from one to another, without the P V that weighs volumes. A cell that is
    minimized from the same start, with the same potential and pressure, is the same in all.
    """
    own: str | None = None  # where replicas have got cells of their own
    moved = len({config.scale for config in configs}) > 1
    for index, stage in enumerate(configs[0].stage):
        place = f"stage {index + 1} ({stage.kind})"
        if isinstance(stage, NVT) and own is not None and index in exchanging:
            yield (
                f"{place}: replicas that exchange at constant volume need the same cell, and {own} leaves each in its "
                "own. Take the cell from a run of its own, as the structure, or exchange in npt."
            )
        moved |= isinstance(stage, Dynamics) or any(config.stage[index] != stage for config in configs)
        if isinstance(stage, NPT) or (isinstance(stage, Minimize) and stage.cell and moved):
            own = place
