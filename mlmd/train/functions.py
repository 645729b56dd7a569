"""The symmetry functions of a training: evenly spaced, by radii, those of many that tell the data apart, or a list."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlmd.config import ACSF
from mlmd.config.symmetry import ListedFunction
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.descriptors.symmetry_sets import by_radii, evenly_spaced, everywhere, pool
from mlmd.errors import InputError
from mlmd.fitting.points import farthest, leading
from mlmd.io.labelled import LabelledFrame
from mlmd.train.environments import features_of

_ATOMS = 5_000
"""Atoms, about, whose surroundings functions are chosen by."""
_FAINT = 1e-2
"""Standard deviation of a function, relative to the greatest of all of an element, below which it tells too little."""
_ROUNDING = 1e-9
"""Standard deviation of a function, relative to its greatest value, that is none."""
_DEPENDENT = 1e-6
"""Singular value of the functions, relative to the greatest, below which they depend on each other."""
_CHOICES = {"farthest": farthest, "cur": leading}


def symmetry_functions(
    given: ACSF, frames: Sequence[LabelledFrame], elements: Sequence[str], seed: int
) -> list[SymmetryFunction]:
    """The functions of an input.

    Args:
        given: its table.
        frames: training structures.
        elements: symbols, in the order of the species.
        seed: of the choice of atoms that functions are chosen by, where there are many.

    Raises:
        InputError: for impossible values, and where nothing tells the functions apart.
    """
    cutoff = f"{given.cutoff!r} Å"
    match given.functions:
        case "even":
            return evenly_spaced(
                elements,
                cutoff,
                n_radial=given.n_radial,
                n_angular=given.n_angular,
                zetas=given.zetas,
                kind=given.angular,
                weighted=given.weighted,
            )
        case "radii":
            for symbol in given.radii if not isinstance(given.radii, str) else ():
                if symbol not in elements:
                    raise InputError(f"descriptor: radii: {symbol} is none of the elements, {', '.join(elements)}.")
            return by_radii(
                elements,
                cutoff,
                given.radii,
                scales=given.scales,
                n_angular=given.n_angular,
                zetas=given.zetas,
                kind=given.angular,
            )
        case "selected":
            many = pool(elements, cutoff, zetas=given.zetas, kind=given.angular, weighted=given.weighted)
            if not given.n_angular:
                many = [one for one in many if one.kind == "G2"]
            return selected(descriptor_of(given, many, elements), frames, given.n_functions, given.selection, seed)
        case _:
            return _listed(given, elements)


def _listed(given: ACSF, elements: Sequence[str]) -> list[SymmetryFunction]:
    """Those of a list, in its order, each for all elements that it leaves open."""
    found: dict[SymmetryFunction, int] = {}
    for number, one in enumerate(given.functions, 1):
        assert isinstance(one, ListedFunction)
        place = f"descriptor: functions {number} ({one.kind}): "
        for symbol in {*one.neighbours, one.centre or elements[0]}:
            if symbol not in elements:
                raise InputError(f"{place}{symbol} is none of the elements, {', '.join(elements)}.")
        centres = elements if one.centre is None else (one.centre,)
        cutoff = given.cutoff if one.cutoff is None else one.cutoff
        for made in everywhere(
            elements, one.kind, centres, one.neighbours, cutoff, weighted=given.weighted, **one.shape
        ):
            if (before := found.setdefault(made, number)) != number:
                raise InputError(f"{place}{made} is already one of functions {before}. Remove one of them.")
    described = {one.centre for one in found}
    if without := [symbol for symbol in elements if symbol not in described]:
        raise InputError(
            f"descriptor: functions: none is of centre {' or '.join(without)}: atoms of every element need a "
            "description. Leave centre out somewhere, or add functions."
        )
    return [*found]


def descriptor_of(given: ACSF, functions: Sequence[SymmetryFunction], elements: Sequence[str]) -> Symmetry:
    """Some functions with the cutoff function of an input."""
    onset = (given.cutoff_smooth or 0.0) / given.cutoff
    return Symmetry(elements=elements, functions=functions, taper=given.cutoff_function, onset=onset)


def selected(
    many: Symmetry, frames: Sequence[LabelledFrame], n_functions: int, selection: str, seed: int
) -> list[SymmetryFunction]:
    """For every element, those functions of its atoms that differ most among themselves in the training structures.

    A function is the column of its values for the atoms of its element, with mean zero and variance one: the square of
    the distance of two is twice what their correlation lacks to one. Columns are chosen by farthest points or CUR
    (Imbalzano et al., J. Chem. Phys. 148, 241730, 2018).

    Args:
        many: functions to choose from.
        frames: training structures.
        n_functions: of every element, or as many as do not depend on each other.
        selection: "farthest" or "cur".
        seed: of the choice of structures that are looked at, where there are many.

    Raises:
        InputError: when all atoms of an element are alike.
    """
    features, kinds = features_of(many, frames, seed, _ATOMS)
    found = []
    for kind, symbol in enumerate(many.elements):
        own = [one for one in many.functions if one.centre == symbol]
        columns = features[kinds == kind, : len(own)]
        spread, mean = torch.std_mean(columns, dim=0, correction=0)
        spread = torch.where(spread > _ROUNDING * columns.abs().amax(dim=0), spread, 0.0)
        varying = (spread > _FAINT * spread.max()).nonzero().squeeze(1)
        if not len(varying):
            raise InputError(
                f"descriptor: functions: all atoms of {symbol} in the training structures have the same surroundings: "
                'nothing tells functions apart. Add structures out of equilibrium, or write functions = "even".'
            )
        rows = ((columns - mean) / spread)[:, varying].T / len(columns) ** 0.5
        n_different = int(torch.linalg.matrix_rank(rows, rtol=_DEPENDENT))
        chosen = _CHOICES[selection](rows, min(n_functions, n_different))
        found += [own[place] for place in sorted(varying[chosen].tolist())]  # in the order of the pool
    return found
