"""Which site an atom belongs to, frame by frame: it changes only by entering the core of another one.

An atom in the mantle between cores belongs to the site whose core it was in last, so that a vibration across the
border between two sites, or a look out of one and back, is no jump (core sets: Schütte, Noé, Lu, Sarich,
Vanden-Eijnden, J. Chem. Phys. 2011, 134, 204105). A jump counts from one core to another, in unwrapped coordinates: to
a site's own image too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from mlmd.analysis.blocks import N_BLOCKS, block_of
from mlmd.analysis.paths import frames_at_rest
from mlmd.analysis.places import IMAGES, Places
from mlmd.io.frames import Trajectory

_WIDEST = 512
"""Cells that an atom may travel in each direction."""


@dataclass(frozen=True)
class Visits:
    """The sites of some atoms over time."""

    n_frames: int
    first_frame: np.ndarray
    """(n_atoms,) at which the atom was in a core for the first time; n_frames when it never was."""
    first_site: np.ndarray
    """(n_atoms,) where; -1 when it never was."""
    atom: np.ndarray
    """(n_jumps,) number among the atoms, jumps in the order of atoms, then of time."""
    frame: np.ndarray
    """(n_jumps,) at which the atom entered the core."""
    origin: np.ndarray
    """(n_jumps,) site that it left."""
    target: np.ndarray
    """(n_jumps,) site that it entered."""
    vector: np.ndarray
    """(n_jumps, 3) Å, from site to site."""
    held: np.ndarray
    """(n_blocks, n_sites) frames of atoms that belong to each site, in each block of time."""
    n_crowded: int
    """Pairs of an atom and a frame with another atom on the same site."""
    in_cores: float
    """Part of the time that atoms are in a core."""

    @property
    def back(self) -> np.ndarray:
        """(n_jumps,) bool: whether a jump takes the last one of its atom back."""
        back = np.zeros(len(self.atom), dtype=bool)
        opposite = np.linalg.norm(self.vector[1:] + self.vector[:-1], axis=1) < 1e-6
        back[1:] = (self.atom[1:] == self.atom[:-1]) & (self.target[1:] == self.origin[:-1]) & opposite
        return back

    def stays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every stay of an atom on a site.

        Returns:
            Site, duration in frames, whether its beginning was seen, and whether its end was, each (n_stays,).
        """
        there = np.flatnonzero(self.first_site >= 0)
        atom = np.concatenate([there, self.atom])
        begin = np.concatenate([self.first_frame[there], self.frame])
        site = np.concatenate([self.first_site[there], self.target])
        seen = np.concatenate([np.zeros(len(there), dtype=bool), np.ones(len(self.atom), dtype=bool)])
        order = np.lexsort((begin, atom))
        atom, begin, site, seen = atom[order], begin[order], site[order], seen[order]
        last = np.append(atom[1:] != atom[:-1], True)[: len(atom)]
        end = np.where(last, self.n_frames, np.append(begin[1:], self.n_frames)[: len(begin)])
        return site, end - begin, seen, ~last


def follow(trajectory: Trajectory, atoms: np.ndarray, places: Places, core: float, rest: np.ndarray) -> Visits:
    """Follow atoms from site to site.

    Args:
        trajectory, atoms, rest: as for `mlmd.analysis.paths.frames_at_rest`.
        places: the sites.
        core: Å, radius; cores may not overlap.
    """
    find = _CoreFinder(places, core)
    n_sites = len(places.reduced)
    block = block_of(trajectory.n_frames, min(N_BLOCKS, trajectory.n_frames))
    held = np.zeros((int(block[-1]) + 1, n_sites))
    first_frame = np.full(len(atoms), trajectory.n_frames)
    first_site = np.full(len(atoms), -1)
    last = np.full(len(atoms), -1, dtype=np.int64)  # codes of where atoms belong to
    jumps: list[tuple[np.ndarray, ...]] = []
    n_inside, n_crowded = 0, 0
    for frames, positions in frames_at_rest(trajectory, atoms, rest):
        found = find(positions)
        n_inside += int(np.count_nonzero(found >= 0))
        codes = _filled(found, last)
        before = np.concatenate([last[None], codes[:-1]])
        arrived = (before < 0) & (codes >= 0)
        row, column = np.nonzero(arrived)
        first_frame[column], first_site[column] = frames.start + row, codes[row, column] % n_sites
        row, column = np.nonzero((before >= 0) & (codes != before))
        jumps.append((column, frames.start + row, before[row, column], codes[row, column]))
        for number, sites in _by_block(codes, block[frames]):
            known = sites >= 0
            held[number] += np.bincount(sites[known] % n_sites, minlength=n_sites)
        n_crowded += _crowded(codes, n_sites)
        last = codes[-1]
    atom, frame, old, new = (np.concatenate(parts) for parts in zip(*jumps, strict=True))
    order = np.lexsort((frame, atom))
    atom, frame, old, new = atom[order], frame[order], old[order], new[order]
    vector = find.position(new) - find.position(old)
    return Visits(
        trajectory.n_frames, first_frame, first_site, atom, frame, old % n_sites, new % n_sites, vector, held,
        n_crowded, n_inside / (trajectory.n_frames * len(atoms)),
    )  # fmt: skip


class _CoreFinder:
    """The core that a position is in, as one number for site and image."""

    def __init__(self, places: Places, core: float) -> None:
        self._places, self._core, self._n = places, core, len(places.reduced)
        self._inverse = np.linalg.inv(places.cell)
        reduced = (places.reduced + IMAGES[:, None]).reshape(-1, 3)
        margin = core * np.linalg.norm(self._inverse, axis=0)
        near = np.flatnonzero(np.all((reduced > -margin - 1e-9) & (reduced < 1.0 + margin + 1e-9), axis=1))
        self._site, self._image = near % self._n, IMAGES[near // self._n]
        self._tree = cKDTree(reduced[near] @ places.cell)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Codes of positions (n_frames, n_atoms, 3) Å, (n_frames, n_atoms); -1 outside of all cores."""
        reduced = positions.reshape(-1, 3) @ self._inverse
        home = np.floor(reduced)
        distance, index = self._tree.query((reduced - home) @ self._places.cell, distance_upper_bound=self._core)
        inside = np.isfinite(distance)
        index = np.where(inside, index, 0)
        image = home.astype(np.int64) + self._image[index] + _WIDEST
        cell = (image[:, 0] * 2 * _WIDEST + image[:, 1]) * 2 * _WIDEST + image[:, 2]
        codes: np.ndarray = np.where(inside, cell * self._n + self._site[index], -1)
        return codes.reshape(positions.shape[:2])

    def position(self, codes: np.ndarray) -> np.ndarray:
        """Places of codes, (n, 3) Å."""
        cell, site = np.divmod(codes, self._n)
        image = np.stack(
            [cell // (4 * _WIDEST**2), cell // (2 * _WIDEST) % (2 * _WIDEST), cell % (2 * _WIDEST)], axis=1
        )
        place: np.ndarray = (self._places.reduced[site] + image - _WIDEST) @ self._places.cell
        return place


def _filled(found: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Codes (n_frames, n_atoms) with the last known one where there is none."""
    whole = np.concatenate([last[None], found])
    row = np.where(whole >= 0, np.arange(len(whole))[:, None], 0)
    return np.take_along_axis(whole, np.maximum.accumulate(row, axis=0), axis=0)[1:]


def _by_block(codes: np.ndarray, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for number in np.unique(block).tolist():
        yield number, codes[block == number].ravel()


def _crowded(codes: np.ndarray, n_sites: int) -> int:
    """Atoms and frames on a site that another atom is on; images of a site are one."""
    sites = np.sort(np.where(codes >= 0, codes % n_sites, -1 - np.arange(codes.shape[1])), axis=1)
    same = sites[:, 1:] == sites[:, :-1]
    there = np.zeros(sites.shape, dtype=bool)
    there[:, 1:] |= same
    there[:, :-1] |= same
    return int(np.count_nonzero(there))
