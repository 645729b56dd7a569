"""Which lattice an atom is part of, and how that is turned: polyhedral template matching.

The atom and its N nearest neighbours r_j are laid on those of an ideal lattice, t_j, which neighbour on which one being
read off the faces of the convex hull of the neighbours. An atom is of the template with the smallest deviation

    RMSD = min over s, Q of √( Σ_j |s (r_j - r̄) - Q t_j|² / (N + 1) ),

in units of the mean distance of a template's neighbours, and "other" where that is beyond a cutoff. Unlike common
neighbour analysis it has no threshold between neighbours and others, so that heat and strain blur it late (Larsen,
Schmidt, Schiøtz, Model. Simul. Mater. Sci. Eng. 24, 055007 (2016)). The search is Larsen's own, in the package mdapy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from mlmd.analysis.common_neighbours import TYPES as COMMON
from mlmd.errors import InputError, did_you_mean
from mlmd.pairs import spanning

TYPES = (*COMMON, "sc", "diamond", "hexagonal-diamond", "graphene")
"""What the numbers stand for; the first are those of `mlmd.analysis.common_neighbours`."""
OTHER, SC, DIAMOND = (TYPES.index(name) for name in ("other", "sc", "diamond"))
DEFAULT = TYPES[1:-1]
"""With what atoms are compared where nothing is asked. Not with graphene, which atoms of some surfaces are like."""
CUTOFF = 0.1
"""Of the RMSD, where none is given, as in other programs. Of crystals about to melt, whose atoms are 0.055 bonds off
along each axis, 93 % (fcc) and 98 % (bcc) are below and all below 0.12; of fcc that is 0.07 off 28 % are below, less
than common neighbours find, 82 % below 0.12 and all below 0.15. Of copper's melt at its freezing point none is below
0.1, 0.07 % below 0.12 and 0.8 % below 0.15 (`benchmarks/structure_types.py`)."""
_THEIR_NAMES = dict(zip(TYPES[1:], ("fcc", "hcp", "bcc", "ico", "sc", "dcub", "dhex", "graphene"), strict=True))
_FEWEST = 19
"""Atoms of a structure that repeats nowhere: each is compared with 18 neighbours at most, and mdapy asks for them."""
_ROOM = 1.0
"""Å beyond the atoms along directions that do not repeat."""


@dataclass(frozen=True)
class Matches:
    """Which template each atom is like."""

    types: np.ndarray
    """(n_atoms,) numbers of `TYPES`."""
    rmsd: np.ndarray
    """(n_atoms,) from the best template, whatever the cutoff; infinite where none has the atom's hull."""
    axes: np.ndarray
    """(n_atoms, 3, 3) rows are the axes of the template, in cubic lattices <100>; nan for others."""


def template_matches(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, *, templates: Sequence[str] = DEFAULT,
    cutoff: float = CUTOFF,
) -> Matches:  # fmt: skip
    """Compare the surroundings of every atom with templates.

    Args:
        positions: (n_atoms, 3) Å; they may lie outside the cell.
        cell: (3, 3) Å; vectors of directions that do not repeat are not looked at.
        pbc: (3,) bool.
        templates: names of `TYPES` that are compared with.
        cutoff: largest RMSD of an atom of a lattice.

    Raises:
        InputError: for unknown templates, a cutoff that is not positive, and without mdapy.
    """
    check_templates(templates, cutoff)
    mdapy = _mdapy()
    n_atoms, pbc = len(positions), np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    if n_atoms == 0 or (n_atoms < _FEWEST and not pbc.any()):
        return Matches(np.full(n_atoms, OTHER), np.full(n_atoms, np.inf), np.full((n_atoms, 3, 3), np.nan))
    inside, box, origin = _boxed(np.asarray(positions, dtype=np.float64), cell, pbc)
    system = mdapy.System(pos=inside, box=mdapy.Box(box, pbc.astype(np.int32), origin))
    system.cal_polyhedral_template_matching(
        "-".join(_THEIR_NAMES[name] for name in templates), cutoff, return_rmsd=True, return_orientation=True
    )
    types, rmsd = system.data["ptm"].to_numpy().astype(int), system.data["rmsd"].to_numpy().copy()
    rmsd[(types == OTHER) & (rmsd == 0.0)] = np.inf  # mdapy leaves a zero where no template has the atom's hull
    matched, axes = types != OTHER, np.full((n_atoms, 3, 3), np.nan)
    turns = Rotation.from_quat(system.data.select("qx", "qy", "qz", "qw").to_numpy()[matched])
    axes[matched] = turns.inv().as_matrix()  # turns lead from the template, whose axes are x, y and z
    return Matches(types, rmsd, axes)


def check_templates(templates: Sequence[str], cutoff: float) -> None:
    """Look at what is asked for before long files are read.

    Raises:
        InputError: for templates that are not known or none, a cutoff that is not positive, and without mdapy.
    """
    for name in templates:
        if name not in TYPES[1:]:
            raise InputError(f"there is no template {name!r}. {did_you_mean(name, TYPES[1:])}")
    if not templates:
        raise InputError(f"no template is given to compare with: {', '.join(TYPES[1:])}.")
    if not 0.0 < cutoff < np.inf:
        raise InputError(f"an RMSD cutoff of {cutoff:g}: needed above 0, as 0.1.")
    _mdapy()


def _mdapy() -> Any:
    try:
        import mdapy
    except ModuleNotFoundError:
        raise InputError('polyhedral template matching needs mdapy: pip install "mlmd[ptm]".') from None
    return mdapy


def _boxed(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in a right-handed box, the box (3, 3) and its origin (3,); it is as large as the atoms need."""
    box = spanning(cell, pbc)
    if np.linalg.det(box) < 0.0:  # minus a vector spans the same lattice
        box[2] = -box[2]
    share = positions @ np.linalg.inv(box)
    share = np.where(pbc, share % 1.0, share)
    low, high = share.min(axis=0) - _ROOM, share.max(axis=0) + _ROOM  # vectors that do not repeat are 1 Å long
    origin = np.where(pbc, 0.0, low) @ box
    return np.ascontiguousarray(share @ box), box * np.where(pbc, 1.0, high - low)[:, None], origin
