"""A network with one hidden layer: the energy is a sum of saturating functions of the features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError


class Network(torch.nn.Module):
    """e = Σ_h v[h] tanh(Σ_d w[h, d] x[d] + b[h]) + c[kind], with w, v and b for each kind or common to all."""

    accepts: tuple[str, ...] = ("atom",)
    weights: torch.nn.Parameter
    """w, (n_kinds or 1, n_neurons, n_features)."""
    biases: torch.nn.Parameter
    """b, (n_kinds or 1, n_neurons)."""
    output: torch.nn.Parameter
    """v, (n_kinds or 1, n_neurons) eV."""
    constants: torch.nn.Parameter
    """c, (n_kinds,) eV."""

    def __init__(self, *, n_features: int, n_neurons: int, n_kinds: int = 1, common: bool = False) -> None:
        """All zeros, to be loaded, or randomised and fitted.

        Args:
            n_features: columns of the features.
            n_neurons: of the hidden layer.
            n_kinds: of rows, e.g. chemical elements.
            common: one network for all kinds.

        Raises:
            InputError: for sizes that are not positive.
        """
        super().__init__()
        if min(n_features, n_neurons, n_kinds) < 1:
            raise InputError(f"a network of {n_features} features, {n_neurons} neurons, {n_kinds} kinds is impossible.")
        self.n_features, self.n_neurons, self.n_kinds, self.common = n_features, n_neurons, n_kinds, common
        n_networks = 1 if common else n_kinds
        shapes = {
            "weights": (n_networks, n_neurons, n_features),
            "biases": (n_networks, n_neurons),
            "output": (n_networks, n_neurons),
            "constants": (n_kinds,),
        }
        for name, shape in shapes.items():
            zeros = torch.zeros(shape, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(zeros, requires_grad=False))

    def randomise(self, generator: torch.Generator) -> None:
        """Weights to start training from: of variance 1 / number of inputs (Glorot and Bengio, AISTATS 2010)."""
        with torch.no_grad():
            for weights, inputs in ((self.weights, self.n_features), (self.output, self.n_neurons)):
                drawn = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
                weights.copy_(drawn / inputs**0.5)

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,).

        The constants, which may be large, are added in float64 whatever the precision of the features.
        """
        if len(self.weights) == 1:
            varying = self._hidden(features, 0)
        else:
            varying = features.new_zeros(len(features))
            for kind in kinds.unique().tolist():
                rows = (kinds == kind).nonzero().squeeze(1)
                varying = varying.index_put((rows,), self._hidden(features.index_select(0, rows), kind))
        return varying.double() + self.constants.double().index_select(0, kinds)

    def _hidden(self, features: Tensor, kind: int) -> Tensor:
        weights, biases, output = (one[kind].to(features.dtype) for one in (self.weights, self.biases, self.output))
        return torch.tanh(features @ weights.T + biases) @ output

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w, b, v and c, as compiled forms take them."""
        return self.weights, self.biases, self.output, self.constants

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Network:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        names = ("n_features", "n_neurons", "n_kinds", "common")
        return {"kind": "network", **{name: getattr(self, name) for name in names}}
