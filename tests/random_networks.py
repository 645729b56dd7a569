"""Radial-angular networks for tests."""

from __future__ import annotations

from typing import Any

import torch

from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.fitting.network import Network
from mlmd.potentials.nep import NEP


def random_nep(elements: tuple[str, ...], precision: str = "float64", common: bool = False, **sizes: Any) -> NEP:
    """A radial-angular network with random numbers in the place of fitted ones."""
    generator = torch.Generator().manual_seed(1)
    given: dict[str, Any] = {"cutoff": "5 Å", "angular_cutoff": "4 Å", "four_body": True, "five_body": True, **sizes}
    descriptor = RadialAngular(elements=elements, **given)
    network = Network(n_features=descriptor.n_features, n_neurons=10, n_kinds=len(elements), common=common)
    network.randomise(generator)
    with torch.no_grad():
        for tensor in (descriptor.radial.coefficients, descriptor.angular.coefficients, network.constants):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        descriptor.scaling.copy_(0.1 + 0.1 * torch.rand(descriptor.n_features, generator=generator))
    return NEP(descriptor, network).to(getattr(torch, precision))
