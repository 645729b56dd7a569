"""Radial-angular descriptors packed for their compiled form (`src/radial_angular.hpp`, which says what is read)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlmd.kernels import Kernel

if TYPE_CHECKING:
    from mlmd.descriptors.radial_angular import RadialAngular


def radial_angular_kernel(
    descriptor: RadialAngular, network: Sequence[Tensor] = (), repulsion: Tensor | None = None
) -> Kernel:
    """The compiled form of a descriptor, and of a potential of its features.

    Args:
        descriptor: the features.
        network: weights (n_species or 1, n_neurons, n_features), biases (n_species or 1, n_neurons), output of the same
            shape and constants (n_species,), as in `mlmd.fitting.network`; by default one that gives zero.
        repulsion: the table (n_species, n_species, 10) of `mlmd.potentials.nep.Repulsion`, by default none.
    """
    shape, n_species = descriptor.shape, len(descriptor.elements)
    if not network:
        sizes = ((1, 1, shape.n_features), (1, 1), (1, 1), (n_species,))
        network = [torch.zeros(one, dtype=torch.float64) for one in sizes]
    n_networks, n_neurons, _ = network[0].shape
    integers = [
        n_species, shape.n_radial, shape.n_radial_basis, shape.n_angular, shape.n_angular_basis, shape.l_max,
        shape.four_body, shape.five_body, n_neurons, n_networks == 1, repulsion is not None,
    ]  # fmt: skip
    tensors = [
        descriptor.radial_cutoffs, descriptor.angular_cutoffs, descriptor.radial.coefficients,
        descriptor.angular.coefficients, descriptor.scaling, *network, *([] if repulsion is None else [repulsion]),
    ]  # fmt: skip
    return Kernel(
        family="radial-angular",
        cutoff=descriptor.cutoff,
        integers=np.array(integers, dtype=np.int64),
        numbers=torch.cat([one.detach().double().cpu().flatten() for one in tensors]).numpy(),
        precision=str(descriptor.scaling.dtype).removeprefix("torch."),
    )
