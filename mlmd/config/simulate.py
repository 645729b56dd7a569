"""The input of ``mlmd simulate``: these models are the list of its options.

Numbers are kept as floats in mlmd's units (fs, K, bar, Å, eV/Å, 1/fs, amu; wall time in s). Each field's
description is what ``mlmd new`` and the option table print.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator

from mlmd.config.quantities import (
    Force,
    InputPath,
    Pressure,
    PressureRamp,
    Quantity,
    Rate,
    Repeats,
    Symbol,
    Symbols,
    TemperatureLimit,
    TemperatureRamp,
    Time,
    WallTime,
    choice,
    refuse,
    shorten,
)
from mlmd.units import with_unit

MAX_STEPS = 2**53
"""Steps beyond this are not exact as floating-point numbers."""


class Table(BaseModel):
    """A table of an input file: unknown keys and wrong types are errors, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    refused: ClassVar[dict[str, str]] = {}
    """Keys that people write here by mistake, with what to do instead."""


def _named(key: str) -> BeforeValidator:
    """A bare string stands for a table with only this key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class PotentialTable(Table):
    """A potential: a file, or a kind with its parameters."""

    kind: str | None = Field(default=None, description="kind of potential; recognised from the file when left out")
    path: InputPath | None = Field(default=None, description="file of the potential, relative to this file")
    elements: Symbols | None = Field(
        default=None,
        min_length=1,
        description="chemical symbols in the order of the file, for formats that have none (.mtp)",
    )
    precision: Literal["float64", "float32"] = Field(default="float64", description="numbers the model computes with")
    trust: str | None = Field(
        default=None, description='"sha256:..." of a model file that can execute code, to load it all the same'
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the kind, written directly in the table"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        """Keys that are not fields are parameters of the kind."""
        if not isinstance(data, Mapping):
            raise refuse(f"{shorten(data)} is not a potential: a file name or a table is needed.")
        own = {key: value for key, value in data.items() if key in cls.model_fields and key != "options"}
        given = data.get("options", {})
        if not isinstance(given, Mapping):
            raise refuse("options: a table is needed.")
        return own | {
            "options": dict(given) | {key: data[key] for key in data.keys() - cls.model_fields.keys()}
        }

    @model_validator(mode="after")
    def _says_which(self) -> PotentialTable:
        """A file or a kind must be named."""
        if self.path is None and self.kind is None:
            raise refuse('a potential needs path = "file" or kind = "lennard-jones".')
        return self

    @model_serializer(mode="wrap")
    def _spread_options(self, handler: Any) -> dict[str, Any]:
        """Parameters stand beside the other keys, as a user writes them."""
        table: dict[str, Any] = handler(self)
        return {key: table[key] for key in table if key != "options"} | table["options"]


class Langevin(Table):
    """Langevin thermostat: friction and random forces, integrated with the middle scheme."""

    kind: Literal["langevin"] = Field(default="langevin", description="kind of thermostat")
    friction: Rate = Field(default=1e-3, description="coupling to the heat bath")


class NoseHoover(Table):
    """Nosé–Hoover chain thermostat: deterministic, little disturbance of the dynamics."""

    kind: Literal["nose-hoover"] = Field(default="nose-hoover", description="kind of thermostat")
    frequency: Rate = Field(default=1e-2, description="coupling to the chain, the inverse of its relaxation time")
    chain_length: int = Field(default=3, ge=1, le=32, description="thermostats in the chain")


Thermostat = Annotated[Langevin | NoseHoover, Field(discriminator="kind"), _named("kind")]


class Barostat(Table):
    """Monte Carlo barostat: random changes of the cell, accepted so that the ensemble is NPT."""

    kind: Literal["isotropic", "anisotropic", "flexible"] = Field(
        default="isotropic",
        description="isotropic: volume only; anisotropic: three lengths; flexible: lengths and angles",
    )
    every: int = Field(default=25, ge=1, description="steps between attempts to change the cell")


class Plumed(Table):
    """A PLUMED bias."""

    file: InputPath = Field(description="PLUMED input, relative to this file")
    allow_unsafe: bool = Field(
        default=False, description="allow LOAD, Python functions and files outside the run folder in the PLUMED input"
    )
    kernel: InputPath | None = Field(
        default=None, description="PLUMED library; else the variable PLUMED_KERNEL or the installed one"
    )


Bias = Annotated[Plumed, _named("file")]


class Dynamics(Table):
    """What stages of dynamics have in common."""

    duration: Time = Field(description="length of the stage")
    plumed: Bias | None = Field(default=None, description="PLUMED input that biases and watches this stage")

    def n_steps(self, timestep: float) -> int:
        """Steps of `timestep` fs in this stage."""
        return round(min(self.duration / timestep, 2.0 * MAX_STEPS))


class Minimize(Table):
    """Move atoms (and the cell) downhill in energy."""

    refused: ClassVar[dict[str, str]] = {
        "plumed": "A minimization has no bias; put plumed in a stage of dynamics.",
        "duration": "A minimization ends at max_force or after max_steps.",
        "temperature": "A minimization has no temperature.",
    }
    kind: Literal["minimize"] = Field(default="minimize", description="kind of stage")
    max_force: Force = Field(default=0.01, description="done when no atom feels a larger force")
    max_steps: int = Field(default=2000, ge=1, description="give up after so many steps")
    cell: bool = Field(default=False, description="relax the cell too")
    pressure: Pressure = Field(default=0.0, description="pressure the cell is relaxed at")

    def n_steps(self, timestep: float) -> int:
        """A minimization takes no time."""
        return 0


class NVE(Dynamics):
    """Dynamics at constant energy."""

    refused: ClassVar[dict[str, str]] = {
        "temperature": 'NVE has no thermostat; set velocities above the stages, or use kind = "nvt".',
        "thermostat": 'NVE has no thermostat; use kind = "nvt".',
        "pressure": 'NVE has a fixed cell; use kind = "npt".',
    }
    kind: Literal["nve"] = Field(default="nve", description="kind of stage")


class NVT(Dynamics):
    """Dynamics at constant volume and temperature."""

    refused: ClassVar[dict[str, str]] = {
        "pressure": 'NVT has a fixed cell; use kind = "npt".',
        "barostat": 'NVT has a fixed cell; use kind = "npt".',
    }
    kind: Literal["nvt"] = Field(default="nvt", description="kind of stage")
    temperature: TemperatureRamp = Field(description='temperature; a ramp is ["300 K", "600 K"]')
    thermostat: Thermostat = Field(default=Langevin(), description="what holds the temperature")


class NPT(Dynamics):
    """Dynamics at constant pressure and temperature."""

    kind: Literal["npt"] = Field(default="npt", description="kind of stage")
    temperature: TemperatureRamp = Field(description='temperature; a ramp is ["300 K", "600 K"]')
    thermostat: Thermostat = Field(default=Langevin(), description="what holds the temperature")
    pressure: PressureRamp = Field(description="pressure; may be a ramp")
    barostat: Annotated[Barostat, _named("kind")] = Field(default=Barostat(), description="what holds the pressure")


Stage = Annotated[Minimize | NVE | NVT | NPT, Field(discriminator="kind")]


class Frozen(Table):
    """Atoms that never move: all that any of the keys selects."""

    indices: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = Field(
        default=(), description="atoms, counted from 0"
    )
    elements: Symbols = Field(default=(), description="all atoms of these elements")
    below: Annotated[float, Quantity("length")] | None = Field(
        default=None, description="all atoms whose Cartesian z is smaller at the start"
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
        default="dcd", description="dcd: single precision; xtc: small, rounded to 0.01 Å; extxyz: text"
    )
    log_every: Time = Field(default=100.0, description="simulated time between lines of log.csv")
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

    def temperature_limit(self, target: float) -> float | None:
        """The largest temperature in K for a target in K; None when nothing is watched."""
        if isinstance(self.max_temperature, str):
            return float(self.max_temperature.removesuffix("x")) * target
        return self.max_temperature


def _drift(value: object) -> object:
    """A word or a list of elements."""
    return value if isinstance(value, list | tuple) else choice(value, ("cell", "none"), "a kind of drift")


class Analysis(Table):
    """What is computed from the last stage when the run has finished."""

    run: Annotated[tuple[Literal["diffusion", "rdf"], ...], Field(strict=False)] = Field(
        default=(), description="analyses: diffusion, rdf"
    )
    charges: dict[Symbol, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict, description="charge of each mobile element in e, for the conductivity"
    )
    drift: Annotated[Literal["cell", "none"] | Symbols, BeforeValidator(_drift)] = Field(
        default="cell",
        description='motion to subtract: "cell" (centre of mass), "none", or framework elements, ["Cl"]',
    )
    report: bool = Field(default=True, description="write report.html")


def _as_list(value: object) -> object:
    """One potential is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


class Simulate(Table):
    """A whole input file of ``mlmd simulate``."""

    structure: InputPath = Field(description="structure file: extxyz, cif, POSCAR, pdb, gro, LAMMPS data")
    supercell: Repeats = Field(default=(1, 1, 1), description="repeats of the structure along its three cell vectors")
    potential: Annotated[
        tuple[Annotated[PotentialTable, _named("path")], ...],
        BeforeValidator(_as_list),
        Field(strict=False, min_length=1),
    ] = Field(description="file of a potential, or a table, or a list of them that is summed")
    timestep: Time = Field(description="step of the integrator")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None, description="of all random numbers; drawn and written to run.json when left out"
    )
    velocities: (
        Annotated[float | str, Quantity("temperature", least=0.0, words=(("file", "file"),))] | None
    ) = Field(
        default=None,
        description='initial temperature, or "file"; by default the first temperature of the stages',
    )
    hydrogen_mass: Annotated[float, Quantity("mass", least=1.0)] | None = Field(
        default=None, description="mass of hydrogen, to allow longer steps"
    )
    frozen: Frozen | None = Field(default=None, description="atoms that never move")
    remove_com_motion: bool | None = Field(
        default=None,
        description="remove the motion of the centre of mass; by default unless an atom is frozen or alone",
    )
    stage: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)] = Field(
        description="stages of the run, in order, each under [[stage]]"
    )
    output: Output = Field(default=Output(), description="what the run writes")
    guard: Guard = Field(default=Guard(), description="when the run is stopped as failed")
    analysis: Analysis | None = Field(default=None, description="what is computed when the run has finished")

    @model_validator(mode="after")
    def _fits_together(self) -> Simulate:
        """What no single key can know."""
        problems = [*_stage_problems(self), *_output_problems(self)]
        if problems:
            raise refuse("\n".join(problems))
        return self

    @property
    def dynamics(self) -> tuple[NVE | NVT | NPT, ...]:
        """The stages that take time."""
        return tuple(stage for stage in self.stage if not isinstance(stage, Minimize))

    @property
    def start_temperature(self) -> float | None:
        """K, of the velocities at the start; None when they come from the structure file or nothing moves."""
        if self.velocities is not None or not self.dynamics:
            return self.velocities if isinstance(self.velocities, float) else None
        first = self.dynamics[0]
        return None if isinstance(first, NVE) else first.temperature[0]


def _stage_problems(run: Simulate) -> Iterator[str]:
    """Conflicts between stages and the keys above them."""
    for number, stage in enumerate(run.stage, 1):
        place = f"stage {number} ({stage.kind})"
        if isinstance(stage, NPT) and run.frozen is not None:
            yield f"{place}: NPT scales all positions, so no atom can be frozen. Use nvt, or remove frozen."
        if isinstance(stage, Minimize):
            continue
        if stage.n_steps(run.timestep) < 1:
            yield f"{place}: duration: {with_unit(stage.duration, 'time')} is shorter than one step."
        if stage.n_steps(run.timestep) > MAX_STEPS:
            yield f"{place}: duration: {with_unit(stage.duration, 'time')} has too many steps to count."
    if run.dynamics and isinstance(run.dynamics[0], NVE) and run.velocities is None:
        yield 'velocities: a run that starts with nve needs them; write velocities = "300 K" or "file".'


def _output_problems(run: Simulate) -> Iterator[str]:
    """Outputs more often than every step."""
    for key in ("trajectory_every", "log_every"):
        every = getattr(run.output, key)
        if every < run.timestep:
            shown = with_unit(every, "time")
            yield f"output: {key}: {shown} is shorter than the timestep, {with_unit(run.timestep, 'time')}."
