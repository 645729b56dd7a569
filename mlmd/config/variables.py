"""Collective variables in the words of an input file: what a bias acts on.

Atoms are counted from 0 as everywhere in mlmd; PLUMED, which computes the variables, counts them from 1. Values of a
variable (a position of a wall, a width, a spring) are read in its own units: lengths, angles, or plain numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from mlmd.config.quantities import InputPath, refuse, shorten
from mlmd.config.table import NONEMPTY, Table
from mlmd.errors import InputError, did_you_mean
from mlmd.units import EV_PER_KJMOL, parse, units_of

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_AND_UNIT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")
PLUMED_UNIT = {"length": 10.0, "angle": 1.0}
"""Quantity -> size of PLUMED's unit (nm, rad) in mlmd's (Å, rad)."""
SHOWN = {"length": ("Å", 1.0), "angle": ("deg", math.pi / 180.0)}
"""Quantity -> the unit of tables for people, and its size in mlmd's."""

Index = Annotated[int, Field(ge=0)]
Site = Annotated[
    Index | Annotated[tuple[Index, ...], NONEMPTY, Field(strict=False)],
    PlainSerializer(lambda site: list(site) if isinstance(site, tuple) else site),
]
"""An atom, or several that stand for their centre of mass."""
Group = Annotated[tuple[Index, ...], NONEMPTY, Field(strict=False)]


class OfAtoms(Table):
    """What all collective variables have in common."""

    quantity: ClassVar[str | None] = None
    """What its values are: a key of `mlmd.units.DEFAULT_UNIT`, or None for plain numbers."""
    domain: ClassVar[tuple[float, float] | None] = None
    """Ends of its period in PLUMED's unit; None where it has none."""
    name: str | None = Field(
        default=None, examples=["d"], description="its name in files; by default its kind and a number"
    )

    @model_validator(mode="after")
    def _named(self) -> OfAtoms:
        """PLUMED's labels are words."""
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise refuse(f"name: {shorten(self.name)} is not a word of letters, digits and underscores.")
        return self

    def value(self, raw: object) -> float:
        """A value of this variable in PLUMED's unit.

        Raises:
            InputError: when it is no number, or has the unit of something else.
        """
        if self.quantity is not None:
            return parse(raw, self.quantity) / PLUMED_UNIT[self.quantity]
        return _plain(raw, "number without a unit")

    def spring(self, raw: object) -> float:
        """A spring constant of this variable, kJ/mol per squared unit of PLUMED.

        Raises:
            InputError: for anything but an energy divided by the square of the variable's unit.
        """
        sizes = {
            (f"{energy}/{unit}^2" if unit else energy): size / (scale**2 * EV_PER_KJMOL)
            for energy, size in units_of("energy").items()
            for unit, scale in self._scales().items()
        }
        default = "eV/" + {"length": "Å", "angle": "rad"}[self.quantity] + "^2" if self.quantity else "eV"
        number, unit = _split(raw, f'spring constant. Write for example "10 {default}"')
        unit = unit.replace("²", "^2").replace(" ", "") or default
        if unit not in sizes:
            raise InputError(f"{raw!r}: {unit!r} is not a unit of this spring constant. {did_you_mean(unit, sizes)}")
        if number <= 0:
            raise InputError(f"{raw!r}: a spring constant above 0 is needed here.")
        return number * sizes[unit]

    def _scales(self) -> dict[str, float]:
        """Units of the variable, with their size in PLUMED's."""
        if self.quantity is None:
            return {"": 1.0}
        return {unit: size / PLUMED_UNIT[self.quantity] for unit, size in units_of(self.quantity).items()}

    @property
    def shown(self) -> tuple[str, float]:
        """The unit in tables for people, and its size in PLUMED's unit."""
        if self.quantity is None:
            return "", 1.0
        unit, size = SHOWN[self.quantity]
        return unit, size / PLUMED_UNIT[self.quantity]

    @property
    def period(self) -> tuple[float, float] | None:
        """Ends of its period in PLUMED's unit, or None."""
        return self.domain


def _plain(raw: object, what: str) -> float:
    number, unit = _split(raw, what)
    if unit:
        raise InputError(f"{raw!r}: a {what} is needed here.")
    return number


def _split(raw: object, what: str) -> tuple[float, str]:
    """A finite number, and the unit behind it."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise InputError(f"{raw!r} is not a {what}.")
    match = _AND_UNIT.fullmatch(raw) if isinstance(raw, str) else None
    if isinstance(raw, str) and match is None:
        raise InputError(f"{raw!r} is not a {what}.")
    number, unit = (float(match[1]), match[2]) if match else (float(raw), "")
    if not math.isfinite(number):
        raise InputError(f"{raw!r} is not a finite {what}.")
    return number, unit


class OfSites(OfAtoms):
    """A variable of a few atoms or centres of mass."""

    n_sites: ClassVar[int]
    atoms: Annotated[tuple[Site, ...], Field(strict=False)] = Field(
        description="atoms, counted from 0; a list in the place of one is the centre of mass of its atoms"
    )

    @model_validator(mode="after")
    def _complete(self) -> OfSites:
        """As many as the variable needs, none of them twice."""
        if len(self.atoms) != self.n_sites:
            raise refuse(f"atoms: {self.n_sites} are needed, not {len(self.atoms)}.")
        if len(set(self.atoms)) < len(self.atoms):
            raise refuse("atoms: one of them is named twice.")
        return self


class Distance(OfSites):
    """Distance of two atoms, of nearest images."""

    quantity = "length"
    n_sites = 2
    kind: Literal["distance"] = Field(default="distance", description="kind of variable")


class Angle(OfSites):
    """Angle at the second of three atoms."""

    quantity = "angle"
    n_sites = 3
    kind: Literal["angle"] = Field(default="angle", description="kind of variable")


class Torsion(OfSites):
    """Torsion of four atoms, from -180 to 180 degrees."""

    quantity = "angle"
    domain = (-math.pi, math.pi)
    n_sites = 4
    kind: Literal["torsion"] = Field(default="torsion", description="kind of variable")


class Position(OfAtoms):
    """A Cartesian coordinate of an atom, unwrapped, in the orientation of the structure file."""

    quantity = "length"
    kind: Literal["position"] = Field(default="position", description="kind of variable")
    atom: Site = Field(examples=[0], description="atom, counted from 0, or a list for its centre of mass")
    axis: Literal["x", "y", "z"] = Field(description="which coordinate")


class Coordination(OfAtoms):
    """Number of contacts, Σ (1 - (r/r0)^n) / (1 - (r/r0)^m) over pairs of the two groups."""

    kind: Literal["coordination"] = Field(default="coordination", description="kind of variable")
    group_a: Group = Field(description="atoms, counted from 0")
    group_b: Group = Field(description="atoms, counted from 0")
    radius: Annotated[object, Field(examples=["3 Å"])] = Field(
        description="distance at which a contact counts n/m (bare number: Å)"
    )
    n: int = Field(default=6, ge=1, description="exponent of the numerator")
    m: int = Field(default=12, ge=2, description="exponent of the denominator")

    @model_validator(mode="after")
    def _decays(self) -> Coordination:
        """Contacts fade with the distance, at a radius that is a length."""
        if self.m <= self.n:
            raise refuse("m: more than n is needed, so that contacts fade with the distance.")
        try:
            if parse(self.radius, "length") <= 0:
                raise refuse("radius: a length above 0 is needed.")
        except InputError as error:
            raise refuse(f"radius: {error}") from None
        return self


class RMSD(OfAtoms):
    """Root-mean-square deviation of atoms from a reference structure, after the best translation and rotation."""

    quantity = "length"
    kind: Literal["rmsd"] = Field(default="rmsd", description="kind of variable")
    reference: InputPath = Field(
        examples=["folded.pdb"], description="structure file with all atoms in the order of the simulated ones"
    )
    atoms: Group = Field(description="atoms that are compared, counted from 0")


class PlumedLine(OfAtoms):
    """Any variable of PLUMED, in PLUMED's words, units, and count of atoms from 1."""

    kind: Literal["plumed"] = Field(default="plumed", description="kind of variable; may be left out")
    plumed: str = Field(examples=["GYRATION ATOMS=1-20"], description="a line of a PLUMED file without its label")
    component: str | None = Field(
        default=None, examples=["sss"], description="component of the line that is the variable"
    )
    between: Annotated[tuple[float, float], Field(strict=False)] | None = Field(
        default=None, examples=[[-3.14159265358979, 3.14159265358979]], description="ends of its period, if it has one"
    )
    files: Annotated[tuple[InputPath, ...], Field(strict=False)] = Field(
        default=(), description="files that the line names; they are copied into the run folder"
    )

    @model_validator(mode="after")
    def _one_line(self) -> PlumedLine:
        """One statement without a label."""
        words = self.plumed.split()
        if not words or "\n" in self.plumed or "#" in self.plumed or words[0].endswith(":") or "..." in words:
            raise refuse(f"plumed: {shorten(self.plumed)}: one line of PLUMED without a label is needed.")
        if self.between is not None and not self.between[0] < self.between[1]:
            raise refuse("between: the first end must be below the second.")
        if self.component is not None and not re.fullmatch(r"[\w.-]+", self.component):
            raise refuse(f"component: {shorten(self.component)} is not a name of a component.")
        return self

    @property
    def period(self) -> tuple[float, float] | None:
        """As the input says."""
        return self.between


def _with_kind(value: object) -> object:
    """A table with a line of PLUMED needs no kind."""
    return {"kind": "plumed", **value} if isinstance(value, Mapping) and "plumed" in value else value


Variable = Annotated[
    Annotated[Distance | Angle | Torsion | Position | Coordination | RMSD | PlumedLine, Field(discriminator="kind")],
    BeforeValidator(_with_kind),
]
Variables = Annotated[
    tuple[Variable, ...],
    NONEMPTY,
    BeforeValidator(lambda value: [value] if isinstance(value, Mapping) else value),
    Field(strict=False),
]
"""One variable or a list of them."""


def sites_of(variable: Any) -> list[int]:
    """All atoms that a variable names by mlmd's count; none of a line of PLUMED."""
    named: list[Any] = []
    for key in ("atoms", "group_a", "group_b"):
        named += getattr(variable, key, ())
    if isinstance(variable, Position):
        named.append(variable.atom)
    return [atom for site in named for atom in (site if isinstance(site, tuple) else (site,))]
