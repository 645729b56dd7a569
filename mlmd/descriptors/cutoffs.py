"""Smooth functions that take an interaction to zero at the cutoff."""

from __future__ import annotations

from torch import Tensor

from mlmd.errors import InputError


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
