"""Compiled networks of symmetry functions against the torch ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_systems import SYSTEMS, assert_kernel_is_its_reference, needs_kernels, system
from random_symmetry import random_symmetry

from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.descriptors.symmetry_sets import evenly_spaced
from mlmd.errors import MlmdError
from mlmd.fitting.network import ACTIVATIONS
from mlmd.kernels import Fused, Kernel
from mlmd.potentials.fused import kernel_of

pytestmark = needs_kernels


def radial_only(elements: tuple[str, ...]) -> list[SymmetryFunction]:
    return evenly_spaced(elements, "4.5 Å", n_radial=5, n_angular=0)


def angular_only(elements: tuple[str, ...]) -> list[SymmetryFunction]:
    """And no element has triplets of all pairs of elements."""
    return [SymmetryFunction("G4", one, (one, elements[0]), 4.0, eta=0.1, zeta=2.0) for one in elements]


def wide_beyond_narrow(elements: tuple[str, ...]) -> list[SymmetryFunction]:
    """G5 with the same parameters as G4, others with a longer cutoff, and the same function twice."""
    pair = (elements[0], elements[-1])
    shapes = [("G4", 3.5, 1.0), ("G5", 3.5, 1.0), ("G5", 5.0, 1.0), ("G4", 3.5, -1.0), ("G4", 3.5, 1.0)]
    return [
        SymmetryFunction(kind, one, pair, cutoff, eta=0.05, zeta=8.0, sign=sign)
        for one in elements
        for kind, cutoff, sign in shapes
    ]


def full_products(elements: tuple[str, ...]) -> list[SymmetryFunction]:
    return evenly_spaced(elements, "5 Å", n_radial=9, n_angular=4, zetas=(1.0, 2.0, 4.0, 16.0, 100.0), kind="G5")


SETS = {
    "radial only": radial_only,
    "angular only": angular_only,
    "narrow and wide": wide_beyond_narrow,
    "full products": full_products,
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(name: str, precision: str) -> None:
    elements = ("Li", "Y", "Cl")
    potential, reference = random_symmetry(elements, precision), random_symmetry(elements)
    assert_kernel_is_its_reference(potential, reference, system(name, elements, 2.4))


@pytest.mark.parametrize("taper", TAPERS)
@pytest.mark.parametrize("onset", [0.0, 0.6])
def test_the_kernel_knows_all_cutoff_functions(taper: str, onset: float) -> None:
    settings: dict[str, Any] = {"taper": taper, "onset": 0.0 if taper.startswith("tanh") else onset}
    potential = random_symmetry(("Si", "O"), **settings)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Si", "O"), 2.2))


@pytest.mark.parametrize("name", SETS)
def test_the_kernel_is_the_reference_for_all_sets_of_functions(name: str) -> None:
    elements = ("Si", "O")
    potential = random_symmetry(elements, given=SETS[name](elements))
    assert_kernel_is_its_reference(potential, potential, system("liquid", elements, 2.2))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_knows_all_activations(activation: str, precision: str) -> None:
    given: dict[str, Any] = {"given": radial_only(("Si",)), "n_neurons": (7, 5), "activation": activation}
    potential, reference = random_symmetry(("Si",), precision, **given), random_symmetry(("Si",), **given)
    assert_kernel_is_its_reference(potential, reference, system("liquid", ("Si",), 2.3))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_neurons": 10},
        {"n_neurons": (1,)},
        {"n_neurons": (30, 1, 20), "activation": ("softplus", "tanh", "silu")},
        {"n_neurons": (5, 4), "common": True},
    ],
    ids=str,
)
def test_the_kernel_is_the_reference_for_all_networks(settings: dict[str, Any]) -> None:
    potential = random_symmetry(("Si", "O"), given=radial_only(("Si", "O")), **settings)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Si", "O"), 2.2))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_rounding_only(n_threads: int) -> None:
    potential = random_symmetry(("Li", "Cl"))
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Li", "Cl"), 2.4), n_threads=n_threads)


def test_impossible_parameters_are_refused() -> None:
    kernel = kernel_of(random_symmetry(("Si", "O")))
    assert kernel is not None

    def refused(integers: np.ndarray, numbers: np.ndarray) -> bool:
        try:
            Fused(Kernel(kernel.family, kernel.cutoff, integers, numbers), np.zeros(1), 2, np.zeros(3), 0.5)
        except MlmdError:
            return True
        return False

    assert not refused(kernel.integers, kernel.numbers)
    assert refused(kernel.integers[:-1], kernel.numbers)
    assert refused(kernel.integers, kernel.numbers[:-1])
    assert refused(kernel.integers, np.append(kernel.numbers, 1.0))
    for place in (0, 1, 2, 4, 5, 6, 7):  # sizes, the cutoff function, and all integers of a term
        assert refused(np.where(np.arange(len(kernel.integers)) == place, 10**6, kernel.integers), kernel.numbers)
    for place, value in ((1, 1.0), (2, 50.0), (2, -1.0)):  # an onset of 1, and cutoffs of a term
        assert refused(kernel.integers, np.where(np.arange(len(kernel.numbers)) == place, value, kernel.numbers))
