"""SNAPs with random coefficients in the place of fitted ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch

from mlmd.descriptors.bispectrum import Bispectrum, Expansion
from mlmd.descriptors.coupling import components
from mlmd.fitting.polynomial import Polynomial
from mlmd.potentials.learned import LearnedPotential


def random_snap(
    elements: Sequence[str], twojmax: int, precision: str = "float64", *, quadratic: bool = False, **settings: Any
) -> LearnedPotential:
    """With cutoffs of 4 to 5 Å, different for each pair of elements, and forces of some eV/Å."""
    generator = torch.Generator().manual_seed(twojmax)
    n = len(elements)
    expansion = Expansion(**({"rcutfac": 4.8, "twojmax": twojmax} | settings))
    radii = [0.5 - 0.05 * kind for kind in range(n)]
    weights = [1 - 0.3 * kind for kind in range(n)]
    descriptor = Bispectrum(elements=elements, radii=radii, weights=weights, expansion=expansion)
    n_features = descriptor.n_features
    polynomial = Polynomial(n_features=n_features, n_kinds=n, order=2 if quadratic else 1)
    with torch.no_grad():
        polynomial.constants.copy_(3.0 * (torch.rand(n, generator=generator, dtype=torch.float64) - 0.5))
        coefficients = polynomial.coefficients.view(n, -1)
        coefficients.copy_(torch.rand(coefficients.shape, generator=generator, dtype=torch.float64) - 0.5)
        coefficients[:, :n_features] *= 1e-2
        coefficients[:, n_features:] *= 2e-5
    return LearnedPotential(descriptor, polynomial).to(getattr(torch, precision))


def make_symmetric(potential: LearnedPotential) -> None:
    """Give components that are equal by symmetry equal coefficients.

    B of densities e1 e2 e3 does not change when these trade places together with j1 j2 j. Forces of LAMMPS (2025) are
    the gradient of its energy for such coefficients only, which those of a fit are.
    """
    settings, regressor = potential.descriptor.expansion, potential.regressor
    densities = product(range(potential.descriptor.n_densities), repeat=3)
    keys = [sorted(zip(j, e, strict=True)) for e in densities for j in components(settings.twojmax)]
    same = torch.tensor([[float(one == other) for one in keys] for other in keys], dtype=torch.float64)
    average = same / same.sum(dim=1, keepdim=True)
    linear, quadratic = regressor.tensors()
    columns = [linear @ average]
    if quadratic is not None:
        first, second = torch.triu_indices(*quadratic.shape[1:])
        columns.append((average @ quadratic @ average)[:, first, second])
    with torch.no_grad():
        regressor.coefficients.copy_(torch.cat(columns, dim=1).flatten())
