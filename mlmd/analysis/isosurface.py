"""Where a field on a periodic grid is as large as a level: triangles, by marching tetrahedra.

Every cell of the grid is cut into the six tetrahedra that share its diagonal, and in each the field is linear between
its corners, so that triangles of neighbours meet (Doi and Koide, IEICE Trans. E74, 214 (1991)).
"""

from __future__ import annotations

from itertools import permutations

import numpy as np


def isosurface(values: np.ndarray, level: float) -> np.ndarray:
    """Triangles (n, 3, 3) of corners in parts of the cell, turned so that (b - a) × (c - a) points to lower values.

    Args:
        values: (n_a, n_b, n_c) at the points (i/n_a, j/n_b, k/n_c) of the cell, which repeats; the surface is cut where
            it leaves the cell.
        level: of the field.
    """
    shape = np.array(values.shape)
    whole = np.pad(values, [(0, 1)] * 3, mode="wrap")
    low, high = _extremes(whole)
    cells = np.argwhere((low < level) & (high >= level))
    corners = cells[:, None, None] + _tetrahedra()  # (n_cells, 6, 4, 3)
    corners = corners.reshape(-1, 4, 3)
    at = whole[tuple(np.moveaxis(corners, 2, 0))]
    order = np.argsort(at < level, axis=1, kind="stable")  # inside first
    at = np.take_along_axis(at, order, axis=1)
    places = np.take_along_axis(corners, order[:, :, None], axis=1) / shape
    n_inside = (at >= level).sum(axis=1)
    found = []
    for n, faces in _FACES.items():
        chosen = n_inside == n
        for face in faces:
            points = [_between(places[chosen], at[chosen], one, other, level) for one, other in face]
            outward = places[chosen, n:].mean(axis=1) - places[chosen, :n].mean(axis=1)
            found.append(_turned(np.stack(points, axis=1), outward))
    return np.concatenate(found)


_FACES: dict[int, tuple[tuple[tuple[int, int], ...], ...]] = {
    1: (((0, 1), (0, 2), (0, 3)),),
    2: (((0, 2), (0, 3), (1, 3)), ((0, 2), (1, 3), (1, 2))),
    3: (((0, 3), (1, 3), (2, 3)),),
}
"""Triangles by the number of corners inside; a corner of a triangle is on the edge between two corners."""


def _tetrahedra() -> np.ndarray:
    """(6, 4, 3) corners of a unit cube: one on each way from corner to corner along its edges."""
    ways = [np.cumsum([np.zeros(3, int), *np.eye(3, dtype=int)[list(way)]], axis=0) for way in permutations(range(3))]
    return np.array(ways)


def _extremes(whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value at the eight corners of each cell."""
    low = high = whole
    for axis in range(3):
        first, second = (slice(None),) * axis + (slice(-1),), (slice(None),) * axis + (slice(1, None),)
        low, high = np.minimum(low[first], low[second]), np.maximum(high[first], high[second])
    return low, high


def _between(places: np.ndarray, at: np.ndarray, one: int, other: int, level: float) -> np.ndarray:
    """Where the field is at the level on the edge from a corner inside to one outside, (n, 3)."""
    part = (at[:, one] - level) / (at[:, one] - at[:, other])
    point: np.ndarray = places[:, one] + part[:, None] * (places[:, other] - places[:, one])
    return point


def _turned(triangles: np.ndarray, outward: np.ndarray) -> np.ndarray:
    """With corners in the order in which their normals point outward."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    inward = np.einsum("ni,ni->n", normal, outward) < 0.0
    triangles[inward] = triangles[inward][:, ::-1]
    return triangles
