"""Symmetry functions, with or without a network, packed for their compiled form; see `src/symmetry.hpp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.symmetry_functions import RADIAL
from mlmd.kernels import Kernel

if TYPE_CHECKING:
    from mlmd.descriptors.symmetry import Symmetry


def symmetry_kernel(descriptor: Symmetry, network: tuple[Sequence[int], Sequence[Tensor]] | None = None) -> Kernel:
    """The compiled form of a descriptor, and of a network of its features.

    Args:
        descriptor: the features.
        network: sizes and numbers as `src/layers.hpp` reads them; by default of a network that gives zero.
    """
    n_species, n_features = len(descriptor.elements), descriptor.n_features
    if network is None:
        network = [1, 1, 1, 0], [torch.zeros(n_features + 2 + n_species)]
    sizes, tensors = network
    integers = [n_species, n_features, [*TAPERS].index(descriptor.taper)]
    numbers = [np.array([descriptor.cutoff, descriptor.onset])]
    for terms in _terms(descriptor):
        integers += [len(terms), *(number for places, _ in terms for number in places)]
        numbers += [np.array(values) for _, values in terms]
    numbers += [one.detach().double().cpu().numpy().ravel() for one in (descriptor.offset, descriptor.factor, *tensors)]
    return Kernel(
        family="symmetry",
        cutoff=descriptor.cutoff,
        integers=np.array([*integers, *sizes], dtype=np.int64),
        numbers=np.concatenate(numbers),
        precision=str(descriptor.factor.dtype).removeprefix("torch."),
    )


def _terms(descriptor: Symmetry) -> tuple[list[tuple[list[int], list[float]]], list[tuple[list[int], list[float]]]]:
    """Integers and numbers of radial and of angular terms; those that share a cutoff stand together."""
    radial, angular = [], []
    for (centre, neighbours), terms in descriptor.terms.items():
        for term in sorted(terms, key=lambda term: term.function.cutoff):
            one = term.function
            places = [centre, *neighbours, term.column]
            if one.kind in RADIAL:
                parameter = one.kappa if one.kind == "G3" else one.eta
                kind = 1 + RADIAL.index(one.kind)
                radial.append(([*places, kind], [one.cutoff, parameter, one.shift, term.weight]))
            else:
                values = [one.cutoff, *one.sides, one.shift, one.zeta, one.sign, term.weight]
                angular.append(([*places, int(one.narrow)], values))
    return radial, angular
