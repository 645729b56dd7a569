"""Symmetry functions as parameters: what each of them sums over and how, and simple sets of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
        values = (self.cutoff, self.eta, self.shift, self.kappa, self.zeta, self.sign)
        if not all(map(math.isfinite, values)) or self.cutoff <= 0 or self.eta < 0:
            raise InputError(f"{self.kind}: a positive cutoff and η ≥ 0 are needed, all finite; got {self}.")
        if not 1 <= self.zeta <= MAX_ZETA or not -1 <= self.sign <= 1:
            raise InputError(
                f"{self.kind}: ζ = {self.zeta:g} and λ = {self.sign:g} are not in [1, {MAX_ZETA:g}] and [-1, 1]."
            )

    def spec(self) -> dict[str, Any]:
        """What `read` takes."""
        used = ("kind", "centre", "neighbours", "cutoff", *_USED[self.kind])
        lengths = {name: units.with_unit(getattr(self, name), "length") for name in ("cutoff", "shift")}
        every = {**asdict(self), **lengths, "neighbours": list(self.neighbours)}
        return {name: every[name] for name in used}


def evenly_spaced(
    elements: Sequence[str],
    cutoff: object,
    *,
    n_radial: int = 8,
    n_angular: int = 3,
    zetas: Sequence[float] = (1.0, 4.0),
    angular_cutoff: object = None,
    kind: str = "G4",
) -> list[SymmetryFunction]:
    """The same functions for every element and pair of elements, with lengths evenly spaced up to the cutoff.

    Radial: G2 with shifts r_s = m Δ, m = 1 ... n, Δ = r_c / (n + 1), and η = 1 / 2Δ². Angular: no shift,
    η = 1 / 2r_m² for r_m = m r_c / n, with both λ and every ζ (Gastegger et al., J. Chem. Phys. 148, 241709, 2018).

    Args:
        elements: symbols.
        cutoff: of the radial functions, a length.
        n_radial: shifts.
        n_angular: values of η of the angular functions; 0 for none.
        zetas: values of ζ.
        angular_cutoff: of the angular functions; the same by default.
        kind: of the angular functions, "G4" or "G5".

    Raises:
        InputError: for impossible values.
    """
    outer = units.parse(cutoff, "length")
    inner = outer if angular_cutoff is None else units.parse(angular_cutoff, "length")
    step = outer / (n_radial + 1)
    found = []
    for centre in elements:
        found += [
            SymmetryFunction("G2", centre, (other,), outer, eta=0.5 / step**2, shift=m * step)
            for other in elements
            for m in range(1, n_radial + 1)
        ]
        found += [
            SymmetryFunction(kind, centre, pair, inner, eta=0.5 * (n_angular / (m * inner)) ** 2, zeta=zeta, sign=sign)
            for pair in itertools.combinations_with_replacement(elements, 2)
            for m in range(1, n_angular + 1)
            for zeta in zetas
            for sign in (-1.0, 1.0)
        ]
    for one in found:
        one.check()
    return found


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


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} of a symmetry function is a number, not {value!r}.")
    return float(value)
