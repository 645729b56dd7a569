"""Which lattice an atom is part of: adaptive common neighbour analysis.

The bonds of a central atom i with each of its N nearest neighbours j are classified by three numbers (n, b, c): the
neighbours that i and j have in common, the bonds among these, and the bonds in the largest connected set of these.
Atoms of the N that are closer to each other than a cutoff are bonded. The cutoff is the atom's own,

    fcc, hcp, icosahedral:  N = 12,  r_c = (1 + √2)/2 · Σ_j r_ij / 12
    bcc:                    N = 14,  r_c = (1 + √2)/2 · (Σ_{j ≤ 8} 2/√3 r_ij + Σ_{8 < j ≤ 14} r_ij) / 14

half way between two shells, so that no length has to be known (Honeycutt and Andersen, J. Phys. Chem. 91, 4950 (1987);
Stukowski, Model. Simul. Mater. Sci. Eng. 20, 045021 (2012)). An atom is of the lattice whose signature it has,

    fcc 12 × 421,   hcp 6 × 421 and 6 × 422,   bcc 8 × 666 and 6 × 444,   icosahedral 12 × 555,

and "other" if it has none of these, as at surfaces, at grain boundaries and in melts.
"""

from __future__ import annotations

import math

import numpy as np

from mlmd.analysis.surroundings import bond_length, pairs_within

TYPES = ("other", "fcc", "hcp", "bcc", "icosahedral")
"""What the numbers stand for that `structure_types` gives."""
OTHER, FCC, HCP, BCC, ICOSAHEDRAL = range(len(TYPES))
_BETWEEN_SHELLS = (1.0 + math.sqrt(2.0)) / 2.0
_BETWEEN_SHELLS_OF_BCC = 1.207
"""The same number as OVITO has it for bcc, so that labels are equal where a bond is within 1e-4 of the cutoff."""
_REACH = 2.0
"""Times the bond length: as far as fourteen neighbours of an atom may be."""
_AT_ONCE = 4096
"""Atoms that are worked through together: 30 MB."""


def structure_types(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Numbers of `TYPES` (n_atoms,) for atoms at positions (n_atoms, 3) Å in a cell (3, 3) Å."""
    found = np.full(len(positions), OTHER)
    bond = bond_length(positions, cell, pbc)
    if not np.isfinite(bond):
        return found
    vectors, distances = pairs_within(_REACH * bond, positions, cell, pbc).nearest(14)
    for begin in range(0, len(positions), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        found[part] = _types(vectors[part], distances[part])
    return found


def _types(vectors: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """From the fourteen nearest neighbours (n, 14, 3) and (n, 14) Å."""
    found = np.full(len(vectors), OTHER)
    close = _BETWEEN_SHELLS * distances[:, :12].mean(axis=1)
    packed = np.flatnonzero(np.isfinite(close))
    n, b, c = _signatures(vectors[packed, :12], close[packed])
    n_421, n_422, n_555 = (
        ((n == one) & (b == two) & (c == three)).sum(axis=1) for one, two, three in ((4, 2, 1), (4, 2, 2), (5, 5, 5))
    )
    found[packed[n_421 == 12]] = FCC
    found[packed[(n_421 == 6) & (n_422 == 6)]] = HCP
    found[packed[n_555 == 12]] = ICOSAHEDRAL
    scaled = np.concatenate([2.0 / math.sqrt(3.0) * distances[:, :8], distances[:, 8:14]], axis=1)
    close = _BETWEEN_SHELLS_OF_BCC * scaled.mean(axis=1)
    centred = np.flatnonzero((found == OTHER) & np.isfinite(close))
    n, b, c = _signatures(vectors[centred, :14], close[centred])
    n_444, n_666 = (((n == k) & (b == k) & (c == k)).sum(axis=1) for k in (4, 6))
    found[centred[(n_444 == 6) & (n_666 == 8)]] = BCC
    return found


def _signatures(vectors: np.ndarray, cutoffs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, b, c) of each bond, (n_atoms, N) each. Sets of neighbours are the bits of numbers."""
    between = np.linalg.norm(vectors[:, :, None] - vectors[:, None], axis=3)
    bonded = between < cutoffs[:, None, None]
    bonded &= ~np.eye(vectors.shape[1], dtype=bool)
    bits = np.left_shift(1, np.arange(vectors.shape[1])).astype(np.uint16)
    common = (bonded * bits).sum(axis=2, dtype=np.uint16)
    # of the common neighbours k of bond j, those that k is bonded to: (atom, j, k)
    among = np.where(bonded, common[:, :, None] & common[:, None], np.uint16(0))
    degree = np.bitwise_count(among)
    return np.bitwise_count(common), degree.sum(axis=2) // 2, _largest_cluster(among, degree, bits)


def _largest_cluster(among: np.ndarray, degree: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """(n_atoms, N) bonds in the largest connected set, from the bonds among common neighbours (n_atoms, N, N)."""
    reached = among | bits
    for k, bit in enumerate(bits):  # what is reached through k, one k after the other (Warshall 1962)
        reached |= np.where(reached & bit, reached[:, :, k, None], np.uint16(0))
    ends = np.zeros(among.shape, dtype=np.uint8)
    for k, bit in enumerate(bits):
        ends += np.where(reached & bit, degree[:, :, k, None], np.uint8(0))
    return ends.max(axis=2) // 2
