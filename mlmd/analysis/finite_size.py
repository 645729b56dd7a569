"""What a periodic cell does to diffusion in a liquid."""

from __future__ import annotations

import math

import numpy as np

from mlmd import units
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory

XI = 2.837297
"""Lattice sum of a cubic cell (Madelung constant of simple cubic point charges in a neutralising background)."""
_CUBIC = 0.01


def yeh_hummer(trajectory: Trajectory, viscosity: float, temperature: float | None) -> float:
    """What is to be added to D of a liquid in a cubic cell for that in one without end.

    D_0 - D = ξ k_B T / (6 π η L): a molecule drags its images along (Yeh, Hummer, J. Phys. Chem. B 2004, 108, 15873;
    Dünweg, Kremer, J. Chem. Phys. 1993, 99, 6983). It holds for liquids only; ions in a crystal do not stir it.

    Args:
        trajectory: of a liquid, periodic in all directions.
        viscosity: η, bar s.
        temperature: K.

    Returns:
        Å²/fs.

    Raises:
        InputError: without a temperature, for a viscosity that is not positive, and for cells that are not cubic.
    """
    if temperature is None or not temperature > 0.0:
        raise InputError(
            'The correction for a finite cell needs the temperature. Give temperature=... in K (--temperature "300 K").'
        )
    if not (viscosity > 0.0 and math.isfinite(viscosity)):
        raise InputError(f"A viscosity is a positive number; got {viscosity:g}.")
    cell = trajectory.cells.mean(axis=0)
    length = abs(np.linalg.det(cell)) ** (1.0 / 3.0)
    if not trajectory.pbc.all() or np.abs(cell @ cell.T - length**2 * np.eye(3)).max() > _CUBIC * length**2:
        raise InputError(
            f"{trajectory.provenance.path}: the Yeh–Hummer correction of D is that of a periodic cubic cell. "
            "Leave the viscosity out, or run a cubic cell."
        )
    eta = viscosity * units.BAR * units.parse("1 s", "time")
    return XI * units.KB * temperature / (6.0 * math.pi * eta * length)
