"""Currents of particles at points of the reciprocal lattice, as far as they are at right angles to them."""

from __future__ import annotations

import math

import numpy as np

from mlmd.analysis.scattering.density import Density
from mlmd.analysis.scattering.wavevectors import Wavevectors, reciprocal
from mlmd.analysis.vacf import Stored
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory


def transverse_currents(trajectory: Trajectory, stored: Stored, points: Wavevectors) -> np.ndarray:
    """Σ_j v_j exp(iq·r_j) / √N along two directions at right angles to q.

    See Hansen and McDonald, Theory of Simple Liquids, section 7.4.

    Args:
        trajectory: in one cell.
        stored: reads its velocities.
        points: wavevectors q.

    Returns:
        (2, n_frames, n_q) Å/fs.

    Raises:
        InputError: when some frames have no velocities.
    """
    density, inverse = Density(points.indices), np.linalg.inv(trajectory.cells[0])
    along = points.indices @ reciprocal(trajectory.cells[0])
    along /= np.linalg.norm(along, axis=1)[:, None]
    least = np.eye(3)[np.abs(along).argmin(axis=1)]  # the axis that is farthest from q
    first = np.cross(along, least)
    first /= np.linalg.norm(first, axis=1)[:, None]
    ways = np.stack([first, np.cross(along, first)])
    found = np.empty((2, trajectory.n_frames, len(points.indices)), dtype=complex)
    number = 0
    for frames in trajectory.chunks():
        velocities = stored(trajectory.rows[number : number + len(frames.positions)])
        if velocities is None:
            raise InputError(f"{trajectory.provenance.path}: some frames have velocities and others do not.")
        for positions, of_atoms in zip(frames.positions, velocities, strict=True):
            fractional = positions @ inverse
            current = np.stack([density(fractional, of_atoms[:, axis]) for axis in range(3)], axis=1)
            found[:, number] = np.einsum("wqa,qa->wq", ways, current) / math.sqrt(trajectory.n_atoms)
            number += 1
    return found
