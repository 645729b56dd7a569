"""Columns of the log besides the usual ones: how many atoms there are, the clock of hyperdynamics, heat that flows."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

from mlmd.config.heat import heat_exchange_of
from mlmd.engine.deposit import Deposition
from mlmd.engine.heat_exchange import HEAT_COLUMN
from mlmd.engine.hyperdynamics import HYPER_COLUMNS
from mlmd.engine.job import Job
from mlmd.engine.stage import DynamicsStage

_COUNTS = ("atoms", "bath temperature [K]")
"""Of a run in which atoms come and go."""


def exchanges_heat(job: Job) -> bool:
    """Whether heat is exchanged in a stage of the run."""
    return any(map(heat_exchange_of, job.config.stage))


def more_columns(job: Job) -> list[str]:
    """Their names, the same in all stages."""
    found = [*job.more_columns, *(_COUNTS if job.deposits else ()), *(HYPER_COLUMNS if job.boosts else ())]
    return [*found, HEAT_COLUMN] if exchanges_heat(job) else found


def more_values(job: Job, deposition: Deposition | None) -> Callable[[DynamicsStage], list[float]]:
    """What stands in them, in their order, but for those of `Job.more_columns`; nan where a stage knows nothing of it.

    Args:
        job: the run.
        deposition: of the stage, where there is one.
    """
    parts: list[Callable[[DynamicsStage], list[float]]] = []
    if job.deposits:
        bathed = deposition is not None and deposition.plan.stage.bath is not None
        parts.append(lambda stage: [stage.body.n_atoms, stage.guarded_temperature() if bathed else nan])
    if job.boosts:
        parts.append(_boosted)
    if exchanges_heat(job):
        parts.append(lambda stage: [nan if stage.exchange is None else stage.exchange.exchanged(stage.step)])
    return lambda stage: [value for part in parts for value in part(stage)]


def _boosted(stage: DynamicsStage) -> list[float]:
    bias = stage.forces.bias
    found = {} if bias is None else bias.measures(stage.global_step)
    return [found.get(name, nan) for name in HYPER_COLUMNS]
