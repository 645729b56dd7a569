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
    """(n_frames, n_pairs) bool."""
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
    pairs = contact_pairs(frames.topology)
    contacts = np.zeros((len(frames), 0), dtype=bool)
    if len(pairs):
        gaps, _ = mdtraj.compute_contacts(frames, contacts=pairs, scheme="closest-heavy", periodic=False)
        contacts = NM * gaps < CONTACT
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
    return Conformations(rmsd, gyration, contacts, moved, angles, structure, _hydrogen_bonds(frames))


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
