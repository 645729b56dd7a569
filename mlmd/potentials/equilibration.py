"""Charge equilibration: the charges that make the electrostatic energy of a structure smallest.

E(q) = Σ_i (χ_i q_i + ½ J_i q_i²) + ½ Σ_ij q_i q_j e²/(4πε₀) erf(r_ij / √(2 (σ_i² + σ_j²))) / r_ij, Σ_i q_i = Q,

with an electronegativity χ and a hardness J of each element and charges that are Gaussians of standard deviation σ; the
term i = j is that of a Gaussian with itself, q_i² e²/(4πε₀) / (2 σ_i √π). (A. K. Rappé, W. A. Goddard, J. Phys. Chem.
95, 3358 (1991); with Gaussians: S. A. Ghasemi et al., Phys. Rev. B 92, 045131 (2015), T. W. Ko et al., Nat. Commun. 12,
398 (2021).) As E is stationary in the charges, forces and stress are its derivatives at fixed charges. Gaussians never
attract themselves, so that with J > 0 there is always one minimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError, did_you_mean
from mlmd.potentials.pair import COULOMB
from mlmd.units import parse

KIND = "equilibrated"
_BY_ELEMENT = {"electronegativity": "energy", "hardness": "energy", "width": "length"}
"""What an element has, and of which unit it is."""
_SMALL = 1e-10
"""eV/e, to which electronegativities are made equal: charges, and so forces, are exact to some more digits than those
of Ewald's sum."""
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Equilibration:
    """What charges of elements depend on."""

    electronegativity: Mapping[str, float]
    """χ, eV/e."""
    hardness: Mapping[str, float]
    """J, eV/e²."""
    width: Mapping[str, float]
    """σ, Å."""
    total: float
    """Q, e, of every structure."""

    @classmethod
    def read(cls, table: Mapping[str, object]) -> Equilibration:
        """What an input says: a table with `kind`, the three tables by element, and perhaps `total`.

        Raises:
            InputError: for what is missing, unknown or impossible.
        """
        known = ("kind", *_BY_ELEMENT, "total")
        for name in table:
            if name not in known:
                raise InputError(f"charges: {name!r} is not an option. {did_you_mean(str(name), known)}")
        given = {name: _numbers(name, table.get(name), quantity) for name, quantity in _BY_ELEMENT.items()}
        elements = list(dict.fromkeys(symbol for values in given.values() for symbol in values))
        for name, values in given.items():
            if missing := [symbol for symbol in elements if symbol not in values]:
                raise InputError(f"charges: {name}: {', '.join(missing)} has none.")
            if name != "electronegativity" and (low := [one for one in elements if not values[one] > 0]):
                raise InputError(f"charges: {name}: {low[0]}: {values[low[0]]:g}: a number above zero is needed.")
        total = table.get("total", 0.0)
        if isinstance(total, bool) or not isinstance(total, int | float) or not math.isfinite(total):
            raise InputError(f"charges: total: {total!r} is not a number of elementary charges.")
        return cls(**given, total=float(total))

    @property
    def elements(self) -> tuple[str, ...]:
        """Those that have parameters."""
        return tuple(self.electronegativity)

    def of(self, elements: Sequence[str]) -> Tensor:
        """(n_elements, 3): χ, J + e²/(4πε₀) / (σ √π), the whole self-interaction, and σ.

        Raises:
            InputError: for elements without parameters.
        """
        if missing := [symbol for symbol in elements if symbol not in self.electronegativity]:
            raise InputError(f"charges: {', '.join(missing)} has no electronegativity, hardness and width.")
        rows = [(self.electronegativity[one], self.hardness[one], self.width[one]) for one in elements]
        table = torch.tensor(rows, dtype=torch.float64)
        table[:, 1] += COULOMB / (table[:, 2] * math.sqrt(math.pi))
        return table

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        given = {name: dict(getattr(self, name)) for name in _BY_ELEMENT}
        return {"kind": KIND, **given, "total": self.total}


def overlap(distances: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """erfc(r / √(2 (σ_i² + σ_j²))) / r in 1/Å: by how much Gaussians repel each other less than points."""
    return torch.erfc(distances / torch.sqrt(2.0 * (first * first + second * second))) / distances


def equilibrate(
    potential: Callable[[Tensor], Tensor], electronegativity: Tensor, hardness: Tensor, total: float
) -> Tensor:
    """Charges (n_atoms,) e that make χ·q + ½ q·A·q smallest among those that add up to a total.

    By conjugate gradients among charges that add up to nothing, each in units of J^-½, from equal charges on.

    Args:
        potential: A·q, (n_atoms,) eV/e, of charges; symmetric.
        electronegativity: χ, (n_atoms,) eV/e.
        hardness: the diagonal of A, or near it, (n_atoms,) eV/e².
        total: e.

    Raises:
        InputError: when there are none, as for two atoms at the same place.
    """
    weight = 1.0 / hardness
    charges = total * weight / weight.sum()
    residual = -(electronegativity + potential(charges))
    residual = residual - (weight * residual).sum() / weight.sum()
    way, size = weight * residual, float((weight * residual * residual).sum())
    for _ in range(_MOST_STEPS):
        if float(residual.abs().max()) < _SMALL:
            return charges
        moved = potential(way)
        curvature = float((way * moved).sum())
        if not curvature > 0.0:
            break
        charges = charges + size / curvature * way
        residual = residual - size / curvature * moved
        residual = residual - (weight * residual).sum() / weight.sum()
        before, size = size, float((weight * residual * residual).sum())
        way = weight * residual + size / before * way
    raise InputError(
        "coulomb: no charges were found that make the energy of this structure smallest. Are two atoms at the same "
        "place, or positions not finite?"
    )


def _numbers(name: str, given: object, quantity: str) -> dict[str, float]:
    """Of each element, from a table."""
    if not isinstance(given, Mapping) or not given:
        example = '{ Na = "2.8 eV", Cl = "8.3 eV" }' if quantity == "energy" else '{ Na = "1.7 Å", Cl = "1 Å" }'
        raise InputError(f"charges: {name}: a table by element is needed, for example {example}.")
    found = {}
    for symbol, value in given.items():
        try:
            found[str(symbol)] = float(parse(value, quantity))
        except InputError as error:
            raise InputError(f"charges: {name}: {symbol}: {error}") from None
    return found
