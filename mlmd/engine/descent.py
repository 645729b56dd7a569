"""A stage that minimizes: its start and its end in a run; how it goes down is in `mlmd.engine.minimize`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlmd.config import Minimize
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.forces import NM
from mlmd.engine.frame import Frame, frame_of
from mlmd.engine.guard import question, save_crash
from mlmd.engine.job import Job
from mlmd.engine.minimize import Minimum, minimize
from mlmd.engine.outputs import Snapshot
from mlmd.engine.present import Present
from mlmd.engine.stage import Particles
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluator
from mlmd.rundir import Messages, StageRecord


def go_down(
    stage: Minimize, record: StageRecord, particles: Particles, job: Job, evaluator: Evaluator, present: Present,
    folder: Path, messages: Messages, interrupt: Callable[[int], None],
) -> Particles:  # fmt: skip
    """Carry a minimization out; velocities stay what they were.

    Args:
        stage: of the input.
        record: of the stage.
        particles: where everything is before.
        job: the input.
        evaluator: of the potential.
        present: who is there.
        folder: of the run, for the frame where it fails.
        messages: of the run.
        interrupt: called with each step; ends the minimization by raising.

    Raises:
        SimulationError: when it ends with forces that no dynamics could begin with.
    """
    frame, atoms = particles.frame, present.atoms.copy()
    atoms.set_cell(frame.user_cell(particles.cell))
    atoms.positions = frame.to_user(particles.positions)
    result = minimize(stage, evaluator, atoms, present.body.mobile, interrupt)
    _check(result, job, present, folder, messages)
    how = "converged" if result.converged else "did NOT converge"
    messages(
        f"stage {record.index + 1} (minimize) {how} in {result.n_steps} steps: energy {result.energy:.6f} eV, "
        f"largest force {result.max_force:.3g} eV/Å"
    )
    # the orientation stays what it was at the start: a crystal that is turned as a whole is the same crystal
    reduced, found = frame_of(result.cell, job.atoms.pbc)
    return Particles(
        found.to_engine(result.positions), particles.velocities, reduced, Frame(frame.rotation, found.lattice)
    )


def _check(result: Minimum, job: Job, present: Present, folder: Path, messages: Messages) -> None:
    """Forces that no dynamics could begin with are a failure here already."""
    guard = job.config.guard
    if not guard.enabled or guard.max_force is None or result.max_force <= guard.max_force:
        return
    where = Snapshot(0, 0.0, result.positions, result.cell)
    message = (
        f"the minimization ended after {result.n_steps} steps at {result.energy:.6g} eV with a force of "
        f"{result.max_force:.3g} eV/Å: {question(job.config)}"
    )
    told = save_crash(folder, present.atoms, None, where, message)
    messages(message, echo=False)
    raise SimulationError(told)


def between_stages(record: StageRecord, particles: Particles) -> Checkpoint:
    """A checkpoint of what is there when a minimization has ended."""
    header = {"stage": record.index, "step": 0, "lattice": particles.frame.lattice.tolist()}
    arrays = {"positions": particles.positions / NM, "velocities": particles.velocities, "cell": particles.cell}
    return Checkpoint(header, arrays)
