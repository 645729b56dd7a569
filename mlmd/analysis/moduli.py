"""Moduli of a powder of crystals from their elastic constants: the bounds of Voigt and Reuss, and Hill's mean."""

from __future__ import annotations

import numpy as np

MODULI = {
    "bulk (Voigt)": "GPa", "bulk (Reuss)": "GPa", "bulk (Hill)": "GPa", "shear (Voigt)": "GPa",
    "shear (Reuss)": "GPa", "shear (Hill)": "GPa", "Young (Hill)": "GPa", "Poisson (Hill)": "",
    "universal anisotropy": "",
}  # fmt: skip
"""Name -> unit."""


def moduli(tensor: np.ndarray) -> dict[str, float]:
    """Moduli of a powder of crystals with a tensor (6, 6) GPa, in the order of `MODULI`.

    The universal anisotropy is 5 G_V / G_R + B_V / B_R - 6, zero of an isotropic crystal (Ranganathan and
    Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504, 2008). What needs the inverse is nan of a crystal that is not
    stable, which has no such modulus.
    """
    diagonal, across = np.trace(tensor[:3, :3]), tensor[0, 1] + tensor[0, 2] + tensor[1, 2]
    shears = np.trace(tensor[3:, 3:])
    bulk_voigt, shear_voigt = (diagonal + 2.0 * across) / 9.0, (diagonal - across + 3.0 * shears) / 15.0
    stable = np.linalg.eigvalsh(tensor)[0] > 0.0
    s = np.linalg.inv(tensor) if stable else np.full((6, 6), np.nan)
    between = s[0, 1] + s[0, 2] + s[1, 2]
    bulk_reuss = 1.0 / (np.trace(s[:3, :3]) + 2.0 * between)
    shear_reuss = 15.0 / (4.0 * np.trace(s[:3, :3]) - 4.0 * between + 3.0 * np.trace(s[3:, 3:]))
    bulk, shear = 0.5 * (bulk_voigt + bulk_reuss), 0.5 * (shear_voigt + shear_reuss)
    values = (
        bulk_voigt, bulk_reuss, bulk, shear_voigt, shear_reuss, shear, 9.0 * bulk * shear / (3.0 * bulk + shear),
        (3.0 * bulk - 2.0 * shear) / (6.0 * bulk + 2.0 * shear),
        5.0 * shear_voigt / shear_reuss + bulk_voigt / bulk_reuss - 6.0,
    )  # fmt: skip
    return dict(zip(MODULI, map(float, values), strict=True))
