"""Single frames of a protein: what MDTraj says of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.chain import NM

if TYPE_CHECKING:
    import mdtraj

CONTACT = 4.5
"""Å."""
APART = 3
"""Residues between those of a contact along the chain, counted from one to the other."""
_H_BOND = (2.5, math.radians(120.0))
"""Å, and the least angle."""

_N_DISTANCES = 8_000_000
"""Between heavy atoms, in memory at once: 32 MB in single precision, and some times that within MDTraj."""

Columns = dict[tuple[Any, ...], np.ndarray]
"""What is known of something in each frame, by what it is of."""


@dataclass(frozen=True)
class Conformations:
    """What some consecutive frames tell."""

    rmsd: np.ndarray
    """(n_frames,) Å."""
    gyration: np.ndarray
    """(n_frames,) Å."""
    contacts: np.ndarray
    """(n_frames,) how many there are."""
    touching: np.ndarray
    """(n_pairs,) frames in which each of `contact_pairs` is one."""
    moved: np.ndarray
    """(n_frames, n, 3) Å, superposed."""
    angles: Columns
    """Radians, by name and residue."""
    structure: Columns
    """Letters of DSSP, by "dssp" and residue."""
    bonds: Columns
    """Whether a hydrogen bond is there, by donor, hydrogen and acceptor."""


def conformations(
    frames: mdtraj.Trajectory, start: mdtraj.Trajectory, fitted: np.ndarray, masses: np.ndarray
) -> Conformations:
    """What MDTraj finds in some frames.

    Args:
        frames: whole molecules, without a cell.
        start: the structure that RMSD is from and on which frames are superposed.
        fitted: (n,) atoms by which that is done.
        masses: (n_atoms,) amu.
    """
    import mdtraj

    rmsd = NM * mdtraj.rmsd(frames, start, atom_indices=fitted)
    gyration = NM * mdtraj.compute_rg(frames, masses=masses)
    contacts, touching = _contacts(frames)
    angles: Columns = {}
    for name, compute in (("φ", mdtraj.compute_phi), ("ψ", mdtraj.compute_psi)):
        atoms, values = compute(frames, periodic=False)
        for four, column in zip(atoms, values.T, strict=True):
            centre = frames.topology.atom(four[1 if name == "ψ" else 2])  # its Cα is of the residue
            angles[name, centre.residue.index] = column
    structure: Columns = {}
    if len(frames.topology.select("name CA and element C")):
        letters = mdtraj.compute_dssp(frames, simplified=True)
        structure = {("dssp", k): column for k, column in enumerate(letters.T) if column[0] != "NA"}
    superposed = frames[:].superpose(start, atom_indices=fitted)
    moved = NM * superposed.xyz[:, fitted]
    return Conformations(rmsd, gyration, contacts, touching, moved, angles, structure, _hydrogen_bonds(frames))


def _contacts(frames: mdtraj.Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """`Conformations.contacts` and `touching`; some pairs at a time, whose atoms have `_N_DISTANCES` at most."""
    import mdtraj

    pairs = contact_pairs(frames.topology)
    contacts, touching = np.zeros(len(frames), dtype=int), np.zeros(len(pairs), dtype=int)
    sizes = np.array([sum(atom.element.symbol != "H" for atom in one.atoms) for one in frames.topology.residues])
    n_distances = len(frames) * np.cumsum(sizes[pairs].prod(axis=1))
    for part in np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(n_distances // _N_DISTANCES)) + 1):
        if len(part):
            gaps, _ = mdtraj.compute_contacts(frames, contacts=pairs[part], scheme="closest-heavy", periodic=False)
            near = NM * gaps < CONTACT
            contacts += near.sum(axis=1)
            touching[part] = near.sum(axis=0)
    return contacts, touching


def _hydrogen_bonds(frames: mdtraj.Trajectory) -> Columns:
    """(n_frames,) bool for each (donor, hydrogen, acceptor) that is there in one frame or more."""
    import mdtraj

    try:
        triplets = mdtraj.baker_hubbard(frames, freq=0.0, periodic=False)
    except ValueError:  # nothing that could give or take a bond
        return {}
    if not len(triplets):
        return {}
    gaps = NM * mdtraj.compute_distances(frames, triplets[:, 1:], periodic=False)
    bent = mdtraj.compute_angles(frames, triplets, periodic=False)
    there = (gaps < _H_BOND[0]) & (bent > _H_BOND[1])
    return {tuple(int(atom) for atom in three): column for three, column in zip(triplets, there.T, strict=True)}


def joined(parts: Sequence[Conformations], name: str) -> Columns:
    """Columns of all parts; what is not told in one was not there."""
    keys = dict.fromkeys(key for part in parts for key in getattr(part, name))
    return {
        key: np.concatenate([getattr(part, name).get(key, np.zeros(len(part.rmsd), dtype=bool)) for part in parts])
        for key in keys
    }


def contact_pairs(topology: mdtraj.Topology) -> np.ndarray:
    """(n_pairs, 2) residues that are `APART` or more along the chain, or of different chains."""
    chains = [residue.chain.index for residue in topology.residues]
    n = topology.n_residues
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if j - i >= APART or chains[i] != chains[j]]
    return np.array(pairs, dtype=int).reshape(-1, 2)
