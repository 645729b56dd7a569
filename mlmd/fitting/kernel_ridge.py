"""Kernel ridge regression: a kernel with every row that is trained on, for rows that have a target each.

e(x) = Σ_s α_s k(x, x_s) + c,   (K + λ I) α = y - c,   c the mean of y

The features of several descriptors side by side are each counted in a unit of their own, so that of the Gaussian and
the Laplacian kernel each has its width, k(x, y) = Π_p k_p(x_p, y_p): structures are alike that are so for every
descriptor, and what is fitted may depend on all of them together, as with any features. A sum of kernels would add up a
function of each and nothing else.

(Rupp, IJQC 115, 1058, 2015; with the Coulomb matrix and the Laplacian kernel: Rupp, Tkatchenko, Müller and von
Lilienfeld, PRL 108, 058301, 2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting import cholesky
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.kernels import kernel_named


def solved(matrix: Tensor, targets: Tensor) -> Tensor:
    """α of matrix (n, n), symmetric, · α = targets (n,); the matrix is overwritten.

    Raises:
        InputError: when it is not positive definite.
    """
    # scipy's would be of numpy's BLAS, whose threads are not torch's: digits would depend on their number
    try:
        cholesky.factorise(matrix)
    except InputError:
        raise InputError("is not positive definite") from None
    return cholesky.solve(matrix, targets[:, None])[:, 0]


class KernelRidge(Expansion):
    """e = Σ_s α_s k(x, x_s) + c: energies of structures, or another scalar of theirs in its own unit."""

    accepts: tuple[str, ...] = ("structure",)
    points: Tensor
    """x_s, (n_basis, n_features), the rows that were trained on."""

    def __init__(
        self,
        *,
        n_features: int,
        n_points: int = 0,
        n_kinds: int = 1,
        kernel: str = "gaussian",
        width: float | None = None,
        power: int | None = None,
        regularisation: float = 1e-8,
        units: Sequence[tuple[int, float]] | None = None,
    ) -> None:
        """Without numbers, to be fitted or loaded.

        Args:
            n_features: columns of the features.
            n_points: rows that will be loaded; `fit` finds their number itself.
            n_kinds: of rows; they share the kernel and the constant that `fit` finds.
            kernel: a name of `mlmd.fitting.kernels.KERNELS`.
            width: ℓ of the Gaussian and the Laplacian kernel, in units of the features.
            power: ζ of the polynomial kernel.
            regularisation: λ, in units of the kernel: the variance of the noise over that of the targets.
            units: of each descriptor the number of its features and the unit in which the kernel counts them, in which
                the width is then too; 1 for all by default.

        Raises:
            InputError: for impossible settings.
        """
        if not 0 <= regularisation < math.inf:
            raise InputError(f"a regularisation of {regularisation} is impossible; it is 0 or positive.")
        super().__init__(n_features=n_features, n_kinds=n_kinds, n_basis=n_points)
        given = units if units is not None else [(n_features, 1.0)]
        if sum(n for n, _ in given) != n_features or not all(0 < unit < math.inf for _, unit in given):
            raise InputError(f"units {given} are not positive ones of {n_features} features.")
        self.units = None if units is None else tuple((int(n), float(unit)) for n, unit in units)
        self.kernel, self.regularisation = kernel, float(regularisation)
        self.width, self.power = None if width is None else float(width), power
        self._kernel = kernel_named(kernel, width=self.width, power=power)
        self.register_buffer("points", torch.zeros((n_points, n_features), dtype=torch.float64))

    def fit(self, features: Tensor, targets: Tensor) -> None:
        """Find the coefficients of rows (n, n_features) with targets (n,); memory is that of two (n, n) matrices.

        Raises:
            InputError: when shapes do not fit, numbers are not finite, or K + λ I is not positive definite.
        """
        if features.ndim != 2 or features.shape[1] != self.n_features or not len(features):
            raise InputError(f"features of shape {tuple(features.shape)} were given, (n, {self.n_features}) is needed.")
        if targets.shape != features.shape[:1]:
            raise InputError(f"{targets.numel()} targets were given for {len(features)} rows; each has one.")
        if not bool(torch.isfinite(features).all() and torch.isfinite(targets).all()):
            raise InputError("the features or the targets have numbers that are not finite.")
        points, targets = features.detach().double(), targets.detach().double()
        matrix = self._kernel.values(self._counted(points), self._counted(points))
        matrix.diagonal().add_(self.regularisation)
        mean = targets.mean()
        try:
            solution = solved(matrix, targets - mean)
        except InputError as error:
            raise InputError(
                f"the {self.kernel} kernel of the {len(points)} rows {error} with a regularisation of "
                f"{self.regularisation:g}: rows are the same or nearly so. Increase the regularisation."
            ) from None
        self.n_basis = len(points)
        self.points = points.clone()
        self.coefficients = torch.nn.Parameter(solution, requires_grad=False)
        with torch.no_grad():
            self.constants.fill_(mean)

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """k(x_i, x_s), (n, n_basis), whatever the kinds; torch differentiates it."""
        return self._kernel.values(self._counted(features), self._counted(self.points.to(features.dtype)))

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """(n, n_basis, n_directions), derivatives of k along directions (n, n_features, n_directions) of rows."""
        points = self._counted(self.points.to(features.dtype))
        return self._kernel.slopes(self._counted(features), points, self._counted(directions.mT).mT)

    def prior(self) -> Tensor:
        """K^½, (n_basis, n_basis): ‖K^½ α‖² = α' K α, which λ multiplies."""
        points = self._counted(self.points)
        values, vectors = torch.linalg.eigh(self._kernel.values(points, points))
        return values.clamp(min=0).sqrt()[:, None] * vectors.T

    def _counted(self, features: Tensor) -> Tensor:
        """Features (..., n_features) in the units of their descriptors."""
        if self.units is None:
            return features
        sizes, units = zip(*self.units, strict=True)
        return features / features.new_tensor(units).repeat_interleave(torch.tensor(sizes, device=features.device))

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> KernelRidge:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"}).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        spec = {
            "kind": "kernel-ridge",
            "n_features": self.n_features,
            "n_points": self.n_basis,
            "n_kinds": self.n_kinds,
            "kernel": self.kernel,
            "width": self.width,
            "power": self.power,
            "regularisation": self.regularisation,
            "units": None if self.units is None else [list(one) for one in self.units],
        }
        return {name: value for name, value in spec.items() if value is not None}
