"""The input of ``mlmd simulate``: these models are the list of its options.

Numbers are kept as floats in mlmd's units (fs, K, bar, Å, eV/Å, 1/fs, amu; wall time in s). Each field's
description is what ``mlmd new`` and the option table print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from mlmd.config.deposit import Deposit
from mlmd.config.ending import stop_problems
from mlmd.config.engine import Engine, engine_problems
from mlmd.config.fluxes import Flux, flux_problems
from mlmd.config.heat import heat_problems
from mlmd.config.mlmm import MLMM
from mlmd.config.potential import Potentials
from mlmd.config.quantities import (
    Force,
    InputPath,
    Quantity,
    Repeats,
    Symbol,
    Symbols,
    TemperatureLimit,
    Time,
    WallTime,
    choice,
    refuse,
    symbols,
)
from mlmd.config.rerun import NONE, rerun_problems
from mlmd.config.stages import (
    FEWEST,
    NPT,
    NVE,
    NVT,
    Dynamics,
    Minimize,
    Rerun,
    Schedule,
    Stages,
    bias_problems,
    temperatures_of,
)
from mlmd.config.stop import Stop
from mlmd.config.table import Table, named
from mlmd.config.timed import MAX_STEPS
from mlmd.units import with_unit


class Frozen(Table):
    """Atoms that never move: all that any of the keys selects."""

    indices: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = Field(
        default=(), description="atoms, counted from 0"
    )
    elements: Symbols = Field(default=(), description="all atoms of these elements")
    below: Annotated[float, Quantity("length")] | None = Field(
        default=None, examples=["2 Å"], description="all atoms whose Cartesian z is smaller at the start"
    )

    @model_validator(mode="after")
    def _selects(self) -> Frozen:
        """An empty selection is a mistake."""
        if not self.indices and not self.elements and self.below is None:
            raise refuse("nothing is selected: give indices, elements or below.")
        return self


class Output(Table):
    """What a run writes."""

    trajectory_every: Time = Field(default=500.0, description="simulated time between frames of the trajectory")
    trajectory_format: Literal["dcd", "xtc", "extxyz"] = Field(
        default="dcd",
        description="dcd: single precision; xtc: small, rounded to 0.01 Å; extxyz: text, and what a run with a deposit "
        "or rerun stage writes",
    )
    log_every: Time = Field(default=100.0, description="simulated time between lines of log.csv")
    spread_every: Time | None = Field(
        default=None,
        examples=["1 ps"],
        description="simulated time between spreads of forces in log.csv, of a potential that knows them; every tenth "
        "line when left out",
    )
    fluxes: Annotated[tuple[Flux, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        examples=[["stress"]],
        description="what is written to fluxes.csv for Green-Kubo integrals: stress (the pressure tensor), heat, "
        "current (of the charges in [analysis] or in the structure file)",
    )
    every: Time | None = Field(
        default=None,
        examples=["5 fs"],
        description="simulated time between lines of fluxes.csv; 5 fs, or a longer timestep, when left out",
    )
    checkpoint_every: WallTime = Field(default=60.0, description="wall-clock time between checkpoints")


class Guard(Table):
    """When a run is stopped because its physics has failed."""

    enabled: bool = Field(default=True, description="watch the run")
    max_force: Annotated[float | None, Quantity("force", above=0.0, words=(("off", None),))] = Field(
        default=100.0, description='largest force on an atom, not in minimize; "off" to ignore'
    )
    max_temperature: Annotated[
        float | str | None, TemperatureLimit("temperature", above=0.0, words=(("off", None),))
    ] = Field(default="5x", description='largest temperature, or a multiple of the target; "off" to ignore')
    max_displacement: Annotated[float | None, Quantity("length", above=0.0, words=(("off", None),))] = Field(
        default=0.5, description='farthest that an atom may move in one step; "off" to ignore'
    )
    min_distance: Annotated[float | None, Quantity("length", above=0.0, words=(("off", None),))] = Field(
        default=0.5, description='nearest that two atoms may come, looked at every 50 steps; "off" to ignore'
    )

    max_grade: Annotated[float, Field(strict=False, gt=1.0, allow_inf_nan=False)] | None = Field(
        default=None,
        examples=[10],
        description="largest extrapolation grade of an atom, of a potential that knows it; 10 is usual, and without it "
        "there is a warning above 2",
    )
    max_spread: Force | None = Field(
        default=None,
        examples=["1 eV/Å"],
        description="largest expected error of a force, of a potential that knows it",
    )

    def temperature_limit(self, target: float) -> float | None:
        """The largest temperature in K for a target in K; None when nothing is watched."""
        if isinstance(self.max_temperature, str):
            return float(self.max_temperature.removesuffix("x")) * target
        return self.max_temperature


_Grade = Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)]


class UncertaintyLimits(Table):
    """What happens where a potential that knows of its errors is not sure."""

    low: Force | None = Field(
        default=None,
        examples=["0.1 eV/Å"],
        description="deviation of a force from which on a structure is a candidate for a label: max_devi_f of a "
        "committee, else the largest spread",
    )
    high: Force | None = Field(
        default=None, examples=["0.3 eV/Å"], description="deviation from which on a structure has failed"
    )
    low_grade: _Grade | None = Field(
        default=None, examples=[2], description="grade from which on a structure is a candidate"
    )
    high_grade: _Grade | None = Field(
        default=None, examples=[10], description="grade from which on a structure has failed"
    )
    above: Literal["warn", "stop"] = Field(default="warn", description="what happens at a structure that has failed")
    collect: bool = Field(default=False, description="write candidates to candidates.extxyz")
    max_candidates: Annotated[int, Field(ge=1)] = Field(default=1000, description="most of them")

    @model_validator(mode="after")
    def _in_order(self) -> UncertaintyLimits:
        """Limits go up, and collecting needs one."""
        for low, high in (("low", "high"), ("low_grade", "high_grade")):
            pair = getattr(self, low), getattr(self, high)
            if None not in pair and pair[0] >= pair[1]:
                raise refuse(f"{low} must be below {high}.")
        if self.collect and self.low is None and self.low_grade is None:
            raise refuse("collect = true needs low or low_grade: from where on is a structure a candidate?")
        if self.above == "stop" and self.high is None and self.high_grade is None:
            raise refuse('above = "stop" needs high or high_grade.')
        return self


def _drift(value: object) -> object:
    """A word or a list of elements."""
    if isinstance(value, list | tuple):
        return symbols(value)
    return choice(value, ("cell", "none"), "a kind of drift")


AnalysisName = Literal[
    "diffusion", "rdf", "structure-factor", "dynamic-structure-factor", "van-hove", "density", "vacf", "adf",
    "coordination", "order", "bonds", "profile", "protein", "deposition", "viscosity", "thermal-conductivity",
    "conductivity", "nemd", "infrared", "elastic", "fes",
]  # fmt: skip
"""Those that can be done without being told more."""


class Analysis(Table):
    """What is computed from the last stage when the run has finished."""

    run: Annotated[tuple[AnalysisName, ...], Field(strict=False)] = Field(
        default=(), description=f"analyses: {', '.join(get_args(AnalysisName))}"
    )
    charges: dict[Symbol, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict, description="charge of each mobile element in e, for the conductivity"
    )
    drift: Annotated[str | tuple[str, ...], BeforeValidator(_drift)] = Field(
        default="cell",
        description='motion to subtract: "cell" (centre of mass), "none", or framework elements, ["Cl"]',
    )
    report: bool = Field(default=True, description="write report.html")


class Simulate(Table):
    """A whole input file of ``mlmd simulate``."""

    refused: ClassVar[dict[str, str]] = (
        dict.fromkeys(
            ("temperature", "pressure", "duration", "thermostat", "barostat", "plumed", "bias"),
            "It belongs to a stage: write it below [[stage]].",
        )
        | Dynamics.refused
        | {"replicas": "These are several runs: `mlmd simulate` starts them, `mlmd.engine.replicas` does so in Python."}
    )
    structure: InputPath = Field(description="structure file: extxyz, cif, POSCAR, pdb, mmCIF, gro, LAMMPS data")
    supercell: Repeats = Field(default=(1, 1, 1), description="repeats of the structure along its three cell vectors")
    potential: Potentials = Field(
        description="file of a potential, the name of one that comes with mlmd, a table { kind, path, ... }, "
        "or a list of them that is summed; a rerun for collective variables alone needs none"
    )
    mlmm: MLMM | None = Field(
        default=None,
        examples=[{"region": "resname LIG", "forcefield": ["amber14-all.xml", "amber14/tip3p.xml"]}],
        description="a region by the potential inside an OpenMM force field; the structure is then a PDB or mmCIF file",
    )
    scale: Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None,
        examples=[0.8],
        description="factor on the energy of the potential, biases left out: at 0.8 configurations are those of the "
        "temperature divided by 0.8",
    )
    engine: Annotated[Engine, named("kind")] | None = Field(
        default=None,
        examples=["lammps"],
        description="what moves the atoms: OpenMM, mlmd's own steps for small systems, or LAMMPS for one large system "
        "on many processes",
    )
    timestep: Time = Field(description="step of the integrator; in a rerun of the dynamics that the frames are of")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None,
        examples=[1],
        description="of all random numbers; drawn and written to run.json when left out",
    )
    velocities: Annotated[float | str, Quantity("temperature", least=0.0, words=(("file", "file"),))] | None = Field(
        default=None,
        examples=["300 K"],
        description='initial temperature, or "file"; by default the first temperature of the stages',
    )
    hydrogen_mass: Annotated[float, Quantity("mass", least=1.0)] | None = Field(
        default=None, examples=["3 amu"], description="mass of hydrogen, to allow longer steps"
    )
    frozen: Frozen | None = Field(default=None, examples=[{"elements": ["Cu"]}], description="atoms that never move")
    remove_com_motion: bool | None = Field(
        default=None,
        examples=[True],
        description="remove the motion of the centre of mass; by default unless an atom is frozen or alone",
    )
    stage: Stages = Field(description="stages of the run, in order, each under [[stage]]")
    output: Output = Field(default=Output(), description="what the run writes")
    guard: Guard = Field(default=Guard(), description="when the run is stopped as failed")
    uncertainty: UncertaintyLimits = Field(
        default=UncertaintyLimits(), description="what happens where the potential is not sure"
    )
    stop: Stop | None = Field(
        default=None,
        examples=[{"quantity": "D:Li", "relative_error": 0.1}],
        description="end the last stage of dynamics when a quantity is known well enough",
    )
    analysis: Analysis | None = Field(default=None, description="what is computed when the run has finished")

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, data: Any) -> Any:
        """What follows from the kinds of the stages, where it is not given."""
        return _completed(data)

    @model_validator(mode="after")
    def _fits_together(self) -> Simulate:
        """What no single key can know."""
        problems = [
            *_stage_problems(self), *_output_problems(self), *_region_problems(self), *_deposit_problems(self),
            *rerun_problems(self), *flux_problems(self), *heat_problems(self), *stop_problems(self),
            *engine_problems(self),
        ]  # fmt: skip
        if problems:
            raise refuse("\n".join(problems))
        return self

    @property
    def dynamics(self) -> tuple[NVE | NVT | NPT | Deposit, ...]:
        """The stages that take time."""
        return tuple(stage for stage in self.stage if not isinstance(stage, Minimize | Rerun))

    @property
    def start_temperature(self) -> float | None:
        """K, of the velocities at the start; None when they come from the structure file or nothing moves."""
        if self.velocities is not None or not self.dynamics:
            return self.velocities if isinstance(self.velocities, float) else None
        first = self.dynamics[0]
        if isinstance(first, Deposit):
            return None if first.bath is None else first.bath.temperature
        return None if isinstance(first, NVE) else temperatures_of(first)[0]

    @property
    def deposits(self) -> bool:
        """Whether atoms arrive in a stage, so that their number changes."""
        return any(isinstance(stage, Deposit) for stage in self.stage)


def _stage_problems(run: Simulate) -> Iterator[str]:
    """Conflicts between stages and the keys above them."""
    for number, stage in enumerate(run.stage, 1):
        place = f"stage {number} ({stage.kind})"
        if isinstance(stage, NPT) and run.frozen is not None:
            yield f"{place}: NPT scales all positions, so no atom can be frozen. Use nvt, or remove frozen."
        if isinstance(stage, Minimize | Rerun):
            continue
        if stage.n_steps(run.timestep) < 1:
            yield f"{place}: duration: {with_unit(stage.duration, 'time')} is shorter than one step."
        if stage.n_steps(run.timestep) > MAX_STEPS:
            yield f"{place}: duration: {with_unit(stage.duration, 'time')} has too many steps to count."
        if isinstance(stage, Dynamics):
            yield from (f"{place}: bias: {problem}" for problem in bias_problems(stage, run.timestep))
        if isinstance(stage, NVT | NPT) and isinstance(stage.temperature, Schedule):
            n_parts = len(stage.temperature.path()) - 1
            if stage.n_steps(run.timestep) < FEWEST * n_parts:
                yield (
                    f"{place}: temperature: each of the {n_parts:,} parts of the schedule needs {FEWEST} steps; "
                    f"{with_unit(stage.duration, 'time')} has {stage.n_steps(run.timestep):,} steps in all."
                )
    first = run.dynamics[0] if run.dynamics else None
    if isinstance(first, NVE) and run.velocities is None:
        yield 'velocities: a run that starts with nve needs them; write velocities = "300 K" or "file".'
    if isinstance(first, Deposit) and first.bath is None and run.velocities is None:
        yield 'velocities: a run that starts with deposit and no bath needs them; write velocities = "300 K" or "file".'


def _deposit_problems(run: Simulate) -> Iterator[str]:
    """What does not go with atoms that arrive."""
    if not run.deposits:
        return
    begun = False
    for number, stage in enumerate(run.stage, 1):
        place = f"stage {number} ({stage.kind})"
        begun |= isinstance(stage, Deposit)
        if isinstance(stage, NPT) or (isinstance(stage, Minimize) and stage.cell):
            yield f"{place}: in a run with a deposit stage the cell has to stay as it is: a slab has a vacuum above it."
        biased = [key for key in ("plumed", "bias") if getattr(stage, key, None)]
        if begun and biased:
            yield (
                f"{place}: {biased[0]}: PLUMED knows a fixed number of atoms, and a deposit stage came before. Give "
                "this stage an input of its own that starts from final.extxyz."
            )
        if isinstance(stage, Deposit) and run.guard.enabled and (run.guard.min_distance or 0.0) > stage.min_distance:
            yield (
                f"{place}: min_distance: {with_unit(stage.min_distance, 'length')} is less than [guard] min_distance, "
                f"{with_unit(run.guard.min_distance or 0.0, 'length')}, which would end the run as something arrives."
            )
    if run.mlmm is not None:
        yield (
            "mlmm: a force field has bonds and charges for the atoms of the structure file, and none for atoms that "
            "arrive in a deposit stage. Use one potential for all atoms."
        )
    if any(table.kind == "torchscript" for table in run.potential):
        yield "potential: a TorchScript module is made for one system, not for atoms that arrive in a deposit stage."
    if run.frozen is None and run.remove_com_motion is not False:
        yield (
            "frozen: nothing holds the slab of the deposit stage against what hits it. Freeze its lowest layers, "
            'frozen = { below = "3 Å" }, or set remove_com_motion = false to let it drift.'
        )
    if run.remove_com_motion:
        yield "remove_com_motion: true would take from what arrives in a deposit stage. Leave it out."
    if run.output.trajectory_format != "extxyz":
        yield (
            f"output: trajectory_format: {run.output.trajectory_format} holds frames of one size; a run with a deposit "
            'stage needs "extxyz", or leave the key out.'
        )
    of_same_atoms = run.analysis is not None and set(run.analysis.run) - {"deposition"}
    if of_same_atoms and isinstance(run.stage[-1], Deposit):
        yield "analysis: atoms come and go in the last stage, deposit. Add a stage of nvt, which is analysed then."


def _completed(data: Any) -> Any:
    """An input as written, with what is the only choice of its stages where nothing is given.

    Frames of a run in which atoms arrive differ in size, and those of a rerun have forces, which one format allows. A
    rerun with a PLUMED file or biases needs no potential.
    """
    stages = data.get("stage") if isinstance(data, Mapping) else None
    given = [stage for stage in stages if isinstance(stage, Mapping)] if isinstance(stages, list) else []
    kinds = {stage.get("kind") for stage in given}
    output = data.get("output", {}) if kinds & {"deposit", "rerun"} else None
    if isinstance(output, Mapping) and "trajectory_format" not in output:
        data = {**data, "output": {**output, "trajectory_format": "extxyz"}}
    if "rerun" in kinds and any(stage.get("plumed") or stage.get("bias") for stage in given):
        data = {"potential": {"kind": NONE}, **data} if "mlmm" not in data else data
    return data


def _output_problems(run: Simulate) -> Iterator[str]:
    """Outputs more often than every step."""
    for key in ("trajectory_every", "log_every") if run.dynamics else ():
        every = getattr(run.output, key)
        if every < run.timestep:
            shown = with_unit(every, "time")
            yield f"output: {key}: {shown} is shorter than the timestep, {with_unit(run.timestep, 'time')}."


def _region_problems(run: Simulate) -> Iterator[str]:
    """What is not to be had with a force field around the region."""
    if run.mlmm is None:
        return
    if run.scale is not None:
        yield "scale: a force field around a region is not scaled. Leave it out, or mlmm."
    if tuple(run.supercell) != (1, 1, 1):
        yield "mlmm: supercell: a force field needs whole molecules with names: give the large system as a file."
    for number, stage in enumerate(run.stage, 1):
        if isinstance(stage, Minimize) and stage.cell:
            yield f"stage {number} (minimize): cell: a force field of OpenMM gives no stress. Use npt for the volume."
    for key in ("max_grade", "max_spread"):
        if getattr(run.guard, key) is not None:
            yield f"guard: {key}: with mlmm the potential is not asked about its errors. Leave it out."
