"""Potentials of DeepPot-SE for tests."""

from __future__ import annotations

from typing import Any

import torch

from mlmd.descriptors.embedding import DeepPotSE
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential


def random_deeppot(elements: tuple[str, ...], precision: str = "float64", **settings: Any) -> LearnedPotential:
    """Embedding and fitting networks with random numbers in the place of trained ones, μ and σ of usual size."""
    generator = torch.Generator().manual_seed(6)
    n = len(elements)
    given: dict[str, Any] = {
        "cutoff": 5.0, "onset": 1.5, "n_places": [40 + 7 * k for k in range(n)], "n_neurons": (4, 8, 16), "n_axes": 3,
    }  # fmt: skip
    descriptor = DeepPotSE(elements=elements, **given | settings)
    descriptor.randomise(generator)
    network = Network(
        n_features=descriptor.n_features, n_neurons=(9, 9, 18), n_kinds=n, residual=True, timestep=True
    )  # fmt: skip
    network.randomise(generator)
    with torch.no_grad():
        for kind in range(n):
            descriptor.mean[kind] = 0.06 + 0.02 * kind
            descriptor.deviation[kind] = torch.tensor([0.14, 0.09 + 0.01 * kind])
        network.weights.mul_(10)  # descriptors are small numbers
        network.constants.copy_(torch.randn(n, generator=generator, dtype=torch.float64))
    return LearnedPotential(descriptor, network).to(getattr(torch, precision))
