"""What goes with a rerun, and what does not: it stands alone in its input, and nothing moves in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlmd.config.bias import ABF, OPES, Metadynamics, OPESExpanded
from mlmd.config.hyperdynamics import Hyperdynamics
from mlmd.config.stages import Rerun, interval_problems

if TYPE_CHECKING:
    from mlmd.config.simulate import Simulate

NONE = "none"
"""The kind of a potential that is none: what a rerun has that is for collective variables alone."""
_MOVING = ("velocities", "frozen", "remove_com_motion")
_BY_TIME = ("trajectory_every", "log_every", "spread_every")


def rerun_of(run: Simulate) -> Rerun | None:
    """The rerun of an input; None where there is none."""
    return next((stage for stage in run.stage if isinstance(stage, Rerun)), None)


def rerun_problems(run: Simulate) -> Iterator[str]:
    """What does not go with a rerun, and a potential that only a rerun can do without."""
    stage, no_potential = rerun_of(run), any(table.kind == NONE for table in run.potential)
    if stage is None:
        if no_potential:
            yield 'potential: kind = "none" is for a rerun alone: without forces there is no dynamics.'
        return
    if len(run.stage) > 1:
        yield (
            "stage: a rerun stands alone in its input, since it begins with frames of a file and no stage begins where "
            "they end. Give it an input of its own; its trajectory may be the folder of the other run."
        )
    if no_potential and len(run.potential) > 1:
        yield 'potential: kind = "none" is no part of a sum. Leave it out.'
    elif no_potential and stage.plumed is None and not stage.bias:
        yield "stage 1 (rerun): without a potential and without plumed or bias there is nothing to do. Give one."
    for key in _MOVING:
        if getattr(run, key) is not None:
            yield f"{key}: nothing moves in a rerun. Leave it out."
    yield from _output_problems(run, stage)
    yield from (f"stage 1 (rerun): bias: {problem}" for problem in _bias_problems(stage, run.timestep))


def _output_problems(run: Simulate, stage: Rerun) -> Iterator[str]:
    """A rerun writes by frames."""
    for key in _BY_TIME:
        if getattr(run.output, key) != type(run.output).model_fields[key].default:
            yield f"output: {key}: a rerun writes a line for every frame. Leave it out, and choose frames with every."
    if run.output.trajectory_format != "extxyz":
        yield (
            f"output: trajectory_format: {run.output.trajectory_format} has no room for forces; a rerun writes its "
            'frames (forces = true) as "extxyz". Leave the key out.'
        )
    of_frames = [name for name in (run.analysis.run if run.analysis is not None else ()) if name != "fes"]
    if of_frames and not stage.forces:
        yield f"analysis: {of_frames[0]} needs frames in the run folder: set forces = true in the rerun."


def _bias_problems(stage: Rerun, timestep: float) -> Iterator[str]:
    """Biases that need dynamics, or a temperature."""
    for bias in stage.bias:
        if isinstance(bias, ABF | Hyperdynamics):
            yield f"{bias.kind} acts on atoms that move, and in a rerun none does. Leave it out."
            continue
        tempered = isinstance(bias, Metadynamics) and bias.bias_factor != "off"
        if stage.temperature is None and (tempered or isinstance(bias, OPES | OPESExpanded)):
            yield f'{bias.kind} needs the temperature that the frames are of: temperature = "300 K" in the stage.'
        yield from interval_problems(bias, timestep)
