"""Terms of the many-body tensor representation as parameters: what is measured, its grid, weights and normalisation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import torch
from torch import Tensor

from mlmd import units
from mlmd.errors import InputError, did_you_mean

GEOMETRIES: Final = {
    "number": 1,
    "distance": 2,
    "inverse_distance": 2,
    "angle": 3,
    "cosine": 3,
    "dihedral": 4,
    "dihedral_cosine": 4,
}
"""What is measured -> of how many atoms."""
WEIGHTINGS: Final = {
    "unity": (1, 2, 3, 4),
    "exponential": (2, 3, 4),
    "inverse_square": (2,),
    "smooth_cutoff": (2, 3, 4),
}
"""Weighting -> numbers of atoms it is for."""
NORMALISATIONS: Final = {"none": (1, 2, 3, 4), "l2": (1, 2, 3, 4), "n_atoms": (1, 2, 3, 4), "valle_oganov": (2, 3)}
"""Normalisation -> numbers of atoms it is for."""
_NUMBERS = ("minimum", "maximum", "width", "scale", "threshold", "sharpness")


@dataclass(frozen=True)
class Term:
    """One function of one, two, three or four atoms; see `mlmd.descriptors.mbtr` for the formulas."""

    geometry: str
    """A key of `GEOMETRIES`."""
    minimum: float
    """First point of the grid; Å, 1/Å, degrees or a number, as the geometry."""
    maximum: float
    """Last point of the grid."""
    n_points: int
    """Of the grid, both ends included."""
    width: float
    """σ of the Gaussians, in the unit of the grid."""
    weighting: str = "unity"
    """A key of `WEIGHTINGS`."""
    cutoff: float | None = None
    """Å, of every distance from atom to atom along the tuple; for all weightings of 2 or more atoms but exponential."""
    scale: float | None = None
    """s of exponential weights, 1/Å."""
    threshold: float | None = None
    """Exponential weights that are smaller are left out."""
    sharpness: float | None = None
    """y of the smooth cutoff; 2 if not given."""
    normalisation: str = "none"
    """A key of `NORMALISATIONS`."""

    @property
    def n_atoms(self) -> int:
        """1, 2, 3 or 4."""
        return GEOMETRIES[self.geometry]

    @property
    def reach(self) -> float:
        """Å, the distance from atom to atom within which a tuple can have a weight."""
        if self.n_atoms == 1:
            return 0.0
        if self.scale is None or self.threshold is None:
            return self.cutoff or 0.0
        # a side of a triangle is at most half of the way around
        return -math.log(self.threshold) / self.scale / (2 if self.n_atoms == 3 else 1)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Term:
        """From a table of an input file, with a unit for the cutoff.

        Raises:
            InputError: for unknown, missing or impossible values.
        """
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise InputError(f"{name!r} is not of a term of MBTR. {did_you_mean(str(name), names)}")
        if missing := [name for name in names[:5] if name not in given]:
            raise InputError(f"a term of MBTR needs {', '.join(missing)}: {dict(given)}.")
        values = dict(given)
        for name in _NUMBERS:
            if values.get(name) is not None:
                values[name] = _number(name, values[name])
        if values.get("cutoff") is not None:
            values["cutoff"] = units.parse(values["cutoff"], "length")
        made = cls(**values)
        made.check()
        return made

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: for unknown words, words that do not go together, impossible grids and parameters.
        """
        if self.geometry not in GEOMETRIES:
            raise InputError(f"{self.geometry!r} is not a geometry of MBTR. {did_you_mean(self.geometry, GEOMETRIES)}")
        for word, name, known in (
            (self.weighting, "weighting", WEIGHTINGS),
            (self.normalisation, "normalisation", NORMALISATIONS),
        ):
            if word not in known:
                raise InputError(f"{word!r} is not a {name} of MBTR. {did_you_mean(word, known)}")
            if self.n_atoms not in known[word]:
                fitting = [one for one in known if self.n_atoms in known[one]]
                raise InputError(
                    f"{name} {word} is not of {self.geometry}, of {self.n_atoms} atoms. Try {', '.join(fitting)}."
                )
        if not (math.isfinite(self.minimum) and math.isfinite(self.maximum) and self.minimum < self.maximum):
            raise InputError(
                f"{self.geometry}: the grid from {self.minimum:g} to {self.maximum:g} has no points: ascend."
            )
        if isinstance(self.n_points, bool) or not isinstance(self.n_points, int) or self.n_points < 2:
            raise InputError(f"{self.geometry}: a grid has two points or more, not {self.n_points!r}.")
        if not (math.isfinite(self.width) and self.width > 0):
            raise InputError(f"{self.geometry}: Gaussians have a positive width, not {self.width:g}.")
        self._check_weighting()

    def _check_weighting(self) -> None:
        needed: tuple[str, ...] = ("cutoff",) if self.n_atoms > 1 else ()
        optional: tuple[str, ...] = ()
        if self.weighting == "exponential":
            needed = ("scale", "threshold")
        elif self.weighting == "smooth_cutoff":
            optional = ("sharpness",)
        for name in ("cutoff", "scale", "threshold", "sharpness"):
            value = getattr(self, name)
            if value is None and name in needed:
                raise InputError(f"{self.geometry} with weighting {self.weighting} needs {' and '.join(needed)}.")
            if value is not None and name not in needed + optional:
                raise InputError(f"{name} is not of {self.geometry} with weighting {self.weighting}. Leave it out.")
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{self.geometry}: {name} is positive and finite, not {value:g}.")
        if self.threshold is not None and self.threshold >= 1:
            raise InputError(f"{self.geometry}: the threshold of weights lies below 1, not at {self.threshold:g}.")
        if self.sharpness is not None and self.sharpness < 1:
            raise InputError(f"{self.geometry}: the sharpness of a smooth cutoff is 1 or more, not {self.sharpness:g}.")

    def edges(self, like: Tensor) -> Tensor:
        """(n_points + 1,) bounds of the bins around the points of the grid."""
        return torch.arange(self.n_points + 1, dtype=like.dtype, device=like.device) * self.step + (
            self.minimum - 0.5 * self.step
        )

    @property
    def step(self) -> float:
        """From one point of the grid to the next."""
        return (self.maximum - self.minimum) / (self.n_points - 1)

    def spec(self) -> dict[str, Any]:
        """What `read` takes."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return said | ({} if self.cutoff is None else {"cutoff": units.with_unit(self.cutoff, "length")})


def channels(n_atoms: int, n_elements: int) -> list[tuple[int, ...]]:
    """Species of the tuples that have a spectrum of their own, in the order of the features.

    A tuple and its reverse are one: of the two, what is listed ascends. Triplets are ordered by their centre first,
    then by their ends; pairs and paths of four from first to last. For elements in the order of their atomic numbers
    that is the order of DScribe.
    """
    every = [one for one in itertools.product(range(n_elements), repeat=n_atoms) if one <= one[::-1]]
    return sorted(every, key=lambda one: (one[1], one[0], one[2])) if n_atoms == 3 else every


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} of a term of MBTR is a number, not {value!r}.")
    return float(value)
