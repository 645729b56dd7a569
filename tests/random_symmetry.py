"""Networks of symmetry functions for tests."""

from __future__ import annotations

from typing import Any

import torch

from mlmd.descriptors.symmetry import SymmetryFunctions
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential

RADIAL = ((0.0, 0.0), (0.4, 0.0), (1.2, 1.5), (2.0, 3.1))
ANGULAR = ((0.01, 1, 1), (0.01, 1, -1), (0.01, 4, 1), (0.08, 4, -1), (0.08, 16, 1), (0.2, 7, -1))


def random_symmetry(elements: tuple[str, ...], precision: str = "float64", **settings: Any) -> LearnedPotential:
    """A network of symmetry functions with random numbers in the place of fitted ones."""
    generator = torch.Generator().manual_seed(1)
    given: dict[str, Any] = {"cutoff": "5 Å", "radial": RADIAL, "angular": ANGULAR, **settings}
    descriptor = SymmetryFunctions(elements=elements, **given)
    network = Network(n_features=descriptor.n_features, n_neurons=10, n_kinds=len(elements))
    network.randomise(generator)
    with torch.no_grad():
        network.constants.copy_(torch.randn(len(elements), generator=generator, dtype=torch.float64))
        descriptor.scaling.copy_(0.1 + 0.1 * torch.rand(descriptor.n_features, generator=generator))
    return LearnedPotential(descriptor, network).to(getattr(torch, precision))
