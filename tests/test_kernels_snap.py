"""The compiled SNAP against the torch one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kernel_systems import SYSTEMS, TOLERANCES, Tolerance, assert_kernel_is_its_reference, needs_kernels, system
from lammps_oracle import potentials
from random_snap import random_snap

from mlmd.potentials.fused import kernel_of
from mlmd.potentials.snap import load

pytestmark = needs_kernels

PRECISIONS = ("float64", "float32")
FITTED = {**TOLERANCES, "float32": Tolerance(2e-6, 1e-5, 1e-5)}
"""Fitted coefficients cancel each other: that vectors of neighbours are rounded to float32 changes forces by 4e-6."""


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(name: str, precision: str) -> None:
    elements = ("Si", "O", "Be")
    potential, reference = random_snap(elements, 6, precision), random_snap(elements, 6)
    assert_kernel_is_its_reference(potential, reference, system(name, elements, 2.3))


@pytest.mark.parametrize("twojmax", [0, 1, 2, 3, 4, 5, 7, 8, 9, 10])
@pytest.mark.parametrize("quadratic", [False, True], ids=["linear", "quadratic"])
def test_the_kernel_is_the_reference_at_every_order(twojmax: int, quadratic: bool) -> None:
    potential = random_snap(("W", "Be"), twojmax, quadratic=quadratic)
    assert_kernel_is_its_reference(potential, potential, system("skewed", ("W", "Be"), 2.5))


@pytest.mark.slow
@pytest.mark.parametrize("twojmax", [12, 16])
def test_the_kernel_is_the_reference_at_high_orders(twojmax: int) -> None:
    potential = random_snap(("W",), twojmax)
    assert_kernel_is_its_reference(potential, potential, system("tiny", ("W",), 2.5))


@pytest.mark.parametrize(
    "settings",
    [
        {"switchflag": False},
        {"bzeroflag": False, "rfac0": 0.7},
        {"bnormflag": True},
        {"rmin0": 1.1},
        {"rmin0": 2.5},  # some neighbours are nearer
        {"sinner": (2.0, 2.3), "dinner": (0.4, 0.6)},
        {"sinner": (2.0, 2.3), "dinner": (0.4, 0.6), "switchflag": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("quadratic", [False, True], ids=["linear", "quadratic"])
def test_the_kernel_knows_all_settings(settings: dict[str, Any], quadratic: bool) -> None:
    potential = random_snap(("W", "Be"), 4, quadratic=quadratic, **settings)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("W", "Be"), 2.5))


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_rounding_only(n_threads: int) -> None:
    potential = random_snap(("W", "Be"), 4)
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("W", "Be"), 2.5), n_threads=n_threads)


def test_several_densities_are_left_to_torch() -> None:
    assert kernel_of(random_snap(("In", "P"), 2, chemflag=True)) is None


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("name", "spacing"),
    [
        ("Ta06A", 2.6),
        ("W_2940_2017_2", 2.5),
        ("WBe_Wood_PRB2019", 2.4),
        ("Si_Zuo_JPCA2020", 2.6),
        ("Si_Zuo_JPCA2020.quadratic", 2.6),
        ("Cu_Zuo_JPCA2020.quadratic", 2.3),
        ("C_SNAP_2021.10.15.quadratic", 1.7),
    ],
)
def test_the_kernel_is_the_reference_for_published_files(name: str, spacing: float, precision: str) -> None:
    path = potentials() / f"{name}.snapcoeff"
    potential, reference = load(path, precision=precision), load(path)
    atoms = system("crystal", potential.elements, spacing)
    assert_kernel_is_its_reference(potential, reference, atoms, tolerance=FITTED[precision])


def test_the_kernel_is_the_reference_for_alloys(shared: Path) -> None:
    path = next((shared / "models_mvl" / "MoNbTaW").rglob("*.snapcoeff"))
    potential = load(path)
    assert_kernel_is_its_reference(potential, potential, system("liquid", potential.elements, 2.6))
