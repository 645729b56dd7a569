"""Isosurfaces: those of balls have the area and the volume of balls, also in skew cells and across their borders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ase
import numpy as np
import pytest

from mlmd.analysis.density import density
from mlmd.analysis.figures import save
from mlmd.analysis.isosurface import isosurface
from mlmd.io.trajectories import from_arrays

CELL = np.array([[11.0, 0.0, 0.0], [4.0, 10.0, 0.0], [-3.0, 4.0, 12.0]])
RADIUS = 3.0


def ball(centre: tuple[float, float, float], n: int = 48) -> np.ndarray:
    """Minus the distance to the nearest image of a place, at n³ points."""
    reduced = np.stack(np.meshgrid(*[np.arange(n) / n] * 3, indexing="ij"), axis=-1) - centre
    reduced -= np.rint(reduced)
    images = np.array(list(np.ndindex(3, 3, 3))) - 1.0
    field: np.ndarray = -np.min([np.linalg.norm((reduced + image) @ CELL, axis=-1) for image in images], axis=0)
    return field


def normals(triangles: np.ndarray) -> np.ndarray:
    """(n, 3), as long as the area of each."""
    found: np.ndarray = 0.5 * np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return found


def test_the_surface_of_a_ball_has_its_area_and_encloses_its_volume() -> None:
    triangles = isosurface(ball((0.5, 0.5, 0.5)), -RADIUS) @ CELL
    outward = normals(triangles)
    # chords of 0.3 Å lie inside of a sphere of 3 Å by (0.3 / 3)² / 8 of the radius or less
    assert np.linalg.norm(outward, axis=1).sum() == pytest.approx(4 * np.pi * RADIUS**2, rel=0.004)
    # by Gauss, a third of the flux of r, which is positive where normals point to lower values
    volume = np.einsum("ni,ni->", outward, triangles.mean(axis=1)) / 3.0
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.006)


def test_a_closed_surface_has_no_edge() -> None:
    """Every edge is of two triangles, which tetrahedra that share a face make of the same two points."""
    triangles = isosurface(ball((0.5, 0.5, 0.5), 20), -0.987 * RADIUS)  # through no point of the grid
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = [tuple(sorted(map(tuple, side))) for side in np.round(sides, 9).tolist()]
    counts = Counter(edges)
    assert set(counts.values()) == {2}


def test_a_ball_across_the_border_of_the_cell_is_as_large() -> None:
    inside, across = (isosurface(ball(centre), -RADIUS) @ CELL for centre in ((0.5, 0.5, 0.5), (0.0, 0.0, 0.5)))
    areas = [np.linalg.norm(normals(one), axis=1).sum() for one in (inside, across)]
    assert areas[0] == pytest.approx(areas[1], rel=1e-9)


def test_a_density_that_is_the_same_everywhere_has_no_surface_and_a_picture() -> None:
    assert not len(isosurface(np.ones((4, 4, 4)), 1.0))
    grid = np.array(list(np.ndindex(4, 4, 4))) / 4.0 * 8.0
    trajectory = from_arrays(grid[:, None], ase.Atoms("Li", cell=[8.0] * 3, pbc=True), interval=1.0, unwrapped=True)
    figure = density(trajectory, spacing=2.0, drift="none").figure()
    assert [axes.name for axes in figure.axes].count("3d") == 1


def test_a_surface_is_one_picture_in_a_file_of_vectors(tmp_path: Path) -> None:
    path = 4.0 + np.random.default_rng(0).normal(scale=1.0, size=(500, 1, 3))
    trajectory = from_arrays(path, ase.Atoms("Li", cell=[8.0] * 3, pbc=True), interval=1.0, unwrapped=True)
    save(density(trajectory, drift="none").figure(), tmp_path / "density.svg")
    drawn = (tmp_path / "density.svg").read_text()
    assert drawn.count("<image") >= 4 and drawn.count("<path") < 500  # thousands of triangles otherwise
