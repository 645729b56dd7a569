"""Biases that mlmd writes for PLUMED, or carries out itself: ``bias = [{ kind = "...", cv = ... }]`` in a stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainSerializer, model_validator

from mlmd.config.hyperdynamics import Hyperdynamics
from mlmd.config.quantities import InputPath, Quantity, Rate, Time, refuse
from mlmd.config.table import Table
from mlmd.config.variables import Position, Variables
from mlmd.errors import InputError

Raw = Annotated[object, PlainSerializer(lambda raw: list(raw) if isinstance(raw, tuple) else raw)]
"""A value in the unit of a variable, or a list with one for each variable; read when the variables are known."""
Energy = Annotated[float, Quantity("energy", above=0.0)]
MAX_BINS = 250_000
"""Bins of an ABF; every checkpoint has them all, and a free energy is made of them."""


class OfVariables(Table):
    """What biases of collective variables have in common."""

    cv: Variables = Field(
        examples=[{"kind": "distance", "atoms": [0, 1]}], description="collective variable, or a list of them"
    )
    read_as: ClassVar[dict[str, str]] = {}
    """Keys with one entry for each variable -> what they are: value, width or spring."""

    @model_validator(mode="after")
    def _of_its_variables(self) -> OfVariables:
        """Numbers have units of their variables, and there is one for each."""
        problems = list(self._problems())
        if problems:
            raise refuse("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        for key in self.read_as:
            if getattr(self, key) is None:
                continue
            try:
                self.each(key)
            except InputError as error:
                yield f"{key}: {error}"

    def each(self, key: str) -> tuple[float, ...]:
        """The numbers of a key, one for each variable, in PLUMED's units.

        Raises:
            InputError: when one of them is no such number, or their count is another.
        """
        raw, what = getattr(self, key), self.read_as[key]
        listed = list(raw) if isinstance(raw, list | tuple) else [raw] * (len(self.cv) if what == "spring" else 1)
        if len(listed) != len(self.cv):
            raise InputError(f"{len(listed)} given for {len(self.cv)} variables: one for each is needed, in a list.")
        numbers = []
        for variable, one in zip(self.cv, listed, strict=True):
            reader: Callable[[object], float] = variable.spring if what == "spring" else variable.value
            number = reader(one)
            if what == "width" and number <= 0:
                raise InputError(f"{one!r}: a width above 0 is needed.")
            numbers.append(number)
        return tuple(numbers)


class Walkers(Table):
    """Several runs that fill one free energy together, each reading what the others deposit."""

    folder: InputPath = Field(description="folder that all walkers share")
    number: int = Field(ge=0, description="which of them this run is, counted from 0")
    count: int = Field(ge=2, description="how many they are")
    read_every: Time = Field(default=1000.0, description="simulated time between looks at what the others have left")

    @model_validator(mode="after")
    def _one_of_them(self) -> Walkers:
        """Numbers go from 0 to count - 1."""
        if self.number >= self.count:
            raise refuse(f"number: {self.number} of {self.count} walkers: they are counted from 0.")
        return self


class Metadynamics(OfVariables):
    """Well-tempered metadynamics (Barducci, Bussi, Parrinello, Phys. Rev. Lett. 100, 020603 (2008))."""

    read_as: ClassVar[dict[str, str]] = {"width": "width", "minimum": "value", "maximum": "value"}
    kind: Literal["metadynamics"] = Field(default="metadynamics", description="kind of bias")
    width: Raw = Field(examples=["0.2 Å"], description="σ of a hill in units of the variable, one for each")
    height: Energy = Field(default=0.012, description="height of the first hills")
    every: Time = Field(default=1000.0, description="simulated time between hills")
    bias_factor: Annotated[float, Field(strict=False, gt=1.0, allow_inf_nan=False)] | Literal["off"] = Field(
        default=10.0, description='γ of well-tempered metadynamics, "off" for hills of one height'
    )
    minimum: Raw | None = Field(default=None, examples=["2 Å"], description="lower end of a grid that keeps the hills")
    maximum: Raw | None = Field(default=None, examples=["8 Å"], description="upper end of the grid")
    walkers: Walkers | None = Field(default=None, description="runs beside this one that fill the same free energy")

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if (self.minimum is None) != (self.maximum is None):
            yield "minimum and maximum: a grid needs both."
        else:
            yield from _unordered(self)


class OPES(OfVariables):
    """On-the-fly probability enhanced sampling (Invernizzi, Parrinello, J. Phys. Chem. Lett. 11, 2731 (2020))."""

    read_as: ClassVar[dict[str, str]] = {"width": "width", "min_width": "width"}
    kind: Literal["opes"] = Field(default="opes", description="kind of bias")
    barrier: Energy = Field(examples=["40 kJ/mol"], description="highest barrier that is to be crossed")
    every: Time = Field(default=1000.0, description="simulated time between kernels")
    width: Raw | None = Field(
        default=None, examples=["0.2 Å"], description="first σ of kernels, one for each variable; measured by default"
    )
    min_width: Raw | None = Field(
        default=None,
        examples=["0.1 Å"],
        description="σ below which kernels, which become narrower as they become many, do not shrink, one for each "
        "variable; half of width by default, and no limit where that is measured",
    )
    explore: bool = Field(
        default=False, description="explore (J. Chem. Theory Comput. 18, 3988 (2022)) rather than converge"
    )

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if self.width is not None and self.min_width is not None:
            with suppress(InputError):  # which has been told
                pairs = zip(self.each("min_width"), self.each("width"), strict=True)
                if any(least > first for least, first in pairs):
                    yield "min_width: it is above width, with which kernels begin."

    @property
    def min_widths(self) -> tuple[float, ...] | None:
        """Of kernels, in PLUMED's units; None where they have no limit."""
        if self.min_width is not None:
            return self.each("min_width")
        return None if self.width is None else tuple(0.5 * width for width in self.each("width"))


class OPESExpanded(Table):
    """All temperatures between two in one run (Invernizzi, Piaggi, Parrinello, Phys. Rev. X 10, 041034 (2020))."""

    kind: Literal["opes-expanded"] = Field(default="opes-expanded", description="kind of bias")
    lowest: Annotated[float, Quantity("temperature", above=0.0)] = Field(
        examples=["300 K"], description="lowest temperature that is sampled"
    )
    highest: Annotated[float, Quantity("temperature", above=0.0)] = Field(
        examples=["600 K"], description="highest temperature that is sampled"
    )
    every: Time = Field(default=1000.0, description="simulated time between updates")
    observe: int = Field(default=100, ge=1, description="updates of watching before it begins to act")

    @model_validator(mode="after")
    def _a_range(self) -> OPESExpanded:
        """From low to high."""
        if self.lowest >= self.highest:
            raise refuse("lowest: a temperature below highest is needed.")
        return self


class Umbrella(OfVariables):
    """A harmonic restraint, ½ k (s - s₀)²."""

    read_as: ClassVar[dict[str, str]] = {"at": "value", "spring": "spring"}
    kind: Literal["umbrella"] = Field(default="umbrella", description="kind of bias")
    at: Raw = Field(examples=["3 Å"], description="centre, one for each variable")
    spring: Raw = Field(examples=["10 eV/Å^2"], description="k, one for all variables or one for each")


class UpperWall(OfVariables):
    """Nothing below its place, ½ k (s - s₀)² above."""

    read_as: ClassVar[dict[str, str]] = {"at": "value", "spring": "spring"}
    kind: Literal["upper-wall"] = Field(default="upper-wall", description="kind of bias")
    at: Raw = Field(examples=["8 Å"], description="place of the wall, one for each variable")
    spring: Raw = Field(examples=["10 eV/Å^2"], description="k, one for all variables or one for each")


class LowerWall(OfVariables):
    """Nothing above its place, ½ k (s - s₀)² below."""

    read_as: ClassVar[dict[str, str]] = {"at": "value", "spring": "spring"}
    kind: Literal["lower-wall"] = Field(default="lower-wall", description="kind of bias")
    at: Raw = Field(examples=["2 Å"], description="place of the wall, one for each variable")
    spring: Raw = Field(examples=["10 eV/Å^2"], description="k, one for all variables or one for each")


class Steered(OfVariables):
    """A restraint that moves from place to place; with an rmsd it is targeted molecular dynamics."""

    read_as: ClassVar[dict[str, str]] = {"spring": "spring"}
    kind: Literal["steered"] = Field(default="steered", description="kind of bias")
    cv: Variables = Field(examples=[{"kind": "distance", "atoms": [0, 1]}], description="the collective variable")
    at: Annotated[tuple[object, ...], Field(strict=False, min_length=2)] = Field(
        examples=[["3 Å", "8 Å"]], description="places of the restraint, in order"
    )
    times: Annotated[tuple[Annotated[float, Quantity("time", least=0.0)], ...], Field(strict=False, min_length=2)] = (
        Field(
            examples=[["0 ps", "100 ps"]],
            description="when it is at each of them, from the beginning of the stage; it moves linearly between",
        )
    )
    spring: Raw = Field(examples=["10 eV/Å^2"], description="k of ½ k (s - s₀)²")

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if len(self.cv) != 1:
            yield f"cv: one variable is steered at a time, not {len(self.cv)}."
        if len(self.at) != len(self.times):
            yield f"at: {len(self.at)} places and {len(self.times)} times: one time for each place is needed."
        if any(later <= earlier for earlier, later in zip(self.times, self.times[1:], strict=False)):
            yield "times: each must be later than the one before."
        try:
            self.places()
        except InputError as error:
            yield f"at: {error}"

    def places(self) -> tuple[float, ...]:
        """`at` in PLUMED's unit."""
        return tuple(self.cv[0].value(one) for one in self.at)


class ABF(OfVariables):
    """Adaptive biasing force, which mlmd carries out itself on one to three variables of PLUMED."""

    read_as: ClassVar[dict[str, str]] = {
        "width": "width", "minimum": "value", "maximum": "value", "spring": "spring", "wall_spring": "spring",
    }  # fmt: skip
    kind: Literal["abf"] = Field(default="abf", description="kind of bias")
    width: Raw = Field(examples=["0.1 Å"], description="width of a bin in units of the variable, one for each")
    minimum: Raw | None = Field(
        default=None, examples=["2 Å"], description="lower end of what is sampled; may be left out for whole periods"
    )
    maximum: Raw | None = Field(default=None, examples=["8 Å"], description="upper end")
    extended: bool = Field(
        default=True,
        description="an extended variable on a spring feels the force, and CZAR gives the free energy; without it the "
        "variable itself does, and its time derivatives give the free energy",
    )
    spring: Raw | None = Field(
        default=None,
        examples=["10 eV/Å^2"],
        description="k between variable and extended variable; kT / width² by default",
    )
    extended_period: Time | None = Field(
        default=None,
        examples=["200 fs"],
        description="period of the extended variable on its spring, which gives its mass; by default 200 fs, or 20 "
        "timesteps where that is longer",
    )
    friction: Rate | None = Field(
        default=None,
        examples=["1 / ps"],
        description="of the extended variable's Langevin thermostat; that of the stage, or 1 / ps, by default",
    )
    full_samples: int = Field(
        default=200, ge=2, description="samples of a bin that give its full force; below half of them it has none"
    )
    boundary: Literal["wall", "reflect"] = Field(
        default="wall",
        description="wall: a harmonic wall beyond minimum and maximum; reflect: the extended variable bounces there",
    )
    wall_spring: Raw | None = Field(
        default=None, examples=["10 eV/Å^2"], description="k of the wall; kT / width² by default"
    )
    write_every: Time = Field(default=100_000.0, description="simulated time between tables added to abf_history.dat")
    walkers: Walkers | None = Field(
        default=None, description="runs beside this one whose samples count here too, as those of this one do there"
    )

    def _problems(self) -> Iterator[str]:
        problems = list(super()._problems())
        yield from problems
        if len(self.cv) > 3:
            yield f"cv: {len(self.cv)} variables; adaptive biasing forces are for three at most."
        if not self.extended:
            given = [key for key in ("spring", "extended_period", "friction") if getattr(self, key) is not None]
            yield from (f"{key}: belongs to an extended variable, and extended is false." for key in given)
            if self.boundary == "reflect":
                yield 'boundary: only an extended variable can be reflected; use "wall".'
        if not problems:
            yield from self._problems_of_range()

    def _problems_of_range(self) -> Iterator[str]:
        for key in ("minimum", "maximum"):
            if getattr(self, key) is None and any(variable.period is None for variable in self.cv):
                yield f"{key}: is needed, as a variable has no period."
                return
        found = list(_unordered(self))
        yield from found
        if found:
            return
        for variable, (low, high) in zip(self.cv, self.ranges(), strict=True):
            if variable.period and high - low > (variable.period[1] - variable.period[0]) * (1 + 1e-9):
                yield "minimum and maximum: they are farther apart than the period of the variable."
        n_bins = math.prod(
            (high - low) / width for (low, high), width in zip(self.ranges(), self.each("width"), strict=True)
        )
        if n_bins > MAX_BINS:
            yield f"width: {n_bins:.3g} bins; {MAX_BINS:,} are the most. Take wider ones."
        if any(high - low < 2 * width for (low, high), width in zip(self.ranges(), self.each("width"), strict=True)):
            yield "width: at least two bins are needed between minimum and maximum."

    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Ends of what is sampled, of each variable, in PLUMED's unit."""
        ends = [self.each(key) if getattr(self, key) is not None else None for key in ("minimum", "maximum")]
        found = []
        for number, variable in enumerate(self.cv):
            low, high = (
                end[number] if end is not None else (variable.period or (0.0, 0.0))[side]
                for side, end in enumerate(ends)
            )
            found.append((low, high))
        return tuple(found)


def _unordered(table: Any) -> Iterator[str]:
    """A range that ends before it begins."""
    if table.minimum is None or table.maximum is None:
        return
    try:
        pairs = zip(table.each("minimum"), table.each("maximum"), strict=True)
    except InputError:
        return
    if any(low >= high for low, high in pairs):
        yield "minimum: a value below maximum is needed."


Written = Annotated[
    Metadynamics | OPES | OPESExpanded | Umbrella | UpperWall | LowerWall | Steered | ABF | Hyperdynamics,
    Field(discriminator="kind"),
]
"""A bias of an input file."""


def files_of_biases(biases: tuple[Any, ...]) -> Iterator[tuple[str, Path]]:
    """Files that the variables of biases name, and what they are."""
    for number, bias in enumerate(biases, 1):
        for variable in getattr(bias, "cv", ()):
            named = [*getattr(variable, "files", ())]
            if (reference := getattr(variable, "reference", None)) is not None:
                named.append(reference)
            yield from ((f"{path.name} of bias {number}", path) for path in named)


def names_a_position(biases: tuple[Any, ...]) -> bool:
    """Whether a Cartesian coordinate is biased, which a turned cell would change."""
    return any(isinstance(variable, Position) for bias in biases for variable in getattr(bias, "cv", ()))
