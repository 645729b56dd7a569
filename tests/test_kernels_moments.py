"""The compiled moment tensor potential against the torch one."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_systems import STEEP, SYSTEMS, assert_kernel_is_its_reference, needs_kernels, system
from made_potentials import random_mtp

from mlmd import models
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.mtp import load

pytestmark = needs_kernels


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(name: str, precision: str) -> None:
    elements, level = ("Li", "Y", "Cl"), 10
    potential, reference = random_mtp(elements, level, precision), random_mtp(elements, level)
    # random coefficients make far steeper functions than fitted ones, which magnify the rounding of distances
    tolerance = STEEP if precision == "float32" else None
    assert_kernel_is_its_reference(potential, reference, system(name, elements, 2.4), tolerance=tolerance)


@pytest.mark.parametrize("level", [2, 4, 6, 8, 12, 16, 20, 24])
def test_the_kernel_is_the_reference_at_every_level(level: int) -> None:
    potential = random_mtp(("Si",), level)
    assert_kernel_is_its_reference(potential, potential, system("crystal", ("Si",), 2.5))


@pytest.mark.parametrize("name", ["liquid", "skewed", "one atom"])
@pytest.mark.parametrize("level", [16, 20, 24])
def test_single_precision_loses_no_more_at_high_levels(level: int, name: str) -> None:
    # dependent powers follow from the others by differences, whose coefficients grow with the rank
    potential, reference = random_mtp(("Si",), level, "float32"), random_mtp(("Si",), level)
    assert_kernel_is_its_reference(potential, reference, system(name, ("Si",), 2.4), tolerance=STEEP)


@pytest.mark.slow
def test_the_kernel_is_the_reference_at_the_highest_level() -> None:
    potential = random_mtp(("Si",), 28)
    assert_kernel_is_its_reference(potential, potential, system("tiny", ("Si",), 2.5))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_rounding_only(n_threads: int) -> None:
    potential = random_mtp(("Li", "Cl"), 8)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("Li", "Cl"), 2.4), n_threads=n_threads)


@pytest.mark.parametrize("name", ["Li", "Si", "Cu", "Ni", "Li3YCl6"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_for_shipped_potentials(name: str, precision: str) -> None:
    path = models.path(name)
    potential, reference = modelfile.load(path, precision=precision), modelfile.load(path)
    assert isinstance(potential, LearnedPotential)
    assert_kernel_is_its_reference(potential, reference, system("liquid", potential.elements, 2.6))


def test_the_kernel_is_the_reference_for_published_files(shared: Path) -> None:
    path = shared / "models_mvl/Li3YCl6/mtp.2021.06/fitted.mtp.PBE.PBE"
    potential = load(path, elements=["Li", "Y", "Cl"])
    assert_kernel_is_its_reference(potential, potential, system("liquid", potential.elements, 2.6))
