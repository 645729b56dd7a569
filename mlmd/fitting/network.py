"""A feed-forward network: the energy is a linear function of the last of one or several hidden layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from mlmd.errors import InputError, did_you_mean
from mlmd.fitting.covariance import Covariant

ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "tanh": torch.tanh,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),  # torch's own is x itself above a threshold
    "silu": torch.nn.functional.silu,
    "logistic": torch.sigmoid,
    "gaussian": lambda x: torch.exp(-0.5 * x * x),
    "linear": lambda x: x,
}
"""Functions of hidden neurons: tanh x, ln(1 + eˣ), x / (1 + e⁻ˣ), 1 / (1 + e⁻ˣ), exp(-x²/2), x."""
_FIRST_STEP = 0.1
"""Of layers that add to what the layer before gave: little at first."""


@dataclass(frozen=True)
class Layer:
    """A hidden layer of one network."""

    weights: Tensor
    """(n_neurons, n_inputs)."""
    biases: Tensor
    """(n_neurons,)."""
    steps: Tensor | None
    """(n_neurons,), factors of what it adds; None without."""

    def weighted(self, values: Tensor) -> Tensor:
        """w x + b, (n, n_neurons), of rows (n, n_inputs)."""
        return values @ self.weights.to(values.dtype).T + self.biases.to(values.dtype)

    def after(self, values: Tensor, activation: str, residual: bool) -> Tensor:
        """What it gives, (n, n_neurons)."""
        own = ACTIVATIONS[activation](self.weighted(values))
        if self.steps is not None:
            own = own * self.steps.to(own.dtype)
        return self.added(values, own, residual, dim=-1)

    @staticmethod
    def added(before: Tensor, own: Tensor, residual: bool, *, dim: int) -> Tensor:
        """What a layer gives together with what the one before gave, where it adds to that."""
        if residual and own.shape[dim] == before.shape[dim]:
            return own + before
        if residual and own.shape[dim] == 2 * before.shape[dim]:
            return own + torch.cat([before, before], dim=dim)
        return own


class Network(Covariant):
    """e = Σ_h v[h] y_h + c[kind], the last layer of y⁽¹⁾ = σ(w⁽¹⁾ x + b⁽¹⁾), y⁽ⁿ⁾ = σ(w⁽ⁿ⁾ y⁽ⁿ⁻¹⁾ + b⁽ⁿ⁾).

    w, v and b are of each kind, or common to all. The first layer's are `weights` and `biases`, those of the n-th
    `weights_n` and `biases_n`.
    """

    accepts: tuple[str, ...] = ("atom",)
    weights: torch.nn.Parameter
    """w⁽¹⁾, (n_kinds or 1, n_neurons, n_features)."""
    biases: torch.nn.Parameter
    """b⁽¹⁾, (n_kinds or 1, n_neurons)."""
    output: torch.nn.Parameter
    """v, (n_kinds or 1, n_neurons of the last layer) eV."""
    constants: torch.nn.Parameter
    """c, (n_kinds,) eV."""
    layers: tuple[int, ...]
    """Neurons of the hidden layers."""
    activations: tuple[str, ...]
    """Of the hidden layers, names of `ACTIVATIONS`."""
    residual: bool
    """Whether layers add to what the layer before them gave; else they replace it."""
    timestep: bool
    """Whether what a layer adds has factors of its own, `timesteps_n`, (n_kinds or 1, n_neurons)."""

    def __init__(
        self,
        *,
        n_features: int,
        n_neurons: int | Sequence[int],
        n_kinds: int = 1,
        common: bool = False,
        activation: str | Sequence[str] = "tanh",
        residual: bool = False,
        timestep: bool = False,
    ) -> None:
        """All zeros, to be loaded, or randomised and fitted.

        Args:
            n_features: columns of the features.
            n_neurons: of the hidden layer, or of each of several.
            n_kinds: of rows, e.g. chemical elements.
            common: one network for all kinds.
            activation: a name of `ACTIVATIONS`, or one for each hidden layer.
            residual: y⁽ⁿ⁾ = y⁽ⁿ⁻¹⁾ + σ(…) of layers as wide as the one before; of those twice as wide, (y, y) + σ(…).
            timestep: y⁽ⁿ⁾ = y⁽ⁿ⁻¹⁾ + t⁽ⁿ⁾ σ(…) of such layers (He et al., CVPR 2016, as in DeePMD-kit).

        Raises:
            InputError: for sizes that are not positive, and unknown activations.
        """
        super().__init__()
        self.layers = (n_neurons,) if isinstance(n_neurons, int) else tuple(n_neurons)
        names = [activation] * len(self.layers) if isinstance(activation, str) else activation
        self.activations = tuple(names)
        if min(n_features, n_kinds, *self.layers, len(self.layers)) < 1:
            raise InputError(f"a network of {n_features} features, {n_neurons} neurons, {n_kinds} kinds is impossible.")
        if len(self.activations) != len(self.layers):
            raise InputError(f"{len(self.activations)} activations were given for {len(self.layers)} hidden layers.")
        for name in self.activations:
            if name not in ACTIVATIONS:
                raise InputError(f"{name!r} is not an activation. {did_you_mean(str(name), ACTIVATIONS)}")
        if timestep and not residual:
            raise InputError("timestep: only residual layers have one.")
        self.n_features, self.n_kinds, self.common = n_features, n_kinds, common
        self.residual, self.timestep = residual, timestep
        n_networks = 1 if common else n_kinds
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (inputs, outputs) in enumerate(itertools.pairwise((n_features, *self.layers)), 1):
            shapes |= {_name("weights", number): (n_networks, outputs, inputs)}
            shapes |= {_name("biases", number): (n_networks, outputs)}
            if timestep and outputs in (inputs, 2 * inputs):
                shapes |= {_name("timesteps", number): (n_networks, outputs)}
        shapes |= {"output": (n_networks, self.layers[-1]), "constants": (n_kinds,)}
        for name, shape in shapes.items():
            zeros = torch.zeros(shape, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(zeros, requires_grad=False))

    @property
    def n_basis(self) -> int:  # type: ignore[override]
        """Neurons of the last hidden layer, of all networks: what the energy is linear in."""
        return int(self.output.numel())

    @property
    def n_neurons(self) -> int:
        """Of the first hidden layer."""
        return self.layers[0]

    @property
    def hidden(self) -> tuple[tuple[torch.nn.Parameter, torch.nn.Parameter], ...]:
        """Weights and biases of the hidden layers."""
        numbers = range(1, len(self.layers) + 1)
        return tuple((getattr(self, _name("weights", k)), getattr(self, _name("biases", k))) for k in numbers)

    @property
    def steps(self) -> tuple[torch.nn.Parameter | None, ...]:
        """Factors of what the hidden layers add, None of layers without."""
        return tuple(getattr(self, _name("timesteps", number), None) for number in range(1, len(self.layers) + 1))

    def randomise(self, generator: torch.Generator) -> None:
        """Weights to start training from: of variance 1 / number of inputs (Glorot and Bengio, AISTATS 2010)."""
        with torch.no_grad():
            for weights in (*(weights for weights, _ in self.hidden), self.output):
                drawn = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
                weights.copy_(drawn / weights.shape[-1] ** 0.5)
            for steps in self.steps:
                if steps is not None:
                    steps.fill_(_FIRST_STEP)

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,).

        The constants, which may be large, are added in float64 whatever the precision of the features.
        """
        networks = self.by_kind()
        if len(networks) == 1:
            varying = self._varying(features, networks[0])
        else:
            varying = features.new_zeros(len(features))
            for kind in kinds.unique().tolist():
                rows = (kinds == kind).nonzero().squeeze(1)
                varying = varying.index_put((rows,), self._varying(features.index_select(0, rows), networks[kind]))
        return varying.double() + self.constants.double().index_select(0, kinds)

    def by_kind(self) -> list[tuple[list[Layer], Tensor]]:
        """The hidden layers and the output of each network.

        They are taken apart once: the derivative of each kind's part would be as large as the whole.
        """
        layers = [
            (weights.unbind(), biases.unbind(), [None] * len(weights) if steps is None else steps.unbind())
            for (weights, biases), steps in zip(self.hidden, self.steps, strict=True)
        ]
        output = self.output.unbind()
        return [([Layer(w[kind], b[kind], t[kind]) for w, b, t in layers], output[kind]) for kind in range(len(output))]

    def _varying(self, values: Tensor, network: tuple[list[Layer], Tensor]) -> Tensor:
        """The energies without the constants."""
        layers, output = network
        for layer, name in zip(layers, self.activations, strict=True):
            values = layer.after(values, name, self.residual)
        return values @ output.to(values.dtype)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w, b, v and c of one hidden layer, as compiled forms of such networks take them."""
        return self.weights, self.biases, self.output, self.constants

    def packed(self) -> tuple[list[int], list[Tensor]]:
        """Sizes and numbers in the order that `src/layers.hpp` reads."""
        names = [*ACTIVATIONS]
        sizes = [len(self.weights) == 1, len(self.layers)]
        for n_neurons, activation in zip(self.layers, self.activations, strict=True):
            sizes += [n_neurons, names.index(activation)]
        tensors = []
        for kind in range(len(self.weights)):
            tensors += [one[kind] for layer in self.hidden for one in layer] + [self.output[kind]]
        return sizes, [*tensors, self.constants]

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Network:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"}).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say: of one hidden layer with tanh, the same as before there were others."""
        several, same = len(self.layers) > 1, len({*self.activations}) == 1
        spec = {
            "kind": "network",
            "n_features": self.n_features,
            "n_neurons": list(self.layers) if several else self.n_neurons,
            "n_kinds": self.n_kinds,
            "common": self.common,
        }
        if {*self.activations} != {"tanh"}:
            spec["activation"] = self.activations[0] if same else list(self.activations)
        spec |= {name: True for name in ("residual", "timestep") if getattr(self, name)}
        return spec


def _name(what: str, layer: int) -> str:
    """Of a parameter of a hidden layer."""
    return what if layer == 1 else f"{what}_{layer}"
