"""Smooth functions that take an interaction to zero at the cutoff."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from mlmd.errors import InputError, did_you_mean


def quintic(distances: Tensor, cutoff: float, onset: float) -> Tensor:
    """Smooth step from 1 at the onset to 0 at the cutoff, with two continuous derivatives.

    f(x) = 1 + x³ (-6x² + 15x - 10), x = (r - onset) / (cutoff - onset), clamped to [0, 1]
    (the weight of DeepPot-SE: Zhang et al., NeurIPS 2018, eq. 4).

    Args:
        distances: any shape, Å.
        cutoff, onset: Å, onset < cutoff.

    Returns:
        The shape of `distances`, zero at and beyond the cutoff.

    Raises:
        InputError: when the onset is not below the cutoff.
    """
    if not 0 <= onset < cutoff:
        raise InputError(f"onset {onset:g} Å must lie between 0 and the cutoff, {cutoff:g} Å.")
    x = ((distances - onset) / (cutoff - onset)).clamp(0.0, 1.0)
    return 1 + x**3 * (x * (15 - 6 * x) - 10)


def quadratic(distances: Tensor, cutoff: float) -> Tensor:
    """The weight of moment tensor potentials, (r_c - r)² below r_c and 0 beyond; not normalised.

    One continuous derivative at the cutoff (Shapeev, Multiscale Model. Simul. 14, 1153, 2016).

    Args:
        distances: any shape, Å.
        cutoff: Å.

    Returns:
        The shape of `distances`, Å².
    """
    return (cutoff - distances).clamp(min=0.0) ** 2


TAPERS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "cosine": lambda y: torch.sin(0.5 * math.pi * y) ** 2,
    "tanh": lambda y: torch.tanh(y) ** 3,
    "tanh-normalised": lambda y: (torch.tanh(y) / math.tanh(1.0)) ** 3,
    "exponential": lambda y: torch.exp(1 - 1 / (y * (2 - y)).clamp(min=1e-3)),  # e⁻⁹⁹⁹ is zero
    "cubic": lambda y: y**2 * (3 - 2 * y),
    "quintic": lambda y: y**3 * (10 + y * (-15 + 6 * y)),
    "septic": lambda y: y**4 * (35 + y * (-84 + y * (70 - 20 * y))),
    "nonic": lambda y: y**5 * (126 + y * (-420 + y * (540 + y * (-315 + 70 * y)))),
}
"""Cutoff functions of symmetry functions, of y from 1 at the onset to 0 at the cutoff; cosine is ½ (1 + cos π(1 - y)).

At the cutoff the derivatives up to the first (cosine, cubic), second (tanh, quintic), third (septic), fourth (nonic) or
any order (exponential) are zero. The same are where it begins to fall, but of the exponential, which has a curvature
there, only the first. These are n2p2's types 1 to 8 in their order (Singraber, Behler and Dellago, J. Chem.
Theory Comput. 15, 1827, 2019).
"""


def check_taper(name: str, onset: float) -> None:
    """Refuse what makes no sense.

    Args:
        name: a key of `TAPERS`.
        onset: a fraction of the cutoff.

    Raises:
        InputError: for an unknown name, an onset that is not in [0, 1), or one of a function that begins with a slope.
    """
    if name not in TAPERS:
        raise InputError(f"{name!r} is not a cutoff function. {did_you_mean(name, TAPERS)}")
    if not 0 <= onset < 1:
        raise InputError(f"the onset of a cutoff function, {onset:g} of the cutoff, is not between 0 and 1.")
    if onset and name.startswith("tanh"):
        raise InputError(f"the cutoff function {name!r} begins at 0 with a slope: it takes no onset.")


def taper(name: str, distances: Tensor, cutoff: float, onset: float) -> Tensor:
    """A cutoff function of `TAPERS`, 1 below the onset (but for tanh) and 0 beyond the cutoff.

    Args:
        name: a key of `TAPERS`.
        distances: any shape, Å.
        cutoff, onset: Å, onset < cutoff.
    """
    return TAPERS[name](((cutoff - distances) / (cutoff - onset)).clamp(0.0, 1.0))
