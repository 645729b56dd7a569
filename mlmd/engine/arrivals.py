"""What arrives at a surface, when, where and how fast; every arrival follows from the seed and its number alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import ase
import numpy as np
from scipy.spatial.transform import Rotation

from mlmd import units
from mlmd.config import Beam, Deposit

NEIGHBOURS = 3
"""Atoms that an atom of the surface touches; what flies has fewer."""


@dataclass(frozen=True)
class Plan:
    """A stage of deposition, understood."""

    stage: Deposit
    kinds: tuple[ase.Atoms, ...]
    """What arrives, each about its centre of mass."""
    names: tuple[str, ...]
    interval: float
    """Steps between two arrivals, not rounded."""
    corner: np.ndarray
    """(2,) Å, where the region above which things appear begins."""
    edges: np.ndarray
    """(2, 2) Å, its two sides."""
    bottom: float
    """z of the lowest atom, Å."""
    cutoff: float
    """Of the potential, Å."""

    @property
    def area(self) -> float:
        """Å² above which things appear."""
        return abs(float(np.linalg.det(self.edges)))

    @property
    def mean_size(self) -> float:
        """Atoms of what arrives, on average."""
        return sum(one.fraction * len(kind) for one, kind in zip(self.stage.species, self.kinds, strict=True))

    @property
    def floor(self) -> float:
        """z below which an atom has gone through the slab, Å."""
        return self.bottom - self.stage.ceiling

    def step_of(self, event: int) -> int:
        """Step of the stage at which an arrival, counted from 0, is due."""
        return round(event * self.interval)

    def n_events(self, n_steps: int) -> int:
        """Arrivals before a step of the stage."""
        count = math.ceil(n_steps / self.interval) + 1
        while count and self.step_of(count - 1) >= n_steps:
            count -= 1
        return count if self.stage.total is None else min(count, self.stage.total)


@dataclass(frozen=True)
class Arrival:
    """An atom or a molecule that appears."""

    kind: int
    """Index in `Plan.kinds`."""
    positions: np.ndarray
    """(n, 3) Å."""
    velocity: np.ndarray
    """(3,) Å/fs, of all its atoms."""
    tries: int
    """Places looked at, this one included."""


def arrival(
    plan: Plan, rng: np.random.Generator, height: float, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> Arrival | None:
    """The next thing that arrives, or None when every place that was tried is taken.

    Kind and velocity are drawn first, so that a crowded surface does not choose among them.

    Args:
        plan: what may arrive.
        rng: of this arrival alone.
        height: z of its lowest atom, Å.
        positions: (n_atoms, 3) Å, of all atoms that are there.
        cell: (3, 3) Å.
        pbc: (3,) bool.
    """
    fractions = [one.fraction for one in plan.stage.species]
    kind = int(np.searchsorted(np.cumsum(fractions)[:-1], rng.random(), side="right"))
    thing = plan.kinds[kind]
    velocity = velocity_of(plan.stage.beam, float(thing.get_masses().sum()), rng)
    for tries in range(1, plan.stage.tries + 1):
        offsets = thing.positions
        if len(thing) > 1:
            offsets = offsets @ Rotation.random(rng=rng).as_matrix().T
        centre = np.array([*(plan.corner + rng.random(2) @ plan.edges), height - offsets[:, 2].min()])
        place = centre + offsets
        if distances(place, positions, cell, pbc).min() >= plan.stage.min_distance:
            return Arrival(kind, place, velocity, tries)
    return None


def velocity_of(beam: Beam, mass: float, rng: np.random.Generator) -> np.ndarray:
    """(3,) Å/fs of something of a mass (amu) that flies downwards.

    Through a hole in a gas of temperature T fly speeds with the density v³ exp(-m v² / 2kT): the kinetic energy has a
    gamma distribution of shape 2, the angle to the normal the density cos θ sin θ.
    """
    speed = typical_speed(beam, mass)
    if beam.temperature is not None:  # whose mean energy is 2 kT
        speed *= math.sqrt(float(rng.standard_gamma(2.0)) / 2.0)
    angle, azimuth = beam.angle, beam.azimuth
    if beam.direction == "cone":  # evenly on the cap of a sphere
        angle, azimuth = math.acos(1.0 - (1.0 - math.cos(angle)) * rng.random()), 2.0 * math.pi * rng.random()
    elif beam.direction == "cosine":
        angle, azimuth = math.asin(math.sqrt(rng.random())), 2.0 * math.pi * rng.random()
    across = math.sin(angle)
    return speed * np.array([across * math.cos(azimuth), across * math.sin(azimuth), -math.cos(angle)])


def typical_speed(beam: Beam, mass: float) -> float:
    """Å/fs of something of a mass (amu): that of all, or that of the mean energy, 2 kT, from a source."""
    if beam.speed is not None:
        return beam.speed
    energy = beam.energy if beam.temperature is None else 2.0 * units.KB * beam.temperature
    assert energy is not None
    return math.sqrt(2.0 * energy / (units.KINETIC * mass))


def distances(points: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(n_points, n_atoms) Å from points to the nearest images of atoms, exact up to half the width of the cell."""
    vectors = positions[None] - points[:, None]
    if pbc.any():
        lattice = np.where(pbc[:, None], cell, 0.0)
        full = np.where(pbc[:, None], cell, np.eye(3))
        vectors = vectors - np.rint(vectors @ np.linalg.inv(full)) @ lattice
        images = product(*((-1, 0, 1) if periodic else (0,) for periodic in pbc))
        shifts = np.array(list(images)) @ lattice
        squares = np.min([np.sum((vectors + shift) ** 2, axis=-1) for shift in shifts], axis=0)
    else:
        squares = np.sum(vectors**2, axis=-1)
    return np.sqrt(squares)


def surface_of(positions: np.ndarray, contact: float, cell: np.ndarray, pbc: np.ndarray) -> float | None:
    """z of the highest atom that touches at least three others, Å; None where no atom does."""
    for index in np.argsort(-positions[:, 2], kind="stable"):
        touching = distances(positions[index][None], positions, cell, pbc)[0] < contact
        if touching.sum() > NEIGHBOURS:  # itself is one of them
            return float(positions[index, 2])
    return None


def cluster_of(atom: int, positions: np.ndarray, contact: float, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(n_atoms,) bool: an atom, those that it touches, those that they touch, and so on."""
    cluster = np.arange(len(positions)) == atom
    edge = cluster
    while edge.any():
        near = (distances(positions[edge], positions, cell, pbc) < contact).any(axis=0)
        edge = near & ~cluster
        cluster = cluster | near
    return cluster


def leaving(
    outside: np.ndarray, of: np.ndarray, slab: int, positions: np.ndarray, contact: float, cell: np.ndarray,
    pbc: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Who is removed as some are outside: molecules as a whole, but nobody who holds on to the slab or passes by.

    Args:
        outside: (n_atoms,) bool.
        of: (n_atoms,) the arrival that an atom came with; negative for atoms that were there before.
        slab: an atom of the slab.
        positions: (n_atoms, 3) Å.
        contact: Å, below which atoms touch.
        cell: (3, 3) Å.
        pbc: (3,) bool.

    Returns:
        (n_atoms,) bool.
    """
    lost = np.zeros_like(outside)
    for atom in np.flatnonzero(outside).tolist():
        if not lost[atom]:
            cluster = cluster_of(atom, positions, contact, cell, pbc)
            own = np.isin(of, of[outside & cluster & (of >= 0)])
            lost |= cluster & (outside | own) & ~cluster[slab]
    return lost
