"""MACE in its own environment, with networks of random numbers: its own calculator, and mlmd's pairs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import mlmd
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
from in_process import asked, assert_same_on_our_pairs, harmful, made_by, made_there, trusted
from lithium_chloride import molecule, salt, structures
from runs import write_input

from mlmd.errors import InputError, ModelError
from mlmd.pretrained.external import External
from mlmd.pretrained.mace import load

OWN = """
from mace.calculators import MACECalculator
calculator = MACECalculator(model_paths=[{path!r}], default_dtype={precision!r})
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("mace")


@pytest.fixture(scope="module")
def weights(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("random_mace.py", python, tmp_path_factory.mktemp("mace") / "random.model")


@pytest.fixture(scope="module")
def mace(python: str, weights: Path) -> External:
    made = load(path=weights, python=python, trust=[trusted(weights)])
    assert isinstance(made, External)
    return made


def test_it_says_what_its_own_calculator_says(mace: External, python: str, weights: Path, tmp_path: Path) -> None:
    expected = own_answers(python, OWN.format(path=str(weights), precision="float64"), structures(), tmp_path)
    for atoms, own in zip(structures(), expected, strict=True):
        found = evaluate(mace, atoms)
        assert_same(found, own, atoms, energy=1e-9)
        assert found.forces == pytest.approx(own.forces, abs=1e-9)
    with pytest.raises(AssertionError):  # another structure has other forces: the comparison can fail
        assert_same(evaluate(mace, salt(3)), expected[0], salt())


def test_forces_and_stress_are_derivatives_and_energies_add_up(mace: External) -> None:
    assert_forces_are_derivatives(mace, salt(), step=1e-4, close=1e-6)
    assert_stress_is_derivative(mace, salt(), step=1e-4, close=1e-5)
    assert_extensive(mace, salt())


def test_what_it_tells_of_itself(mace: External) -> None:
    assert mace.elements == ("Li", "Cl")
    assert mace.cutoff == pytest.approx(4.0)
    assert mace.facts["precision"] == "float64" and mace.facts["head"] == "Default"
    assert mace.facts["parameters"] > 1000 and mace.facts["versions"].keys() >= {"mace-torch", "torch"}


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    table = f'{{ kind = "mace", path = "{weights}", python = "{python}", trust = "{trusted(weights)}" }}'
    assert_runs(tmp_path, salt(), table)


def test_a_file_that_is_not_trusted_is_not_opened(tmp_path: Path) -> None:
    """Neither by its own name nor by that of its kind, here or elsewhere; another's digest does not help."""
    canary = tmp_path / "canary"
    file = harmful(tmp_path / "evil.model", canary)
    other = "sha256:" + 64 * "0"
    for table in (
        f'"{file}"',
        f'{{ kind = "mace", path = "{file}" }}',
        f'{{ kind = "mace", path = "{file}", trust = "{other}" }}',
        f'{{ kind = "mace", path = "{file}", python = "python3" }}',
    ):
        stage = '[[stage]]\nkind = "minimize"'
        answer = mlmd("simulate", write_input(tmp_path, stage, potential=table))
        assert answer.code == 6, answer.err
        assert "pickle" in answer.err or "Was it changed, or exchanged?" in answer.err
        assert not canary.exists()


def test_a_file_that_is_trusted_is_opened(python: str, tmp_path: Path) -> None:
    """Which is what trust is for: the trap of the test above works."""
    file = harmful(tmp_path / "evil.model", tmp_path / "canary")
    with pytest.raises(InputError, match="mace in"):
        load(path=file, python=python, trust=[trusted(file)])
    assert (tmp_path / "canary").is_dir()


def test_heads_are_asked_for_by_name(python: str, tmp_path: Path) -> None:
    path = str(made_by("random_mace.py", python, tmp_path / "two.model", "pbe", "r2scan"))
    heads = ({"head": "pbe"}, {"head": "r2scan"}, {"head": "scan"}, {})
    first, second, wrong, none = made_there("mace", python, *({"path": path, **one} for one in heads))
    assert (first[1]["head"], second[1]["head"]) == ("pbe", "r2scan")
    assert second[0] - first[0] == pytest.approx(1.0, abs=0.2)  # as they are made
    assert wrong == "head: 'scan' is none of the model, which has pbe, r2scan"
    assert "Available heads are: ['pbe', 'r2scan']" in none


def test_a_published_model_is_taken_from_where_the_framework_keeps_it(
    python: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only known names are; a digest that is given must be that of the download."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "mace" / "MACEOFF23_smallmodel"
    kept.parent.mkdir()
    kept.write_bytes(weights.read_bytes())
    made = load(name="off-small", python=python, trust=[trusted(weights)], precision="float32")
    assert isinstance(made, External)
    assert made.facts["precision"] == "float32" and "no commercial use" in made.facts["licence"]
    assert made.cutoff == pytest.approx(4.0)
    changed, unknown = made_there(
        "mace",
        python,
        {"name": "off-small", "trust": ["sha256:" + 64 * "0"]},
        {"name": str(weights)},  # a file that is named so would be opened without trust
    )
    assert "is not the file that is trusted: its digest is sha256:" in changed
    assert "is not a published model. Known: small, medium, " in unknown and "off-small" in unknown


@pytest.mark.parametrize("given", [{}, {"path": Path("a.model"), "name": "small"}])
def test_a_file_or_a_name(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="either path"):
        load(**given)  # type: ignore[arg-type]


def test_without_trust_the_message_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "some.model"
    file.write_bytes(pickle.dumps(1))
    with pytest.raises(ModelError, match=f'write trust = "{trusted(file)}"'):
        load(path=file)


@pytest.fixture(scope="module")
def told(python: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What mlmd says in the framework's environment."""
    table = {"kind": "mace", "path": str(weights), "trust": [trusted(weights)], "precision": "float64"}
    return asked(python, "mace", table, structures(), tmp_path_factory.mktemp("told"))


def test_on_the_pairs_of_mlmd_it_says_the_same(told: dict[str, Any], mace: External) -> None:
    """One structure after the other, all at once, and in motion with a list of pairs that is kept."""
    assert told["class"] == "MaceGraph"
    assert_same_on_our_pairs(told, structures())
    for own, atoms in zip(told["own"], structures(), strict=True):
        assert own[0] == pytest.approx(evaluate(mace, atoms).energy, abs=1e-9)


def test_a_network_that_says_something_else_is_noticed_when_it_is_made(told: dict[str, Any]) -> None:
    assert told["agree"] == [True, False]


def test_the_virial_of_what_is_open(told: dict[str, Any]) -> None:
    _, forces, virial = told["native"][2]
    assert np.array(virial) == pytest.approx(-molecule().positions.T @ np.array(forces), abs=1e-9)
    assert np.abs(virial).max() > 0.1


def test_torch_opens_files_as_safely_as_before(told: dict[str, Any]) -> None:
    """The framework is imported and has opened its file; a pickle of somebody else is refused all the same."""
    assert told["switch"] == [None, None]
    assert told["refused"]


def test_the_framework_is_quiet(told: dict[str, Any]) -> None:
    assert told["said"] == ""


def test_it_runs_on_the_pairs_of_mlmd_and_continues_exactly(told: dict[str, Any]) -> None:
    assert np.ptp(told["run"]["total"]) < 5e-3 * np.ptp(told["run"]["potential"])
    assert told["run"]["stopped"] and told["run"]["same"] == [True, True]


def test_a_training_above_it_stores_no_weights(told: dict[str, Any], weights: Path) -> None:
    assert told["trained"]["parts"][1] == "External"
    assert told["trained"]["files"] == [str(weights)]
    assert told["trained"]["bytes"] < weights.stat().st_size / 2


def test_it_is_stored_by_how_it_is_made(told: dict[str, Any]) -> None:
    assert told["stored"] == [[], True]
    name, again = told["again"]
    assert name == "External"
    assert again[0] == pytest.approx(told["own"][-1][0], abs=1e-9)
