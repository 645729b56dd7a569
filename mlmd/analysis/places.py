"""The sites that atoms hop between, maxima of their density or places of a reference structure, and their classes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import ase
import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from mlmd.analysis.density import smoothed
from mlmd.errors import InputError

GRID = 0.2
"""Å: spacing of the density in which sites are looked for."""
MOST_POINTS = 8e6
"""Of that grid; in a large cell the spacing is wider."""
SMOOTH = 0.3
"""Å: standard deviation of the Gaussian it is smoothed with."""
LEAST = 0.05
"""Of the highest maximum: lower ones are passages, or chance."""
ALIKE = 0.5
"""Å: sites whose distances to the atoms at rest differ by less are of one class."""
N_NEAREST = 8
"""Atoms of each element at rest whose distances are compared."""
FIT = 0.7
"""Å: atoms at rest of a reference may be so far, root mean square, from those of the trajectory."""
IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))


@dataclass(frozen=True)
class Places:
    """Sites in a cell."""

    reduced: np.ndarray
    """(n_sites, 3) of the cell's vectors, within [0, 1)."""
    cell: np.ndarray
    """(3, 3) Å, rows are vectors."""
    classes: tuple[str, ...]
    """(n_sites,) name of the class of each site."""
    source: str
    """Where the sites are from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Classes that occur, in the order of their first site."""
        return tuple(dict.fromkeys(self.classes))

    def nearest_distance(self) -> float:
        """Shortest distance of two sites, a site's own images included, Å."""
        here = self.reduced @ self.cell
        images = (self.reduced[:, None] + _more_images(self.cell)).reshape(-1, 3) @ self.cell
        distances, _ = cKDTree(images).query(here, k=2)
        return float(distances[:, 1].min())

    def atoms(self, element: str) -> ase.Atoms:
        """The sites as atoms of an element, which `from_structure` reads; the class is in the array ``site``."""
        atoms = ase.Atoms([element] * len(self.reduced), scaled_positions=self.reduced, cell=self.cell, pbc=True)
        atoms.new_array("site", np.array(self.classes))
        return atoms


def from_density(values: np.ndarray, cell: np.ndarray, apart: float, rest: ase.Atoms, least: float = LEAST) -> Places:
    """Maxima of a density, the highest first; of two that are closer than `apart` the higher one stays.

    Args:
        values: (n_a, n_b, n_c) mean number of atoms at each point of a grid of the cell.
        cell: (3, 3) Å.
        apart: Å.
        rest: atoms at rest, for the classes.
        least: of the highest maximum; lower ones are left out.

    Raises:
        InputError: when there is no density.
    """
    field = smoothed(values, cell, SMOOTH)
    tops: np.ndarray = np.argwhere(
        (field == maximum_filter(field, size=3, mode="wrap")) & (field >= least * field.max())
    )
    if not field.max() > 0.0 or not len(tops):
        raise InputError("There are no sites: the density has no maximum.")
    order = np.argsort(-field[tuple(tops.T)], kind="stable")
    reduced = _centred(_apart(tops[order] / values.shape, cell, apart), values, cell, 0.5 * apart)
    return Places(reduced, cell, classes_of(reduced, cell, rest), "maxima of the density")


def _apart(candidates: np.ndarray, cell: np.ndarray, apart: float) -> np.ndarray:
    """Points (n, 3) that are no closer to each other than a distance: of two that are, the first one stays."""
    images = cKDTree((candidates[:, None] + IMAGES).reshape(-1, 3) @ cell)
    stays = np.ones(len(candidates), dtype=bool)
    for index, place in enumerate(candidates @ cell):
        if stays[index]:
            near = np.array(images.query_ball_point(place, apart, eps=0.0)) // len(IMAGES)
            stays[near[near > index]] = False
    chosen: np.ndarray = candidates[stays]
    return chosen


def _centred(reduced: np.ndarray, values: np.ndarray, cell: np.ndarray, radius: float) -> np.ndarray:
    """Points moved to the centre of what density there is within a radius of them."""
    filled = np.argwhere(values > 0.0)
    weights, points = values[tuple(filled.T)], (filled / values.shape) @ cell
    images = (reduced[:, None] + IMAGES).reshape(-1, 3) @ cell
    distance, index = cKDTree(images).query(points, distance_upper_bound=radius)
    near = np.isfinite(distance)
    weights, site = weights[near], index[near] // len(IMAGES)
    moved = weights[:, None] * (points[near] - images[index[near]])
    sums = np.stack([np.bincount(site, moved[:, axis], len(reduced)) for axis in range(3)], axis=1)
    centres = reduced + sums / np.bincount(site, weights, len(reduced))[:, None] @ np.linalg.inv(cell)
    centres -= np.floor(centres)
    return centres


def from_structure(
    structure: ase.Atoms, element: str, cell: np.ndarray, rest: ase.Atoms, source: str = "the reference structure"
) -> Places:
    """The places of an element in a structure, whose cell is that of the trajectory or one that it repeats.

    Atoms of the element and of X (vacancies) are sites. What else is in the structure is laid over the atoms at rest,
    because trajectories may begin anywhere. Classes are those of an array ``site`` (text), else those of equal
    symmetry in a CIF file, else of equal distances to the atoms at rest.

    Args:
        structure: the reference.
        element: whose sites.
        cell: (3, 3) Å, of the trajectory.
        rest: atoms at rest in that cell.
        source: name of the reference, for messages.

    Raises:
        InputError: for a structure without the element, of another cell, or with another framework.
    """
    whole = _repeated(structure, cell, source)
    wanted = np.isin(whole.symbols, [element, "X"])
    if not wanted.any():
        raise InputError(f"{source} has no {element} (nor X), so it tells no sites of {element}.")
    shift = _shift(whole[~wanted], rest, cell, source)
    reduced = whole.get_scaled_positions(wrap=False)[wanted] + shift
    reduced -= np.floor(reduced)
    labels = next((whole.arrays[name][wanted] for name in ("site", "spacegroup_kinds") if name in whole.arrays), None)
    classes = classes_of(reduced, cell, rest) if labels is None else tuple(str(one) for one in labels)
    return Places(reduced, cell, classes, source)


def _repeated(structure: ase.Atoms, cell: np.ndarray, source: str) -> ase.Atoms:
    """The structure repeated until it has the cell, in reduced coordinates of which its atoms then are."""
    from ase.build import make_supercell
    from ase.cell import Cell

    if not structure.pbc.all() or abs(structure.cell.volume) < 1e-6:
        raise InputError(f"{source} has no cell that is periodic in all three directions.")
    own, other = structure.cell.standard_form()[0].array, Cell(cell).standard_form()[0].array
    for small, large in ((structure.cell.array, cell), (own, other)):  # as they stand, else turned alike
        times = large @ np.linalg.inv(small)
        whole = np.rint(times)
        if (
            abs(np.linalg.det(whole)) > 0.5
            and np.abs(whole @ small - large).max() < 0.05 * np.linalg.norm(large, axis=1).max()
        ):
            repeated = make_supercell(structure, whole.astype(int))
            repeated.set_cell(cell, scale_atoms=True)
            return repeated
    raise InputError(
        f"{source} has the cell {_told(structure.cell.array)}, and the trajectory {_told(cell)}: needed is the "
        "same one, or one that the trajectory's repeats."
    )


def _told(cell: np.ndarray) -> str:
    from ase.cell import Cell

    return " ".join(f"{x:.4g}" for x in Cell(cell).cellpar()) + " (Å, degrees)"


def _shift(reference: ase.Atoms, rest: ase.Atoms, cell: np.ndarray, source: str) -> np.ndarray:
    """How far the atoms at rest of the trajectory are from those of the reference, (3,) of the cell's vectors."""
    shared = [symbol for symbol in dict.fromkeys(reference.symbols) if symbol in rest.symbols]
    if not shared:
        return np.zeros(3)
    shift = np.zeros(3)
    for _ in range(5):  # nearest partners may change with the shift
        steps = []
        for symbol in shared:
            targets = rest.get_scaled_positions()[rest.symbols == symbol]
            here = reference.get_scaled_positions(wrap=False)[reference.symbols == symbol] + shift
            tree = cKDTree((targets[:, None] - np.floor(targets)[:, None] + IMAGES).reshape(-1, 3) @ cell)
            _, index = tree.query((here - np.floor(here)) @ cell)
            steps.append(tree.data[index] - (here - np.floor(here)) @ cell)
        step = np.concatenate(steps)
        shift = shift + step.mean(axis=0) @ np.linalg.inv(cell)
    away = float(np.sqrt(np.mean(np.sum((step - step.mean(axis=0)) ** 2, axis=1))))
    if away > FIT:
        raise InputError(
            f"{source}: its {', '.join(shared)} are {away:.2f} Å (root mean square) from where those of the trajectory "
            f"are, so its sites are not those of this structure (up to {FIT:g} Å would be)."
        )
    return shift


def classes_of(reduced: np.ndarray, cell: np.ndarray, rest: ase.Atoms) -> tuple[str, ...]:
    """Names A, B, ... of sites by their distances to the nearest atoms at rest of each element; A without any.

    Args:
        reduced: (n_sites, 3).
        cell: (3, 3) Å.
        rest: atoms at rest in the cell.
    """
    n = len(reduced)
    if not len(rest) or n < 2:
        return ("A",) * n
    columns = []
    for symbol in dict.fromkeys(rest.symbols):
        atoms = rest.get_scaled_positions()[rest.symbols == symbol]
        images = (atoms[:, None] + _more_images(cell)).reshape(-1, 3) @ cell
        columns.append(cKDTree(images).query(reduced @ cell, k=min(N_NEAREST, len(images)))[0].reshape(n, -1))
    tree = linkage(np.concatenate(columns, axis=1), method="average", metric="chebyshev")
    numbers = fcluster(tree, ALIKE, criterion="distance")
    order = {number: index for index, number in enumerate(dict.fromkeys(numbers.tolist()))}
    return tuple(_letters(order[number]) for number in numbers.tolist())


def _more_images(cell: np.ndarray) -> np.ndarray:
    """Cells around the first one, as many as reach 8 Å from it, (n, 3)."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = np.maximum(1, np.ceil(8.0 / heights)).astype(int)
    return np.array(list(product(*(range(-k, k + 1) for k in reach))))


def _letters(index: int) -> str:
    return (_letters(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)
