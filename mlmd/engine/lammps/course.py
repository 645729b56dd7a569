"""The course of a run on many processes, led by the first of them."""

from __future__ import annotations

from typing import Any

from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.course import Course
from mlmd.engine.deposit import Deposition
from mlmd.engine.lammps.forces import SharedEvaluator, SharedForces
from mlmd.engine.lammps.stage import SharedStage
from mlmd.engine.lammps.team import Team
from mlmd.engine.present import Present
from mlmd.engine.stage import DynamicsStage, Particles
from mlmd.engine.stage_maker import StageMaker
from mlmd.engine.system import Body
from mlmd.potentials import Evaluator
from mlmd.rundir import StageRecord


class SharedMaker(StageMaker):
    """Makes stages for a team."""

    forces_of, stage_of = SharedForces, SharedStage  # type: ignore[assignment]
    shared: SharedEvaluator
    """The same for all stages."""

    def evaluator(self, body: Body) -> Evaluator:
        """The team's."""
        return self.shared


class SharedCourse(Course):
    """Runs the stages that are left, with a team in the place of OpenMM."""

    maker_of = SharedMaker
    maker: SharedMaker

    def __init__(self, team: Team, *given: Any) -> None:
        """Take the processes, and what a course takes."""
        super().__init__(*given)
        self.watch = self.maker.watch = None  # one process alone would be asked about all atoms
        job, threads = self.job, int(self._given["threads"])
        self.maker.shared = SharedEvaluator(team, job.body, job.potential.cutoff, job.scale, threads)

    def _set_up(
        self, record: StageRecord, particles: Particles, deposition: Deposition | None, *, restart: bool, step: int = 0
    ) -> DynamicsStage:
        made = super()._set_up(record, particles, deposition, restart=restart, step=step)
        assert isinstance(made, SharedStage)
        if restart or deposition is None or deposition.segment == 0:  # not at every arrival
            self.messages(f"LAMMPS: {made.division()}")
        return made

    def _follow(self, present: Present) -> None:
        super()._follow(present)
        self.maker.shared.follow(present.body)

    def _resume(self, stage: DynamicsStage, saved: Checkpoint) -> None:
        super()._resume(stage, saved)
        if isinstance(stage, SharedStage) and not stage.kept and self.commit.exact(saved):
            self.messages("the cell could not be divided as it was: the run continues statistically, not bit for bit")
