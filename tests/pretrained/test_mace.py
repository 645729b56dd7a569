"""MACE in its own environment, besides the contract, with networks of random numbers."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from elsewhere import (
    python_of,
)
from in_process import harmful, made_by, made_there, trusted

from mlmd.errors import ModelError
from mlmd.pretrained.external import External
from mlmd.pretrained.mace import load


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


def test_what_it_tells_of_itself(mace: External) -> None:
    assert mace.elements == ("Li", "Cl")
    assert mace.cutoff == pytest.approx(4.0)
    assert mace.facts["precision"] == "float64" and mace.facts["head"] == "Default"
    assert mace.facts["parameters"] > 1000 and mace.facts["versions"].keys() >= {"mace-torch", "torch"}


def test_a_file_that_is_trusted_is_opened(python: str, tmp_path: Path) -> None:
    """Which is what trust is for: the trap of the test above works."""
    file = harmful(tmp_path / "evil.model", tmp_path / "canary")
    with pytest.raises(ModelError, match="mace in"):
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
    assert made.described()["licence"].endswith("no commercial use; of the package mace-torch: MIT License")
    assert made.cutoff == pytest.approx(4.0)
    changed, unknown = made_there(
        "mace",
        python,
        {"name": "off-small", "trust": ["sha256:" + 64 * "0"]},
        {"name": str(weights)},  # a file that is named so would be opened without trust
    )
    assert "is not the file that is trusted: its digest is sha256:" in changed
    assert "is not a published model. Known: small, medium, " in unknown and "off-small" in unknown


def test_without_trust_the_message_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "some.model"
    file.write_bytes(pickle.dumps(1))
    with pytest.raises(ModelError, match=f'write trust = "{trusted(file)}"'):
        load(path=file)
