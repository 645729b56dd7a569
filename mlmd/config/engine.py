"""What carries a run out: the table ``[engine]`` of ``mlmd simulate``, and what the LAMMPS engine does not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mlmd.config.heat import heat_exchange_of
from mlmd.config.quantities import Quantity, Repeats
from mlmd.config.stages import Deposit, Dynamics, Rerun
from mlmd.config.table import Table

if TYPE_CHECKING:
    from mlmd.config.simulate import Simulate


class Engine(Table):
    """What moves the atoms: OpenMM in one process, or LAMMPS with a part of space for each of many."""

    kind: Literal["openmm", "lammps"] = Field(
        default="openmm",
        description="openmm: one process; lammps: as many as `mpirun -n` starts, with a part of the cell each",
    )
    grid: Repeats | None = Field(
        default=None,
        examples=[[2, 2, 1]],
        description="of lammps: parts of the cell along its three vectors; by default such that they touch least",
    )
    skin: Annotated[float, Quantity("length", above=0.0)] = Field(
        default=1.0, description="of lammps: how much farther than needed a process knows the atoms of others"
    )


def engine_problems(run: Simulate) -> Iterator[str]:
    """What does not go with an engine."""
    if run.engine is None:
        return
    if run.engine.kind != "lammps":
        if run.engine.grid is not None:
            yield 'engine: grid: OpenMM does not divide the cell. Leave grid out, or set kind = "lammps".'
        return
    other = 'Use kind = "openmm", or leave it out'
    if run.mlmm is not None:
        yield f"engine: lammps has no force field around a region. {other}, or mlmm."
    for number, stage in enumerate(run.stage, 1):
        place = f"engine: lammps: stage {number} ({stage.kind})"
        if isinstance(stage, Deposit):
            yield f"{place}: atoms that arrive are for the OpenMM engine. {other}."
        elif isinstance(stage, Rerun):
            yield f"{place}: a rerun moves nothing that processes could share. {other}."
        elif heat_exchange_of(stage) is not None:
            yield f"{place}: heat_exchange: slabs of atoms are not in one process. {other}."
        elif isinstance(stage, Dynamics) and (stage.plumed is not None or stage.bias):
            what = "plumed" if stage.plumed is not None else "bias"
            yield f"{place}: {what}: a bias needs all atoms in one process. {other}."
    if "heat" in (run.output.fluxes or ()):
        yield f"output: fluxes: heat: energies of single atoms are not gathered from processes of lammps. {other}."
    errors = run.uncertainty
    limits = (run.guard.max_grade, run.guard.max_spread, errors.low, errors.high, errors.low_grade, errors.high_grade)
    if any(limit is not None for limit in limits):
        yield f"guard, uncertainty: lammps does not ask the potential about its errors. {other}."
