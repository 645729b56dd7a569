"""A sparse Gaussian process of odd functions: force components from directional fingerprints.

    F(x) = Σ_s α_s [κ(x, x_s) - κ(-x, x_s)],   κ(x, y) = δ² exp(-|x - y|² / 2ℓ²)

A force component changes its sign with its axis, and so must what describes it: this is the sum over reference
fingerprints of AGNI (Botu and Ramprasad, Phys. Rev. B 92, 094306, 2015) in which each stands with its mirror image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.kernels import GaussianKernel


@dataclass(frozen=True)
class OddKernel:
    """κ(x, y) - κ(-x, y), which is zero where x or y is."""

    even: GaussianKernel

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, m)."""
        return self.even.values(x, y) - self.even.values(-x, y)

    def slopes(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """(n, m, n_directions)."""
        return self.even.slopes(x, y, directions) - self.even.slopes(-x, y, -directions)

    def diagonal(self, x: Tensor) -> Tensor:
        """(n,)."""
        return 1 - torch.exp(-2 * (x * x).sum(dim=1) / self.even.width**2)


class OddGaussian(SparseGaussian):
    """Numbers are force components, eV/Å, in the place of energies, and there are no constants."""

    accepts: tuple[str, ...] = ("direction",)

    def __init__(self, points: Tensor, point_kinds: Tensor, **settings: Any) -> None:
        """As `SparseGaussian`; the kernel is the Gaussian one, and features are not shifted."""
        super().__init__(points, point_kinds, **{**settings, "kernel": "gaussian"})
        assert self.width is not None
        self._kernel = OddKernel(GaussianKernel(self.width))

    def components(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV/Å, float64, of rows of features (n, n_features) and the kinds (n,) of their atoms."""
        return (self.basis(features, kinds) @ self.coefficients.to(features.dtype)).double()

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {**super().spec(), "kind": "odd-gaussian"}
