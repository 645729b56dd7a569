"""What regressors share that are linear in their parameters: e = Σ_b α_b φ_b(x) + c[kind].

Their fit is a linear least-squares problem: energies are rows of φ, derivatives of the energy rows of its slopes, and
the regularisation is the prior's rows (Bishop, Pattern Recognition and Machine Learning, 2006, chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.fitting.covariance import Covariant


class Expansion(Covariant):
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

    def __init__(self, *, n_features: int, n_kinds: int, n_basis: int) -> None:
        """Coefficients and constants are zero, to be fitted or loaded."""
        super().__init__()
        self.n_features, self.n_kinds, self.n_basis = n_features, n_kinds, n_basis
        for name, size in (("coefficients", n_basis), ("constants", n_kinds)):
            zeros = torch.zeros(size, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(zeros, requires_grad=False))

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
