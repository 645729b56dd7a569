"""The stage in which atoms or molecules arrive at a surface: what comes, how often, how fast; who takes the heat."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlmd.config.quantities import InputPath, Quantity, Rate, Symbol, Symbols, Time, refuse, shorten
from mlmd.config.table import Table
from mlmd.config.timed import Timed

_LAYERS = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*ML\s*/\s*(ns|ps)\s*")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_SUM = 1e-6
"""How far fractions may be from adding up to one."""

Length = Annotated[float, Quantity("length", above=0.0)]
Height = Annotated[float, Quantity("length")]


class Flux(Quantity):
    """Things per area and time, ``"5 / nm^2 / ns"``, or layers per time, ``"0.5 ML/ns"``, kept as written."""

    def read(self, value: object) -> Any:
        """1/(Å² fs), or the layers as a string."""
        match = _LAYERS.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return super().read(value)
        if not float(match[1]) > 0.0:
            raise refuse(f"{shorten(value)}: a flux above 0 is needed here.")
        return f"{match[1]} ML/{match[2]}"

    def write(self, value: Any) -> Any:
        """What `read` turns into the same value again."""
        return value if isinstance(value, str) else super().write(value)


def layers(flux: str) -> float:
    """Layers per fs of a flux that is given in them."""
    match = _LAYERS.fullmatch(flux)
    assert match is not None
    return float(match[1]) / {"ns": 1e6, "ps": 1e3}[match[2]]


class Range(Quantity):
    """Lower and upper end of a range, ``["2 Å", "8 Å"]``."""

    def read(self, value: object) -> Any:
        """(low, high) in mlmd's unit."""
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise refuse(f'{shorten(value)}: a range has two ends, for example ["2 Å", "8 Å"].')
        low, high = (super(Range, self).read(end) for end in value)
        if not low < high:
            raise refuse(f"{shorten(value)}: the first end has to be below the second.")
        return low, high

    def write(self, value: Any) -> Any:
        """What `read` turns into the same value again."""
        return None if value is None else [super(Range, self).write(end) for end in value]


Extent = Annotated[tuple[float, float], Range("length")]


class Species(Table):
    """One of several things that arrive."""

    element: Symbol | None = Field(default=None, examples=["Cu"], description="a single atom of this element")
    file: InputPath | None = Field(
        default=None, examples=["o2.xyz"], description="a molecule: structure file, turned at random as it arrives"
    )
    fraction: Annotated[float, Field(strict=False, gt=0.0, le=1.0)] = Field(
        default=1.0, description="part of all that arrive; those of a mixture add up to 1"
    )

    @model_validator(mode="after")
    def _is_something(self) -> Species:
        """An element or a file."""
        if (self.element is None) == (self.file is None):
            raise refuse('a species is one of the two: element = "Cu" or file = "o2.xyz".')
        return self


def _mixture(value: object) -> object:
    """A symbol, a file name or a table is a mixture of one."""
    if isinstance(value, str | Mapping):
        return [_species(value)]
    return [_species(one) for one in value] if isinstance(value, list) else value


def _species(value: object) -> object:
    if not isinstance(value, str):
        return value
    return {"element": value} if _SYMBOL.fullmatch(value) else {"file": value}


Mixture = Annotated[tuple[Species, ...], BeforeValidator(_mixture), Field(strict=False)]


class Beam(Table):
    """How fast things arrive and where from: one of energy, speed and temperature."""

    energy: Annotated[float, Quantity("energy", above=0.0)] | None = Field(
        default=None, examples=["0.2 eV"], description="kinetic energy of each atom or molecule"
    )
    speed: Annotated[float, Quantity("speed", above=0.0)] | None = Field(
        default=None, examples=["10 Å/ps"], description="speed of each atom or molecule"
    )
    temperature: Annotated[float, Quantity("temperature", above=0.0)] | None = Field(
        default=None,
        examples=["1200 K"],
        description="of a source from which they fly: speeds as those of a gas through a hole, mean energy 2 kT",
    )
    direction: Literal["normal", "cone", "cosine"] = Field(
        default="normal",
        description="normal: all the same; cone: anywhere within an angle; cosine: as from a gas (Knudsen)",
    )
    angle: Annotated[float, Quantity("angle", least=0.0, most=math.radians(89.0))] = Field(
        default=0.0, description="of normal: between beam and surface normal; of cone: between its axis and its side"
    )
    azimuth: Annotated[float, Quantity("angle")] = Field(
        default=0.0, description="of normal with an angle: direction in which they fly, counted from x"
    )

    @model_validator(mode="after")
    def _is_one(self) -> Beam:
        """One speed, and angles where they mean something."""
        given = [key for key in ("energy", "speed", "temperature") if getattr(self, key) is not None]
        if len(given) != 1:
            raise refuse(
                f"one of energy, speed and temperature is needed, {' and '.join(given) if given else 'none'} is given."
            )
        if self.direction == "cone" and not self.angle:
            raise refuse('direction = "cone" needs an angle, for example angle = "20 deg".')
        if self.direction == "cosine" and self.angle:
            raise refuse('direction = "cosine" has all angles up to 90 degrees: leave angle out, or use "cone".')
        if self.azimuth and not (self.direction == "normal" and self.angle):
            raise refuse('azimuth has a meaning only for direction = "normal" with an angle.')
        return self


class Bath(Table):
    """Langevin thermostat for the atoms of a layer; all others, and what is on its way, keep their energy."""

    temperature: Annotated[float, Quantity("temperature", above=0.0)] = Field(
        examples=["300 K"], description="temperature of the layer"
    )
    below: Height = Field(examples=["8 Å"], description="Cartesian z below which an atom is thermostatted")
    above: Height | None = Field(default=None, examples=["3 Å"], description="and above which")
    elements: Symbols = Field(default=(), description="only atoms of these elements; by default of all")
    friction: Rate = Field(default=1e-3, description="coupling to the heat bath")

    @model_validator(mode="after")
    def _is_a_layer(self) -> Bath:
        """A layer has a thickness."""
        if self.above is not None and not self.above < self.below:
            raise refuse("no atom can be above `above` and below `below`: exchange them.")
        return self


class Deposit(Timed):
    """Dynamics while atoms or molecules arrive at the surface of a slab, along -z."""

    refused: ClassVar[dict[str, str]] = Timed.refused | {
        "temperature": 'Only a layer is thermostatted: bath = { temperature = "300 K", below = "8 Å" }.',
        "thermostat": 'Only a layer is thermostatted: bath = { temperature = "300 K", below = "8 Å" }.',
        "pressure": "A slab below a vacuum has no pressure to hold.",
        "barostat": "A slab below a vacuum has no pressure to hold.",
        **dict.fromkeys(
            ("plumed", "bias"),
            "PLUMED knows a fixed number of atoms. Bias a run of its own that starts from final.extxyz.",
        ),
        "stop": "A growing film has no mean to know well enough. It belongs to a stage of nve, nvt or npt.",
        "velocity": 'It is called beam here: beam = { energy = "0.2 eV" }.',
        "near": "It is called min_distance here.",
    }
    kind: Literal["deposit"] = Field(default="deposit", description="kind of stage")
    species: Mixture = Field(
        examples=["Cu"],
        description="what arrives: an element, a structure file, or a list of tables { element or file, fraction }",
    )
    every: Time | None = Field(default=None, examples=["2 ps"], description="time between two arrivals; or flux")
    flux: Annotated[float | str, Flux("flux", above=0.0)] | None = Field(
        default=None,
        examples=["0.5 ML/ns"],
        description="arrivals per area and time; or every. One ML is as many as the structure's top layer has atoms",
    )
    total: Annotated[int, Field(ge=1)] | None = Field(
        default=None, examples=[50], description="arrivals in all; by default as many as the duration has time for"
    )
    beam: Beam = Field(examples=[{"energy": "0.2 eV"}], description="speed and direction of arrivals")
    height: Length = Field(default=10.0, description="distance above the surface at which they appear")
    surface: Height | None = Field(
        default=None,
        examples=["18 Å"],
        description="z of the surface; by default found at each arrival: the highest atom that three others touch",
    )
    x: Extent | None = Field(
        default=None, examples=[["0 Å", "10 Å"]], description="range of x in which they appear; by default the cell"
    )
    y: Extent | None = Field(default=None, examples=[["0 Å", "10 Å"]], description="range of y in which they appear")
    min_distance: Length = Field(default=2.0, description="no other atom is closer to one that appears")
    tries: Annotated[int, Field(ge=1)] = Field(default=100, description="places tried for each arrival")
    when_full: Literal["skip", "stop"] = Field(
        default="skip", description="when no place is found: skip this arrival and tell, or stop the run"
    )
    contact: Length = Field(default=4.0, description="atoms closer than this touch")
    settle: Time = Field(default=1000.0, description="who touches others for so long has stuck")
    ceiling: Length = Field(default=5.0, description="distance of the ceiling above the height at which they appear")
    at_ceiling: Literal["remove", "reflect"] = Field(
        default="remove", description="remove atoms that fly up through the ceiling, or throw them back"
    )
    bath: Bath | None = Field(
        default=None,
        examples=[{"temperature": "300 K", "below": "8 Å"}],
        description="layer that is thermostatted; without it energy is conserved between arrivals",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Deposit:
        """What no single key can know."""
        problems = []
        if (self.every is None) == (self.flux is None):
            problems.append('one of the two is needed: every = "2 ps" or flux = "0.5 ML/ns".')
        if not self.species:
            problems.append("species: the list is empty; at least one is needed.")
        elif abs(sum(one.fraction for one in self.species) - 1.0) > _SUM:
            total = sum(one.fraction for one in self.species)
            problems.append(f"species: the fractions add up to {total:.6g}; they have to add up to 1.")
        if self.min_distance > self.height:
            problems.append(
                f"min_distance, {self.min_distance:g} Å, is more than height, {self.height:g} Å: above a flat surface "
                "there would never be room. Raise height."
            )
        if self.contact > self.height:
            problems.append(
                f"contact, {self.contact:g} Å, is more than height, {self.height:g} Å: arrivals would touch the "
                "surface as they appear. Raise height."
            )
        if problems:
            raise refuse("\n".join(problems))
        return self
