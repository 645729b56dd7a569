"""Potentials of SOAP power spectra for tests."""

from __future__ import annotations

from typing import Any

import torch

from mlmd.descriptors.soap import Soap
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential


def random_soap(
    elements: tuple[str, ...], precision: str = "float64", *, n_neurons: int = 0, **settings: Any
) -> LearnedPotential:
    """Power spectra with random numbers in the place of fitted ones; a network where neurons are given."""
    generator = torch.Generator().manual_seed(4)
    given: dict[str, Any] = {"cutoff": "5 Å", "n_max": 4, "l_max": 3, **settings}
    soap, n = Soap(elements=elements, **given), len(elements)
    regressor: Linear | Network
    if n_neurons:
        regressor = Network(n_features=soap.n_features, n_neurons=n_neurons, n_kinds=n)
        regressor.randomise(generator)
    else:
        regressor = Linear(n_features=soap.n_features, n_kinds=n)
        with torch.no_grad():
            regressor.coefficients.copy_(torch.randn(soap.n_features, generator=generator, dtype=torch.float64))
    with torch.no_grad():
        regressor.constants.copy_(torch.randn(n, generator=generator, dtype=torch.float64))
    return LearnedPotential(soap, regressor).to(getattr(torch, precision))
