"""How a stage gets its bias: made for it, given back what it remembers, and brought to the step where it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.bias import Bias, recall
from mlmd.bias.adaptive import ExtendedBias, PlainBias
from mlmd.bias.extended import ExtendedABF
from mlmd.bias.plain import PlainABF
from mlmd.bias.plumed import PlumedBias
from mlmd.bias.script import Script
from mlmd.bias.shared import Walker
from mlmd.config import Langevin, Rerun
from mlmd.config.bias import ABF
from mlmd.config.stages import Dynamics, hyperdynamics_of
from mlmd.engine.adaptive_tables import AdaptiveTables
from mlmd.engine.biases import Adaptive, kernel_of
from mlmd.engine.hyperdynamics import start_boost
from mlmd.engine.job import Job, charges_of
from mlmd.potentials import Evaluator
from mlmd.rundir import Run, StageRecord

FRICTION = 1e-3
"""1/fs, of an extended variable in a stage whose thermostat has no friction."""
PERIOD, STEPS_OF_PERIOD = 200.0, 20
"""fs and timesteps: the shortest usual period of an extended variable."""


@dataclass(frozen=True)
class Biased:
    """What the biases of a run are made from."""

    job: Job
    run: Run
    tell: Callable[[str], None]
    """Called with what a person should know."""

    def bias(
        self,
        record: StageRecord,
        evaluator: Evaluator,
        cell: np.ndarray,
        memory: Mapping[str, np.ndarray],
        *,
        resumed: bool,
    ) -> Bias | None:
        """The bias of a stage, with what it remembers; None where it has none.

        Args:
            record: of the stage.
            evaluator: of the run.
            cell: (3, 3) Å in the engine's frame.
            memory: what the biases of this stage, and of those before, have left in a checkpoint or since.
            resumed: whether the stage goes on from a checkpoint.
        """
        bias = self._boost(record, evaluator, cell) or self._by_plumed(record, resumed=resumed)
        if bias is not None:
            recall(bias, memory, same_stage=resumed)
        return bias

    def start_of(self, record: StageRecord) -> float:
        """fs, at which a stage begins."""
        return sum(r.n_steps * r.timestep for r in self.run.stages[: record.index])

    def goes_on(self, record: StageRecord) -> bool:
        """Whether the stage of dynamics just before has the same script, whose last step is this stage's first."""
        before = [r.index for r in self.run.stages[: record.index] if r.n_steps > 0]
        last, own = self.job.scripts.get(before[-1]) if before else None, self.job.scripts.get(record.index)
        return last is not None and own is not None and last.path == own.path

    def _boost(self, record: StageRecord, evaluator: Evaluator, cell: np.ndarray) -> Bias | None:
        table = hyperdynamics_of(self.job.config.stage[record.index])
        if table is None:
            return None
        return start_boost(
            table, self.job.boosts[record.index], record, self.job.body, evaluator, cell, self.tell,
            self.start_of(record),
        )  # fmt: skip

    def _by_plumed(self, record: StageRecord, *, resumed: bool) -> Bias | None:
        job = self.job
        script, stage = job.scripts.get(record.index), job.config.stage[record.index]
        if script is None or not isinstance(stage, Dynamics | Rerun):
            return None
        # a script that an earlier stage has used already goes on with its bias and its files
        earlier = [s for index, s in job.scripts.items() if index < record.index and s.path == script.path]
        options: dict[str, Any] = {
            "masses": job.body.masses, "charges": charges_of(job), "timestep": record.timestep,
            "temperature": record.temperature[0] if record.temperature else None,
            "kernel": kernel_of(job.config, record.index), "log": self.run.path / "plumed.log",
            "restart": resumed or bool(earlier),
        }  # fmt: skip
        if record.index in job.adaptive:
            assert isinstance(stage, Dynamics)
            return self._adaptive(script, stage, record, options)
        return PlumedBias(script, **options)

    def _adaptive(self, script: Script, stage: Dynamics, record: StageRecord, options: dict[str, Any]) -> Bias:
        adaptive, body = self.job.adaptive[record.index], self.job.body
        table, thermostat = adaptive.table, getattr(stage, "thermostat", None)
        langevin = thermostat.friction if isinstance(thermostat, Langevin) else None
        tables = AdaptiveTables(self.run.path, adaptive, record, self.start_of(record))
        assert record.temperature is not None
        given: dict[str, Any] = {
            "timestep": record.timestep, "temperature": record.temperature[0], "full_samples": table.full_samples,
        }  # fmt: skip
        if table.extended:
            rng = np.random.default_rng(
                np.random.SeedSequence([int(self.run.manifest["seed"]), record.index], spawn_key=(2,))
            )
            friction = table.friction if table.friction is not None else FRICTION if langevin is None else langevin
            extended = ExtendedABF(
                adaptive.dimensions, friction=friction, period=period_of(table, record.timestep),
                reflect=table.boundary == "reflect", rng=rng, **given,
            )  # fmt: skip
            return ExtendedBias(script, extended, tables, self._walker(extended, adaptive, record), **options)
        plain = PlainABF(
            adaptive.dimensions, friction=langevin or 0.0,
            inverse_masses=np.where(body.mobile, 1.0 / body.masses, 0.0), remove_com=body.remove_com, **given,
        )  # fmt: skip
        return PlainBias(script, plain, tables, self._walker(plain, adaptive, record), adaptive.variables, **options)

    def _walker(self, abf: ExtendedABF | PlainABF, adaptive: Adaptive, record: StageRecord) -> Walker | None:
        """What shares an ABF with other runs, where the input says so."""
        walkers, manifest = adaptive.table.walkers, self.run.manifest
        if walkers is None:
            return None
        return Walker(
            abf, walkers.folder, Path(adaptive.newest).stem, walkers.number, walkers.count,
            max(1, round(walkers.read_every / record.timestep)),
            f"{manifest.get('id', '')[:12]} begun {manifest['created']}",
        )  # fmt: skip


def period_of(table: ABF, timestep: float) -> float:
    """fs, of the extended variable on its spring."""
    return table.extended_period or max(PERIOD, STEPS_OF_PERIOD * timestep)
