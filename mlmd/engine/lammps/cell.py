"""Cells that LAMMPS can divide: lower triangular, and at right angles to directions that are open."""

from __future__ import annotations

import numpy as np

from mlmd.errors import InputError


def check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    """Make sure that LAMMPS can have a cell (3, 3) Å with the directions pbc (3,) periodic.

    Raises:
        InputError: for a cell with open directions that does not stand along the axes.
    """
    periodic = np.flatnonzero(pbc)
    if pbc.all() or not len(periodic):
        return
    rows = cell[periodic]
    above = any(abs(rows[n, axis]) > 1e-12 for n, row in enumerate(periodic) for axis in range(row + 1, 3))
    leaning = np.abs(rows[:, ~pbc]).max() > 1e-12
    if above or leaning or (np.diag(cell)[periodic] <= 0.0).any():
        raise InputError(
            f'engine = "lammps": the periodic cell vectors {np.round(rows, 4).tolist()} Å do not stand along the axes: '
            "in a cell that is open somewhere, a has to be along x, b in the plane of x and y, and neither may lean "
            "into an open direction. Turn the structure, or make it periodic in all directions with a vacuum."
        )
