"""Networks of symmetry functions packed for their compiled form; `symmetry.hpp` says what the parameters are."""

from __future__ import annotations

import numpy as np
import torch

from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import RADIAL
from mlmd.fitting.network import ACTIVATIONS, Network
from mlmd.kernels import Kernel


def symmetry_kernel(descriptor: Symmetry, network: Network) -> Kernel:
    """The compiled form."""
    radial, angular = _terms(descriptor)
    layers = zip(network.layers, network.activations, strict=True)
    integers = [
        len(descriptor.elements), descriptor.n_features, [*TAPERS].index(descriptor.taper),
        len(radial), *(number for integers, _ in radial for number in integers),
        len(angular), *(number for integers, _ in angular for number in integers),
        len(network.weights) == 1, len(network.layers),
        *(number for size, name in layers for number in (size, [*ACTIVATIONS].index(name))),
    ]  # fmt: skip
    numbers = [np.array([descriptor.cutoff, descriptor.onset])]
    numbers += [np.array(values) for _, values in (*radial, *angular)]
    numbers += [_array(descriptor.offset), _array(descriptor.factor)]
    for kind in range(len(network.weights)):
        numbers += [_array(one[kind]) for layer in network.hidden for one in layer] + [_array(network.output[kind])]
    numbers.append(_array(network.constants))
    return Kernel(
        family="symmetry",
        cutoff=descriptor.cutoff,
        integers=np.array(integers, dtype=np.int64),
        numbers=np.concatenate(numbers),
        precision=str(descriptor.factor.dtype).removeprefix("torch."),
    )


def _terms(descriptor: Symmetry) -> tuple[list[tuple[list[int], list[float]]], list[tuple[list[int], list[float]]]]:
    """Integers and numbers of radial and of angular terms; those that share a cutoff stand together."""
    radial, angular = [], []
    for (centre, neighbours), terms in descriptor.terms.items():
        for term in sorted(terms, key=lambda term: term.function.cutoff):
            one = term.function
            if one.kind in RADIAL:
                parameter = one.kappa if one.kind == "G3" else one.eta
                kind = 1 + RADIAL.index(one.kind)
                radial.append(
                    ([centre, *neighbours, term.column, kind], [one.cutoff, parameter, one.shift, term.weight])
                )
            else:
                angular.append(
                    (
                        [centre, *neighbours, term.column, int(one.narrow)],
                        [one.cutoff, one.eta, one.shift, one.zeta, one.sign, term.weight],
                    )
                )
    return radial, angular


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy().ravel()
