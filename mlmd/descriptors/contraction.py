"""Products of moments, done in layers: gather, multiply, scatter, a few times for thousands of products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.moment_basis import MomentBasis


class Contraction(torch.nn.Module):
    """Basic moments in, scalars out: moment[t] += c · moment[a] · moment[b] over a table (a, b, c, t).

    A product is in layer n when its operands are complete after layer n - 1, so each layer is one gather
    of each operand, one multiplication and one sum into the targets. Rows are moments and columns atoms: a
    row is copied and added as a whole, which is what makes it fast. The derivative is written by hand (the
    layers backwards), as autograd would keep every product of every layer.
    """

    def __init__(self, basis: MomentBasis) -> None:
        """Sort the products of a basis into layers."""
        super().__init__()
        self.n_basic, self.n_moments = len(basis.basic), basis.n_moments
        self.register_buffer("scalars", torch.tensor(basis.scalars, dtype=torch.int64), persistent=False)
        self._n_layers = 0
        for rows in layers_of(basis):
            first, second, coefficient, target = torch.tensor(rows, dtype=torch.int64).T.contiguous()
            columns = {"first": first, "second": second, "target": target, "coefficient": coefficient.double()}
            for name, column in columns.items():
                self.register_buffer(f"{name}_{self._n_layers}", column, persistent=False)
            self._n_layers += 1

    scalars: Tensor

    def forward(self, basic: Tensor) -> Tensor:
        """Scalars (n_scalars, n_atoms) from basic moments (n_basic, n_atoms)."""
        if torch.jit.is_tracing():  # what is exported holds operations alone
            return self.moments(basic).index_select(0, self.scalars)
        scalars: Tensor = _Contract.apply(basic, self)
        return scalars

    def layers(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(first, second, target, coefficient (n, 1)) of each layer."""
        names = ("first", "second", "target", "coefficient")
        return [tuple(getattr(self, f"{name}_{n}") for name in names) for n in range(self._n_layers)]

    def moments(self, basic: Tensor) -> Tensor:
        """All moments (n_moments, n_atoms), by operations that autograd can follow."""
        moments = torch.cat([basic, basic.new_zeros((self.n_moments - self.n_basic, basic.shape[1]))])
        for first, second, target, coefficient in self.layers():
            products = moments.index_select(0, first) * moments.index_select(0, second)
            moments = moments.index_add(0, target, products * coefficient[:, None])
        return moments


class _Contract(torch.autograd.Function):
    """The layers forwards, and their derivative backwards."""

    @staticmethod
    def forward(ctx: Any, basic: Tensor, table: Contraction) -> Tensor:
        moments = basic.new_zeros((table.n_moments, basic.shape[1]))
        moments[: table.n_basic] = basic
        for first, second, target, coefficient in table.layers():
            products = moments.index_select(0, first).mul_(moments.index_select(0, second))
            moments.index_add_(0, target, products.mul_(coefficient[:, None]))
        ctx.table, ctx.moments = table, moments
        ctx.save_for_backward(basic)
        return moments.index_select(0, table.scalars)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        table: Contraction = ctx.table
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: let autograd follow
            (basic,) = ctx.saved_tensors
            scalars = table.moments(basic).index_select(0, table.scalars)
            return torch.autograd.grad(scalars, basic, gradients[0], create_graph=True)[0], None
        moments, adjoint = ctx.moments, torch.zeros_like(ctx.moments)
        adjoint.index_add_(0, table.scalars, gradients[0])
        for first, second, target, coefficient in reversed(table.layers()):
            outer = adjoint.index_select(0, target).mul_(coefficient[:, None])
            adjoint.index_add_(0, first, moments.index_select(0, second).mul_(outer))
            adjoint.index_add_(0, second, moments.index_select(0, first).mul_(outer))
        return adjoint[: table.n_basic], None


def layers_of(basis: MomentBasis) -> list[Sequence[tuple[int, int, int, int]]]:
    """Products sorted by how many products deep their target lies."""
    depth = [0] * basis.n_moments
    for first, second, _, target in basis.products:
        depth[target] = max(depth[target], 1 + max(depth[first], depth[second]))
    layers: list[list[tuple[int, int, int, int]]] = [[] for _ in range(max(depth))]
    for row in basis.products:
        layers[depth[row[3]] - 1].append(row)
    return list(layers)
