"""Minima of a free energy on a grid, and the passes between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Pass:
    """The lowest way between two basins goes over this point."""

    first: int
    """Point (flat index) of the deeper minimum."""
    second: int
    """Point of the other."""
    top: int


def basins(values: np.ndarray, periodic: Sequence[bool], least: float) -> tuple[list[int], list[Pass]]:
    """Minima that are deeper than the passes around them by at least `least`, and those passes.

    The grid is flooded from below: points are taken in the order of their value, and where two lakes meet is a pass.
    The lake with the higher minimum ends there, as a minimum of its own if it is deep enough.

    Args:
        values: (*shape), nan where not known.
        periodic: of each axis.
        least: depth below which a dent is none.

    Returns:
        Flat indices of the minima in the region of the lowest one, by value; and the passes, by height.
    """
    flat = values.ravel()
    known = np.flatnonzero(np.isfinite(flat))
    if not len(known):
        return [], []
    order = known[np.argsort(flat[known], kind="stable")]
    neighbours = _neighbours(values.shape, periodic)
    lake = np.full(flat.size, -1)  # -> the lake it has flowed into; a lake is known by its lowest point
    passes: list[Pass] = []

    def lowest(point: int) -> int:
        while lake[point] != point:
            lake[point] = lake[lake[point]]
            point = int(lake[point])
        return point

    for point in order.tolist():
        met = sorted({lowest(n) for n in neighbours[point].tolist() if n >= 0 and lake[n] >= 0}, key=_of(flat))
        lake[point] = met[0] if met else point
        for other in met[1:]:
            if flat[point] - flat[other] >= least:
                passes.append(Pass(met[0], other, point))
            lake[other] = met[0]
    region = lowest(int(order[0]))
    kept = [one for one in passes if lowest(one.first) == region]
    minima = sorted({int(order[0])} | {point for one in kept for point in (one.first, one.second)}, key=_of(flat))
    return minima, kept


def apart(values: np.ndarray, periodic: Sequence[bool], least: float) -> list[int]:
    """Lowest points of the regions that no known point joins with that of the lowest one.

    Of regions with a twentieth of the known points that go up by `least`, on every side: single bins at the edge of
    what was seen, and pieces of a slope, are none.

    Args:
        values: (*shape), nan where not known.
        periodic: of each axis.
        least: depth below which a region is none.

    Returns:
        Flat indices, by value.
    """
    flat = values.ravel()
    known = np.isfinite(flat)
    near = _neighbours(values.shape, periodic)
    start, column = np.nonzero(known[:, None] & (near >= 0) & known[near])
    joined = coo_matrix((np.ones(len(start)), (start, near[start, column])), shape=(flat.size, flat.size))
    region = connected_components(joined, directed=False)[1]
    found = []
    for one in np.flatnonzero(np.bincount(region[known]) > known.sum() / 20):
        points = np.flatnonzero((region == one) & known)
        point = int(points[np.argmin(flat[points])])
        around = near[point]
        if np.ptp(flat[points]) >= least and known[around[around >= 0]].all():
            found.append(point)
    lowest = region[np.nanargmin(flat)] if known.any() else -1
    return sorted((point for point in found if region[point] != lowest), key=_of(flat))


def _of(flat: np.ndarray) -> Callable[[int], tuple[float, int]]:
    return lambda point: (float(flat[point]), point)


def _neighbours(shape: tuple[int, ...], periodic: Sequence[bool]) -> np.ndarray:
    """(n_points, 2 n_dim) flat indices; -1 beyond an end."""
    number = np.arange(int(np.prod(shape))).reshape(shape)
    columns = []
    for axis, closed in enumerate(periodic):
        for step in (1, -1):
            moved = np.roll(number, step, axis)
            if not closed:
                np.moveaxis(moved, axis, 0)[0 if step == 1 else -1] = -1
            columns.append(moved.ravel())
    return np.stack(columns, axis=1)
