"""Networks of symmetry functions for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential


def functions(elements: tuple[str, ...]) -> list[SymmetryFunction]:
    """Every kind of symmetry function with parameters of its own for every element, more for the first one."""
    found = []
    for n, centre in enumerate(elements):
        last, first = elements[-1], elements[0]
        found += [
            SymmetryFunction("G1", centre, (first,), 4.0),
            SymmetryFunction("G2", centre, (last,), 5.0, eta=0.4),
            SymmetryFunction("G2", centre, (last,), 5.0, eta=2.0, shift=2.5 + 0.1 * n),
            SymmetryFunction("G2", centre, (), 4.5, eta=0.7, shift=1.0),
            SymmetryFunction("G3", centre, (first,), 4.5, kappa=1.3),
            SymmetryFunction("G4", centre, (last, first), 4.5, eta=0.03, zeta=4.0),
            SymmetryFunction("G4", centre, (first, last), 4.5, eta=0.03, zeta=1.0, sign=-1.0),
            SymmetryFunction("G4", centre, (last, last), 4.0, eta=0.1, zeta=2.0, sign=-1.0, shift=0.5),
            SymmetryFunction("G4", centre, (), 3.5, eta=0.05, zeta=3.0),
            SymmetryFunction("G5", centre, (first, last), 4.5, eta=0.03, zeta=4.0),
            SymmetryFunction("G5", centre, (last, last), 4.0, eta=0.2, zeta=1.7, sign=-1.0, shift=2.0),
        ]
        if first != last:  # sides of their own, with the neighbours in the other order than the elements
            found += [
                SymmetryFunction("G4", centre, (last, first), 4.5, zeta=2.0, etas=(0.02, 0.09, 0.05), shift=0.3),
                SymmetryFunction("G5", centre, (first, last), 4.0, zeta=4.0, sign=-1.0, etas=(0.1, 0.03, 0.0)),
            ]
    found += [SymmetryFunction("G5", elements[0], (), 4.0, eta=0.05, zeta=16.0, sign=-1.0)]
    return found


def random_symmetry(
    elements: tuple[str, ...],
    precision: str = "float64",
    *,
    given: list[SymmetryFunction] | None = None,
    taper: str = "cosine",
    onset: float = 0.0,
    n_neurons: int | Sequence[int] = (9, 7),
    **settings: Any,
) -> LearnedPotential:
    """Symmetry functions, centred and scaled, with a network of random numbers in the place of fitted ones."""
    generator = torch.Generator().manual_seed(2)
    descriptor = Symmetry(elements=elements, functions=given or functions(elements), taper=taper, onset=onset)
    n = len(elements)
    network = Network(n_features=descriptor.n_features, n_neurons=n_neurons, n_kinds=n, **settings)
    network.randomise(generator)
    with torch.no_grad():
        for _, biases in network.hidden:
            biases.copy_(0.3 * torch.randn(biases.shape, generator=generator, dtype=torch.float64))
        network.constants.copy_(torch.randn(n, generator=generator, dtype=torch.float64))
        for kind, symbol in enumerate(elements):
            of = [one for one in descriptor.functions if one.centre == symbol]
            for column, one in enumerate(of):
                heavy = 1.0 if one.neighbours else 0.02 ** (1 if one.kind == "G2" else 2)
                descriptor.factor[kind, column] = heavy * (0.2 + 0.3 * float(torch.rand(1, generator=generator)))
                descriptor.offset[kind, column] = 0.5 * float(torch.rand(1, generator=generator))
    return LearnedPotential(descriptor, network).to(getattr(torch, precision))
