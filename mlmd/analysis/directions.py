"""Directions of a crystal: lattice vectors, and sums of them."""

from __future__ import annotations

import numpy as np

from mlmd.errors import InputError
from mlmd.io.frames import Trajectory

_VECTORS = {"a": (1.0, 0.0, 0.0), "b": (0.0, 1.0, 0.0), "c": (0.0, 0.0, 1.0)}


def direction(trajectory: Trajectory, name: str) -> np.ndarray:
    """Unit vector of a direction of the mean cell.

    Args:
        trajectory: of a crystal.
        name: ``"a"``, ``"b"`` or ``"c"``, or the direction [uvw] as ``"u,v,w"``: u a + v b + w c.

    Returns:
        (3,).

    Raises:
        InputError: for other names, [000], and cells without a volume.
    """
    try:
        steps = np.array(_VECTORS.get(name.strip()) or [float(part) for part in name.split(",")])
    except ValueError:
        steps = np.empty(0)
    if steps.shape != (3,) or not np.isfinite(steps).all() or not steps.any():
        raise InputError(f'{name!r} is not a direction. Give "a", "b" or "c", or three numbers: "1,1,0" is a + b.')
    cell = trajectory.cells.mean(axis=0)
    if abs(np.linalg.det(cell)) < 1e-6:
        raise InputError(f"{trajectory.provenance.path} has no cell, so {name!r} is no direction in it.")
    vector: np.ndarray = steps @ cell
    return vector / np.linalg.norm(vector)
