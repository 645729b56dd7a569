"""Embedding networks of DeepPot-SE as splines: all that training needs of a structure is linear in their values.

An embedding network is a function of one number, so that a spline through its values at evenly spaced s gives it to
many digits, G(s) = Σ_k B_k(s) c_k with quintic B-splines B_k. Then what the atom i sees in the channel m is

    Σ_j R_j G_m(s_ij) = Σ_k (Σ_j R_j B_k(s_ij)) c_km,

where the bracket, here called its moments, holds no trained number. With it, networks are evaluated at some hundred
values of s instead of one for each pair, and forces are the transposed Jacobian of moments times ∂E/∂moments, just as
with descriptors that are frozen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mlmd.descriptors.embedding import DeepPotSE, inverse
from mlmd.descriptors.near_pairs import NearPairs, near_pairs
from mlmd.graph import Graph

_STEP = 0.08
"""Between knots, in σ₁: what enters a network changes by so much."""
_ORDER = 6
"""B-splines that are not zero between two knots."""
_STENCIL = (13 / 240, -112 / 240, 438 / 240, -112 / 240, 13 / 240)
"""Values around a knot -> coefficient of the B-spline there; polynomials up to the fifth degree stay themselves."""
_BASIS = (
    (1 / 120, -1 / 24, 1 / 12, -1 / 12, 1 / 24, -1 / 120),
    (26 / 120, -10 / 24, 2 / 12, 2 / 12, -4 / 24, 5 / 120),
    (66 / 120, 0.0, -6 / 12, 0.0, 6 / 24, -10 / 120),
    (26 / 120, 10 / 24, 2 / 12, -2 / 12, -4 / 24, 10 / 120),
    (1 / 120, 1 / 24, 1 / 12, 1 / 12, 1 / 24, -5 / 120),
    (0.0, 0.0, 0.0, 0.0, 0.0, 1 / 120),
)
"""Polynomials between two knots, by rising powers of the way from the first to the second."""


@dataclass(frozen=True)
class Knots:
    """Evenly spaced s, from 0 on."""

    step: float
    """1/Å."""
    n: int
    """Intervals."""

    @property
    def n_splines(self) -> int:
        """B-splines of which some are not zero between the first knot and the last."""
        return self.n + _ORDER - 1

    def basis(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first B-spline that is not zero at s (n,), with values and slopes (n, 6) of this and the next five."""
        place = s / self.step
        first = place.detach().floor().clamp(0, self.n - 1)
        way = place - first
        polynomials = s.new_tensor(_BASIS).T
        square = way * way
        powers = torch.stack([torch.ones_like(way), way, square, square * way, square**2, square**2 * way], dim=1)
        slopes = polynomials[1:] * torch.arange(1, _ORDER, dtype=s.dtype)[:, None] / self.step
        return first.long(), powers @ polynomials, powers[:, :-1] @ slopes


def knots_for(descriptor: DeepPotSE, shortest: float) -> Knots:
    """Close enough for the descriptor's networks, up to the s of the shortest distance, Å."""
    largest = float(inverse(torch.tensor([shortest], dtype=torch.float64), descriptor.cutoff, descriptor.onset).value)
    step = _STEP * float(descriptor.deviation[:, 0].min())
    return Knots(step, max(1, math.ceil(largest / step)))


def spline_coefficients(descriptor: DeepPotSE, knots: Knots, dtype: torch.dtype) -> Tensor:
    """c of the embedding networks, (n_species of the centre, n_species · n_splines, M₁), differentiable by theirs."""
    margin = (len(_STENCIL) - 1) // 2
    s = knots.step * torch.arange(-2 - margin, knots.n + 3 + margin, dtype=torch.float64)
    n_species = len(descriptor.elements)
    mean, deviation = descriptor.mean.double(), descriptor.deviation.double()
    entering = ((s - mean[:, None]) / deviation[:, :1]).to(dtype)  # (n_species of the centre, n_values)
    if descriptor.type_one_side:
        values = descriptor.embed(entering.reshape(1, -1).expand(n_species, -1))
        values = values.view(n_species, n_species, len(s), -1).transpose(0, 1)
    else:
        values = descriptor.embed(entering.repeat_interleave(n_species, dim=0))
        values = values.view(n_species, n_species, len(s), -1)
    n = knots.n_splines
    parts = [weight * values[:, :, start : start + n] for start, weight in enumerate(_STENCIL)]
    return torch.stack(parts).sum(dim=0).flatten(1, 2)


@dataclass(frozen=True)
class Neighbours(NearPairs):
    """Of a descriptor."""

    descriptor: DeepPotSE
    knots: Knots

    def moments(self) -> Moments:
        """With their Jacobian, as long as they are needed."""
        return Moments(self)


def neighbours_of(descriptor: DeepPotSE, knots: Knots, graph: Graph, dtype: torch.dtype) -> Neighbours:
    """Those of one structure, for work in a precision."""
    near = near_pairs(graph, descriptor.cutoff, descriptor.species_table, dtype)
    return Neighbours(*near, descriptor, knots)


class Moments:
    """Moments of the atoms of one structure, and their Jacobian."""

    values: Tensor
    """(n_atoms, 4 · n_species · n_splines)."""

    def __init__(self, neighbours: Neighbours) -> None:
        """Compute them."""
        near, descriptor, knots = neighbours, neighbours.descriptor, neighbours.knots
        dtype = near.vectors.dtype
        self._pairs, self._vectors = near.pairs.long(), near.vectors
        self._shape = (len(near.kinds), len(descriptor.elements), knots.n_splines)
        distances = torch.linalg.vector_norm(near.vectors, dim=1)
        s = inverse(distances, descriptor.cutoff, descriptor.onset)
        centre = near.kinds[self._pairs[0]]
        mean = descriptor.mean.to(dtype)
        self._radial, across = (1 / descriptor.deviation.to(dtype))[centre].unbind(1)  # 1/σ₁, 1/σ₂
        self._along, self._slope = near.vectors / distances[:, None], s.slope
        self._ratio = s.value / distances * across
        self._turn = s.slope * across - self._ratio  # d/dr of s/σ₂ is that of its two factors s/r and r
        self._rows = torch.cat(
            [((s.value - mean[centre]) * self._radial)[:, None], near.vectors * self._ratio[:, None]], dim=1
        )
        first, basis, basis_slopes = knots.basis(s.value)
        n_atoms, n_species, n_splines = self._shape
        neighbour = self._pairs[0] * n_species + near.kinds[self._pairs[1]]
        columns = (neighbour * n_splines + first)[:, None] + torch.arange(_ORDER)
        self._basis, self._basis_slopes = (self._sparse(columns, numbers) for numbers in (basis, basis_slopes))
        table = self._transposed(self._basis, self._rows).view(n_atoms, n_species, n_splines, 4)
        # places without a neighbour hold s = 0
        taken = torch.bincount(neighbour, minlength=n_atoms * n_species).view(n_atoms, n_species)
        left = torch.tensor(descriptor.n_places) - taken
        empty = left * (-descriptor.mean / descriptor.deviation[:, 0])[near.kinds][:, None]
        _, at_zero, _ = knots.basis(mean.new_zeros(1))
        table[:, :, :_ORDER, 0] += empty[:, :, None].to(dtype) * at_zero
        self.values = self._flat(table)

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Jᵀ·w: gradient (n_atoms, 3) of Σ w·values for w of the shape of `values`, and its virial (3, 3)."""
        n_atoms = self._shape[0]
        table = weights.view(n_atoms, 4, -1).mT.reshape(-1, 4).numpy()
        by_row = torch.from_numpy(self._basis @ table)
        by_s = (torch.from_numpy(self._basis_slopes @ table) * self._rows).sum(dim=1) + by_row[:, 0] * self._radial
        toward = by_row[:, 1:]
        along = by_s * self._slope + (toward * self._along).sum(dim=1) * self._turn
        slopes = along[:, None] * self._along + self._ratio[:, None] * toward
        gradient = slopes.new_zeros((n_atoms, 3))
        gradient.index_add_(0, self._pairs[1], slopes).index_add_(0, self._pairs[0], slopes, alpha=-1.0)
        return gradient, self._vectors.T @ slopes

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        """J·v, as `values`, for displacements (n_atoms, 3) and a strain (3, 3) that makes r·(1 + ε) of r."""
        moved = displacements[self._pairs[1]] - displacements[self._pairs[0]] + self._vectors @ strain
        along = (moved * self._along).sum(dim=1)
        change = along * self._slope
        toward = self._ratio[:, None] * moved + (along * self._turn)[:, None] * self._along
        rows = torch.cat([(change * self._radial)[:, None], toward], dim=1)
        table = self._transposed(self._basis, rows)
        table += self._transposed(self._basis_slopes, change[:, None] * self._rows)
        return self._flat(table)

    def _sparse(self, columns: Tensor, numbers: Tensor) -> csr_array:
        """A matrix with six numbers in the row of each pair, a column for each spline of each species of each atom."""
        ends = np.arange(0, columns.numel() + 1, _ORDER, dtype=np.int32)
        shape = (len(columns), math.prod(self._shape))
        return csr_array((numbers.flatten().numpy(), columns.flatten().int().numpy(), ends), shape=shape)

    def _transposed(self, matrix: csr_array, rows: Tensor) -> Tensor:
        """Sums over pairs, (n_atoms · n_species · n_splines, 4), of their rows times their numbers."""
        return torch.from_numpy(matrix.T @ rows.numpy())

    def _flat(self, table: Tensor) -> Tensor:
        """As `values` are arranged."""
        return table.view(self._shape[0], -1, 4).mT.reshape(self._shape[0], -1)


def features_of(descriptor: DeepPotSE, moments: Tensor, kinds: Tensor, coefficients: Tensor) -> Tensor:
    """D, (n_atoms, M₁·M₂), of moments and kinds of atoms, and the coefficients of the splines."""
    found = moments.new_zeros((len(kinds), descriptor.n_features))
    for kind in kinds.unique().tolist():
        own = (kinds == kind).nonzero().squeeze(1)
        rows = moments.index_select(0, own).view(4 * len(own), -1)
        totals = (rows @ coefficients[kind]).view(len(own), 4, -1)
        found = found.index_put((own,), descriptor.products(totals))
    return found
