"""Sites of adatoms on a crystal's face: what one adatom visits about one surface atom is there about every one.

An adatom that hops rarely visits few of the sites, and those in passing only. On a face whose top layer is a lattice
all places r of adatoms, relative to the surface atom that is nearest, tell about the same sites: the density
Σ_k Σ_r δ(x - t_k - (r - t(r))), with t_k the places of surface atoms and t(r) the one nearest to r, has its maxima at
all sites of the face. Where few places are known, the density about a hollow that is visited less than the one beside
it may have no maximum of its own. So hollows, which are as far from three surface atoms or more and closer to none,
are sites, too, where adatoms are often enough.
"""

from __future__ import annotations

import math

import ase
import numpy as np
from scipy.spatial import Delaunay, cKDTree

from mlmd.analysis.density import smoothed
from mlmd.analysis.places import GRID, IMAGES, SMOOTH, Places, from_density

ALIKE = 0.5
"""Å: how far a lattice may be from itself, shifted by one of its vectors."""
APART = 0.3
"""Of the distance of surface atoms: of maxima that are closer one is a site. Hollows of (111) are 0.58 of it apart."""
HOLLOW = 0.2
"""Of the highest maximum: with as much density a hollow is a site, too."""
MOST = 20_000
"""Places of adatoms that are looked at."""
_MOST_VECTORS = 12


def is_lattice(top: np.ndarray, cell: np.ndarray) -> bool:
    """Whether places (n, 3) Å in a cell (3, 3) Å are a lattice: the same after a shift from one of them to another."""
    tree = _tree(top, cell)
    for other in top[1 : 1 + _MOST_VECTORS]:
        distances, _ = tree.query(_inside(top + other - top[0], cell))
        if distances.max() > ALIKE:
            return False
    return True


def sites_of_face(adatoms: np.ndarray, top: np.ndarray, cell: np.ndarray) -> Places:
    """Sites of a face, the maxima of the density that adatoms have about all of its atoms.

    Args:
        adatoms: (n, 3) Å, their places in many frames, in the plane.
        top: (n_top, 3) Å, places of the surface atoms, in the plane.
        cell: (3, 3) Å; a and b span the plane.
    """
    some = adatoms[:: max(1, math.ceil(len(adatoms) / MOST))]
    home = _inside(some, cell)
    _, nearest = _tree(top, cell).query(home)
    images = (_inside(top, cell)[:, None] + IMAGES @ cell).reshape(-1, 3)
    offsets = home - images[nearest]
    a, b = (max(1, math.ceil(length / GRID)) for length in np.linalg.norm(cell[:2], axis=1))
    inverse, values = np.linalg.inv(cell), np.zeros(a * b)
    for place in top:
        points = np.rint(((place + offsets) @ inverse)[:, :2] * (a, b)).astype(np.int64) % (a, b)
        values += np.bincount(points[:, 0] * b + points[:, 1], minlength=a * b)
    distances, _ = _tree(top, cell).query(_inside(top, cell), k=2)
    apart = APART * float(distances[:, 1].min())
    found = from_density(values.reshape(a, b, 1), cell, apart, ase.Atoms(cell=cell, pbc=True))
    field = smoothed(values.reshape(a, b, 1), cell, SMOOTH)
    reduced = found.reduced
    for place in _hollows(top, cell) @ inverse:
        i, j = np.rint(place[:2] * (a, b)).astype(int) % (a, b)
        distance, _ = _tree(reduced @ cell, cell).query(_inside(place[None] @ cell, cell))
        if distance[0] > apart and field[i, j, 0] > HOLLOW * field.max():
            reduced = np.concatenate([reduced, place[None] - np.floor(place)])
    return Places(reduced, cell, ("A",) * len(reduced), "the face")


def _hollows(top: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Centres (n, 3) of the circles through neighbours that hold no surface atom, those of one cell."""
    images = (_inside(top, cell)[:, None] + IMAGES[IMAGES[:, 2] == 0] @ cell).reshape(-1, 3)[:, :2]
    a, b, c = np.moveaxis(images[Delaunay(images).simplices], 1, 0)
    ab, ac = b - a, c - a
    twice_area = 2.0 * (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    square_ab, square_ac = np.sum(ab**2, axis=1), np.sum(ac**2, axis=1)
    x = (ac[:, 1] * square_ab - ab[:, 1] * square_ac) / twice_area
    y = (ab[:, 0] * square_ac - ac[:, 0] * square_ab) / twice_area
    centres = np.stack([a[:, 0] + x, a[:, 1] + y, np.zeros(len(a))], axis=1)
    reduced = centres @ np.linalg.inv(cell)
    inside = np.all((reduced[:, :2] > -1e-9) & (reduced[:, :2] < 1.0 - 1e-9), axis=1)
    chosen: np.ndarray = centres[inside]
    return chosen


def _inside(places: np.ndarray, cell: np.ndarray) -> np.ndarray:
    reduced = places @ np.linalg.inv(cell)
    home: np.ndarray = (reduced - np.floor(reduced)) @ cell
    return home


def _tree(places: np.ndarray, cell: np.ndarray) -> cKDTree:
    """Of the places and their images around, in the order of `IMAGES` for each."""
    return cKDTree((_inside(places, cell)[:, None] + IMAGES @ cell).reshape(-1, 3))
