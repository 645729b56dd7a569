"""Radial functions of moment tensors: Chebyshev polynomials times a weight, mixed by pair of elements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.cutoffs import quadratic
from mlmd.descriptors.neighbourhoods import Neighbourhoods


class RadialFunctions(torch.nn.Module):
    """f_μ(r; z_i, z_j) = s Σ_β c[z_i, z_j, μ, β] T_β(x) (r_c - r)² for r < r_c, else 0.

    T_β are Chebyshev polynomials of x = (2r - r_min - r_c) / (r_c - r_min), s is a scaling, and c is not
    symmetric in the elements (Novikov et al., Mach. Learn. Sci. Technol. 2, 025002, 2021).
    """

    coefficients: torch.nn.Parameter
    """(n_species, n_species, n_functions, n_chebyshev): c."""

    def __init__(
        self,
        *,
        n_species: int,
        n_functions: int,
        n_chebyshev: int,
        min_distance: float,
        cutoff: float,
        scaling: float = 1.0,
    ) -> None:
        """Begin with plain polynomials, f_μ = s T_μ(x) (r_c - r)²; lengths in Å."""
        super().__init__()
        self.min_distance, self.cutoff, self.scaling = min_distance, cutoff, scaling
        plain = torch.eye(n_functions, n_chebyshev, dtype=torch.float64).expand(n_species, n_species, -1, -1)
        self.coefficients = torch.nn.Parameter(plain.clone(), requires_grad=False)

    def forward(self, distances: Tensor, near: Neighbourhoods) -> Tensor:
        """(n_atoms, n_functions, n_neighbours) from distances (n_atoms, n_neighbours) Å."""
        if torch.jit.is_tracing():  # what is exported holds operations alone
            return self.mix(torch.stack(self.polynomials(distances), dim=1), near)
        functions: Tensor = _Radial.apply(distances, self.coefficients, near, self)
        return functions

    def mix(self, polynomials: Tensor, near: Neighbourhoods) -> Tensor:
        """Σ_β c[z_i, z_j, μ, β] · polynomial: (n_atoms, β, n) to (n_atoms, μ, n), n neighbours or a multiple."""
        chosen = self.coefficients.index_select(0, near.centre_kinds)  # (n_atoms, species, μ, β)
        n_species = chosen.shape[1]
        if n_species == 1:
            return torch.bmm(chosen[:, 0], polynomials)
        # one block of rows β for each species of neighbour, zero for the others
        others = torch.arange(n_species, device=polynomials.device)[:, None]
        mask = (near.kinds[:, None, :] == others).to(polynomials.dtype)
        mask = mask.repeat(1, 1, polynomials.shape[2] // near.kinds.shape[1])[:, :, None, :]
        blocks = (mask * polynomials[:, None, :, :]).flatten(1, 2)
        return torch.bmm(chosen.transpose(1, 2).flatten(2), blocks)

    def polynomials(self, distances: Tensor) -> list[Tensor]:
        """s T_β(x) (r_c - r)² for each β, of the shape of the distances."""
        x = self._scaled(distances)
        rows = [self.scaling * quadratic(distances, self.cutoff)]
        rows.append(rows[0] * x)
        for _ in range(2, self.coefficients.shape[3]):
            rows.append(2 * x * rows[-1] - rows[-2])
        return rows[: self.coefficients.shape[3]]

    def slopes(self, distances: Tensor, rows: list[Tensor]) -> list[Tensor]:
        """d/dr of `polynomials`, by the derivative of the same recursion."""
        x, rate = self._scaled(distances), 2 / (self.cutoff - self.min_distance)
        slopes = [-2 * self.scaling * (self.cutoff - distances).clamp(min=0.0)]
        slopes.append(slopes[0] * x + rate * rows[0])
        for beta in range(2, len(rows)):
            slopes.append(2 * (x * slopes[-1] + rate * rows[beta - 1]) - slopes[-2])
        return slopes[: len(rows)]

    def _scaled(self, distances: Tensor) -> Tensor:
        return (2 * distances - (self.min_distance + self.cutoff)) / (self.cutoff - self.min_distance)


class _Radial(torch.autograd.Function):
    """Values and slopes in one go; autograd through the recursion costs several times more."""

    @staticmethod
    def forward(
        ctx: Any, distances: Tensor, coefficients: Tensor, near: Neighbourhoods, radial: RadialFunctions
    ) -> Tensor:
        rows = radial.polynomials(distances)
        both = torch.stack([*rows, *radial.slopes(distances, rows)], dim=1)
        n_atoms, _, n_neighbours = both.shape
        # values and slopes side by side, as if there were twice as many neighbours
        side_by_side = both.view(n_atoms, 2, len(rows), n_neighbours).transpose(1, 2).flatten(2)
        values, slopes = radial.mix(side_by_side, near).split(n_neighbours, dim=2)
        ctx.near, ctx.radial, ctx.slopes = near, radial, slopes
        ctx.save_for_backward(distances, coefficients)
        return values.contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        radial: RadialFunctions = ctx.radial
        needed, again = ctx.needs_input_grad[:2], torch.is_grad_enabled()
        if not needed[1] and not again:
            return (gradients[0] * ctx.slopes).sum(dim=1), None, None, None
        # coefficients are fitted, or a derivative of the derivative is wanted: let autograd follow
        with torch.enable_grad():
            values = radial.mix(torch.stack(radial.polynomials(ctx.saved_tensors[0]), dim=1), ctx.near)
            wanted = [tensor for tensor, one in zip(ctx.saved_tensors, needed, strict=True) if one]
            found = iter(torch.autograd.grad(values, wanted, gradients[0], create_graph=again))
        to_distances, to_coefficients = (next(found) if one else None for one in needed)
        return to_distances, to_coefficients, None, None
