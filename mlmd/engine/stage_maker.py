"""How a stage is set up: its evaluator, its bias, its forces, and what carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import openmm

from mlmd.config import Minimize, Rerun
from mlmd.engine.beside import leaves_core
from mlmd.engine.columns import more_values
from mlmd.engine.deposit import Deposition
from mlmd.engine.drift import drift_of
from mlmd.engine.forces import Forces
from mlmd.engine.job import Job
from mlmd.engine.present import Present
from mlmd.engine.schedule import usual_temperature
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.engine.stage_bias import Biased
from mlmd.engine.system import Body
from mlmd.engine.torch_force import torch_force
from mlmd.engine.warmth import warmth_of
from mlmd.engine.watch import SPREAD_EVERY, Watch
from mlmd.potentials import Evaluator, has_energy
from mlmd.pretrained.external import externals_in
from mlmd.rundir import Messages, StageRecord


class StageMaker:
    """Makes the stages of one run."""

    forces_of, stage_of = Forces, DynamicsStage
    """What knows the forces of a stage, and what carries it out."""

    def __init__(
        self, job: Job, hardware: Mapping[str, Any], watch: Watch | None, messages: Messages, *, alone: bool
    ) -> None:
        """
        Args:
            job: what the run is.
            hardware: what run.json says about platform and threads.
            watch: what asks the potential for its errors.
            messages: for a person.
            alone: whether no other runs exchange their configurations with this one.
        """
        self.job, self.watch, self.messages = job, watch, messages
        self._given, self._alone = dict(hardware), alone
        self._hardware = Hardware(hardware["openmm"], hardware["properties"])

    def evaluator(self, body: Body) -> Evaluator:
        """The potential, made ready for those who are there."""
        return self.job.evaluator(self._given["device"], self._given, body)

    def stage(
        self,
        record: StageRecord,
        particles: Particles,
        present: Present,
        biased: Biased,
        memory: Mapping[str, np.ndarray],
        deposition: Deposition | None,
        *,
        restart: bool,
        step: int = 0,
    ) -> DynamicsStage:
        """The stage, or the segment of it that begins at a step.

        Args:
            record: of the stage.
            particles: at its beginning.
            present: who is there.
            biased: what its bias is made from.
            memory: what biases have left in a checkpoint or since.
            deposition: who comes and goes, where somebody does.
            restart: whether it goes on from a checkpoint.
            step: of the stage, at which a segment begins.
        """
        config, run, body = self.job.config, biased.run, present.body
        stage, guard = config.stage[record.index], config.guard
        assert not isinstance(stage, Minimize | Rerun)
        open_cell = None if body.pbc.all() else np.where(body.pbc[:, None], particles.cell, 0.0)
        evaluator = self.evaluator(body)
        forces = self.forces_of(
            evaluator, particles.cell,
            bias=biased.bias(record, evaluator, particles.cell, memory, resumed=restart),
            max_force=guard.max_force if guard.enabled else None,
            max_displacement=guard.max_displacement if guard.enabled else None,
            first_step=record.first_step, bias_cell=open_cell, has_energy=has_energy(self.job.potential),
            free_core=leaves_core(self._given) and not self._changes_folder(),
        )  # fmt: skip
        earlier = run.stages[: record.index]
        seed = np.random.SeedSequence([int(run.manifest["seed"]), record.index])
        made = self.stage_of(
            stage, record, body, forces, particles, template=present.atoms, hardware=self._hardware,
            seed=seed if deposition is None else deposition.seed(), guard=guard,
            usual_temperature=usual_temperature(record, config, earlier), first=all(r.n_steps == 0 for r in earlier),
            start_time=biased.start_of(record),
            watch=self.watch, drift=drift_of(stage, config, self.job.potential, self.messages),
            warmth=warmth_of(stage, config, self.messages) if self._alone else None,
            spread_every=self._spread_every(record),
            in_frames=self.watch is not None and run.manifest["trajectory"]["format"] == "extxyz",
            more=more_values(self.job, deposition), first_step=step,
            force=self._torch_force(),
        )  # fmt: skip
        if deposition is not None and not restart:
            deposition.set_up(made)
        return made

    def _changes_folder(self) -> bool:
        """Whether the potential may change the current folder, in which PLUMED opens its files."""
        return any(one.recipe.may_change_folder for one in externals_in(self.job.potential))

    def _spread_every(self, record: StageRecord) -> int:
        """Lines of the log from one spread of forces to the next."""
        wanted = self.job.config.output.spread_every
        if wanted is None:
            return SPREAD_EVERY
        return max(1, round(wanted / (record.log_every * record.timestep)))

    def _torch_force(self) -> openmm.Force | None:
        """What OpenMM asks in the place of Python, where a run does so."""
        if self._given.get("force", {}).get("name") != "TorchForce":
            return None
        return torch_force(self.job.potential, bool(self.job.body.pbc.all()), self._given["device"])
