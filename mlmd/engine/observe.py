"""What is read off a stage: a row of the log, a frame of the trajectory, a live line. Nothing here moves an atom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlmd import units
from mlmd.engine.forces import NM, Answer, ForceFailure
from mlmd.engine.outputs import NEEDS_ENERGY, Snapshot, log_columns
from mlmd.engine.system import PS
from mlmd.potentials.scaled import scale_of
from mlmd.potentials.uncertainty import Uncertainty
from mlmd.rundir import StageRecord

if TYPE_CHECKING:
    from mlmd.engine.stage import DynamicsStage


@dataclass(frozen=True)
class Moment:
    """What a live line shows."""

    stage: StageRecord
    step: int
    """Within the stage."""
    temperature: float
    """K."""
    energy: float | None
    """Total energy per atom, eV; None where the potential has none."""
    ns_per_day: float
    seconds_left: float
    frame: tuple[int, int] | None = None
    """Of a rerun: frames that are done, and all."""


def row(stage: DynamicsStage) -> list[float]:
    """The columns of log.csv after step and stage.

    The pressure is P = (N kT - tr(virial) / 3) / V with the kinetic temperature T of all degrees of freedom, so that
    holding the centre of mass does not lower it; the bias is in it. Of a potential without an energy
    there are neither energies nor a pressure.
    """
    kinetic, answer, body = stage.kinetic_energy(), stage.sums(), stage.body
    energy, bias = answer.evaluation.energy, answer.evaluation.energy - answer.potential.energy
    volume = float(np.linalg.det(stage.forces.cell)) if body.pbc.all() else float("nan")
    temperature, target = body.temperature(kinetic), stage.target_temperature
    ideal = int(body.mobile.sum()) * units.KB * temperature
    pressure = (ideal - float(np.trace(answer.evaluation.virial)) / 3.0) / volume
    values = [
        stage.time / PS, answer.potential.energy, kinetic, (energy + kinetic) / body.n_atoms, temperature,
        pressure / units.BAR, volume, body.masses.sum() / volume * units.DENSITY,
        float("nan") if target is None else target, bias,
    ]  # fmt: skip
    if stage.forces.has_energy:
        return values
    names = log_columns(has_energy=True)[2:]
    return [value for name, value in zip(names, values, strict=True) if name not in NEEDS_ENERGY]


def parts(stage: DynamicsStage) -> list[float]:
    """The columns of log.csv behind those of `row`: what the potential energy is the sum of, where that is told."""
    return list((stage.sums().potential.parts or {}).values())


def snapshot(stage: DynamicsStage) -> Snapshot:
    """The present moment in the user's orientation."""
    answer, to_user = stage.answer(), stage.frame.to_user
    return Snapshot(
        stage.global_step, stage.time, to_user(answer.positions * NM), stage.frame.user_cell(stage.forces.cell),
        to_user(stage.velocities()), _energy(stage, answer), to_user(answer.potential.forces),
        scale=scale_of(stage.forces.evaluator),
    )  # fmt: skip


def with_uncertainty(snapshot: Snapshot, found: Uncertainty) -> Snapshot:
    """A moment with what the potential says of its errors."""
    spread, grade = (None if one is None else one.numpy() for one in (found.spread, found.grade))
    return replace(snapshot, spread=spread, grade=grade)


def last_good(stage: DynamicsStage) -> Snapshot | None:
    """The last configuration whose forces were fine, in the user's orientation."""
    answer, to_user = stage.forces.answer, stage.frame.to_user
    if answer is None:
        return None
    return Snapshot(
        answer.step, _time(stage, answer.step), to_user(answer.positions * NM), stage.frame.user_cell(answer.cell),
        energy=_energy(stage, answer), forces=to_user(answer.potential.forces),
        scale=scale_of(stage.forces.evaluator),
    )  # fmt: skip


def failed(stage: DynamicsStage, failure: ForceFailure) -> Snapshot:
    """The configuration at which the forces failed, in the user's orientation, with its own step and time."""
    step = stage.global_step if stage.forces.step is None else stage.forces.step
    to_user = stage.frame.to_user
    return Snapshot(
        step, _time(stage, step), to_user(failure.positions), stage.frame.user_cell(stage.forces.cell),
        forces=None if failure.forces is None else to_user(failure.forces),
        energy=float("nan") if stage.forces.has_energy else None, scale=scale_of(stage.forces.evaluator),
    )  # fmt: skip


def _energy(stage: DynamicsStage, answer: Answer) -> float | None:
    """eV, of the potential; None where it has none."""
    return answer.potential.energy if stage.forces.has_energy else None


def _time(stage: DynamicsStage, step: int) -> float:
    """Time (fs) of a global step that may lie within the present block."""
    return stage.time + (step - stage.global_step) * stage.record.timestep


def where_time_went(stage: DynamicsStage, seconds: float) -> str:
    """Shares of the wall-clock time of a stage, for the messages of a run."""
    known = getattr(stage.forces.evaluator, "seconds", (0.0, 0.0))[0]  # by compiled kernels
    lists = known + stage.seconds["lists"]
    parts = {
        "potential": stage.forces.seconds["potential"] - lists,
        "neighbour list": lists,
        "bias": stage.forces.seconds["bias"],
        "output": stage.seconds["output"],
        "spread and grade": stage.seconds["uncertainty"],
    }
    integrator = stage.seconds["steps"] - sum(stage.forces.seconds.values())
    parts["integrator" if not stage.elsewhere else "integrator with its forces"] = max(
        integrator, 0.0
    )  # trial volumes ask for forces outside of OpenMM's steps
    parts["other"] = max(seconds - sum(parts.values()), 0.0)
    return ", ".join(f"{name} {share / seconds:.0%}" for name, share in parts.items() if share >= 0.005 * seconds)


def moment(stage: DynamicsStage, seconds_per_step: float) -> Moment:
    """Speed, temperature and energy for a live line."""
    kinetic, record = stage.held_kinetic_energy(), stage.record
    potential = stage.sums().evaluation.energy
    total = (kinetic + potential) / stage.body.n_atoms if stage.forces.has_energy else None
    speed = record.timestep * 1e-6 * 86400 / seconds_per_step
    left = (record.n_steps - stage.step) * seconds_per_step
    return Moment(record, stage.step, stage.body.temperature(kinetic), total, speed, left)
