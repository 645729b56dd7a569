"""Regressors (the F of P = F[D(S)]): energies from features; they know nothing of atoms."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

REGRESSORS: dict[str, str] = {
    "linear": "mlmd.fitting.linear:Linear",
    "network": "mlmd.fitting.network:Network",
    "odd-gaussian": "mlmd.fitting.odd_gaussian:OddGaussian",
    "polynomial": "mlmd.fitting.polynomial:Polynomial",
    "random-features": "mlmd.fitting.random_features:RandomFeatures",
    "sparse-gaussian": "mlmd.fitting.gaussian:SparseGaussian",
    "gaussian-process": "mlmd.fitting.gaussian_process:GaussianProcess",
    "kernel-ridge": "mlmd.fitting.kernel_ridge:KernelRidge",
    "sum": "mlmd.fitting.sum:Sum",
    "committee": "mlmd.fitting.committee:Committee",
}
"""Kinds an input file may name, and the classes behind them."""


class Regressor(Protocol):
    """Energies from features; a `torch.nn.Module` whose parameters and buffers are its state."""

    accepts: tuple[str, ...]
    """Kinds of descriptors whose rows it takes: ``"atom"``, ``"structure"``, ``"direction"``."""
    n_features: int
    """Columns of the features."""

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Energies (n,) in eV, float64, of rows of features (n, n_features) of given kinds (n,), integers."""
        ...

    def spec(self) -> dict[str, Any]:
        """What an input file would say to build it again (JSON-able), without its fitted numbers."""
        ...
