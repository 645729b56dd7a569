"""Features of atoms by the compiled kernels, and products with their Jacobian, against the descriptors on torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from kernel_systems import SYSTEMS, needs_kernels, system
from made_potentials import random_mtp
from random_networks import random_nep
from random_snap import random_snap
from random_soap import random_soap
from random_symmetry import random_symmetry
from test_kernels_radial_angular import SIZES

from mlmd.descriptors import Descriptor
from mlmd.descriptors.compiled import compiled_features
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels.design import Features
from mlmd.neighbors import build_graph
from mlmd.potentials.fused import FusedEvaluator, kernel_of

pytestmark = needs_kernels
ELEMENTS = ("Li", "Y", "Cl")

FAMILIES: dict[str, Callable[[tuple[str, ...]], Any]] = {
    "moments": lambda elements: random_mtp(elements, 10),
    "radial-angular": random_nep,
    "radial-angular, one cutoff": lambda elements: random_nep(elements, angular_cutoff="5 Å"),
    "bispectrum": lambda elements: random_snap(elements, 6),
    "symmetry functions": random_symmetry,
    "symmetry functions, tanh": lambda elements: random_symmetry(elements, taper="tanh"),
    "power spectra": random_soap,
    "power spectra with the sum": lambda elements: random_soap(elements, normalised=False, products="with-sum"),
}
"""Potentials with random numbers, by what they are functions of."""

SETTINGS: dict[str, dict[str, Any]] = {
    "twojmax 0": {"twojmax": 0},
    "twojmax 1": {"twojmax": 1},
    "twojmax 3": {"twojmax": 3},
    "twojmax 8": {"twojmax": 8},
    "twojmax 11": {"twojmax": 11},
    "no switch": {"switchflag": False},
    "atoms alone kept": {"bzeroflag": False, "rfac0": 0.7},
    "normed": {"bnormflag": True},
    "normed, atoms alone kept": {"bnormflag": True, "bzeroflag": False},
    "some neighbours nearer than rmin0": {"rmin0": 2.5},
    "inner switch": {"sinner": (2.0, 2.3), "dinner": (0.4, 0.6)},
}
"""Of a bispectrum."""

POWER_SPECTRA: dict[str, dict[str, Any]] = {
    "one function": {"n_max": 1, "l_max": 0},
    "one degree": {"n_max": 3, "l_max": 1},
    "eight functions, six degrees": {"n_max": 8, "l_max": 6},
    "thirteen degrees": {"n_max": 3, "l_max": 13, "sigma": 0.3},
    "elements apart": {"products": "same-element"},
    "elements apart, no centre": {"products": "same-element", "include_centre": False, "normalised": False},
    "with the sum": {"products": "with-sum", "n_max": 7},
    "not normalised": {"normalised": False},
    "polynomials": {"basis": "polynomial", "n_max": 5, "l_max": 5, "sigma": 0.4},
    "no cutoff function": {"taper": "none", "extent": 4.0},
    "as of QUIP": {"basis": "quip", "taper": "cosine", "onset": 0.9, "central_weight": 1.4},
    "tanh": {"taper": "tanh", "onset": 0.0},
    "tanh, normalised": {"taper": "tanh-normalised", "onset": 0.0},
    "exponential": {"taper": "exponential"},
    "cubic": {"taper": "cubic", "onset": 0.0},
    "septic": {"taper": "septic"},
    "nonic": {"taper": "nonic"},
}

RELATIVE = 1e-11
"""Of the largest number: both sides are sums of thousands of terms in float64."""


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float = RELATIVE) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= relative * max(np.abs(expected).max(), 1e-3)


def assert_columns_are_close(found: np.ndarray, expected: np.ndarray, relative: float = RELATIVE) -> None:
    """Small features are as good as large ones."""
    for one, other in zip(found.T, expected.T, strict=True):
        assert_close(one, other, relative)


def pushed(descriptor: Any, graph: Graph, changes: torch.Tensor) -> torch.Tensor:
    """J·v by two backward derivatives: that of u·J at any u, times the changes (n_pairs, 3) of the vectors."""
    vectors = graph.vectors.clone().requires_grad_(True)
    values = descriptor.features(graph.with_vectors(vectors))
    seed = torch.zeros_like(values, requires_grad=True)
    (turned,) = torch.autograd.grad(values, vectors, seed, create_graph=True)
    (found,) = torch.autograd.grad(turned, seed, changes)
    return found


def assert_the_products_are_those_of_autograd(descriptor: Any, atoms: Atoms, relative: float = RELATIVE) -> None:
    """Values, push and pull with random directions."""
    graph = build_graph(atoms, descriptor.cutoff)
    compiled = compiled_features(descriptor, atoms.numbers, atoms.pbc)
    positions, cell = atoms.positions, atoms.cell.array
    generator = np.random.default_rng(0)
    displacements, strain = generator.standard_normal(positions.shape), generator.standard_normal((3, 3))
    weights = generator.standard_normal((len(atoms), descriptor.n_features))

    vectors = graph.vectors.clone().requires_grad_(True)
    values = descriptor.features(graph.with_vectors(vectors))
    assert_columns_are_close(compiled.values(positions, cell), values.detach().numpy())

    (slopes,) = torch.autograd.grad(values, vectors, torch.from_numpy(weights))
    gradient = torch.zeros((len(atoms), 3), dtype=torch.float64)
    gradient.index_add_(0, graph.pairs[1], slopes).index_add_(0, graph.pairs[0], slopes, alpha=-1.0)
    found, virial = compiled.pull(positions, cell, weights)
    assert_close(found, gradient.numpy(), relative)
    assert_close(virial, (graph.vectors.T @ slopes).numpy(), relative)

    moved = torch.from_numpy(displacements)
    change = moved[graph.pairs[1]] - moved[graph.pairs[0]] + graph.vectors @ torch.from_numpy(strain)
    expected = pushed(descriptor, graph, change).numpy()
    assert_columns_are_close(compiled.push(positions, cell, displacements, strain), expected, relative)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_features_and_their_jacobian_products_are_those_of_autograd(family: str, name: str) -> None:
    potential = FAMILIES[family](ELEMENTS)
    # positions that are moved into a cell of 10,000 Å are rounded to 2e-12 Å
    relative = 1e-10 if name == "sparse" else RELATIVE
    assert_the_products_are_those_of_autograd(potential.descriptor, system(name, ELEMENTS, 2.4), relative)


@pytest.mark.parametrize("sizes", SIZES)
def test_radial_angular_products_are_those_of_autograd_for_all_sizes(sizes: str) -> None:
    potential = random_nep(("Si", "O"), **SIZES[sizes])
    assert_the_products_are_those_of_autograd(potential.descriptor, system("liquid", ("Si", "O"), 2.2))


@pytest.mark.parametrize("l_max", range(1, 9))
def test_radial_angular_products_are_those_of_autograd_for_every_degree(l_max: int) -> None:
    potential = random_nep(("Si",), l_max=l_max, four_body=l_max > 1)
    assert_the_products_are_those_of_autograd(potential.descriptor, system("crystal", ("Si",), 2.4))


@pytest.mark.parametrize("settings", SETTINGS)
def test_bispectrum_products_are_those_of_autograd_for_all_settings(settings: str) -> None:
    potential = random_snap(("W", "Be"), **({"twojmax": 4} | SETTINGS[settings]))
    assert_the_products_are_those_of_autograd(potential.descriptor, system("skewed", ("W", "Be"), 2.5))


@pytest.mark.parametrize("settings", POWER_SPECTRA)
def test_power_spectra_and_their_products_are_those_of_autograd_for_all_settings(settings: str) -> None:
    potential = random_soap(("Si", "O"), **POWER_SPECTRA[settings])
    # radial functions are tabulated to 2e-14 of their largest value, and slopes of features lose three digits of that
    assert_the_products_are_those_of_autograd(potential.descriptor, system("liquid", ("Si", "O"), 2.2), 1e-10)


def test_power_spectra_are_those_of_autograd_for_an_atom_among_its_images_and_next_to_the_cutoff() -> None:
    descriptor = random_soap(("Si", "O")).descriptor
    small = Atoms("O", cell=2.1 * np.eye(3), pbc=True)
    edge = Atoms("SiOSi", positions=[[0, 0, 0], [5.0 - 1e-9, 0, 0], [0, 3.0, 4.0 - 1e-6]])
    for atoms in (small, edge):
        assert_the_products_are_those_of_autograd(descriptor, atoms)


@pytest.mark.parametrize("family", FAMILIES)
def test_push_is_the_change_of_features_by_finite_differences(family: str) -> None:
    elements = ("Li", "Cl")
    # 2.3 Å: no vector of the lattice is as long as a cutoff, where second derivatives jump
    descriptor, atoms = FAMILIES[family](elements).descriptor, system("skewed", elements, 2.3)
    compiled, step = compiled_features(descriptor, atoms.numbers, atoms.pbc), 1e-5
    generator = np.random.default_rng(1)
    moved, strain = generator.standard_normal(atoms.positions.shape), generator.standard_normal((3, 3))
    ends = []
    for sign in (1, -1):
        stretch = np.eye(3) + sign * step * strain
        ends.append(compiled.values((atoms.positions + sign * step * moved) @ stretch, atoms.cell.array @ stretch))
    found = compiled.push(atoms.positions, atoms.cell.array, moved, strain)
    assert_close(found, (ends[0] - ends[1]) / (2 * step), 1e-7)  # the step squared times third derivatives


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_push_and_pull_are_transposes_of_each_other_with_any_number_of_threads(family: str, n_threads: int) -> None:
    descriptor, atoms = FAMILIES[family](ELEMENTS).descriptor, system("liquid", ELEMENTS, 2.4)
    generator = np.random.default_rng(2)
    moved, strain = generator.standard_normal(atoms.positions.shape), generator.standard_normal((3, 3))
    weights = generator.standard_normal((len(atoms), descriptor.n_features))
    compiled = compiled_features(descriptor, atoms.numbers, atoms.pbc, n_threads=n_threads)
    terms = weights * compiled.push(atoms.positions, atoms.cell.array, moved, strain)
    gradient, virial = compiled.pull(atoms.positions, atoms.cell.array, weights)
    backwards = (gradient * moved).sum() + (virial * strain).sum()
    assert backwards == pytest.approx(terms.sum(), abs=1e-12 * np.abs(terms).sum())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["liquid", "skewed", "tiny", "slab", "alone"])
def test_many_sums_are_pulled_as_one_by_one(family: str, name: str) -> None:
    descriptor, atoms = FAMILIES[family](ELEMENTS).descriptor, system(name, ELEMENTS, 2.4)
    weights = np.random.default_rng(3).standard_normal((len(atoms), descriptor.n_features, 29))
    compiled = compiled_features(descriptor, atoms.numbers, atoms.pbc)
    gradients, virials = compiled.pull_many(atoms.positions, atoms.cell.array, weights)
    for k in (0, 5, 11, 12, 23, 24, 28):  # columns are worked on in panels of 6, 12 or 24
        gradient, virial = compiled.pull(atoms.positions, atoms.cell.array, np.ascontiguousarray(weights[:, :, k]))
        assert_close(gradients[:, :, k], gradient, 1e-12)
        assert_close(virials[:, :, k], virial, 1e-12)


@pytest.mark.parametrize("bnormflag", [False, True])
def test_pull_with_the_coefficients_of_a_linear_snap_gives_its_forces(bnormflag: bool) -> None:
    elements = ("W", "Be")
    potential, atoms = random_snap(elements, 6, bnormflag=bnormflag), system("liquid", elements, 2.5)
    kernel = kernel_of(potential)
    assert kernel is not None
    expected = FusedEvaluator(kernel, elements, atoms.numbers, atoms.pbc, 0.5).sums(atoms.positions, atoms.cell.array)
    kinds = [elements.index(symbol) for symbol in atoms.symbols]
    compiled = compiled_features(potential.descriptor, atoms.numbers, atoms.pbc)
    weights = potential.regressor.tensors()[0].numpy()[kinds]
    gradient, virial = compiled.pull(atoms.positions, atoms.cell.array, weights)
    assert_close(-gradient, expected.forces, 1e-12)
    assert_close(virial, expected.virial, 1e-12)
    energy = (weights * compiled.values(atoms.positions, atoms.cell.array)).sum()
    constants = potential.regressor.constants.detach().numpy()[kinds].sum()
    assert energy + constants == pytest.approx(expected.energy, rel=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernel_of_a_potential_has_the_features_of_its_descriptor(family: str) -> None:
    potential, atoms = FAMILIES[family](("Li", "Cl")), system("liquid", ("Li", "Cl"), 2.4)
    kinds = np.array([potential.elements.index(symbol) for symbol in atoms.symbols])
    of_potential = Features(potential.kernel(), kinds, 2, atoms.pbc)
    of_descriptor = compiled_features(potential.descriptor, atoms.numbers, atoms.pbc)
    where = (atoms.positions, atoms.cell.array)
    assert np.array_equal(of_potential.values(*where), of_descriptor.values(*where))


def test_what_has_no_compiled_form_says_so() -> None:
    atoms = system("crystal", ("In", "P"), 2.4)
    descriptor: Descriptor = random_snap(("In", "P"), 2, chemflag=True).descriptor
    with pytest.raises(InputError, match="Bispectrum with these settings has no compiled form"):
        compiled_features(descriptor, atoms.numbers, atoms.pbc)
