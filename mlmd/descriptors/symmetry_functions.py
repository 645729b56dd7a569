"""Symmetry functions as parameters: what each of them sums over and how."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ase.data import atomic_numbers

from mlmd import units
from mlmd.errors import InputError, did_you_mean

RADIAL = ("G1", "G2", "G3")
ANGULAR = ("G4", "G5")
_USED = {
    "G1": (), "G2": ("eta", "shift"), "G3": ("kappa",), "G4": ("eta", "shift", "zeta", "sign"),
    "G5": ("eta", "shift", "zeta", "sign"),
}  # fmt: skip
"""Parameters that a kind of function has, besides its cutoff."""
MAX_ZETA = 1024.0


@dataclass(frozen=True)
class SymmetryFunction:
    """One function of the surroundings of atoms of one element; see `mlmd.descriptors.symmetry` for the formulas."""

    kind: str
    """G1 ... G5, in the numbering of Behler (2011)."""
    centre: str
    """Element of the atom whose surroundings are described."""
    neighbours: tuple[str, ...]
    """One element for G1, G2 and G3, two for G4 and G5; none for all elements, weighted by their atomic numbers."""
    cutoff: float
    """Å."""
    eta: float = 0.0
    """η, 1/Å²."""
    shift: float = 0.0
    """r_s, Å."""
    kappa: float = 0.0
    """κ, 1/Å."""
    zeta: float = 1.0
    """ζ."""
    sign: float = 1.0
    """λ, between -1 and 1."""
    etas: tuple[float, float, float] | None = None
    """η of the sides to the first neighbour, to the second and between them, 1/Å², where one η is not that of all."""

    @property
    def sides(self) -> tuple[float, float, float]:
        """η of each side of a triplet, 1/Å²."""
        return self.etas or (self.eta, self.eta, self.eta)

    @property
    def narrow(self) -> bool:
        """Whether the neighbours of a triplet must be near each other too."""
        return self.kind == "G4"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> SymmetryFunction:
        """From a table of an input file: lengths with units, neighbours as one element or a list.

        Raises:
            InputError: for unknown, missing or impossible values.
        """
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise InputError(f"{name!r} is not of a symmetry function. {did_you_mean(str(name), names)}")
        if missing := [name for name in names[:4] if name not in given]:
            raise InputError(f"a symmetry function needs {', '.join(missing)}: {dict(given)}.")
        neighbours = given["neighbours"]
        lengths = {name: units.parse(given[name], "length") for name in ("cutoff", "shift") if name in given}
        rest = {name: _number(name, given[name]) for name in ("eta", "kappa", "zeta", "sign") if name in given}
        made = cls(
            kind=str(given["kind"]),
            centre=str(given["centre"]),
            neighbours=(neighbours,) if isinstance(neighbours, str) else tuple(map(str, neighbours)),
            etas=_three(given["etas"]) if "etas" in given else None,
            **lengths,
            **rest,
        )
        made.check()
        return made

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: for an unknown kind, the wrong number of neighbours, parameters out of their range.
        """
        if self.kind not in _USED:
            raise InputError(f"{self.kind!r} is not a kind of symmetry function. {did_you_mean(self.kind, _USED)}")
        needed = 1 if self.kind in RADIAL else 2
        if len(self.neighbours) not in (0, needed):
            raise InputError(
                f"{self.kind} takes {needed} elements of neighbours, or none for all; not {self.neighbours}."
            )
        values = (self.cutoff, self.eta, self.shift, self.kappa, self.zeta, self.sign, *self.sides)
        if not all(map(math.isfinite, values)) or self.cutoff <= 0 or min(self.eta, *self.sides) < 0:
            raise InputError(f"{self.kind}: a positive cutoff and η ≥ 0 are needed, all finite; got {self}.")
        if not 1 <= self.zeta <= MAX_ZETA or not -1 <= self.sign <= 1:
            raise InputError(
                f"{self.kind}: ζ = {self.zeta:g} and λ = {self.sign:g} are not in [1, {MAX_ZETA:g}] and [-1, 1]."
            )
        if self.etas is not None and len(self.neighbours) != 2:
            raise InputError(f"{self.kind}: η of three sides are those of two elements of neighbours; got {self}.")
        if len(set(self.neighbours)) == 1 and self.sides[0] != self.sides[1]:
            raise InputError(
                f"{self.kind}: two neighbours of one element cannot have sides of different η; got {self}."
            )

    def ordered(self, elements: Sequence[str]) -> SymmetryFunction:
        """The same function with its neighbours in the order of the elements."""
        if len(self.neighbours) < 2 or elements.index(self.neighbours[0]) <= elements.index(self.neighbours[1]):
            return self
        first, second, between = self.sides
        etas = None if self.etas is None else (second, first, between)
        return replace(self, neighbours=self.neighbours[::-1], etas=etas)

    def spec(self) -> dict[str, Any]:
        """What `read` takes."""
        used = ("kind", "centre", "neighbours", "cutoff", *_USED[self.kind])
        lengths = {name: units.with_unit(getattr(self, name), "length") for name in ("cutoff", "shift")}
        every = {**asdict(self), **lengths, "neighbours": list(self.neighbours)}
        sides = {} if self.etas is None else {"etas": list(self.etas)}
        return {name: every[name] for name in used if not (sides and name == "eta")} | sides

    def __str__(self) -> str:
        """In one line, as ``G2 of Li-O: η 0.5, r_s 1.2, cutoff 6 Å``."""
        near = "-".join((self.centre, *self.neighbours)) if self.neighbours else f"{self.centre}, weighted"
        etas = " ".join(f"{eta:.4g}" for eta in ([self.eta] if self.etas is None else self.etas))
        words = {"eta": f"η {etas}", "shift": f"r_s {self.shift:.4g}", "kappa": f"κ {self.kappa:.4g}"}
        words |= {"zeta": f"ζ {self.zeta:g}", "sign": f"λ {self.sign:+g}"}
        used = [words[name] for name in _USED[self.kind]]
        return f"{self.kind} of {near}: {', '.join([*used, f'cutoff {self.cutoff:.4g} Å'])}"


def weights_of(function: SymmetryFunction, elements: Sequence[str]) -> dict[tuple[int, ...], float]:
    """Species of neighbours, ascending, that a function sums over, and what their terms are multiplied by.

    Args:
        function: its neighbours are among the elements.
        elements: symbols in the order of the species.
    """
    if function.neighbours:
        return {tuple(sorted(elements.index(symbol) for symbol in function.neighbours)): 1.0}
    n_neighbours = 1 if function.kind in RADIAL else 2
    combined = itertools.combinations_with_replacement(range(len(elements)), n_neighbours)
    return {kinds: math.prod(float(atomic_numbers[elements[kind]]) for kind in kinds) for kinds in combined}


def _three(value: object) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise InputError(f"etas of a symmetry function are three numbers, not {value!r}.")
    first, second, between = (_number("etas", one) for one in value)
    return first, second, between


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} of a symmetry function is a number, not {value!r}.")
    return float(value)
