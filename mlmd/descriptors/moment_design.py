"""How energies, forces and virials of a moment tensor potential change with its parameters.

E = Σ_i Σ_α w_α B_α(m(i)) is linear in the weights w; the basic moments m_k(i) = Σ_j f_μ(r_ij) Y_k(r̂_ij), Y_k a monomial
of the unit vector, are linear in the radial coefficients c of f_μ = Σ_β c_μβ φ_β. So all derivatives follow from few
tensors of one atom: A_k = ∂E/∂m_k, ∂B_α/∂m_k, the moments P_kβ = Σ_j φ_β Y_k of single radial functions, and
T_k = ∂m_k/∂r_ij. The derivative of the slope g_ij = ∂E/∂r_ij is

    by w_α:   Σ_k (∂B_α/∂m_k) T_k
    by c_μβ:  Σ_k (Σ_l∈μ (∂²E/∂m_k ∂m_l) P_lβ) T_k  +  Σ_k∈μ A_k ∂(φ_β Y_k)/∂r_ij,

one matrix product per atom, and sums of it over the pairs of an atom give forces and virials.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlmd.descriptors.contraction import layers_of
from mlmd.descriptors.moment_basis import MomentBasis
from mlmd.descriptors.moment_sums import monomial_values, monomials
from mlmd.descriptors.neighbourhoods import Neighbourhoods, neighbourhoods
from mlmd.descriptors.species import species
from mlmd.graph import VOIGT, Graph

if TYPE_CHECKING:
    from mlmd.descriptors.moments import Moments

ATOMS_AT_ONCE = 32
"""Worked through together: about 60 kB of intermediate results a pair stay within some tens of megabytes."""


@dataclass(frozen=True)
class Design:
    """Derivatives by the parameters of a model of what it says of a graph: rows of a least-squares problem."""

    energy: Tensor
    """(n_structures, n_parameters) of the energies."""
    forces: Tensor
    """(n_atoms, 3, n_parameters) of the forces, 1/Å."""
    virial: Tensor
    """(n_structures, 6, n_parameters) of Σ vectors ⊗ dE/d(vectors), in the order of `mlmd.graph.VOIGT`."""


class MomentDesign:
    """See the module; made for one basis and used for any coefficients."""

    def __init__(self, basis: MomentBasis) -> None:
        """Lay out the derivatives of all scalars as one table of products (see `_expanded`)."""
        self.basis, self.n_basic, self.n_scalars = basis, len(basis.basic), len(basis.scalars)
        self.rank = max(a + b + c for _, a, b, c in basis.basic)
        powers = {power: index for index, power in enumerate(monomials(self.rank))}
        rows = [(mu, powers[a, b, c], a + b + c) for mu, a, b, c in basis.basic]
        self.function, self.monomial, self.order = torch.tensor(rows).T.contiguous()
        lower, factor = [], []
        for axis in range(3):
            for _, *abc in basis.basic:
                a, b, c = (n - (axis == one) for one, n in enumerate(abc))
                lower.append(powers.get((a, b, c), 0))
                factor.append(float(abc[axis]))
        self.lower = torch.tensor(lower)
        self.factor = torch.tensor(factor, dtype=torch.float64)
        self.members = torch.nn.functional.one_hot(self.function, basis.n_radial_functions).double()
        self.table = _expanded(basis)
        self.moved = [_Tangent(basis, mu) for mu in range(basis.n_radial_functions)]

    def __call__(self, moments: Moments, graph: Graph, weights: Tensor | None = None) -> Design:
        """Derivatives by the weights of the features and, with weights given, by the radial coefficients.

        Args:
            moments: the descriptor, in float64.
            graph: one or more structures.
            weights: (n_features,) w; without them the radial coefficients are left out.

        Returns:
            Columns: n_features weights, then the radial coefficients in their own order, flattened.
        """
        kinds = species(graph.numbers, moments.species_table)
        n_species, _, n_functions, n_chebyshev = moments.radial.coefficients.shape
        block = n_species * n_functions * n_chebyshev
        n_parameters = self.n_scalars + (0 if weights is None else n_species * block)
        energy = graph.positions.new_zeros((graph.n_structures, n_parameters))
        forces = graph.positions.new_zeros((graph.n_atoms, 3, n_parameters))
        virial = graph.positions.new_zeros((graph.n_structures, 6, n_parameters))
        for atoms, near, targets in _pieces(graph, kinds, moments.cutoff):
            sums, slopes = self._piece(moments, near, weights)
            # the radial coefficients of an atom are those of its own species
            kind = int(near.centre_kinds[0])
            owner = graph.owner[atoms]
            spans = [(slice(0, self.n_scalars), slice(0, self.n_scalars))]
            if weights is not None:
                start = self.n_scalars + kind * block
                spans.append((slice(start, start + block), slice(self.n_scalars, self.n_scalars + block)))
            n, width = targets.shape
            slopes = slopes.view(n, width, 3, -1)
            vectors = near.vectors.permute(1, 2, 0)
            strained = torch.stack(
                [(vectors[..., a, None] * slopes[:, :, b]).sum(dim=1) for a, b in zip(*VOIGT, strict=True)], dim=1
            )
            of_centre = slopes.sum(dim=1)
            for into, of in spans:
                energy[:, into] += torch.zeros_like(energy[:, into]).index_add_(0, owner, sums[:, of])
                virial[:, :, into] += torch.zeros_like(virial[:, :, into]).index_add_(0, owner, strained[..., of])
                own = forces[:, :, into] if len(spans) > 1 else forces
                change = torch.zeros_like(own).index_add_(0, targets.flatten(), slopes[..., of].flatten(0, 1))
                own -= change
                own.index_add_(0, atoms, of_centre[..., of])
        return Design(energy=energy, forces=forces, virial=virial)

    def _piece(self, moments: Moments, near: Neighbourhoods, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Columns of the energies (n, P) and of the slopes (n, n_neighbours · 3, P) of atoms of one species."""
        radial = moments.radial
        distances = (near.vectors * near.vectors).sum(dim=0).sqrt()
        unit = near.vectors / distances
        values = monomial_values(unit, self.rank).permute(1, 2, 0).contiguous()  # (n, W, monomials)
        rows = radial.polynomials(distances)
        polynomials, rates = torch.stack(rows, dim=1), torch.stack(radial.slopes(distances, rows), dim=1)  # (n, β, W)
        functions, slopes = radial.mix(polynomials, near), radial.mix(rates, near)  # (n, μ, W)
        basic = self._basic(functions, values)
        derivative = self._derivative(unit, distances, values, functions, slopes)
        all_moments, by_basic = self._jacobian(moments, basic)
        sums, columns = all_moments[list(self.basis.scalars)].T, by_basic
        direct = None
        if weights is not None:
            single = self._single(polynomials, values, near, radial.coefficients.shape[0])  # (n, species, β, K)
            slope, curved = self._second(moments, all_moments, weights, single)
            by_radial = torch.einsum("nsbk,km->nsmb", single * slope[:, None, None, :], self.members).flatten(1)
            sums = torch.cat([sums, by_radial], dim=1)
            columns = torch.cat([columns, curved], dim=1)
            direct = self._direct(
                slope, unit, distances, values, polynomials, rates, near, radial.coefficients.shape[0]
            )
        found = torch.bmm(derivative, columns.transpose(1, 2))
        if direct is not None:
            found[..., self.n_scalars :] += direct
        return sums, found

    def _basic(self, functions: Tensor, values: Tensor) -> Tensor:
        """Basic moments (n, K)."""
        table = torch.bmm(functions, values)
        return table.flatten(1).index_select(1, self.function * values.shape[2] + self.monomial)

    def _derivative(self, unit: Tensor, distances: Tensor, values: Tensor, functions: Tensor, slopes: Tensor) -> Tensor:
        """T: (n, W · 3, K), ∂m_k/∂r = r̂ Y (f' - ν f/r) + (f/r) ∂Y/∂r̂ with Y of degree ν."""
        over = (functions / distances[:, None, :]).transpose(1, 2).index_select(2, self.function)  # (n, W, K)
        along = slopes.transpose(1, 2).index_select(2, self.function) - self.order * over
        along *= values.index_select(2, self.monomial)
        n, width, n_basic = along.shape
        rises = values.index_select(2, self.lower) * self.factor
        result = rises.view(n, width, 3, n_basic).mul_(over[:, :, None, :])
        result += unit.permute(1, 2, 0)[..., None] * along[:, :, None, :]
        return result.view(n, width * 3, n_basic)

    def _jacobian(self, moments: Moments, basic: Tensor) -> tuple[Tensor, Tensor]:
        """All moments (n_moments, n), and ∂B_α/∂m_k (n, n_scalars, K)."""
        every = moments.contraction.moments(basic.T.contiguous())
        n = basic.shape[0]
        adjoint = every.new_zeros((self.table.n_rows, n))
        adjoint[self.table.seeds] = 1.0
        for source, other, target, coefficient in self.table.steps:
            change = adjoint.index_select(0, source) * every.index_select(0, other)
            adjoint.index_add_(0, target, change.mul_(coefficient[:, None]))
        dense = every.new_zeros((self.n_scalars * self.n_basic, n))
        dense[self.table.places] = adjoint[self.table.basic_rows]
        return every, dense.T.contiguous().view(n, self.n_scalars, self.n_basic)

    def _single(self, polynomials: Tensor, values: Tensor, near: Neighbourhoods, n_species: int) -> Tensor:
        """P: moments (n, species, β, K) of single radial functions and neighbours of one species each."""
        parts = []
        for kind in range(n_species):
            mask = (near.kinds == kind).to(polynomials.dtype)[:, None, :] if n_species > 1 else 1.0
            parts.append(torch.bmm(polynomials * mask, values).index_select(2, self.monomial))
        return torch.stack(parts, dim=1)

    def _second(self, moments: Moments, every: Tensor, weights: Tensor, single: Tensor) -> tuple[Tensor, Tensor]:
        """A (n, K), and Σ_l∈μ ∂²E/∂m_k∂m_l P_lβ as (n, species · μ · β, K)."""
        n, n_species, n_chebyshev, n_basic = single.shape
        adjoint = torch.zeros_like(every)
        adjoint.index_add_(0, moments.contraction.scalars, weights[:, None].expand(-1, n))
        for first, second, target, coefficient in reversed(moments.contraction.layers()):
            outer = adjoint.index_select(0, target) * coefficient[:, None]
            adjoint.index_add_(0, first, outer * every.index_select(0, second))
            adjoint.index_add_(0, second, outer * every.index_select(0, first))
        directions = single.flatten(1, 2).permute(2, 1, 0)  # (K, species · β, n)
        bent = every.new_empty((n_basic, n_species, len(self.moved), n_chebyshev, n))
        for mu, tangent in enumerate(self.moved):
            found = tangent(directions, every, adjoint)
            bent[:, :, mu] = found[:n_basic].view(n_basic, n_species, n_chebyshev, n)
        return adjoint[:n_basic].T.contiguous(), bent.flatten(1, 3).permute(2, 1, 0).contiguous()

    def _direct(
        self,
        slope: Tensor,
        unit: Tensor,
        distances: Tensor,
        values: Tensor,
        polynomials: Tensor,
        rates: Tensor,
        near: Neighbourhoods,
        n_species: int,
    ) -> Tensor:
        """Σ_k∈μ A_k ∂(φ_β Y_k)/∂r: (n, W · 3, species · μ · β)."""
        n, width = distances.shape
        n_functions = self.members.shape[1]
        weighted = (slope[:, :, None] * self.members).transpose(1, 2)  # (n, μ, K)
        heights = torch.bmm(weighted, values.index_select(2, self.monomial).transpose(1, 2))  # Σ A Y: (n, μ, W)
        ordered = torch.bmm(weighted * self.order, values.index_select(2, self.monomial).transpose(1, 2))
        rises = (values.index_select(2, self.lower) * self.factor).view(n, width * 3, -1)
        rises = torch.bmm(rises, weighted.transpose(1, 2)).view(n, width, 3, -1)  # Σ A ∂Y/∂r̂
        across = (rises - unit.permute(1, 2, 0)[..., None] * ordered.transpose(1, 2)[:, :, None]) / distances[
            ..., None, None
        ]
        along = unit.permute(1, 2, 0)[..., None] * heights.transpose(1, 2)[:, :, None]  # (n, W, 3, μ)
        result = along[..., None] * rates.transpose(1, 2)[:, :, None, None]
        result += across[..., None] * polynomials.transpose(1, 2)[:, :, None, None]  # (n, W, 3, μ, β)
        if n_species == 1:
            return result.reshape(n, width * 3, -1)
        mask = torch.nn.functional.one_hot(near.kinds, n_species).to(result.dtype)
        spread = mask[:, :, None, :, None, None] * result[:, :, :, None]
        return spread.reshape(n, width * 3, n_species * n_functions * polynomials.shape[1])


class _Tangent:
    """How the adjoints of moments change when those of one radial function do: only what is not always zero."""

    def __init__(self, basis: MomentBasis, mu: int) -> None:
        """Follow the dependence on the basic moments of f_μ through the products, and back."""
        self.members = torch.tensor([row for row, (own, *_) in enumerate(basis.basic) if own == mu])
        moving, bending = set(self.members.tolist()), set[int]()
        forwards, backwards = [], []
        for products in layers_of(basis):
            rows = [
                (one, other, target, coefficient)
                for first, second, coefficient, target in products
                for one, other in ((first, second), (second, first))
                if one in moving
            ]
            moving |= {row[2] for row in rows}
            forwards.append(_columns(rows))
        for products in reversed(layers_of(basis)):
            both = [
                (target, other, one, coefficient)
                for first, second, coefficient, target in products
                for one, other in ((first, second), (second, first))
            ]
            bent = [row for row in both if row[0] in bending]
            turned = [row for row in both if row[1] in moving]
            bending |= {row[2] for row in (*bent, *turned)}
            backwards.append((_columns(bent), _columns(turned)))
        self.forwards, self.backwards = forwards, backwards

    def __call__(self, directions: Tensor, every: Tensor, adjoint: Tensor) -> Tensor:
        """Changes of the adjoints (n_moments, n_directions, n).

        Args:
            directions: (K, n_directions, n) changes of the basic moments; only those of f_μ are looked at.
            every: (n_moments, n) moments.
            adjoint: (n_moments, n) their adjoints.
        """
        moved = every.new_zeros((every.shape[0], *directions.shape[1:]))
        moved[self.members] = directions[self.members]
        for one, other, target, coefficient in self.forwards:
            change = moved.index_select(0, one) * (every.index_select(0, other) * coefficient)[:, None]
            moved.index_add_(0, target, change)
        bent = torch.zeros_like(moved)
        for (source, other, into, coefficient), (of, turned, there, factor) in self.backwards:
            change = bent.index_select(0, source) * (every.index_select(0, other) * coefficient)[:, None]
            bent.index_add_(0, into, change)
            change = moved.index_select(0, turned) * (adjoint.index_select(0, of) * factor)[:, None]
            bent.index_add_(0, there, change)
        return bent


def _columns(rows: list[tuple[int, int, int, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three columns of indices and one of coefficients (n, 1)."""
    one, other, target, coefficient = torch.tensor(rows, dtype=torch.int64).reshape(-1, 4).T.contiguous()
    return one, other, target, coefficient.double()[:, None]


@dataclass(frozen=True)
class _Table:
    """The derivatives of all scalars as one reverse pass over rows (scalar, moment)."""

    n_rows: int
    seeds: Tensor
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]]
    """(row of the target's adjoint, moment, row of the factor's adjoint, coefficient), layer by layer."""
    basic_rows: Tensor
    places: Tensor
    """Where the rows of basic moments stand in a dense table (scalar, basic moment)."""


def _expanded(basis: MomentBasis) -> _Table:
    """Rows for those moments only that a scalar is made of: a scalar needs few of the products."""
    by_target: dict[int, list[tuple[int, int, int, int]]] = {}
    depth: dict[int, int] = {}
    for layer, products in enumerate(layers_of(basis), 1):
        for product in products:
            by_target.setdefault(product[3], []).append(product)
            depth[product[3]] = layer
    rows: dict[tuple[int, int], int] = {}
    steps: dict[int, list[tuple[int, int, int, int]]] = {}
    for alpha, scalar in enumerate(basis.scalars):
        waiting = [scalar]
        rows[alpha, scalar] = len(rows)
        while waiting:
            moment = waiting.pop()
            for first, second, coefficient, target in by_target.get(moment, ()):
                for one, other in ((first, second), (second, first)):
                    if (alpha, one) not in rows:
                        rows[alpha, one] = len(rows)
                        waiting.append(one)
                    step = (rows[alpha, target], other, rows[alpha, one], coefficient)
                    steps.setdefault(depth[target], []).append(step)
    columns = []
    for layer in sorted(steps, reverse=True):
        source, other, target, coefficient = torch.tensor(steps[layer]).T.contiguous()
        columns.append((source, other, target, coefficient.double()))
    basic = [(row, alpha, moment) for (alpha, moment), row in rows.items() if moment < len(basis.basic)]
    return _Table(
        n_rows=len(rows),
        seeds=torch.tensor([rows[alpha, scalar] for alpha, scalar in enumerate(basis.scalars)]),
        steps=columns,
        basic_rows=torch.tensor([row for row, _, _ in basic]),
        places=torch.tensor([alpha * len(basis.basic) + moment for _, alpha, moment in basic]),
    )


def _pieces(graph: Graph, kinds: Tensor, cutoff: float) -> Iterator[tuple[Tensor, Neighbourhoods, Tensor]]:
    """Some atoms of one species at a time, their neighbourhoods and the (n, W) indices of their neighbours."""
    for first in range(0, graph.n_atoms, ATOMS_AT_ONCE):
        centres = slice(first, min(first + ATOMS_AT_ONCE, graph.n_atoms))
        near = neighbourhoods(graph, kinds, cutoff, graph.positions.dtype, centres)
        bounds = torch.tensor([centres.start, centres.stop])
        start, end = torch.searchsorted(graph.pairs[0].contiguous(), bounds).tolist()
        neighbours = torch.zeros(near.kinds.numel(), dtype=torch.int64)  # nothing is added where there is none
        neighbours[near.places] = graph.pairs[1, start:end]
        neighbours = neighbours.view(near.kinds.shape)
        for kind in torch.unique(near.centre_kinds).tolist():
            own = torch.nonzero(near.centre_kinds == kind)[:, 0]
            part = replace(
                near,
                vectors=near.vectors.index_select(1, own),
                kinds=near.kinds.index_select(0, own),
                centre_kinds=near.centre_kinds.index_select(0, own),
            )
            yield own + first, part, neighbours.index_select(0, own)
