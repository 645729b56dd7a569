"""What is left open of parameters that enter linearly: the factor of their inverse covariance, and deviations by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from mlmd.errors import InputError


class Covariant(torch.nn.Module):
    """A regressor with `n_basis` coefficients and `n_kinds` constants, whose covariance (R'R)⁻¹ may be known."""

    n_basis: int
    n_kinds: int
    constants: torch.nn.Parameter
    factor: Tensor | None
    """R of the whole problem, (n, n), n = n_basis or n_basis + n_kinds; None as long as it is not set. In float64,
    whatever the precision of the rest: it is solved with."""

    def __init__(self) -> None:
        """Nothing is known."""
        super().__init__()
        self.register_buffer("factor", None)

    def set_factor(self, factor: Tensor) -> None:
        """Keep R of the whole problem [Σ^(-½) A; prior], R'R the inverse covariance of the parameters, for variances.

        Args:
            factor: (n, n) upper triangle in the columns of the coefficients, or of these and then the constants.

        Raises:
            InputError: for another shape, and when a parameter is not determined.
        """
        allowed = [(n, n) for n in (self.n_basis, self.n_basis + self.n_kinds)]
        if factor.shape not in allowed:
            raise InputError(f"a factor of shape {tuple(factor.shape)} was given; {allowed[0]} or {allowed[1]} fits.")
        smallest = factor.diagonal().abs().min()
        if not bool(smallest > 0) or not bool(torch.isfinite(factor).all()):
            raise InputError("the data and the prior do not determine all parameters: their variance is infinite.")
        self.factor = torch.triu(factor.detach().double())

    def deviations(self, rows: Tensor) -> Tensor:
        """Standard deviations ‖R^(-T) row‖, (n,), of sums Σ_b row_b α_b: energies of structures, forces, stresses.

        This is what the data leave open of the coefficients. Where every function of the basis tends to zero, as
        kernels do far from all points, it does too.

        Args:
            rows: (n, n_basis), sums of the basis or of slopes; (n, n_basis + n_kinds) with the constants.

        Raises:
            InputError: when no factor was set, or rows have other columns.
        """
        factor = self._known_factor()
        if rows.shape[1:] != factor.shape[1:]:
            if rows.shape[1:] != (self.n_basis,):
                raise InputError(f"rows with {rows.shape[1]} columns were given; {factor.shape[1]} are needed.")
            rows = torch.nn.functional.pad(rows, (0, len(factor) - self.n_basis))
        solved = torch.linalg.solve_triangular(factor.T, rows.double().T, upper=False)
        return torch.linalg.vector_norm(solved, dim=0)

    def with_factor_of(self, state: Mapping[str, Tensor]) -> Self:
        """The same, with the factor of a state where that has one; its other tensors are loaded by the caller.

        Raises:
            InputError: when it does not fit.
        """
        if "factor" in state:
            self.set_factor(state["factor"])
        return self

    def _known_factor(self) -> Tensor:
        if self.factor is None:
            raise InputError("this regressor was fitted without keeping what variances need.")
        return self.factor

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Another precision is for all but the factor, another device for it too."""
        kept, self.factor = self.factor, None
        super()._apply(fn, recurse)
        self.factor = None if kept is None else kept.to(self.constants.device)
        return self
