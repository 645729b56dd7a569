"""What carries a run out: the table ``[engine]`` of ``mlmd simulate``, and what engines other than OpenMM do not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mlmd.config.heat import heat_exchange_of
from mlmd.config.quantities import Quantity, Repeats
from mlmd.config.stages import Deposit, Dynamics, Rerun, Stage
from mlmd.config.table import Table

if TYPE_CHECKING:
    from mlmd.config.simulate import Simulate


_OTHER = 'Use kind = "openmm", or leave it out'


class Engine(Table):
    """What moves the atoms: OpenMM or mlmd's own steps in one process, or LAMMPS, many with a part of space each."""

    kind: Literal["openmm", "native", "lammps"] = Field(
        default="openmm",
        description="openmm: one process; native: steps in mlmd's compiled kernels, for small systems; lammps: as many "
        "processes as `mpirun -n` starts, with a part of the cell each",
    )
    grid: Repeats | None = Field(
        default=None,
        examples=[[2, 2, 1]],
        description="of lammps: parts of the cell along its three vectors; by default such that they touch least",
    )
    skin: Annotated[float, Quantity("length", above=0.0)] = Field(
        default=1.0, description="of lammps: how much farther than needed a process knows the atoms of others"
    )


def engine_of(run: Simulate) -> Literal["openmm", "native", "lammps"]:
    """What moves the atoms of a run."""
    return "openmm" if run.engine is None else run.engine.kind


def engine_problems(run: Simulate) -> Iterator[str]:
    """What does not go with an engine."""
    kind = engine_of(run)
    if kind != "lammps" and run.engine is not None:
        if run.engine.grid is not None:
            yield 'engine: grid: one process does not divide the cell. Leave grid out, or set kind = "lammps".'
        if run.engine.skin != Engine.model_fields["skin"].default:
            yield 'engine: skin: one process knows all atoms. Leave skin out, or set kind = "lammps".'
    if kind == "openmm":
        return
    if run.mlmm is not None:
        yield f"engine: {kind} has no force field around a region. {_OTHER}, or mlmm."
    for number, stage in enumerate(run.stage, 1):
        for problem in _problems_of(stage, kind):
            yield f"engine: {kind}: stage {number} ({stage.kind}): {problem}. {_OTHER}."
    if kind == "lammps":
        yield from _undivided(run)


def _problems_of(stage: Stage, kind: str) -> Iterator[str]:
    """What an engine other than OpenMM does not do in a stage."""
    divided = kind == "lammps"
    if isinstance(stage, Deposit):
        if not divided:
            yield "atoms that arrive are for the engines openmm and lammps"
    elif isinstance(stage, Rerun):
        yield "a rerun moves nothing that processes could share" if divided else "a rerun makes no steps"
    elif divided and heat_exchange_of(stage) is not None:
        yield "heat_exchange: slabs of atoms are not in one process"
    elif isinstance(stage, Dynamics) and (stage.plumed is not None or stage.bias):
        alone = "a bias is asked in every step, which the kernels make alone"
        why = "a bias needs all atoms in one process" if divided else alone
        yield f"{'plumed' if stage.plumed is not None else 'bias'}: {why}"


def _undivided(run: Simulate) -> Iterator[str]:
    """What is known of all atoms together alone."""
    if "heat" in (run.output.fluxes or ()):
        yield f"output: fluxes: heat: energies of single atoms are not gathered from processes of lammps. {_OTHER}."
    errors = run.uncertainty
    limits = (run.guard.max_grade, run.guard.max_spread, errors.low, errors.high, errors.low_grade, errors.high_grade)
    if any(limit is not None for limit in limits):
        yield f"guard, uncertainty: lammps does not ask the potential about its errors. {_OTHER}."
