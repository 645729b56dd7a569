"""The compiled power spectra with energies that are linear in them, against torch, and their table of radii."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_systems import SYSTEMS, assert_kernel_is_its_reference, needs_kernels, system
from random_soap import random_soap

from mlmd.descriptors.parity_series import parity_series
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.soap_basis import BASES
from mlmd.descriptors.soap_kernel import soap_kernel
from mlmd.fitting.polynomial import Polynomial
from mlmd.potentials.fused import FusedEvaluator, kernel_of
from mlmd.potentials.learned import LearnedPotential

PRECISIONS = ("float64", "float32")


@needs_kernels
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(name: str, precision: str) -> None:
    elements = ("Si", "O", "Be")
    potential, reference = random_soap(elements, precision), random_soap(elements)
    assert_kernel_is_its_reference(potential, reference, system(name, elements, 2.3))


@needs_kernels
@pytest.mark.parametrize(
    "settings",
    [
        {"n_max": 1, "l_max": 0},
        {"n_max": 8, "l_max": 6},
        {"n_max": 7, "l_max": 9, "sigma": 0.3},
        {"n_max": 13, "l_max": 2},
        {"products": "same-element", "taper": "cosine", "onset": 0.8},
        {"products": "with-sum", "include_centre": False, "normalised": False},
        {"basis": "polynomial", "taper": "none"},
        {"basis": "quip", "taper": "cosine", "onset": 0.8, "central_weight": 0.6},
    ],
    ids=str,
)
def test_the_kernel_knows_all_settings(settings: dict[str, Any]) -> None:
    potential = random_soap(("W", "Be"), **settings)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("W", "Be"), 2.5))


@needs_kernels
def test_every_element_may_have_coefficients_of_its_own() -> None:
    soap = Soap(elements=("Si", "O"), cutoff=5.0, n_max=3, l_max=2)
    regressor, generator = Polynomial(n_features=soap.n_features, n_kinds=2), torch.Generator().manual_seed(1)
    with torch.no_grad():
        regressor.coefficients.copy_(torch.randn(regressor.n_basis, generator=generator, dtype=torch.float64))
        regressor.constants.copy_(torch.tensor([-3.0, 2.0], dtype=torch.float64))
    potential = LearnedPotential(soap, regressor)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Si", "O"), 2.3))


@needs_kernels
@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_rounding_only(n_threads: int) -> None:
    potential = random_soap(("W", "Be"))
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("W", "Be"), 2.5), n_threads=n_threads)


@needs_kernels
def test_the_same_configuration_has_the_same_forces_to_the_last_bit_with_as_many_threads() -> None:
    potential, atoms = random_soap(("W", "Be")), system("liquid", ("W", "Be"), 2.5)
    kernel = kernel_of(potential)
    assert kernel is not None
    found = []
    for _ in range(3):
        evaluator = FusedEvaluator(kernel, potential.elements, atoms.numbers, atoms.pbc, 0.5)
        found.append(evaluator.evaluate(atoms.positions, atoms.cell.array).forces)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize(("n_max", "l_max", "sigma"), [(1, 0, 0.5), (8, 6, 0.5), (9, 9, 0.3)])
def test_the_table_is_the_series_of_the_radial_functions(basis: str, n_max: int, l_max: int, sigma: float) -> None:
    soap = Soap(elements=["Si"], cutoff=5.0, basis=basis, n_max=n_max, l_max=l_max, sigma=sigma)
    kernel = soap_kernel(soap)
    n_pieces, n_functions = int(kernel.integers[4]), n_max * (l_max + 1)
    table = kernel.numbers[2 + n_max :][: n_pieces * n_functions * 10].reshape(n_pieces, n_functions, 10)
    r = np.random.default_rng(2).uniform(0, 5.0, 1000)
    piece = np.minimum((r / 5.0 * n_pieces).astype(int), n_pieces - 1)
    t = 2 * (r / 5.0 * n_pieces - piece) - 1
    found = np.einsum("rfk,rk->fr", table[piece], t[:, None] ** np.arange(10)).reshape(l_max + 1, n_max, -1)
    x = torch.from_numpy(r / 5.0)
    even, odd = (one.numpy() for one in parity_series(x, soap.table))
    for degree in range(l_max + 1):
        expected = (even, odd)[degree % 2][degree // 2]
        # what rounding of differences of large orbitals leaves in the series, near the cutoff
        assert np.abs(found[degree] - expected).max() < 3e-13 * np.abs(expected).max()
