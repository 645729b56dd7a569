"""Basic moments: sums over neighbours of a radial function times a monomial of the unit vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.moment_basis import MomentBasis


class MomentSums(torch.nn.Module):
    """m[μ, a, b, c](i) = Σ_j f_μ(i, j) x^a y^b z^c over neighbours padded to a common number.

    Values are one matrix product per atom, of radial functions and monomials. So is the derivative: with
    adjoints G[μ, a, b, c] of the moments, ∂/∂x of a monomial is a times a lower one, hence

        dE/dx(i, j) = Σ_μ f_μ(i, j) Σ_abc (a + 1) G[μ, a + 1, b, c](i) x^a y^b z^c,

    where shifting G along a costs per atom what differentiating the monomials would cost per pair.
    """

    def __init__(self, basis: MomentBasis) -> None:
        """Number the monomials and find, for each, what its derivatives are."""
        super().__init__()
        self.n_basic, self.n_radial = len(basis.basic), basis.n_radial_functions
        self.rank = max(a + b + c for _, a, b, c in basis.basic)
        powers = monomials(self.rank)
        place = {power: index for index, power in enumerate(powers)}
        number = {row: index for index, row in enumerate(basis.basic)}
        lower = [power for power in powers if sum(power) < self.rank]
        self.n_monomials, self.n_lower = len(powers), len(lower)
        where = [mu * len(powers) + place[a, b, c] for mu, a, b, c in basis.basic]
        source, factor = [], []
        for axis in range(3):
            for mu in range(self.n_radial):
                for power in lower:
                    a, b, c = (n + (k == axis) for k, n in enumerate(power))
                    source.append(number.get((mu, a, b, c), self.n_basic))
                    factor.append(float((a, b, c)[axis]))
        self.register_buffer("where", torch.tensor(where), persistent=False)
        self.register_buffer("source", torch.tensor(source, dtype=torch.int64), persistent=False)
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float64), persistent=False)

    def forward(self, unit: Tensor, radial: Tensor) -> Tensor:
        """Basic moments (n_basic, n_atoms).

        Args:
            unit: (3, n_atoms, n_neighbours) unit vectors from centre to neighbour.
            radial: (n_atoms, n_radial_functions, n_neighbours), zero where there is no neighbour.
        """
        sums: Tensor = _Sums.apply(unit, radial, self)
        return sums

    def from_monomials(self, values: Tensor, radial: Tensor) -> Tensor:
        """Basic moments (n_basic, n_atoms) from monomials (n_monomials, n_atoms, n_neighbours)."""
        moments = torch.bmm(radial, values.permute(1, 2, 0))  # (n_atoms, μ, monomial)
        return moments.flatten(1).T.index_select(0, self.where)

    where: Tensor
    source: Tensor
    factor: Tensor


class _Sums(torch.autograd.Function):
    """See `MomentSums`."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, radial: Tensor, table: MomentSums) -> Tensor:
        values = monomial_values(unit, table.rank)
        ctx.table, ctx.values = table, values
        ctx.save_for_backward(unit, radial)
        return table.from_monomials(values, radial)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        table: MomentSums = ctx.table
        unit, radial = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: let autograd follow
            sums = table.from_monomials(torch.stack(_monomial_rows(unit, table.rank)), radial)
            to_unit, to_radial = torch.autograd.grad(sums, (unit, radial), gradients[0], create_graph=True)
            return to_unit, to_radial, None
        adjoint = gradients[0]
        n_atoms, values = unit.shape[1], ctx.values.permute(1, 0, 2)  # (n_atoms, monomial, neighbour)
        full = adjoint.new_zeros((table.n_radial * table.n_monomials, n_atoms))
        full.index_copy_(0, table.where, adjoint)
        by_atom = full.T.contiguous().view(n_atoms, table.n_radial, table.n_monomials)
        to_radial = torch.bmm(by_atom, values)
        padded = torch.cat([adjoint, adjoint.new_zeros((1, n_atoms))])
        shifted = padded.index_select(0, table.source).mul_(table.factor[:, None])
        shifted = shifted.T.contiguous().view(n_atoms, 3 * table.n_radial, table.n_lower)
        slopes = torch.bmm(shifted, values[:, : table.n_lower]).view(n_atoms, 3, table.n_radial, -1)
        to_unit = (slopes * radial[:, None]).sum(dim=2).transpose(0, 1)
        return to_unit, to_radial, None


def monomials(rank: int) -> list[tuple[int, int, int]]:
    """Powers (a, b, c) of all monomials up to a rank: by rank, then x first."""
    return [(a, b, n - a - b) for n in range(rank + 1) for a in range(n, -1, -1) for b in range(n - a, -1, -1)]


def monomial_values(unit: Tensor, rank: int) -> Tensor:
    """(n_monomials, ...) values of `monomials` at unit vectors (3, ...).

    Those of rank n are x times all of rank n - 1, y times those without x, and z^n: whole blocks of rows.
    """
    x, y, z = unit
    values = unit.new_empty(((rank + 1) * (rank + 2) * (rank + 3) // 6, *x.shape))
    values[0] = 1.0
    start, end = 0, 1  # rows of rank n - 1
    for n in range(1, rank + 1):
        new = end
        torch.mul(values[start:end], x, out=values[new : new + end - start])
        new += end - start
        torch.mul(values[end - n : end], y, out=values[new : new + n])
        torch.mul(values[end - 1], z, out=values[new + n])
        start, end = end, new + n + 1
    return values


def _monomial_rows(unit: Tensor, rank: int) -> list[Tensor]:
    """The rows of `monomial_values`, by operations that autograd can follow."""
    x, y, z = unit
    rows, last = [torch.ones_like(x)], [torch.ones_like(x)]
    for n in range(1, rank + 1):
        last = [row * x for row in last] + [row * y for row in last[len(last) - n :]] + [last[-1] * z]
        rows += last
    return rows
