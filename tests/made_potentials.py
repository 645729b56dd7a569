"""Potentials with random numbers in the place of fitted ones."""

from __future__ import annotations

import torch

from mlmd.descriptors.moments import Moments
from mlmd.fitting.linear import Linear
from mlmd.potentials.learned import LearnedPotential


def random_mtp(elements: tuple[str, ...], level: int, precision: str = "float64") -> LearnedPotential:
    """A moment tensor potential with random numbers in the place of fitted ones."""
    generator = torch.Generator().manual_seed(level)
    moments = Moments(elements=elements, cutoff=5.0, min_distance=1.5, level=level, scaling=0.05)
    linear = Linear(n_features=moments.n_features, n_kinds=len(elements))
    with torch.no_grad():
        for tensor in (moments.radial.coefficients, linear.coefficients, linear.constants):
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.5)
    potential = LearnedPotential(moments, linear)
    return potential.to(getattr(torch, precision))
