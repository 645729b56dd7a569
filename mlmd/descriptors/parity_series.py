"""Chebyshev series of even and odd functions, many at once, with their slopes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def parity_series(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """f_l(x) = Σ_k c_lk T_{2k + (l mod 2)}(x), even for even l and odd for odd l.

    Args:
        x: (n,) between -1 and 1.
        table: (n_degrees, n_functions, n_terms): c.

    Returns:
        Even and odd degrees, (n_even, n_functions, n) and (n_odd, n_functions, n).
    """
    if torch.jit.is_tracing():  # what is exported holds operations alone
        even, odd = _values(x, table)
    else:
        even, odd = _Series.apply(x, table)
    return even, odd


class _Series(torch.autograd.Function):
    """Values and slopes in one go: autograd through the recursion costs several times more.

    Both are sums of polynomials of the second kind, 2 T_k = U_k - U_{k-2} and T_k' = k U_{k-1}.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        n_even = (len(table) + 1) // 2
        even, odd = _second_kind(x, table.shape[2])
        orders = 2.0 * torch.arange(table.shape[2], dtype=table.dtype, device=table.device)
        slopes_of_even = torch.nn.functional.pad((table[0::2] * orders)[..., 1:], (0, 1))  # T_2k' = 2k U_{2k-1}
        slopes_of_odd = table[1::2] * (orders + 1)
        from_even = torch.cat([_of_second_kind(table)[0], slopes_of_odd]).flatten(0, 1) @ even
        from_odd = torch.cat([slopes_of_even, _of_second_kind(table)[1]]).flatten(0, 1) @ odd
        from_even, from_odd = (one.view(len(table), -1, len(x)) for one in (from_even, from_odd))
        ctx.slopes = from_odd[:n_even], from_even[n_even:]
        ctx.save_for_backward(x, table)
        return from_even[:n_even], from_odd[n_even:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: let autograd follow
            x, table = ctx.saved_tensors
            return torch.autograd.grad(_values(x, table), x, gradients, create_graph=True)[0], None
        products = [(g * slope).flatten(0, 1).sum(dim=0) for g, slope in zip(gradients, ctx.slopes, strict=True)]
        return products[0] + products[1], None


def _values(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """The series by operations that autograd can follow."""
    rows = _second_kind(x, table.shape[2])
    even, odd = (one @ of for one, of in zip(_of_second_kind(table), rows, strict=True))
    return even, odd


def _second_kind(x: Tensor, n_terms: int) -> tuple[Tensor, Tensor]:
    """U_0, U_2, ... and U_1, U_3, ..., each (n_terms, n), by U_{k+2} = 2 (2x² - 1) U_k - U_{k-2}."""
    y = 4 * x * x - 2
    found = []
    for first, second in ((torch.ones_like(x), y + 1), (2 * x, 2 * x * y)):
        rows = [first, second]
        for _ in range(2, n_terms):
            rows.append(y * rows[-1] - rows[-2])
        found.append(torch.stack(rows[:n_terms]))
    return found[0], found[1]


def _of_second_kind(table: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of even degrees for U_2k, and of odd degrees for U_{2k+1}."""
    halves = 0.5 * (table - torch.nn.functional.pad(table[..., 1:], (0, 1)))
    even = halves[0::2].clone()
    even[..., 0] += 0.5 * table[0::2, :, 0]  # T_0 = U_0
    return even, halves[1::2]
