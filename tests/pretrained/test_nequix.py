"""Nequix in its own environment: what its own calculator says, and what every potential obeys."""

from __future__ import annotations

from pathlib import Path

import pytest
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
from salts import ion_pair, water

from mlmd.config.files import sha256
from mlmd.errors import InputError, ModelError
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


def test_it_says_what_its_own_calculator_says(nequix: External, python: str, weights: Path, tmp_path: Path) -> None:
    """A crystal, and a molecule in the open."""
    structures = [ion_pair(), water()]
    expected = own_answers(python, OWN.format(path=str(weights)), structures, tmp_path)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(nequix, atoms), own, atoms)
    found = evaluate(nequix, water())
    assert found.virial == pytest.approx(-water().positions.T @ found.forces, abs=1e-6)


def test_forces_and_stress_are_derivatives_and_energies_add_up(nequix: External) -> None:
    assert_forces_are_derivatives(nequix, ion_pair(), step=0.02, close=2e-3)
    assert_stress_is_derivative(nequix, ion_pair(), step=0.01, close=1e-2)
    assert_extensive(nequix, ion_pair())


def test_what_it_tells_of_itself(nequix: External) -> None:
    assert nequix.cutoff == pytest.approx(6.0)
    assert len(nequix.elements) == 89 and "Cl" in nequix.elements
    assert nequix.facts["precision"] == "float32" and nequix.facts["parameters"] == 707_658
    assert nequix.facts["versions"].keys() >= {"nequix", "jax"}


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    assert_runs(tmp_path, ion_pair() * (2, 2, 2), f'{{ kind = "nequix", path = "{weights}", python = "{python}" }}')


def test_the_file_that_a_name_stands_for_is_known(
    nequix: External, python: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That which the framework keeps; a file that is given is known anyway."""
    kept = tmp_path / ".cache" / "nequix" / "models" / weights.name
    kept.parent.mkdir(parents=True)
    kept.symlink_to(weights)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(name=weights.stem, python=python).weights == {weights.name: sha256(weights)}
    assert nequix.weights == {} and nequix.files == {str(weights): sha256(weights)}


def test_weights_that_are_not_there_are_an_error(python: str) -> None:
    with pytest.raises(InputError, match=r"nequix in .*python: .*invalid model name: nequix-9"):
        load(name="nequix-9", python=python)


@pytest.mark.parametrize("given", [{}, {"path": Path("a.nqx"), "name": "nequix-mp-1"}])
def test_a_file_or_a_name(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="either path"):
        load(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [100_000, 300_000])
def test_half_of_a_file_is_refused_before_the_framework_is_asked(weights: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "half.nqx").write_bytes(weights.read_bytes()[:size])
    with pytest.raises(
        ModelError, match=r"half\.nqx: the file ends, .* array \d+\. Was a download or a copy cut off\?"
    ):
        load(path=tmp_path / "half.nqx")  # there is no Nequix here, which its being cut off comes before


def test_a_file_of_something_else_is_doubted(python: str, weights: Path, tmp_path: Path) -> None:
    """Its first line alone, as after an interrupted copy at the worst place."""
    (tmp_path / "line.nqx").write_bytes(weights.read_bytes().partition(b"\n")[0] + b"\n")
    with pytest.raises(ModelError, match=r"line\.nqx.*Is the file whole, and one of this framework\?"):
        load(path=tmp_path / "line.nqx", python=python)
