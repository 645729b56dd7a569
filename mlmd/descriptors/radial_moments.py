"""Moments of radial-angular descriptors: all that training needs of a structure is linear in their coefficients.

The sums that features are made of are linear in the coefficients c of the radial functions,

    Σ_j g_n(r_ij) Y_lm(r̂_ij) = Σ_J Σ_k c[z_i, J, n, k] M[i, J, k, lm],
    M[i, J, k, lm] = Σ_(j of J) f_k(r_ij) Y_lm(r̂_ij),

with a sum over the elements J. The moments M hold no trained number, so that forces are the transposed Jacobian of
moments times ∂E/∂M, just as with descriptors that are frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlmd.descriptors.harmonics import harmonics_and_slopes
from mlmd.descriptors.near_pairs import NearPairs, near_pairs
from mlmd.descriptors.radial_angular import RadialAngular, SquaredChebyshev, invariants
from mlmd.graph import Graph


@dataclass(frozen=True)
class Neighbours(NearPairs):
    """Of a descriptor."""

    descriptor: RadialAngular

    def moments(self) -> Moments:
        """With their Jacobian, as long as they are needed."""
        return Moments(self)


def neighbours_of(descriptor: RadialAngular, graph: Graph, dtype: torch.dtype) -> Neighbours:
    """Those of one structure, for work in a precision."""
    near = near_pairs(graph, descriptor.cutoff, descriptor.species_table, dtype)
    return Neighbours(*near, descriptor)


class Moments:
    """Moments of the atoms of one structure, and their Jacobian."""

    values: Tensor
    """(n_atoms, n_moments): the radial ones by element and k, then the angular ones by element, k and lm."""

    def __init__(self, near: Neighbours) -> None:
        """Compute them."""
        shape, descriptor = near.descriptor.shape, near.descriptor
        self._pairs, self._vectors, self._n_atoms = near.pairs.long(), near.vectors, len(near.kinds)
        self._parts = [_Part(descriptor.radial, descriptor.radial_cutoffs, near, 0)]
        if shape.n_invariants:
            self._parts.append(_Part(descriptor.angular, descriptor.angular_cutoffs, near, shape.l_max))
        self.values = torch.cat([part.values().view(self._n_atoms, -1) for part in self._parts], dim=1)

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Jᵀ·w: gradient (n_atoms, 3) of Σ w·values for w of the shape of `values`, and its virial (3, 3)."""
        slopes = torch.zeros_like(self._vectors)
        sizes = [part.n_of_atom for part in self._parts]
        for part, own in zip(self._parts, weights.split(sizes, dim=1), strict=True):
            slopes.index_add_(0, part.own, part.pull(own))
        gradient = slopes.new_zeros((self._n_atoms, 3))
        gradient.index_add_(0, self._pairs[1], slopes).index_add_(0, self._pairs[0], slopes, alpha=-1.0)
        return gradient, self._vectors.T @ slopes

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        """J·v, as `values`, for displacements (n_atoms, 3) and a strain (3, 3) that makes r·(1 + ε) of r."""
        moved = displacements[self._pairs[1]] - displacements[self._pairs[0]] + self._vectors @ strain
        return torch.cat([part.push(moved[part.own]).view(self._n_atoms, -1) for part in self._parts], dim=1)


class _Part:
    """The radial or the angular moments."""

    def __init__(self, functions: SquaredChebyshev, cutoffs: Tensor, near: Neighbours, l_max: int) -> None:
        pairs, distances = near.pairs.long(), torch.linalg.vector_norm(near.vectors, dim=1)
        of_centre, of_neighbour = near.kinds[pairs[0]], near.kinds[pairs[1]]
        reach = (0.5 * (cutoffs[of_centre] + cutoffs[of_neighbour])).to(distances.dtype)
        self.own = (distances < reach).nonzero().squeeze(1)
        """Numbers of the pairs that are near enough."""
        distances, reach = distances[self.own], reach[self.own]
        rows = functions.polynomials(distances / reach)
        rates = functions.slopes(distances / reach, rows)
        self._radial = torch.stack(rows, dim=1)  # (n_pairs, n_k)
        self._rates = torch.stack(rates, dim=1) / reach[:, None]
        self._distances, self._along = distances[:, None], near.vectors[self.own] / distances[:, None]
        if l_max:
            angular, turns = harmonics_and_slopes(self._along.T, l_max)
            self._angular, self._turns = angular.T.contiguous(), turns.permute(2, 0, 1).contiguous()
        else:  # they do not depend on directions
            self._angular = torch.ones_like(self._distances)
            self._turns = self._along.new_zeros((len(self._along), 1, 3))
        n_species = len(cutoffs)
        self._place = pairs[0, self.own] * n_species + of_neighbour[self.own]
        self._shape = (len(near.kinds) * n_species, self._radial.shape[1], self._angular.shape[1])
        self.n_of_atom = n_species * self._shape[1] * self._shape[2]

    def values(self) -> Tensor:
        """(n_atoms · n_species, n_k, n_lm)."""
        return self._sums(self._radial[:, :, None] * self._angular[:, None, :])

    def pull(self, weights: Tensor) -> Tensor:
        """(n_pairs, 3), derivatives by the vectors of the pairs that are near enough."""
        own = weights.reshape(self._shape).index_select(0, self._place)
        by_radial = torch.bmm(own, self._angular[:, :, None]).squeeze(2)
        by_angular = torch.bmm(self._radial[:, None, :], own)
        along = (by_radial * self._rates).sum(dim=1, keepdim=True)
        turn = torch.bmm(by_angular, self._turns).squeeze(1)
        return along * self._along + self._across(turn) / self._distances

    def push(self, moved: Tensor) -> Tensor:
        """As `values`, for changes of the vectors of these pairs."""
        along = (moved * self._along).sum(dim=1, keepdim=True)
        turned = torch.bmm(self._turns, (self._across(moved) / self._distances)[:, :, None]).squeeze(2)
        changes = (along * self._rates)[:, :, None] * self._angular[:, None, :]
        return self._sums(changes + self._radial[:, :, None] * turned[:, None, :])

    def _across(self, vectors: Tensor) -> Tensor:
        """What is left of vectors across the direction of their pair."""
        return vectors - (vectors * self._along).sum(dim=1, keepdim=True) * self._along

    def _sums(self, of_pairs: Tensor) -> Tensor:
        return of_pairs.new_zeros(self._shape).index_add_(0, self._place, of_pairs)


def features_of(descriptor: RadialAngular, moments: Tensor, kinds: Tensor) -> Tensor:
    """(n_atoms, n_features) of moments and kinds of atoms, differentiable by both and by the coefficients."""
    shape, n_species = descriptor.shape, len(descriptor.elements)
    n_radial = n_species * shape.n_radial_basis
    found = moments.new_zeros((len(kinds), shape.n_features))
    for kind in kinds.unique().tolist():
        own = (kinds == kind).nonzero().squeeze(1)
        rows = moments.index_select(0, own)
        features = [rows[:, :n_radial] @ _matrix(descriptor.radial, kind).T]
        if shape.n_invariants:
            angular = rows[:, n_radial:].reshape(len(own), n_species * shape.n_angular_basis, -1)
            features.append(invariants(_matrix(descriptor.angular, kind) @ angular, shape).flatten(1))
        found = found.index_put((own,), torch.cat(features, dim=1))
    return found * descriptor.scaling


def _matrix(functions: SquaredChebyshev, kind: int) -> Tensor:
    """c of one element of the centre, (n_functions, n_species · n_k)."""
    return functions.coefficients[kind].transpose(0, 1).flatten(1)
