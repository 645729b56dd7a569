"""Pairs, triplets and paths of four atoms of a graph, and what the many-body tensor representation measures of them.

Every set of atoms counts once in a structure, and once in a cell of a crystal, in whichever cells its atoms are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmd.descriptors.mbtr_terms import Term
from mlmd.graph import Graph

_STRAIGHT = 1e-6
"""Sine of an angle below which three atoms are on a line, and have no plane."""


@dataclass(frozen=True)
class Tuples:
    """Some atoms each, with what is between them."""

    atoms: Tensor
    """(k, n) rows of the graph, along the tuple."""
    legs: Tensor
    """(k - 1, n) Å, distances from atom to atom along the tuple."""
    around: Tensor
    """(n,) Å, the sum of the legs, and for triplets of the distance between their ends too."""
    values: Tensor
    """(n,) the geometry: a number, Å, 1/Å, degrees or a cosine."""
    share: float
    """How much of a tuple counts: ½ where each is listed from both of its ends."""


def tuples_of(graph: Graph, term: Term) -> Tuples:
    """All tuples of a term whose legs are shorter than its reach, by the pairs of a graph."""
    if term.n_atoms == 1:
        atoms = torch.arange(graph.n_atoms, device=graph.numbers.device)
        none = graph.vectors.new_zeros(0, graph.n_atoms)
        return Tuples(atoms[None], none, none.sum(dim=0), graph.numbers.to(graph.vectors.dtype), 1.0)
    near = (graph.distances.detach() < term.reach).nonzero().squeeze(1)
    bonds = Bonds(graph.pairs[:, near], graph.shifts[near], graph.vectors[near])
    return _MADE[term.n_atoms](bonds, term)


class Bonds:
    """Pairs within reach, both directions of each, sorted by centre."""

    def __init__(self, pairs: Tensor, shifts: Tensor, vectors: Tensor) -> None:
        """Take what a graph has of them."""
        self.pairs, self.shifts, self.vectors = pairs, shifts, vectors
        self.lengths = torch.linalg.vector_norm(vectors, dim=1)

    def __len__(self) -> int:
        return self.pairs.shape[1]

    def from_atoms(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Every bond of each of some atoms (n,): which of the atoms, and which bond, (n_found,) each."""
        n_atoms = int(self.pairs.max()) + 1 if len(self) else 0
        counts = torch.bincount(self.pairs[0], minlength=n_atoms)
        begin = counts.cumsum(0) - counts
        repeats = counts[atoms]
        which = torch.repeat_interleave(torch.arange(len(atoms), device=atoms.device), repeats)
        rank = torch.arange(len(which), device=atoms.device) - (repeats.cumsum(0) - repeats)[which]
        return which, begin[atoms][which] + rank


def _pairs(bonds: Bonds, term: Term) -> Tuples:
    r = bonds.lengths
    return Tuples(bonds.pairs, r[None], r, 1 / r if term.geometry == "inverse_distance" else r, 0.5)


def _triplets(bonds: Bonds, term: Term) -> Tuples:
    """i - j - k with the centre j in the middle: two different bonds of an atom, each two once."""
    one, other = bonds.from_atoms(bonds.pairs[0])
    ascending = one < other
    one, other = one[ascending], other[ascending]
    first, second = bonds.vectors[one], bonds.vectors[other]
    legs = torch.stack([bonds.lengths[one], bonds.lengths[other]])
    around = legs.sum(dim=0) + torch.linalg.vector_norm(second - first, dim=1)
    atoms = torch.stack([bonds.pairs[1, one], bonds.pairs[0, one], bonds.pairs[1, other]])
    values = _dot(first, second) / (legs[0] * legs[1]) if term.geometry == "cosine" else _degrees(first, second)
    return Tuples(atoms, legs, around, values, 1.0)


def _paths(bonds: Bonds, term: Term) -> Tuples:
    """i - j - k - l of four different atoms, from both of their ends: bonds j-i, j-k and k-l."""
    middle, first = bonds.from_atoms(bonds.pairs[0])
    kept = middle != first
    if term.weighting == "exponential":  # before there are many
        kept &= (bonds.lengths[middle] + bonds.lengths[first]).detach() < term.reach
    middle, first = middle[kept], first[kept]
    which, last = bonds.from_atoms(bonds.pairs[1, middle])
    middle, first = middle[which], first[which]
    # l is not i, in its cell; where it is j, three atoms are on a line and the path goes with the others of that kind
    crossed = bonds.shifts[middle] + bonds.shifts[last]
    closed = (bonds.pairs[1, last] == bonds.pairs[1, first]) & (crossed == bonds.shifts[first]).all(dim=1)
    kept = ~closed
    middle, first, last = middle[kept], first[kept], last[kept]
    before, between, after = -bonds.vectors[first], bonds.vectors[middle], bonds.vectors[last]
    legs = torch.stack([bonds.lengths[first], bonds.lengths[middle], bonds.lengths[last]])
    one, other = torch.linalg.cross(before, between), torch.linalg.cross(between, after)
    areas = torch.linalg.vector_norm(one, dim=1), torch.linalg.vector_norm(other, dim=1)
    # where three atoms are on a line there is no dihedral angle, and no derivative of one that is finite
    flat = (areas[0] < _STRAIGHT * legs[0] * legs[1]) | (areas[1] < _STRAIGHT * legs[1] * legs[2])
    bent = (~flat).nonzero().squeeze(1)
    one, other, legs = one[bent], other[bent], legs[:, bent]
    atoms = torch.stack([bonds.pairs[1, first], bonds.pairs[0, middle], bonds.pairs[1, middle], bonds.pairs[1, last]])
    if term.geometry == "dihedral_cosine":
        values = _dot(one, other) / (areas[0][bent] * areas[1][bent])
    else:
        values = _degrees(one, other)
    return Tuples(atoms[:, bent], legs, legs.sum(dim=0), values, 0.5)


_MADE: dict[int, Callable[[Bonds, Term], Tuples]] = {2: _pairs, 3: _triplets, 4: _paths}


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1)


def _degrees(one: Tensor, other: Tensor) -> Tensor:
    """Angles between vectors, 0 to 180°; by the tangent, whose derivative is finite on a line too."""
    across = torch.linalg.vector_norm(torch.linalg.cross(one, other), dim=1)
    return torch.atan2(across, _dot(one, other)) * (180 / math.pi)
