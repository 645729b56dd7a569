"""Grains of a cubic crystal: how each atom's surroundings are turned, and who is turned alike.

How an atom is turned is known from the template that it is like (`mlmd.analysis.template_matching`), or found here:
the axes <100> at an atom of fcc are the directions of r_i + r_j of its neighbours at right angles to each other, those
of bcc the directions of its six neighbours of the second shell. The rotation R, whose rows are the axes, is the
nearest one to their means. Rotations R and R' differ by the smallest angle of R (G R')ᵀ over the 24 rotations G of a
cube. Neighbours of one lattice that differ by less than a limit are of one grain; layers of hcp, such as stacking
faults, part grains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mlmd.analysis.common_neighbours import BCC, FCC
from mlmd.analysis.surroundings import Pairs, bond_length, pairs_within
from mlmd.analysis.template_matching import DIAMOND, SC, TYPES

LIMIT = math.radians(5.0)
"""Between neighbours of one grain."""
SMALLEST = 10
"""Atoms of a grain."""
_RIGHT = 0.3
"""|cos| of an angle that counts as a right one; other neighbours of fcc are at 60°, 120° and 180°."""
_REACH = 2.0
"""Bonds: as far as fourteen neighbours of an atom may be."""
_SHELL = {FCC: 1.25, BCC: 1.42, SC: 1.2, DIAMOND: 1.1}
"""Bonds: who are neighbours in a grain. The bond is the mean to six, of which diamond has four that are closer."""
_NORMALS = {"100": (1.0, 0.0, 0.0), "110": (1.0, 1.0, 0.0), "111": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class Grain:
    """Atoms of one lattice that are turned alike."""

    lattice: str
    atoms: np.ndarray
    """(n,) indices."""
    axes: np.ndarray
    """(3, 3) rows are the axes <100>."""

    @property
    def normal(self) -> np.ndarray:
        """(3,) Miller indices of the plane at right angles to z, of length 1, the largest first."""
        return np.sort(np.abs(self.axes[:, 2]))[::-1]

    @property
    def face(self) -> tuple[str, float]:
        """Which of (100), (110) and (111) is nearest to that plane, and the angle between, in degrees."""
        cosines = {face: float(self.normal @ n / np.linalg.norm(n)) for face, n in _NORMALS.items()}
        face = max(cosines, key=lambda one: cosines[one])
        return face, math.degrees(math.acos(min(1.0, cosines[face])))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        face, tilt = self.face
        return {
            "lattice": self.lattice, "n_atoms": len(self.atoms), "face": face, "tilt_deg": tilt,
            "normal": self.normal.tolist(), "axes": self.axes.tolist(),
        }  # fmt: skip


def grains(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, types: np.ndarray, axes: np.ndarray | None = None
) -> tuple[Grain, ...]:
    """The grains of a structure, the largest first; of fcc and bcc, and where axes are given of all cubic lattices.

    Args:
        positions: (n_atoms, 3) Å.
        cell: (3, 3) Å.
        pbc: (3,) bool.
        types: (n_atoms,) numbers of `mlmd.analysis.template_matching.TYPES`, also as
            `mlmd.analysis.common_neighbours.structure_types` gives them.
        axes: (n_atoms, 3, 3) rows are the axes <100> of each atom, where they are known.
    """
    bond = bond_length(positions, cell, pbc)
    if not np.isfinite(bond):
        return ()
    pairs = pairs_within(_REACH * bond, positions, cell, pbc)
    if axes is None:
        axes = _axes(pairs, types)
    found = []
    for kind, shell in _SHELL.items():
        own = np.flatnonzero(types == kind)
        if not len(own):
            continue
        near = pairs.within(shell * bond)
        alike = (types[near.centres] == kind) & (types[near.neighbours] == kind)
        i, j = near.centres[alike], near.neighbours[alike]
        same = misorientation(axes[i], axes[j]) < LIMIT
        graph = coo_matrix((np.ones(same.sum()), (i[same], j[same])), shape=(len(positions), len(positions)))
        _, label = connected_components(graph, directed=False)
        for number, count in zip(*np.unique(label[own], return_counts=True), strict=True):
            if count >= SMALLEST:
                atoms = own[label[own] == number]
                found.append(Grain(TYPES[kind], atoms, _mean(axes[atoms])))
    return tuple(sorted(found, key=lambda grain: -len(grain.atoms)))


def _axes(pairs: Pairs, types: np.ndarray) -> np.ndarray:
    """(n_atoms, 3, 3) of atoms of fcc and bcc, nan for others."""
    vectors, _ = pairs.nearest(14)
    axes = np.full((len(types), 3, 3), np.nan)
    for kind in (FCC, BCC):
        axes[types == kind] = orientations(vectors[types == kind], kind)
    return axes


def orientations(vectors: np.ndarray, kind: int) -> np.ndarray:
    """Axes (n_atoms, 3, 3) from the fourteen nearest neighbours (n_atoms, 14, 3) of atoms of FCC or BCC."""
    if kind == BCC:
        directions, known = vectors[:, 8:14], np.ones((len(vectors), 6), dtype=bool)
    else:
        units = vectors[:, :12] / np.linalg.norm(vectors[:, :12], axis=2, keepdims=True)
        i, j = np.triu_indices(12, 1)
        known = np.abs(np.einsum("api,api->ap", units[:, i], units[:, j])) < _RIGHT
        directions = units[:, i] + units[:, j]
    lengths = np.linalg.norm(directions, axis=2, keepdims=True)
    directions = directions / np.maximum(lengths, 1e-6)  # opposite neighbours add up to nothing, and do not count
    rows = np.arange(len(vectors))
    first = directions[rows, known.argmax(axis=1)]
    across = np.where(known, np.abs(np.einsum("ai,api->ap", first, directions)), np.inf).argmin(axis=1)
    axes = np.stack([first, directions[rows, across], np.cross(first, directions[rows, across])], axis=1)
    axes = _rotation(axes)
    for _ in range(3):
        along = np.einsum("aki,api->apk", axes, directions)
        nearest = np.abs(along).argmax(axis=2)
        signs = np.take_along_axis(np.sign(along), nearest[..., None], axis=2) * known[..., None]
        member = nearest[..., None] == np.arange(3)
        axes = _rotation(np.einsum("apk,api->aki", member * signs, directions))
    return axes


def misorientation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) radians between rotations (n, 3, 3) of a cube."""
    traces = _traces(one, other).max(axis=1)
    return np.arccos(np.clip(0.5 * (traces - 1.0), -1.0, 1.0))


def _traces(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, 24) traces of the rotations that are left between R and G R'."""
    return np.einsum("gki,nij,nkj->ng", _CUBE, other, one)


def _mean(axes: np.ndarray) -> np.ndarray:
    """The mean rotation (3, 3) of some (n, 3, 3) that are alike, each turned to be nearest to the first."""
    which = _traces(np.broadcast_to(axes[:1], axes.shape), axes).argmax(axis=1)
    mean: np.ndarray = _rotation(np.einsum("nki,nij->kj", _CUBE[which], axes)[None])[0]
    return mean


def _rotation(matrices: np.ndarray) -> np.ndarray:
    """The rotations (n, 3, 3) that are nearest to matrices."""
    u, _, v = np.linalg.svd(matrices)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ v))[:, None]
    rotations: np.ndarray = u @ v
    return rotations


def _cube() -> np.ndarray:
    """(24, 3, 3) rotations of a cube onto itself."""
    signed = [
        np.diag(signs) @ np.eye(3)[list(order)]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]
    return np.array([matrix for matrix in signed if np.linalg.det(matrix) > 0.0])


_CUBE = _cube()
