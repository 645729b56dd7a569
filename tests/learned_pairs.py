"""Every descriptor of atoms with every regression that is linear in its parameters, with random numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from made_potentials import random_mtp
from random_networks import random_nep
from random_snap import random_snap
from random_symmetry import random_symmetry

from mlmd.descriptors import Descriptor
from mlmd.descriptors.bispectrum import Bispectrum
from mlmd.descriptors.bispectrum import Expansion as Settings
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.soap import Soap
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.fitting.linear import Linear
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import RandomFeatures
from mlmd.fitting.sum import Sum
from mlmd.potentials.learned import LearnedPotential

ELEMENTS = ("Si", "O")
DESCRIPTORS: dict[str, Callable[[], Descriptor]] = {
    "moments": lambda: random_mtp(ELEMENTS, 8).descriptor,
    "radial-angular": lambda: random_nep(ELEMENTS).descriptor,
    "symmetry": lambda: random_symmetry(ELEMENTS).descriptor,
    "soap": lambda: Soap(elements=ELEMENTS, cutoff=4.5, n_max=3, l_max=2),
    "bispectrum": lambda: random_snap(ELEMENTS, 4).descriptor,
    "bispectrum-and-symmetry": lambda: _combined("bispectrum", "symmetry"),
    "soap-and-symmetry": lambda: _combined("soap", "symmetry"),
    "chemical": lambda: Bispectrum(
        elements=ELEMENTS,
        radii=(0.5, 0.4),
        weights=(1.0, 0.7),
        expansion=Settings(rcutfac=4.5, twojmax=2, chemflag=True),
    ),
    "chemical-and-symmetry": lambda: _combined("chemical", "symmetry"),
}


def _combined(*names: str) -> Combined:
    return Combined([DESCRIPTORS[name]() for name in names])


def _random_features(n_features: int, function: str) -> RandomFeatures:
    found = RandomFeatures(n_features=n_features, n_random=11, n_kinds=2, function=function)
    found.randomise(torch.Generator().manual_seed(3))
    return found


def _sparse(n_features: int, **settings: object) -> SparseGaussian:
    generator = torch.Generator().manual_seed(4)
    points = torch.randn((9, n_features), generator=generator, dtype=torch.float64)
    return SparseGaussian(points, torch.arange(9) % 2, n_kinds=2, **settings)  # type: ignore[arg-type]


def _gaussian(n_features: int, width: float) -> SparseGaussian:
    return _sparse(n_features, kernel="gaussian", width=width)


REGRESSORS: dict[str, Callable[[int], Expansion]] = {
    "linear": lambda n: Polynomial(n_features=n, n_kinds=2),
    "quadratic": lambda n: Polynomial(n_features=n, n_kinds=2, order=2),
    "fourier": lambda n: _random_features(n, "fourier"),
    "arc-cosine-2": lambda n: _random_features(n, "arc-cosine-2"),
    "gap-gaussian": lambda n: _gaussian(n, 2.0 * n**0.5),
    "gap-polynomial": lambda n: _sparse(n, kernel="polynomial", power=2),
    "gap-of-two": lambda n: Sum([_sparse(n - 3, kernel="polynomial"), _sparse(3, kernel="gaussian", width=3.0)]),
    "gap-of-two-widths": lambda n: Sum([_gaussian(3, 2.0), _gaussian(n - 3, 3.0)]),
}
OF_COSINES = ("gap-polynomial", "gap-of-two")
"""Jump where a row becomes zero, so that training refuses them where that of an atom without neighbours is."""
PAIRS = [
    (descriptor, regressor)
    for descriptor in DESCRIPTORS
    for regressor in REGRESSORS
    if descriptor.startswith("soap") or regressor not in OF_COSINES
]


def _terms(descriptor: Descriptor) -> Sum:
    """A linear regression for each part of a combination of moments and another descriptor."""
    assert isinstance(descriptor, Combined)
    first, second = descriptor.parts
    return Sum([Linear(n_features=first.n_features, n_kinds=2), Polynomial(n_features=second.n_features, n_kinds=2)])


def random_process(descriptor: Descriptor, precision: str = "float64", **settings: object) -> LearnedPotential:
    """A Gaussian process of eleven environments with random numbers, for two elements."""
    generator, n = torch.Generator().manual_seed(6), descriptor.n_features
    process = GaussianProcess(n_features=n, n_points=11, n_kinds=2, **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for tensor in (process.points, process.coefficients, process.slopes, process.constants):
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        process.points.copy_(process.image(process.points))
        process.point_kinds.copy_(torch.arange(11) % 2)
        process.scale.fill_(1.5)
    return LearnedPotential(descriptor, process).to(getattr(torch, precision))


def random_pair(descriptor: str, regressor: str) -> LearnedPotential:
    """Features scaled to order one go into the regressor; its coefficients are random."""
    described = _combined("moments", "symmetry") if descriptor == "moments-and-symmetry" else DESCRIPTORS[descriptor]()
    expansion = _terms(described) if regressor == "terms" else REGRESSORS[regressor](described.n_features)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        drawn = torch.randn(expansion.n_basis, generator=generator, dtype=torch.float64)
        expansion.coefficients.copy_(drawn / expansion.n_basis**0.5)
        expansion.constants.copy_(torch.tensor([-1.0, 2.0], dtype=torch.float64))
    return LearnedPotential(described, expansion)
