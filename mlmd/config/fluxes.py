"""What a run writes for Green-Kubo integrals, and what it cannot be written with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from mlmd.config.stages import Deposit, Dynamics, Rerun
from mlmd.units import with_unit

if TYPE_CHECKING:
    from mlmd.config.simulate import Simulate

Flux = Literal["stress", "heat", "current"]
NEEDED: dict[str, Flux] = {"viscosity": "stress", "thermal-conductivity": "heat", "conductivity": "current"}
"""Analysis -> the flux that it is made of."""
EVERY = 5.0
"""fs between lines, or the timestep where it is longer."""


def flux_steps(run: Simulate) -> int:
    """Steps from one line of fluxes to the next; 0 without fluxes."""
    if not run.output.fluxes:
        return 0
    every = run.output.every or max(EVERY, run.timestep)
    return max(1, round(every / run.timestep))


def flux_problems(run: Simulate) -> Iterator[str]:
    """Fluxes that mean nothing in a run, or that cannot be known."""
    fluxes, every = run.output.fluxes, run.output.every
    for name in () if run.analysis is None else run.analysis.run:
        if (needed := NEEDED.get(name)) and needed not in (fluxes or ()):
            yield f'analysis: {name}: it is made of a flux. Let the run write it: [output] fluxes = ["{needed}"].'
    if every is not None and not fluxes:
        yield 'output: every: it is the time between lines of fluxes.csv. Say which: fluxes = ["stress"].'
    if not fluxes:
        return
    if every is not None and every < run.timestep and run.dynamics:
        shown = with_unit(every, "time")
        yield f"output: every: {shown} is shorter than the timestep, {with_unit(run.timestep, 'time')}."
    if any(isinstance(stage, Rerun) for stage in run.stage):
        yield "output: fluxes: frames of a rerun have no velocities to tell the fluxes from. Leave fluxes out."
    if any(isinstance(stage, Deposit) for stage in run.stage):
        yield "output: fluxes: a flux is that of always the same atoms, and in a deposit stage others arrive."
    if run.mlmm is not None and (unknown := {"stress", "heat"} & set(fluxes)):
        yield (
            f"output: fluxes: {sorted(unknown)[0]}: a force field of OpenMM around a region gives no stress and no "
            "energies of atoms. Only the current is to be had with mlmm."
        )
    biased = [
        number for number, stage in enumerate(run.stage, 1)
        if isinstance(stage, Dynamics) and (stage.plumed is not None or stage.bias)
    ]  # fmt: skip
    if "heat" in fluxes and biased:
        yield (
            f"output: fluxes: heat: the bias of stage {biased[0]} has no energies of atoms, and its forces carry heat "
            "too. Leave out heat or the bias."
        )
