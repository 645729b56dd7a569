"""metatomic in its own environment, besides the contract, with a model of random numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import mlmd
from elsewhere import (
    evaluate,
    python_of,
)
from in_process import harmful, made_by, made_there, trusted
from runs import write_input
from salts import lithium_chloride, open_above

from mlmd.errors import InputError, ModelError
from mlmd.pretrained.external import External
from mlmd.pretrained.metatomic import load


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("metatomic")


@pytest.fixture(scope="module")
def weights(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by("random_metatomic.py", python, tmp_path_factory.mktemp("metatomic") / "random.pt")


@pytest.fixture(scope="module")
def metatomic(python: str, weights: Path) -> External:
    return load(path=weights, python=python, trust=[trusted(weights)])


def test_the_answer_does_not_depend_on_what_was_asked_before(metatomic: External) -> None:
    """To the last bit, as a run that is continued needs it."""
    first = evaluate(metatomic, lithium_chloride())
    moved = lithium_chloride()
    moved.rattle(0.1, seed=4)
    for other in (moved, open_above(lithium_chloride(2))):
        evaluate(metatomic, other)
    again = evaluate(metatomic, lithium_chloride())
    assert again.energy == first.energy and (again.forces == first.forces).all()


def test_what_it_tells_of_itself(metatomic: External) -> None:
    assert metatomic.elements == ("Li", "Cl")
    assert metatomic.cutoff == pytest.approx(4.0)
    assert metatomic.facts["precision"] == "float64" and metatomic.facts["parameters"] == 648
    assert metatomic.facts["model"] == "random densities"
    assert metatomic.facts["properties"] == ["energy", "forces", "stress"]
    assert metatomic.facts["versions"].keys() >= {"metatomic-ase", "torch"}


def test_what_it_cannot_do(python: str, weights: Path, tmp_path: Path) -> None:
    """A model of something else, a variant that there is not, and one that computes on the CPU alone."""
    other = made_by("random_metatomic.py", python, tmp_path / "other.pt", "test::other")
    no_energy, variant, gpu = made_there(
        "metatomic",
        python,
        {"path": str(other)},
        {"path": str(weights), "variant": "pbe"},
        {"path": str(weights), "device": "cuda:0"},
    )
    assert no_energy == "this model gives test::other, but no energies"
    assert "pbe" in variant
    assert gpu[1]["computes on"] == "cpu"


def test_a_file_that_is_not_trusted_is_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "opened"
    file = harmful(tmp_path / "some.pt", canary)
    for python in ("", ', python = "python3"'):
        table = f'{{ kind = "metatomic", path = "some.pt"{python} }}'
        answer = mlmd("simulate", write_input(tmp_path, '[[stage]]\nkind = "minimize"', potential=table))
        assert answer.code == 6, answer.err
        assert "TorchScript" in answer.err and f'trust = "{trusted(file)}"' in answer.err
        assert not canary.exists()


def test_libraries_are_loaded_when_they_are_named_and_trusted(python: str, weights: Path, tmp_path: Path) -> None:
    """Beside the file they are not looked at; named in an input, from where it lies, each has to be trusted."""
    file, folder = tmp_path / "model.pt", tmp_path / "extensions"
    file.write_bytes(weights.read_bytes())
    folder.mkdir()
    library = folder / "libharm.so"
    library.write_bytes(b"\x7fELF")
    own, both = [trusted(file)], [trusted(file), trusted(library)]
    assert "extensions" not in load(path=file, python=python, trust=own).recipe.arguments
    with pytest.raises(ModelError, match=r"libharm.so: a library that a model of metatomic loads is native code"):
        load(path=file, python=python, trust=own, extensions=str(folder))
    asked = load(path=file, python=python, trust=both, extensions=str(folder))
    assert asked.recipe.arguments["extensions"] == str(folder)
    assert str(library) in asked.files
    with pytest.raises(InputError, match="no such folder"):
        load(path=file, python=python, trust=both, extensions=str(tmp_path / "other"))
    table = f'{{ kind = "metatomic", path = "model.pt", trust = "{own[0]}", extensions = "./extensions" }}'
    answer = mlmd("simulate", write_input(tmp_path, '[[stage]]\nkind = "minimize"', potential=table))
    assert answer.code == 6 and f"{library}: a library" in answer.err, answer.err
