"""How rough a surface is: its height above every point of the plane, as a ball feels it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeightMap:
    """Heights of a surface on a grid along the first two vectors of the cell."""

    heights: np.ndarray
    """(n_a, n_b) Å; point (i, j) lies at i/n_a of the first vector and j/n_b of the second. nan above a hole."""
    plane: np.ndarray
    """(2, 2) Å, the two vectors."""

    @property
    def mean(self) -> float:
        """Mean height, Å."""
        return float(np.nanmean(self.heights))

    @property
    def roughness(self) -> float:
        """Root mean square deviation from the mean height, Å."""
        return float(np.nanstd(self.heights))


def height_map(positions: np.ndarray, cell: np.ndarray, ball: float, spacing: float) -> HeightMap:
    """h(x, y) = max_i z_i + √(d² - ρ_i²): where the centre of an atom that comes down at (x, y) meets a distance d.

    ρ_i is the distance in the plane of an atom i, or of an image of it, from (x, y). It is what a probe with a round
    tip sees: a flat face of a crystal has a roughness too, that of its corrugation.

    Args:
        positions: (n_atoms, 3) Å, of atoms that belong to the surface or lie below it.
        cell: (3, 3) Å, whose first two vectors span the plane of x and y.
        ball: d, Å.
        spacing: of the grid, Å, at most.
    """
    plane = cell[:2, :2]
    n_a, n_b = (max(1, int(np.ceil(length / spacing))) for length in np.linalg.norm(plane, axis=1))
    heights = np.full(n_a * n_b, -np.inf)
    offsets = _patch(plane, n_a, n_b, ball)
    reduced = positions[:, :2] @ np.linalg.inv(plane) * (n_a, n_b)
    order = np.argsort(-positions[:, 2], kind="stable")
    # From the top down, some at a time: those that lie deeper than the map by more than a ball are not seen.
    for part in np.array_split(order, max(1, len(order) // 2000)):
        if len(part) and positions[part[0], 2] + ball < heights.min():
            break
        nearest = np.rint(reduced[part]).astype(int)
        points = nearest[:, None] + offsets
        apart = (points - reduced[part][:, None]) / (n_a, n_b) @ plane
        squares = ball**2 - np.einsum("ijk,ijk->ij", apart, apart)
        seen = squares > 0.0
        index = points[..., 0] % n_a * n_b + points[..., 1] % n_b
        values = positions[part, 2][:, None] + np.sqrt(np.where(seen, squares, 0.0))
        np.maximum.at(heights, index[seen], values[seen])
    heights[~np.isfinite(heights)] = np.nan
    return HeightMap(heights.reshape(n_a, n_b), plane)


def _patch(plane: np.ndarray, n_a: int, n_b: int, radius: float) -> np.ndarray:
    """Grid points (n, 2) about one that may lie within a radius of an atom near it."""
    spread = np.linalg.norm(np.linalg.inv(plane), axis=0)  # 1 / distance between lines of equal a, and of equal b
    reach_a, reach_b = (int(np.ceil(radius * one * n)) + 1 for one, n in zip(spread, (n_a, n_b), strict=True))
    a, b = np.meshgrid(np.arange(-reach_a, reach_a + 1), np.arange(-reach_b, reach_b + 1), indexing="ij")
    return np.stack([a.ravel(), b.ravel()], axis=1)
