"""Which stages end when a quantity is known well enough, and what has to be so that they may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlmd.config.stages import NPT, NVE, NVT, Dynamics
from mlmd.config.stop import CONDUCTIVITY, FIRST_LOOK, Stop

if TYPE_CHECKING:
    from mlmd.config.simulate import Simulate


def stop_of(run: Simulate, index: int) -> Stop | None:
    """What may end a stage: its own, else ``[stop]`` in the last stage of dynamics."""
    stage = run.stage[index]
    if not isinstance(stage, Dynamics):
        return None
    is_last = not any(isinstance(later, Dynamics) for later in run.stage[index + 1 :])
    return stage.stop or (run.stop if is_last else None)


def stop_problems(run: Simulate) -> Iterator[str]:
    """What does not go with a stage that ends when a quantity is known."""
    able = [stage for stage in run.stage if isinstance(stage, Dynamics)]
    if run.stop is not None and (not able or run.dynamics[-1] is not able[-1]):
        yield "stop: it ends the last stage of dynamics with its atoms: nve, nvt or npt."
        return
    if run.stop is not None and able[-1].stop is not None:
        yield "stop: the last stage of dynamics has one of its own. Leave one of them out."
    for index, stage in enumerate(run.stage):
        stop = stop_of(run, index)
        if stop is not None and isinstance(stage, NVE | NVT | NPT):
            yield from (f"stage {index + 1} ({stage.kind}): stop: {one}" for one in _problems(run, stage, stop))


def _problems(run: Simulate, stage: NVE | NVT | NPT, stop: Stop) -> Iterator[str]:
    for key in ("plumed", "bias"):
        if getattr(stage, key):
            yield (
                f"the stage has {key}: what a bias has moved is no average of the potential alone. Take the error of "
                "a biased run from `mlmd analyze fes`."
            )
    if _changes(getattr(stage, "temperature", None)) or _changes(getattr(stage, "pressure", None)):
        yield f"{stop.quantity} is not one number where a temperature or a pressure changes. Use a stage of its own."
    if stop.quantity in ("density", "volume") and not isinstance(stage, NPT):
        yield f"the {stop.quantity} is constant in {stage.kind}. Use npt, or another quantity."
    charges = {} if run.analysis is None else run.analysis.charges
    if stop.quantity == CONDUCTIVITY and not any(charges.values()):
        yield "a conductivity needs charges, which are never guessed: [analysis] charges = { Li = 1 }."
    what, every = ("log_every", run.output.log_every) if stop.in_log else (
        "trajectory_every", run.output.trajectory_every
    )  # fmt: skip
    n = stage.n_steps(run.timestep) // max(1, round(every / run.timestep))
    if n < FIRST_LOOK:
        yield (
            f"the error is first looked at after {FIRST_LOOK} {'lines of the log' if stop.in_log else 'frames'}, and "
            f"the stage has {n}. Give it a longer duration, or lower [output] {what}."
        )


def _changes(target: object) -> bool:
    """Whether a target is a ramp or a schedule."""
    return target is not None and (not isinstance(target, tuple) or len(set(target)) > 1)
