"""A film at a moment: who belongs to it, its surface, and what surrounds its atoms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mlmd.analysis.height_map import HeightMap, height_map
from mlmd.analysis.surroundings import Pairs, bond_length, pairs_within
from mlmd.errors import InputError
from mlmd.io.growing import Moment

EXPOSED = 1.7
"""|Σ r̂| of an atom of the surface: flat faces have 2.4 to 3.7, and what is below 1 or less (2.7 in (111) of bcc)."""
ENOUGH = 20
"""Atoms that tell what bonds among them are like."""
_FLAT = 1e-6
_ROUNDING = 1e-9
"""Å by which the lowest atom is above the border at which it is wrapped."""


@dataclass(frozen=True)
class Scale:
    """The lengths by which a film is looked at, Å."""

    bond: float
    """Between nearest neighbours."""
    contact: float
    """Below which atoms touch."""
    shells: Mapping[int, float]
    """Below which they are neighbours, by atomic number, or a bond; for two elements the mean of both."""
    grid: float
    """Between points of the height map."""


@dataclass(frozen=True)
class Film:
    """Atoms of a slab and of what holds on to it."""

    numbers: np.ndarray
    """(n_atoms,) atomic numbers."""
    positions: np.ndarray
    """(n_atoms, 3) Å, relative to where the slab was at first."""
    arrived: np.ndarray
    """(n_atoms,) bool: not of the bare slab."""
    n_flying: int
    """Atoms that are left out since they touch nothing that is connected to the slab."""
    cell: np.ndarray
    """(3, 3) Å, rows are vectors."""
    pbc: np.ndarray
    """(3,) bool."""
    pairs: Pairs
    """Neighbours."""
    map: HeightMap
    """Of the upper surface."""

    @property
    def exposed(self) -> np.ndarray:
        """(n_atoms,) bool: atoms of the upper surface, which have neighbours below and few above."""
        sums = self.pairs.sum_of_directions()
        return np.asarray((np.linalg.norm(sums, axis=1) > EXPOSED) & (sums[:, 2] < 0.0))

    def bond(self, otherwise: float) -> float:
        """Å between nearest neighbours among those that arrived; another value where they are too few to tell."""
        own = self.positions[self.arrived]
        length = bond_length(own, self.cell, self.pbc) if len(own) > ENOUGH else math.inf
        return length if math.isfinite(length) and len(own) else otherwise


def check_plane(moment: Moment, path: str) -> None:
    """See that layers can be counted along z.

    Raises:
        InputError: for a cell that does not repeat in the plane of x and y alone.
    """
    if not (moment.pbc[:2].all() and np.abs(moment.cell[:2, 2]).max() < _FLAT):
        raise InputError(
            f"{path}: layers are counted along z, so the cell has to repeat along its first two vectors, which have to "
            "lie in the plane of x and y."
        )


def below_the_vacuum(bare: Moment, touch: float) -> Moment:
    """A slab with the largest gap between its atoms' heights above it, where programs have wrapped it into a cell that
    repeats along z.

    Args:
        bare: the slab.
        touch: Å below which atoms touch.

    Raises:
        InputError: when the gap is not larger than that, as in bulk.
    """
    if not bare.pbc[2]:
        return bare
    period = abs(float(bare.cell[2, 2]))
    heights = np.sort(bare.positions[:, 2] % period)
    gaps = np.diff(heights, append=heights[0] + period)
    if gaps.max() <= touch:
        raise InputError(
            f"there is no vacuum: along z the cell repeats every {period:.4g} Å, and the largest gap between the "
            f"heights of its first atoms is {gaps.max():.3g} Å, within which atoms touch (contact = {touch:.3g} Å). A "
            "film grows on a slab with a vacuum above it, which is the first frame."
        )
    bottom = heights[(int(gaps.argmax()) + 1) % len(heights)]
    return replace(bare, positions=_wrapped(bare.positions, bare.cell, bottom - _ROUNDING))


def _wrapped(positions: np.ndarray, cell: np.ndarray, start: float) -> np.ndarray:
    """The images of positions whose z is from `start` to one period of the cell above it."""
    images: np.ndarray = positions - np.floor((positions[:, 2:] - start) / cell[2, 2]) * cell[2]
    return images


def film_of(moment: Moment, bare: Moment, scale: Scale) -> Film:
    """Find out who belongs to the slab: who touches it, or touches who does, and so on.

    Where the cell repeats along z, atoms are at the images that are above the slab's bottom, less a bond.

    Raises:
        InputError: when none of the bare slab's atoms is there.
    """
    slab = np.isin(moment.ids, bare.ids)
    if not slab.any():
        raise InputError(f"at {moment.time / 1e3:g} ps no atom of the slab is there: its atoms are known by their id.")
    old = dict(zip(bare.ids.tolist(), bare.positions[:, 2].tolist(), strict=True))
    moved = moment.positions[slab, 2] - np.array([old[one] for one in moment.ids[slab].tolist()])
    if moment.pbc[2]:  # what wrapping did is undone, about the mean direction on the circle
        period = abs(float(moment.cell[2, 2]))
        turn = np.angle(np.exp(2j * np.pi * moved / period).sum()) / (2.0 * np.pi) * period
        moved = turn + (moved - turn + 0.5 * period) % period - 0.5 * period
    positions = moment.positions - [0.0, 0.0, float(np.median(moved))]  # a slab that nothing holds drifts
    if moment.pbc[2]:
        positions = _wrapped(positions, moment.cell, float(bare.positions[:, 2].min()) - scale.bond)
    pairs = pairs_within(max(scale.contact, *scale.shells.values()), positions, moment.cell, moment.pbc)
    touching = pairs.within(scale.contact)
    ones = np.ones(len(touching.centres), dtype=bool)
    bonds = coo_matrix((ones, (touching.centres, touching.neighbours)), shape=(len(positions), len(positions)))
    _, cluster = connected_components(bonds, directed=False)
    kept = cluster == np.bincount(cluster[slab]).argmax()
    shells = np.array([scale.shells.get(number, scale.bond) for number in moment.numbers.tolist()])
    near = pairs.within(0.5 * (shells[pairs.centres] + shells[pairs.neighbours]))
    return _kept(moment, positions, kept, slab, near, scale)


def _kept(
    moment: Moment, positions: np.ndarray, kept: np.ndarray, slab: np.ndarray, pairs: Pairs, scale: Scale
) -> Film:
    """The atoms that hold on, numbered anew."""
    number = np.cumsum(kept) - 1
    inside = kept[pairs.centres] & kept[pairs.neighbours]
    own = Pairs(
        int(kept.sum()), number[pairs.centres[inside]], number[pairs.neighbours[inside]], pairs.vectors[inside],
        pairs.distances[inside],
    )  # fmt: skip
    heights = height_map(positions[kept], moment.cell, scale.bond, scale.grid)
    return Film(
        moment.numbers[kept], positions[kept], ~slab[kept], int((~kept).sum()), moment.cell, moment.pbc, own, heights
    )
