"""The stages of a run: minimize, nve, nvt, npt, deposit, rerun, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from mlmd.config.bias import ABF, OPESExpanded, Steered, Written
from mlmd.config.deposit import Deposit
from mlmd.config.heat import HeatExchange
from mlmd.config.hyperdynamics import Hyperdynamics
from mlmd.config.quantities import (
    Force,
    InputPath,
    Pressure,
    PressureRamp,
    Quantity,
    Rate,
    TemperatureRamp,
    Time,
    refuse,
)
from mlmd.config.stop import Stop
from mlmd.config.table import NONEMPTY, Table, named
from mlmd.config.timed import Timed
from mlmd.units import with_unit

FEWEST = 10
"""Steps of each part of a schedule: thermostats follow a ramp every ten steps."""


class Schedule(Table):
    """Temperatures that a stage goes through one after the other, in equal times: annealing, melting and quenching."""

    points: Annotated[tuple[Annotated[float, Quantity("temperature", above=0.0)], ...], Field(strict=False)] = Field(
        examples=[["300 K", "2000 K", "300 K"]],
        description="temperatures in their order, with equal times between them; one that stands there twice is held",
    )
    shape: Literal["linear", "exponential"] = Field(
        default="linear",
        description="way from one point to the next: linear, or exponential, by the same factor in equal times",
    )
    cycles: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1, description="how often the stage goes through the points; the last must then be the first"
    )

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Schedule:
        """A schedule is no constant, and what is repeated has no jump."""
        if len(set(self.points)) < 2:
            raise refuse("points: two different temperatures at least; a constant one is written without a table.")
        if self.cycles > 1 and self.points[0] != self.points[-1]:
            raise refuse("cycles: the last of the points must be the first again, or cycles would begin with a jump.")
        return self

    def path(self) -> tuple[float, ...]:
        """All temperatures in K, every cycle written out."""
        return self.points[:-1] * self.cycles + self.points[-1:]


Temperature = Annotated[
    Annotated[TemperatureRamp, Tag("[ramp]")] | Annotated[Schedule, Tag("[schedule]")],
    Discriminator(lambda value: "[schedule]" if isinstance(value, Mapping | Schedule) else "[ramp]"),
]
"""A constant, a ramp, or a schedule."""


class Langevin(Table):
    """Langevin thermostat: friction and random forces, integrated with the middle scheme."""

    kind: Literal["langevin"] = Field(default="langevin", description="kind of thermostat")
    friction: Rate = Field(default=1e-3, description="coupling to the heat bath")


class NoseHoover(Table):
    """Nosé–Hoover chain thermostat: deterministic, little disturbance of the dynamics."""

    kind: Literal["nose-hoover"] = Field(default="nose-hoover", description="kind of thermostat")
    frequency: Rate = Field(default=1e-2, description="coupling to the chain, the inverse of its relaxation time")
    chain_length: int = Field(default=3, ge=1, le=32, description="thermostats in the chain")


Thermostat = Annotated[Langevin | NoseHoover, Field(discriminator="kind"), named("kind")]


class Barostat(Table):
    """Monte Carlo barostat: random changes of the cell, accepted so that the ensemble is NPT."""

    kind: Literal["isotropic", "anisotropic", "flexible"] = Field(
        default="isotropic",
        description="isotropic: volume only; anisotropic: three lengths; flexible: lengths and angles",
    )
    every: int = Field(default=25, ge=1, description="steps between attempts to change the cell")


class Plumed(Table):
    """A PLUMED bias."""

    file: InputPath = Field(examples=["plumed.dat"], description="PLUMED input, relative to this file")
    allow_unsafe: bool = Field(
        default=False,
        description="allow LOAD, Python functions and files outside the run folder in the PLUMED input",
    )
    kernel: InputPath | None = Field(
        default=None,
        examples=["/opt/plumed/lib/libplumedKernel.so"],
        description="PLUMED library; else the variable PLUMED_KERNEL or the installed one",
    )


Bias = Annotated[Plumed, named("file")]
Biases = Annotated[
    tuple[Written, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, Mapping) else value),
    Field(strict=False),
]


class Dynamics(Timed):
    """What stages of dynamics of the same atoms have in common."""

    plumed: Bias | None = Field(
        default=None, examples=["plumed.dat"], description="PLUMED input that biases and watches this stage"
    )
    bias: Biases = Field(
        default=(),
        examples=[
            [{"kind": "umbrella", "cv": {"kind": "distance", "atoms": [0, 1]}, "at": "3 Å", "spring": "10 eV/Å^2"}]
        ],
        description="biases, { kind, ... } each, that mlmd writes as bias.dat in the run folder or carries out itself",
    )
    stop: Stop | None = Field(
        default=None,
        examples=[{"quantity": "D:Li", "relative_error": 0.1}],
        description="end this stage before its duration is over, when a quantity is known well enough",
    )


class Minimize(Table):
    """Move atoms (and the cell) downhill in energy."""

    refused: ClassVar[dict[str, str]] = {
        "plumed": "A minimization has no bias; put plumed in a stage of dynamics.",
        "bias": "A minimization has no bias; put it in a stage of dynamics.",
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


NO_EXCHANGE = 'A thermostat takes heat from everywhere, and its flow is not known; use kind = "nve" after this stage.'


class NVE(Dynamics):
    """Dynamics at constant energy."""

    refused: ClassVar[dict[str, str]] = Dynamics.refused | {
        "temperature": 'NVE has no thermostat; set velocities above the stages, or use kind = "nvt".',
        "thermostat": 'NVE has no thermostat; use kind = "nvt".',
        "pressure": 'NVE has a fixed cell; use kind = "npt".',
    }
    kind: Literal["nve"] = Field(default="nve", description="kind of stage")
    heat_exchange: HeatExchange | None = Field(
        default=None,
        examples=[{"axis": "z", "power": "0.1 eV/ps"}],
        description="heat that is taken from a cold slab of atoms and given to a hot one, for the thermal conductivity",
    )


class NVT(Dynamics):
    """Dynamics at constant volume and temperature."""

    refused: ClassVar[dict[str, str]] = Dynamics.refused | {
        "pressure": 'NVT has a fixed cell; use kind = "npt".',
        "barostat": 'NVT has a fixed cell; use kind = "npt".',
        "heat_exchange": NO_EXCHANGE,
    }
    kind: Literal["nvt"] = Field(default="nvt", description="kind of stage")
    temperature: Temperature = Field(
        examples=["300 K"], description='temperature; a ramp is ["300 K", "600 K"], a schedule { points = ... }'
    )
    thermostat: Thermostat = Field(default=Langevin(), description="what holds the temperature")


class NPT(Dynamics):
    """Dynamics at constant pressure and temperature."""

    refused: ClassVar[dict[str, str]] = Dynamics.refused | {"heat_exchange": NO_EXCHANGE}
    kind: Literal["npt"] = Field(default="npt", description="kind of stage")
    temperature: Temperature = Field(
        examples=["300 K"], description='temperature; a ramp is ["300 K", "600 K"], a schedule { points = ... }'
    )
    thermostat: Thermostat = Field(default=Langevin(), description="what holds the temperature")
    pressure: PressureRamp = Field(examples=["1 bar"], description="pressure; may be a ramp")
    barostat: Annotated[Barostat, named("kind")] = Field(default=Barostat(), description="what holds the pressure")


class Rerun(Table):
    """The frames of a trajectory, one after the other, through the potential and its biases: nothing moves."""

    refused: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("duration", "steps", "n_steps", "nsteps"), "A rerun has the frames of its trajectory: choose with first, "
            "last and every.",
        ),
        **dict.fromkeys(("thermostat", "pressure", "barostat"), "A rerun moves no atom and no cell."),
        **dict.fromkeys(("file", "frames"), "It is called trajectory here."),
        **dict.fromkeys(("stride", "skip"), "It is called every here: every = 10 is each tenth frame."),
    }  # fmt: skip
    kind: Literal["rerun"] = Field(default="rerun", description="kind of stage")
    trajectory: InputPath = Field(
        examples=["trajectory.xtc"],
        description="frames of the atoms of the structure, in its order: extended XYZ, DCD, XTC, LAMMPS dump, XDATCAR, "
        "ASE .traj, or a run folder; relative to this file",
    )
    first: Annotated[int, Field(ge=0)] = Field(default=0, description="number of the first frame, counted from 0")
    last: Annotated[int, Field(ge=0)] | None = Field(
        default=None, examples=[99], description="number of the last frame; by default the last of the file"
    )
    every: Annotated[int, Field(ge=1)] = Field(default=1, description="take each so many-th frame")
    interval: Time | None = Field(
        default=None,
        examples=["1 ps"],
        description="time between the frames of the file, the first at 0; by default each is at the time, else at the "
        "step, that the file tells, and one timestep after the one before where it tells neither",
    )
    temperature: Annotated[float, Quantity("temperature", above=0.0)] | None = Field(
        default=None, examples=["300 K"], description="temperature that the frames are of, for biases that need it"
    )
    forces: bool = Field(
        default=False,
        description="write the frames to trajectory.extxyz, with energy, forces and stress of the potential, and "
        "bias_energy, bias_forces and bias_stress",
    )
    plumed: Bias | None = Field(
        default=None, examples=["plumed.dat"], description="PLUMED input that sees the frames, as `plumed driver` does"
    )
    bias: Biases = Field(
        default=(),
        examples=[
            [{"kind": "umbrella", "cv": {"kind": "distance", "atoms": [0, 1]}, "at": "3 Å", "spring": "10 eV/Å^2"}]
        ],
        description="biases, { kind, ... } each, that mlmd writes as bias.dat in the run folder",
    )

    @model_validator(mode="after")
    def _has_frames(self) -> Rerun:
        """The last frame is not before the first."""
        if self.last is not None and self.last < self.first:
            raise refuse(f"last: {self.last} is before first, {self.first}.")
        return self


def temperatures_of(stage: NVT | NPT) -> tuple[float, ...]:
    """K, at the start, where the way to the next one changes, and at the end."""
    return stage.temperature.path() if isinstance(stage.temperature, Schedule) else stage.temperature


Stage = Annotated[Minimize | NVE | NVT | NPT | Deposit | Rerun, Field(discriminator="kind")]
Stages = Annotated[tuple[Stage, ...], NONEMPTY, Field(strict=False)]


def hyperdynamics_of(stage: object) -> Hyperdynamics | None:
    """The bond boost of a stage; None where it has none."""
    biases = stage.bias if isinstance(stage, Dynamics) else ()  # a rerun has none: it moves nothing
    return next((bias for bias in biases if isinstance(bias, Hyperdynamics)), None)


def bias_problems(stage: NVE | NVT | NPT, timestep: float) -> Iterator[str]:
    """What biases ask of their stage, and of each other."""
    adaptive = [bias for bias in stage.bias if isinstance(bias, ABF)]
    if len(adaptive) > 1:
        yield "one abf for a stage is possible; it may have up to three variables."
    needs = [bias.kind for bias in stage.bias if isinstance(bias, ABF | OPESExpanded)]
    if needs and isinstance(stage, NVE):
        yield f"{needs[0]} needs a temperature, and nve has none. Use nvt."
    elif needs and not isinstance(stage, NVE) and len(set(temperatures_of(stage))) > 1:
        yield f"{needs[0]} needs one temperature, not a ramp."
    yield from _hyperdynamics_problems(stage, timestep)
    if isinstance(stage, NPT) and any(not bias.extended for bias in adaptive):
        yield (
            "abf without an extended variable takes its forces from how the variable moves, which changes of the cell "
            "interrupt. Use extended = true, or nvt."
        )
    for bias in stage.bias:
        if isinstance(bias, Steered) and bias.times[-1] > stage.duration * (1 + 1e-9):
            yield "steered: times: the last one is later than the end of the stage."
        yield from interval_problems(bias, timestep)


def interval_problems(bias: Written, timestep: float) -> Iterator[str]:
    """Times of a bias that are no whole steps."""
    every = min((getattr(bias, key) for key in ("every", "write_every") if hasattr(bias, key)), default=timestep)
    if every < timestep:
        yield f"{bias.kind}: every: {with_unit(every, 'time')} is shorter than the timestep."
    period = getattr(bias, "extended_period", None)
    if period is not None and period < 10 * timestep:
        yield f"abf: extended_period: {with_unit(period, 'time')} is shorter than ten timesteps."


def _hyperdynamics_problems(stage: NVE | NVT | NPT, timestep: float) -> Iterator[str]:
    """What a boost asks of its stage."""
    boost = hyperdynamics_of(stage)
    if boost is None:
        return
    if not isinstance(stage, NVT):
        yield f"hyperdynamics needs a temperature and a constant volume, and this is {stage.kind}. Use nvt."
    elif len(set(temperatures_of(stage))) > 1:
        yield "hyperdynamics needs one temperature, not a ramp."
    if len(stage.bias) > 1 or stage.plumed is not None:
        yield "hyperdynamics has to be the only bias of its stage, plumed included: its clock knows of no other."
    if boost.quench_every < timestep:
        yield f"hyperdynamics: quench_every: {with_unit(boost.quench_every, 'time')} is shorter than the timestep."
