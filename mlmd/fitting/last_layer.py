"""A network as the linear function of its last hidden layer that it is: e = Σ_h v[h] y_h(x) + c[kind].

With y as it was trained, the covariance of v is that of a linear fit (last-layer Laplace: Kristiadi, Hein and Hennig,
ICML 2020; of potentials: Bigi, Chong, Ceriotti and Grasselli, Mach. Learn.: Sci. Technol. 5, 045018, 2024).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlmd.fitting.expansion import Expansion, in_blocks
from mlmd.fitting.network import ACTIVATIONS, Layer, Network


class LastLayer(Expansion):
    """The same energies as those of a network; the neurons of its last hidden layer are the basis."""

    def __init__(self, network: Network) -> None:
        """Take the numbers of a network, and the covariance that it keeps."""
        super().__init__(n_features=network.n_features, n_kinds=network.n_kinds, n_basis=network.n_basis)
        self._networks, self._activations, self._residual = network.by_kind(), network.activations, network.residual
        width = network.layers[-1]
        self._columns = [slice(width * one, width * (one + 1)) for one in range(len(self._networks))]
        self._common = network.common
        with torch.no_grad():
            self.coefficients.copy_(network.output.flatten())
            self.constants.copy_(network.constants)
        self.factor = network.factor

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """y, (n, n_basis), of rows of features (n, n_features) and their kinds (n,); torch differentiates it."""

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            values = features[rows]
            for layer, name in self._layers(kind):
                values = layer.after(values, name, self._residual)
            return values

        return in_blocks(kinds, self._columns, of_kind)

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """(n, n_basis, n_directions), the derivatives of y along directions (n, n_features, n_directions) of rows."""

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            values = features[rows]
            # a basis, which is the same for all rows, is not copied for each
            along = directions[0].expand(len(values), -1, -1) if directions.stride(0) == 0 else directions[rows]
            for layer, name in self._layers(kind):
                with torch.enable_grad():
                    entering = layer.weighted(values).detach().requires_grad_(True)
                    (slope,) = torch.autograd.grad(ACTIVATIONS[name](entering).sum(), entering)
                if layer.steps is not None:
                    slope = slope * layer.steps.to(slope.dtype)
                moved = (layer.weights.to(along.dtype) @ along) * slope[..., None]
                along = layer.added(along, moved, self._residual, dim=1)
                values = layer.after(values, name, self._residual)
            return along

        return in_blocks(kinds, self._columns, of_kind)

    def columns(self, kind: int) -> slice:
        """The neurons of a kind."""
        return self._columns[0 if self._common else kind]

    def prior(self) -> Tensor:
        """Of weights that are drawn with the variance of one over their number, as those are that training begins with.

        (`Network.randomise`.)
        """
        width = self._columns[0].stop
        return width**0.5 * torch.eye(self.n_basis, dtype=torch.float64, device=self.coefficients.device)

    def spec(self) -> dict[str, Any]:
        """It stands in no file: a network does."""
        raise NotImplementedError

    def _layers(self, kind: int) -> list[tuple[Layer, str]]:
        layers, _ = self._networks[kind]
        return list(zip(layers, self._activations, strict=True))
