"""Bonds that stay: which atoms are bound in the first frame, and their vectors in all frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.pairs import find_pairs

STRETCHED = 1.5
"""Times the cutoff: a bond that is longer is broken."""
BROKEN = 1e-3
"""Part of bonds and frames that may be broken."""


@dataclass(frozen=True)
class Bonds:
    """Bonds from central atoms to their ligands."""

    centers: np.ndarray
    """(n_bonds,) indices of atoms, sorted."""
    ligands: np.ndarray
    """(n_bonds,) indices of atoms."""
    cutoff: float
    """Å."""

    @property
    def group(self) -> np.ndarray:
        """(n_bonds,) number of the central atom among the central atoms."""
        return np.unique(self.centers, return_inverse=True)[1]

    @property
    def n_centers(self) -> int:
        """Central atoms that have a bond."""
        return len(np.unique(self.centers))


def first_bonds(trajectory: Trajectory, center: str, ligand: str, cutoff: float) -> Bonds:
    """The pairs of two elements that are closer than a cutoff in the first frame.

    Args:
        trajectory: with any cell that is periodic in all directions or in none.
        center, ligand: elements.
        cutoff: Å.

    Raises:
        InputError: for unknown elements, without bonds, and for a cell in which a bond could be to two images.
    """
    if not cutoff > 0.0:
        raise InputError(f"cutoff = {cutoff:g} Å: bonds have a length above zero.")
    first, second = trajectory.atoms_of([center]), trajectory.atoms_of([ligand])
    frames = next(trajectory.chunks(0, 1))
    periodic = bool(trajectory.pbc.all())
    if trajectory.pbc.any() and not periodic:
        raise InputError("Bonds are looked for in a cell that is periodic in all three directions, or in none.")
    if periodic:
        lowest = _heights(_compact(trajectory.cells) @ trajectory.cells).min()
        if STRETCHED * cutoff > 0.5 * lowest:
            raise InputError(
                f"cutoff = {cutoff:g} Å: the cell is only {lowest:.2f} Å across, and a bond could be to several images "
                f"of an atom. Give up to {0.5 * lowest / STRETCHED:.2f} Å, or a larger cell."
            )
    (i, j), _ = find_pairs(frames.positions[0], frames.cells[0], trajectory.pbc, cutoff)
    chosen = np.isin(i, first) & np.isin(j, second)
    centers, ligands = i[chosen], j[chosen]
    if not len(centers):
        raise InputError(
            f"No {ligand} is within {cutoff:g} Å of a {center} in the first frame. Give a larger --cutoff, or other "
            "elements."
        )
    return Bonds(centers, ligands, cutoff)


def bond_vectors(trajectory: Trajectory, bonds: Bonds) -> Iterator[np.ndarray]:
    """Vectors from centres to ligands, chunk by chunk, by the nearest image.

    In a compact (Minkowski-reduced) cell the nearest image is found by rounding, for every vector that is shorter than
    half of the cell's smallest height, which `first_bonds` has made sure of.

    Yields:
        (n_frames, n_bonds, 3) Å.

    Raises:
        InputError: when bonds break: more than `BROKEN` of them are longer than `STRETCHED` times the cutoff.
    """
    atoms = np.unique(np.concatenate([bonds.centers, bonds.ligands]))
    i, j = np.searchsorted(atoms, bonds.centers), np.searchsorted(atoms, bonds.ligands)
    compact = _compact(trajectory.cells) if trajectory.pbc.all() else None
    n_broken = n_seen = 0
    for frames in trajectory.chunks(atoms=atoms):
        vectors = frames.positions[:, j] - frames.positions[:, i]
        if compact is not None:
            cells = compact @ frames.cells
            reduced = np.einsum("tbi,tij->tbj", vectors, np.linalg.inv(cells))
            vectors = vectors - np.einsum("tbi,tij->tbj", np.rint(reduced), cells)
        n_broken += int(np.count_nonzero(np.linalg.norm(vectors, axis=2) > STRETCHED * bonds.cutoff))
        n_seen += vectors.shape[0] * vectors.shape[1]
        yield vectors
    if n_broken > BROKEN * n_seen:
        raise InputError(
            f"Bonds of the first frame break: {n_broken / n_seen:.1%} of them, over all frames, are longer than "
            f"{STRETCHED * bonds.cutoff:.2f} Å. Rotation is that of groups that stay together; "
            "`mlmd analyze bonds` tells how long bonds last."
        )


def _compact(cells: np.ndarray) -> np.ndarray:
    """Integers that turn the cells into their most compact form, (3, 3)."""
    from ase.geometry.minkowski_reduction import minkowski_reduce

    operation: np.ndarray = minkowski_reduce(cells.mean(axis=0))[1]
    return operation


def _heights(cells: np.ndarray) -> np.ndarray:
    heights: np.ndarray = 1.0 / np.linalg.norm(np.linalg.inv(cells), axis=1)
    return heights
