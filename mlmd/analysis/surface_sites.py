"""Sites of adatoms on a crystal's face: what one adatom visits about one surface atom is there about every one.

An adatom that hops rarely visits few of the sites, and those in passing only. On a face whose top layer is a lattice
all places r of adatoms, relative to the surface atom that is nearest, tell about the same sites: the density
Σ_k Σ_r δ(x - t_k - (r - t(r))), with t_k the places of surface atoms and t(r) the one nearest to r, has its maxima at
all sites of the face.
"""

from __future__ import annotations

import math

import ase
import numpy as np
from scipy.spatial import cKDTree

from mlmd.analysis.places import GRID, IMAGES, Places, from_density

ALIKE = 0.5
"""Å: how far a lattice may be from itself, shifted by one of its vectors."""
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


def sites_of_face(adatoms: np.ndarray, top: np.ndarray, cell: np.ndarray, apart: float) -> Places:
    """Sites of a face, the maxima of the density that adatoms have about all of its atoms.

    Args:
        adatoms: (n, 3) Å, their places in many frames, in the plane.
        top: (n_top, 3) Å, places of the surface atoms, in the plane.
        cell: (3, 3) Å; a and b span the plane.
        apart: Å; of maxima that are closer, the higher one is a site.
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
    return from_density(values.reshape(a, b, 1), cell, apart, ase.Atoms(cell=cell, pbc=True))


def _inside(places: np.ndarray, cell: np.ndarray) -> np.ndarray:
    reduced = places @ np.linalg.inv(cell)
    home: np.ndarray = (reduced - np.floor(reduced)) @ cell
    return home


def _tree(places: np.ndarray, cell: np.ndarray) -> cKDTree:
    """Of the places and their images around, in the order of `IMAGES` for each."""
    return cKDTree((_inside(places, cell)[:, None] + IMAGES @ cell).reshape(-1, 3))
