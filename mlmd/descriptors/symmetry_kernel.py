"""Symmetry functions packed for their compiled form (`src/symmetry.hpp`, which says what is read)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlmd.kernels import Kernel

if TYPE_CHECKING:
    from mlmd.descriptors.symmetry import SymmetryFunctions

LARGEST_POWER = 1024
"""ζ beyond it, and those that are no whole numbers, have no compiled form."""


def symmetry_kernel(descriptor: SymmetryFunctions, network: Sequence[Tensor] = ()) -> Kernel | None:
    """The compiled form of a descriptor, and of a network of its features; None where a ζ has none.

    Args:
        descriptor: the features.
        network: weights (n_species or 1, n_neurons, n_features), biases (n_species or 1, n_neurons), output of the same
            shape and constants (n_species,), as in `mlmd.fitting.network`; by default one that gives zero.
    """
    if any(one.zeta != int(one.zeta) or one.zeta > LARGEST_POWER for one in descriptor.angular):
        return None
    n_species, n_features = len(descriptor.elements), descriptor.n_features
    if not network:
        sizes = ((1, 1, n_features), (1, 1), (1, 1), (n_species,))
        network = [torch.zeros(one, dtype=torch.float64) for one in sizes]
    n_networks, n_neurons, _ = network[0].shape
    widths = sorted({one.eta for one in descriptor.angular})
    shapes = sorted({(int(one.zeta), one.sign) for one in descriptor.angular})
    integers = [
        n_species, len(descriptor.radial), len(descriptor.angular), len(widths), len(shapes),
        not descriptor.wide, descriptor.weight == "quintic",
    ]  # fmt: skip
    for one in descriptor.angular:
        integers += [widths.index(one.eta), shapes.index((int(one.zeta), one.sign))]
    integers += [number for shape in shapes for number in shape]
    integers += [n_neurons, n_networks == 1]
    lengths = [descriptor.cutoff, descriptor.angular_cutoff]
    gaussians = [number for one in descriptor.radial for number in (one.eta, one.shift)]
    tensors = [torch.tensor([*lengths, *gaussians, *widths], dtype=torch.float64), descriptor.scaling, *network]
    return Kernel(
        family="symmetry",
        cutoff=descriptor.cutoff,
        integers=np.array(integers, dtype=np.int64),
        numbers=torch.cat([one.detach().double().cpu().flatten() for one in tensors]).numpy(),
        precision=str(descriptor.scaling.dtype).removeprefix("torch."),
    )
