"""What regressors share that are linear in their parameters: e = Σ_b α_b φ_b(x) + c[kind].

Their fit is a linear least-squares problem: energies are rows of φ, derivatives of the energy rows of its slopes, and
the regularisation is the prior's rows (Bishop, Pattern Recognition and Machine Learning, 2006, chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from mlmd.errors import InputError


class Expansion(torch.nn.Module):
    """e = Σ_b α_b φ_b(x) + c[kind]; a subclass writes `basis` and `slopes`."""

    accepts: tuple[str, ...] = ("atom", "structure")
    relative: bool = False
    """Whether coefficients are regularised relative to the norms of their columns, and not by the prior."""
    n_basis: int
    """Functions φ_b, as many as coefficients."""
    coefficients: torch.nn.Parameter
    """α, (n_basis,) eV per unit of the basis function."""
    constants: torch.nn.Parameter
    """c, (n_kinds,) eV."""
    factor: Tensor | None
    """R of the whole problem, (n, n), n = n_basis or n_basis + n_kinds; None as long as it is not set. In float64,
    whatever the precision of the rest: it is solved with."""

    def __init__(self, *, n_features: int, n_kinds: int, n_basis: int) -> None:
        """Coefficients and constants are zero, to be fitted or loaded."""
        super().__init__()
        self.n_features, self.n_kinds, self.n_basis = n_features, n_kinds, n_basis
        for name, size in (("coefficients", n_basis), ("constants", n_kinds)):
            zeros = torch.zeros(size, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(zeros, requires_grad=False))
        self.register_buffer("factor", None)

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """φ, (n, n_basis), of rows of features (n, n_features) and their kinds (n,); torch differentiates it."""
        raise NotImplementedError

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """Derivatives of φ when each row of features moves along directions of its own.

        Args:
            features: (n, n_features).
            kinds: (n,) integers.
            directions: (n, n_features, n_directions), e.g. the derivatives of the features by coordinates.

        Returns:
            (n, n_basis, n_directions), Σ_f ∂φ_b/∂x_f directions_f.
        """
        raise NotImplementedError

    def prior(self) -> Tensor:
        """Rows R (m, n_basis), of which ‖R α‖² is what regularises the fit: α is normal with covariance (R'R)⁻¹."""
        return torch.eye(self.n_basis, dtype=torch.float64, device=self.coefficients.device)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        raise NotImplementedError

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,).

        The constants, which may be large, are added in float64 whatever the precision of the features.
        """
        varying = self.basis(features, kinds) @ self.coefficients.to(features.dtype)
        return varying.double() + self.constants.double().index_select(0, kinds)

    def columns(self, kind: int) -> slice:
        """Basis functions that are not zero for rows of a kind; all of them, unless a subclass keeps kinds apart."""
        return slice(0, self.n_basis)

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
        self.factor = None if kept is None else kept.to(self.coefficients.device)
        return self


def in_blocks(kinds: Tensor, columns: Sequence[slice], of_kind: Callable[[Tensor | slice, int], Tensor]) -> Tensor:
    """Basis functions that belong to kinds: for a row of another kind they are zero, so that kinds do not mix.

    Args:
        kinds: (n,) of the rows.
        columns: the consecutive columns of each kind; one block for all rows if there is only one.
        of_kind: an index of m rows and their kind -> the block of that kind, (m, its columns, ...).

    Returns:
        (n, end of the last block, ...).
    """
    if len(columns) == 1:
        return of_kind(slice(None), 0)
    result: Tensor | None = None
    for kind in kinds.unique().tolist() or [0]:
        own = (kinds == kind).nonzero().squeeze(1)
        block = of_kind(own, kind)
        if result is None:
            result = block.new_zeros((len(kinds), columns[-1].stop, *block.shape[2:]))
        result[own, columns[kind]] = block
    assert result is not None
    return result
