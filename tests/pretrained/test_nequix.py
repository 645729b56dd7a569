"""Nequix in its own environment: what its own calculator says, and what every potential obeys."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk
from elsewhere import (
    assert_extensive,
    assert_forces_are_derivatives,
    assert_runs,
    assert_same,
    assert_stress_is_derivative,
    evaluate,
    own_answers,
    python_of,
)

from mlmd.errors import InputError
from mlmd.pretrained.external import External
from mlmd.pretrained.nequix import load

OWN = """
from nequix.calculator import NequixCalculator
calculator = NequixCalculator(model_path={path!r}, backend="jax", use_kernel=False)
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("nequix")


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    return shared / "models_nequix" / "nequix-mp-1.nqx"


@pytest.fixture(scope="module")
def nequix(python: str, weights: Path) -> External:
    return load(path=weights, python=python)


def salt() -> Atoms:
    """Two ions off their places."""
    atoms = bulk("LiCl", "rocksalt", 5.1)
    atoms.positions += [[0.1, 0.05, -0.1], [0.0, -0.1, 0.08]]
    return atoms


def test_it_says_what_its_own_calculator_says(nequix: External, python: str, weights: Path, tmp_path: Path) -> None:
    """A crystal, and a molecule in the open."""
    structures = [salt(), Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.6], [0, -0.75, 0.58]])]
    expected = own_answers(python, OWN.format(path=str(weights)), structures, tmp_path)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(nequix, atoms), own, atoms)
    water = evaluate(nequix, structures[1])
    assert water.virial == pytest.approx(-structures[1].positions.T @ water.forces, abs=1e-6)


def test_forces_and_stress_are_derivatives_and_energies_add_up(nequix: External) -> None:
    assert_forces_are_derivatives(nequix, salt(), step=0.02, close=2e-3)
    assert_stress_is_derivative(nequix, salt(), step=0.01, close=1e-2)
    assert_extensive(nequix, salt())


def test_what_it_tells_of_itself(nequix: External) -> None:
    assert nequix.cutoff == pytest.approx(6.0)
    assert len(nequix.elements) == 89 and "Cl" in nequix.elements
    assert nequix.facts["precision"] == "float32" and nequix.facts["parameters"] == 707_658
    assert nequix.facts["versions"].keys() >= {"nequix", "jax"}


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    assert_runs(tmp_path, salt() * (2, 2, 2), f'{{ kind = "nequix", path = "{weights}", python = "{python}" }}')


def test_weights_that_are_not_there_are_an_error(python: str) -> None:
    with pytest.raises(InputError, match=r"nequix in .*python: .*invalid model name: nequix-9"):
        load(name="nequix-9", python=python)


@pytest.mark.parametrize("given", [{}, {"path": Path("a.nqx"), "name": "nequix-mp-1"}])
def test_a_file_or_a_name(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="either path"):
        load(**given)  # type: ignore[arg-type]
