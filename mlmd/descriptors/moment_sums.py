"""Basic moments: sums over neighbours of a radial function times a monomial of the unit vector."""

from __future__ import annotations

from typing import Any, cast

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

    order: Tensor

    def __init__(self, basis: MomentBasis) -> None:
        """Divide the basic moments into blocks.

        The higher μ is, the fewer are its monomials: f_0 has a block of its own, the others share one.
        """
        super().__init__()
        self.rank = max(a + b + c for _, a, b, c in basis.basic)
        n_functions = basis.n_radial_functions
        spans = [range(1), range(1, n_functions)] if n_functions > 1 else [range(1)]
        self.blocks = torch.nn.ModuleList(_Block(basis, span) for span in spans)
        rows = [row for span in spans for row in _rows(basis, span)]
        self.register_buffer("order", torch.argsort(torch.tensor(rows)), persistent=False)

    def forward(self, unit: Tensor, radial: Tensor) -> Tensor:
        """Basic moments (n_basic, n_atoms).

        Args:
            unit: (3, n_atoms, n_neighbours) unit vectors from centre to neighbour.
            radial: (n_atoms, n_radial_functions, n_neighbours), zero where there is no neighbour.
        """
        if torch.jit.is_tracing():  # what is exported holds operations alone
            return self.from_monomials(torch.stack(_monomial_rows(unit, self.rank)), radial)
        sums: Tensor = _Sums.apply(unit, radial, self)
        return sums

    def from_monomials(self, values: Tensor, radial: Tensor) -> Tensor:
        """Basic moments (n_basic, n_atoms) from monomials (n_monomials, n_atoms, n_neighbours)."""
        return torch.cat([block(values, radial) for block in self.blocks]).index_select(0, self.order)


def _rows(basis: MomentBasis, functions: range) -> list[int]:
    """Which basic moments are of some radial functions."""
    return [row for row, (mu, *_) in enumerate(basis.basic) if mu in functions]


class _Block(torch.nn.Module):
    """Basic moments of consecutive radial functions, with the monomials up to their highest rank."""

    where: Tensor
    source: Tensor
    shifted: Tensor
    factor: Tensor

    def __init__(self, basis: MomentBasis, functions: range) -> None:
        """Find the place of every moment in a table (μ, monomial), and what its derivatives are."""
        super().__init__()
        rows = {basis.basic[row]: row for row in _rows(basis, functions)}
        powers = monomials(max(a + b + c for _, a, b, c in rows))
        lower = monomials(max(a + b + c for _, a, b, c in rows) - 1)
        self.functions = slice(functions.start, functions.stop)
        self.n_functions, self.n_monomials, self.n_lower = len(functions), len(powers), len(lower)
        place = {power: index for index, power in enumerate(powers)}
        where = [(mu - functions.start) * len(powers) + place[a, b, c] for mu, a, b, c in rows]
        nothing = len(basis.basic)  # a row of zeros behind all moments
        table = [(mu, *power) for mu in functions for power in powers]
        raised = [
            (mu, a + (axis == 0), b + (axis == 1), c + (axis == 2))
            for axis in range(3)
            for mu in functions
            for a, b, c in lower
        ]
        factor = [float(key[1 + index // (len(raised) // 3)]) for index, key in enumerate(raised)]
        for name, numbers in (
            ("where", torch.tensor(where, dtype=torch.int64)),
            ("source", torch.tensor([rows.get(key, nothing) for key in table])),
            ("shifted", torch.tensor([rows.get(key, nothing) for key in raised], dtype=torch.int64)),
            ("factor", torch.tensor(factor, dtype=torch.float64)),
        ):
            self.register_buffer(name, numbers, persistent=False)

    def forward(self, values: Tensor, radial: Tensor) -> Tensor:
        """The block's moments (n_rows, n_atoms); arguments as in `MomentSums.from_monomials`."""
        moments = torch.bmm(radial[:, self.functions], values[: self.n_monomials].permute(1, 2, 0))
        return moments.flatten(1).T.index_select(0, self.where)

    def slopes(self, adjoint: Tensor, values: Tensor, radial: Tensor) -> tuple[Tensor, Tensor]:
        """dE/d(unit) (n_atoms, 3, n_neighbours) and dE/df (n_atoms, n_functions, n_neighbours).

        Args:
            adjoint: (n_basic + 1, n_atoms) dE/d(basic moment), the last row zero.
            values: (n_atoms, n_monomials, n_neighbours).
            radial: (n_atoms, n_radial_functions, n_neighbours).
        """
        n_atoms = adjoint.shape[1]
        table = adjoint.index_select(0, self.source).T.contiguous()
        to_radial = torch.bmm(table.view(n_atoms, self.n_functions, self.n_monomials), values[:, : self.n_monomials])
        table = adjoint.index_select(0, self.shifted).mul_(self.factor[:, None]).T.contiguous()
        rises = torch.bmm(table.view(n_atoms, 3 * self.n_functions, self.n_lower), values[:, : self.n_lower]).view(
            n_atoms, 3, self.n_functions, -1
        )
        return (rises * radial[:, None, self.functions]).sum(dim=2), to_radial


class _Sums(torch.autograd.Function):
    """See `MomentSums`."""

    @staticmethod
    def forward(ctx: Any, unit: Tensor, radial: Tensor, sums: MomentSums) -> Tensor:
        values = monomial_values(unit, sums.rank)
        ctx.sums, ctx.values = sums, values
        ctx.save_for_backward(unit, radial)
        return sums.from_monomials(values, radial)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        sums: MomentSums = ctx.sums
        unit, radial = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: let autograd follow
            moments = sums.from_monomials(torch.stack(_monomial_rows(unit, sums.rank)), radial)
            slopes = torch.autograd.grad(moments, (unit, radial), gradients[0], create_graph=True)
            return slopes[0], slopes[1], None
        adjoint = torch.cat([gradients[0], gradients[0].new_zeros((1, unit.shape[1]))])
        values = ctx.values.permute(1, 0, 2)
        to_unit, to_radial = zip(
            *(cast(_Block, block).slopes(adjoint, values, radial) for block in sums.blocks), strict=True
        )
        return torch.stack(to_unit).sum(dim=0).transpose(0, 1), torch.cat(to_radial, dim=1), None


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
