"""What makes a structure sound enough to compute with."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from mlmd.errors import InputError

CLOSEST = 0.5
"""Å: no two atoms of a real structure are closer (H2 has 0.74 Å)."""
FARTHEST = 1e6
"""Å: coordinates beyond this come from damaged files."""


def check_structure(atoms: Atoms, name: str, closest: float = CLOSEST) -> None:
    """Refuse what no potential can be asked about.

    Args:
        atoms: positions in Å.
        name: of the file, for messages.
        closest: Å, nearest that two atoms may be.

    Raises:
        InputError: no atoms, nan or infinite numbers, unknown elements, a cell without volume or left-handed,
            periodicity without a cell, or two atoms (or images) closer than that.
    """
    if len(atoms) == 0:
        raise InputError(f"{name} has no atoms.")
    _check_numbers(atoms, name)
    _check_cell(atoms, name)
    _check_distances(atoms, name, closest)


def partial_occupancies(atoms: Atoms) -> list[str]:
    """Partly or mixed occupied sites of a CIF as ASE read it, e.g. ``"Li 0.33 + Y 0.67 at (0, 0, 0.5)"``."""
    sites = []
    for kind, species in sorted(atoms.info.get("occupancy", {}).items(), key=lambda item: int(item[0])):
        if len(species) == 1 and all(_is_full(share) for share in species.values()):
            continue
        place = _fractional(atoms, int(kind))
        if place is not None:
            shares = " + ".join(f"{symbol} {share}" for symbol, share in species.items())
            sites.append(f"{shares} at {place}")
    return sites


def closest_neighbour(atoms: Atoms, cutoff: float) -> tuple[int, int, float] | None:
    """The closest pair (i, j, distance in Å) within the cutoff, images included; None when there is none."""
    positions, owner = _with_images(atoms, cutoff)
    if same := _same_place(positions[: len(atoms)]):  # a tree of many equal points is slow
        return *same, 0.0
    neighbours, vectors = _nearest(positions, owner, len(atoms), cutoff)
    distances = np.linalg.norm(vectors, axis=1)
    i = int(np.argmin(distances))
    return (i, int(neighbours[i]), float(distances[i])) if math.isfinite(distances[i]) else None


def nearest_neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Of every atom the nearest other atom or image within the cutoff.

    A k-d tree of the atoms and of their images in a shell around the cell: n log n, whatever the density.

    Returns:
        (n_atoms,) index of the neighbour, and (n_atoms, 3) Å vector to it; -1 and infinite where there is none.
    """
    return _nearest(*_with_images(atoms, cutoff), len(atoms), cutoff)


def _nearest(
    positions: np.ndarray, owner: np.ndarray, n_atoms: int, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The nearest neighbours of the first of these positions; the others are images of the atoms that own them."""
    from scipy.spatial import cKDTree

    found = cKDTree(positions).query(positions[:n_atoms], k=2, distance_upper_bound=cutoff)[1]
    # the nearest point is the atom itself, or another one at the same place
    nearest = found[np.arange(n_atoms), np.where(found[:, 0] == np.arange(n_atoms), 1, 0)]
    there = nearest < len(positions)
    neighbours, vectors = np.full(n_atoms, -1), np.full((n_atoms, 3), math.inf)
    neighbours[there] = owner[nearest[there]]
    vectors[there] = positions[nearest[there]] - positions[:n_atoms][there]
    return neighbours, vectors


def _same_place(positions: np.ndarray) -> tuple[int, int] | None:
    """Two atoms with exactly the same coordinates."""
    order = np.lexsort(positions.T)
    equal = (np.diff(positions[order], axis=0) == 0).all(axis=1)
    if not equal.any():
        return None
    first = int(np.argmax(equal))
    i, j = sorted((int(order[first]), int(order[first + 1])))
    return i, j


def _check_numbers(atoms: Atoms, name: str) -> None:
    """Elements and coordinates."""
    unknown = np.flatnonzero(~((atoms.numbers >= 1) & (atoms.numbers <= 118)))
    if unknown.size:
        raise InputError(f"{name}: atom {unknown[0]} has no known element ({unknown.size} such atoms).")
    arrays = {
        "position": atoms.positions,
        "momentum": atoms.get_momenta(),
        "mass": atoms.get_masses()[:, None],
    }
    for word, values in arrays.items():
        odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if odd.size:
            raise InputError(f"{name}: atom {odd[0]} has a {word} that is not a number ({odd.size} such atoms).")
    far = np.flatnonzero((np.abs(atoms.positions) > FARTHEST).any(axis=1))
    if far.size:
        raise InputError(f"{name}: atom {far[0]} lies more than {FARTHEST:g} Å from the origin.")
    if (atoms.get_masses() <= 0).any():
        raise InputError(f"{name}: atom {int(np.argmin(atoms.get_masses()))} has no mass.")


def _check_cell(atoms: Atoms, name: str) -> None:
    """Vectors of periodic directions must span a right-handed volume (an area, a length)."""
    cell = np.asarray(atoms.cell.array)
    if not np.isfinite(cell).all() or (np.abs(cell) > FARTHEST).any():
        raise InputError(f"{name}: the cell has a number that is not finite, or beyond {FARTHEST:g} Å.")
    if not atoms.pbc.any():
        return
    vectors = cell[atoms.pbc]
    lengths = np.linalg.norm(vectors, axis=1)
    if (lengths < 1e-3).any():
        raise InputError(f"{name} is periodic but has no cell along every periodic direction. Add the cell.")
    if np.linalg.matrix_rank(vectors / lengths[:, None], tol=1e-4) < len(vectors):
        raise InputError(f"{name}: the cell has no volume: its vectors lie in one plane or line.")
    if atoms.pbc.all() and np.linalg.det(cell) < 0:
        raise InputError(f"{name}: the cell is left-handed. Exchange two cell vectors (and the coordinates with them).")


def _check_distances(atoms: Atoms, name: str, closest: float) -> None:
    """No two atoms on top of each other."""
    pair = closest_neighbour(atoms, closest)
    if pair is None:
        return
    i, j, distance = pair
    symbols = atoms.get_chemical_symbols()
    both = (
        f"atom {i} ({symbols[i]}) and its own image" if i == j else f"atoms {i} ({symbols[i]}) and {j} ({symbols[j]})"
    )
    raise InputError(
        f"{name}: {both} are {distance:.3g} Å apart, closer than {closest} Å. "
        "Remove duplicates, or check the unit of length and the cell."
    )


def _with_images(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the atoms, wrapped, then of their images within a cutoff of the cell; and whose each is.

    Returns:
        (n, 3) Å with the atoms first, and (n,) indices of atoms.
    """
    # of all cells of this lattice the most compact one, whose images are near
    cell = np.asarray(minkowski_reduce(atoms.cell.complete().array, atoms.pbc)[0])
    scaled = np.linalg.solve(cell.T, atoms.positions.T).T
    scaled[:, atoms.pbc] -= np.floor(scaled[:, atoms.pbc])
    owner = np.arange(len(atoms))
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    for axis in np.flatnonzero(atoms.pbc):
        margin = cutoff / heights[axis]
        copies, owners = [scaled], [owner]
        for shift in range(1, min(math.ceil(margin) + 1, 6)):  # thinner ones have an image of the atom itself nearby
            for sign in (-shift, shift):
                moved = scaled[:, axis] + sign
                near = (moved > -margin) & (moved < 1 + margin)
                image = scaled[near].copy()
                image[:, axis] += sign
                copies.append(image)
                owners.append(owner[near])
        scaled, owner = np.concatenate(copies), np.concatenate(owners)
    return scaled @ cell, owner


def _is_full(share: object) -> bool:
    """Whether a CIF calls a site fully occupied; a dot or a question mark stand for the default, which is 1."""
    return share in (".", "?") or (isinstance(share, int | float) and abs(share - 1) < 1e-3)


def _fractional(atoms: Atoms, kind: int) -> str | None:
    """Fractional coordinates of the first atom of a kind of site; None when ASE merged it into another kind."""
    kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms)))
    members = np.flatnonzero(kinds == kind)
    if not members.size:
        return None
    return "(" + ", ".join(f"{x:.4g}" for x in atoms.get_scaled_positions()[members[0]]) + ")"
