"""A sparse Gaussian process: energies from kernels with representative rows, and how sure they are.

    e(x) = Σ_s α_s k(x, x_s) + c[kind],   k = δ² κ between rows of one kind, 0 between kinds

The fit minimises ‖Σ^(-½) (A α - y)‖² + α' K_MM α, Σ the variances of the targets, and is solved by a QR decomposition
of [Σ^(-½) A; chol(K_MM)'], whose triangle also gives the variance (Bartók and Csányi, IJQC 115, 1051, 2015; Foster et
al., J. Mach. Learn. Res. 10, 857, 2009; Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939, 2005).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.expansion import Expansion, in_blocks
from mlmd.fitting.kernels import kernel_named


class SparseGaussian(Expansion):
    """e = Σ_s α_s k((x - shift) / scale, (x_s - shift) / scale) + c[kind]."""

    points: Tensor
    """x_s, (n_basis, n_features), by ascending kind."""
    point_kinds: Tensor
    """(n_basis,) integers."""
    shift: Tensor
    """(n_features,), in units of the features."""
    scale: Tensor
    """(n_features,), in units of the features."""

    def __init__(
        self,
        points: Tensor,
        point_kinds: Tensor,
        *,
        n_kinds: int = 1,
        kernel: str = "polynomial",
        power: int | None = None,
        width: float | None = None,
        offset: float = 0.0,
        amplitude: float = 1.0,
        jitter: float = 1e-10,
        shift: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        """Coefficients are zero, to be fitted or loaded.

        Args:
            points: (n_points, n_features) representative rows, as `mlmd.fitting.points` chooses them.
            point_kinds: (n_points,) integers; the points are kept by ascending kind.
            n_kinds: of rows, e.g. chemical elements.
            kernel: a name of `mlmd.fitting.kernels.KERNELS`.
            power: ζ of the polynomial kernel; 4 by default.
            width: ℓ of the Gaussian and the Laplacian kernel, in units of the scaled features.
            offset: c of the polynomial kernel.
            amplitude: δ, eV, how much energies of rows are expected to differ.
            jitter: added to the diagonal of K_MM, relative to its mean, so that rounding leaves it positive definite.
            shift, scale: (n_features,) of the features, e.g. their mean and standard deviation; 0 and 1 by default.

        Raises:
            InputError: for points that are no rows of features, kinds that are not theirs, and impossible settings.
        """
        if points.ndim != 2 or 0 in points.shape or not bool(torch.isfinite(points).all()):
            raise InputError(f"points of shape {tuple(points.shape)} were given; finite rows of features are needed.")
        if point_kinds.shape != points.shape[:1]:
            raise InputError(f"{len(points)} points with {point_kinds.numel()} kinds were given; each has one.")
        if not 0 <= int(point_kinds.min()) <= int(point_kinds.max()) < n_kinds:
            raise InputError(f"kinds of points are 0 to {n_kinds - 1}, not {sorted({*point_kinds.tolist()})}.")
        for name, value in (("amplitude", amplitude), ("jitter", jitter)):
            if not 0 < value < math.inf:
                raise InputError(f"a Gaussian process with {name} {value} is impossible; it must be positive.")
        for tensor in (shift, scale):
            if tensor is not None and tensor.shape != points.shape[1:]:
                raise InputError(f"{tensor.numel()} shifts or scales were given for {points.shape[1]} features.")
        super().__init__(n_features=points.shape[1], n_kinds=n_kinds, n_basis=len(points))
        self.kernel, self.amplitude, self.jitter = kernel, float(amplitude), float(jitter)
        self.power = 4 if kernel == "polynomial" and power is None else power
        self.width = None if width is None else float(width)
        self.offset = float(offset)
        self._kernel = kernel_named(kernel, width=self.width, power=self.power, offset=self.offset)
        order = torch.argsort(point_kinds, stable=True)
        bounds = [0, *torch.cumsum(torch.bincount(point_kinds, minlength=n_kinds), 0).tolist()]
        self._columns = [slice(bounds[kind], bounds[kind + 1]) for kind in range(n_kinds)]
        self.register_buffer("points", points[order].double())
        self.register_buffer("point_kinds", point_kinds[order].long())
        zeros = torch.zeros(points.shape[1], dtype=torch.float64)
        self.register_buffer("shift", zeros if shift is None else shift.double().clone())
        self.register_buffer("scale", zeros + 1 if scale is None else scale.double().clone())

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """k(x_i, x_s), (n, n_basis), eV², of rows of features (n, n_features) and their kinds (n,)."""
        scaled = self._scaled(features)

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            return self.amplitude**2 * self._kernel.values(scaled[rows], self._scaled(self._points(kind, features)))

        return in_blocks(kinds, self._columns, of_kind)

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """(n, n_basis, n_directions), eV², derivatives of k along directions (n, n_features, n_directions) of rows."""
        scaled = self._scaled(features)
        # directions that are the same for all rows stay so, which kernels have less to do with
        same = len(directions) > 0 and directions.stride(0) == 0
        given = directions[:1] if same else directions
        along = given * (self.amplitude**2 / self.scale).to(features.dtype)[:, None]

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            points = self._scaled(self._points(kind, features))
            some = scaled[rows]
            return self._kernel.slopes(some, points, along.expand(len(some), -1, -1) if same else along[rows])

        return in_blocks(kinds, self._columns, of_kind)

    def columns(self, kind: int) -> slice:
        """The points of a kind."""
        return self._columns[kind]

    def prior(self) -> Tensor:
        """chol(K_MM + jitter)', (n_basis, n_basis), eV, a block for each kind.

        Raises:
            InputError: when the matrix of kernels is not positive definite in spite of the jitter.
        """
        blocks = []
        for kind in range(self.n_kinds):
            points = self._scaled(self._points(kind, self.points))
            matrix = self._kernel.values(points, points)
            matrix.diagonal().add_(self.jitter * matrix.diagonal().mean())
            lower, failed = torch.linalg.cholesky_ex(matrix)
            if bool(failed):
                raise InputError(
                    f"the kernels of the {len(points)} points of kind {kind} are not positive definite with a jitter "
                    f"of {self.jitter:g}: some points are nearly the same for it. Take fewer points or more jitter."
                )
            blocks.append(self.amplitude * lower.T)
        return torch.block_diag(*blocks)

    def variance(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Variances (n,), eV², of the energies of rows (n, n_features) and their kinds (n,).

        k(x, x) - k_M' K_MM⁻¹ k_M + k_M' (R'R)⁻¹ k_M: what the points cannot describe, and what the data leave open
        (deterministic training conditional: Quiñonero-Candela and Rasmussen, eq. 20). Constants that are not in the
        factor count as known.

        Raises:
            InputError: when no factor was set.
        """
        rows = self.basis(features, kinds).double()
        described = torch.linalg.solve_triangular(self.prior().T, rows.T, upper=False)
        total = self.amplitude**2 * self._kernel.diagonal(self._scaled(features)).double()
        missing = (total - (described * described).sum(dim=0)).clamp(min=0)
        if len(self._known_factor()) > self.n_basis:
            rows = torch.cat([rows, torch.nn.functional.one_hot(kinds, self.n_kinds).double()], dim=1)
        return missing + self.deviations(rows) ** 2

    def _points(self, kind: int, features: Tensor) -> Tensor:
        return self.points[self._columns[kind]].to(features.dtype)

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self.shift.to(features.dtype)) / self.scale.to(features.dtype)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> SparseGaussian:
        """Build again from `spec`, with the points of the state; its other tensors are loaded by the caller.

        Raises:
            KeyError, InputError: when spec and state do not fit.
        """
        settings = {name: value for name, value in spec.items() if name not in {"kind", "n_features", "n_points"}}
        shift, scale = state["shift"], state["scale"]
        restored = cls(state["points"], state["point_kinds"], shift=shift, scale=scale, **settings)
        expected = (spec["n_points"], spec["n_features"])
        if restored.points.shape != expected:
            raise InputError(f"points of shape {tuple(restored.points.shape)} were found, {expected} are announced.")
        return restored.with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        spec = {
            "kind": "sparse-gaussian",
            "n_features": self.n_features,
            "n_points": self.n_basis,
            "n_kinds": self.n_kinds,
            "kernel": self.kernel,
            "power": self.power,
            "width": self.width,
            "offset": self.offset or None,
            "amplitude": self.amplitude,
            "jitter": self.jitter,
        }
        return {name: value for name, value in spec.items() if value is not None}
