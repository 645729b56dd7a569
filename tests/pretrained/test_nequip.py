"""NequIP and Allegro in their own environment, besides the contract, with random networks in every kind of file."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import ON_PAIRS
from command_line import mlmd
from elsewhere import (
    evaluate,
    python_of,
)
from in_process import asked, harmful, made_by, made_there, trusted
from runs import write_input
from salts import lithium_chlorides

from mlmd.errors import InputError
from mlmd.pretrained.external import External
from mlmd.pretrained.nequip import load

FILES = {"nequip": "salt.nequip.zip", "allegro": "salt.nequip.pth"}


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("nequip")


@pytest.fixture(scope="module", params=FILES)
def weights(request: pytest.FixtureRequest, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of NequIP, and Allegro compiled, with a cutoff for each pair of elements; a checkpoint beside each."""
    kind: str = request.param
    return made_by("random_nequip.py", python, tmp_path_factory.mktemp(kind) / FILES[kind], kind)


@pytest.fixture(scope="module")
def nequip(python: str, weights: Path) -> External:
    made = load(path=weights, python=python, trust=[trusted(weights)])
    assert isinstance(made, External)
    return made


def test_what_it_tells_of_itself(nequip: External, weights: Path) -> None:
    assert nequip.elements == ("Li", "Cl")
    assert nequip.cutoff == pytest.approx(4.0)
    assert nequip.facts["computes on"] == "cpu"
    assert nequip.facts["versions"].keys() >= {"nequip", "torch"}
    if weights.name.endswith(".zip"):  # the other file does not tell
        assert nequip.facts["precision"] == "float64" and nequip.facts["parameters"] > 100


def test_species_are_symbols_or_named(python: str, weights: Path) -> None:
    """Here they are symbols; what is named must be one of the model's types."""
    swapped, wrong = made_there(
        "nequip",
        python,
        {"path": str(weights), "species": {"Li": "Cl", "Na": "Li"}},
        {"path": str(weights), "species": {"Li": "lithium"}},
    )
    assert swapped[0] == pytest.approx(-3.25)  # of chlorine, which lithium was told to be
    assert swapped[1]["elements"] == ["Li", "Na"]
    assert "maps to atom type 'lithium'" in wrong


@pytest.mark.parametrize("name", ["a.nequip.pt2", "a.nequip.pth", "a.nequip.zip", "a.ckpt"])
def test_a_file_that_is_not_trusted_is_not_opened(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "opened"
    file = harmful(tmp_path / name, canary)
    for python in ("", ', python = "python3"'):
        table = f'{{ kind = "nequip", path = "{file}"{python} }}'
        answer = mlmd("simulate", write_input(tmp_path, '[[stage]]\nkind = "minimize"', potential=table))
        assert answer.code == 6, answer.err
        assert "is executed when it is opened" in answer.err and f'trust = "{trusted(file)}"' in answer.err
        assert not canary.exists()


def test_what_is_trusted_is_not_a_name() -> None:
    with pytest.raises(InputError, match="it is for a file"):
        load(name="group/model:1", trust=["sha256:" + 64 * "0"])


@pytest.mark.slow
def test_a_file_compiled_ahead(python: str, tmp_path: Path) -> None:
    """By a compiler of C++, which takes a minute. Its checkpoint says the same."""
    path = made_by("random_nequip.py", python, tmp_path / "salt.nequip.pt2", "nequip")
    before = tmp_path / "salt.ckpt"
    compiled = load(path=path, python=python, trust=[trusted(path)])
    eager = load(path=before, python=python, trust=[trusted(before)])
    assert isinstance(compiled, External) and isinstance(eager, External)
    assert compiled.facts["precision"] == "float64"
    for atoms in lithium_chlorides():
        one, other = evaluate(compiled, atoms), evaluate(eager, atoms)
        assert one.energy == pytest.approx(other.energy, abs=1e-9)
        assert one.forces == pytest.approx(other.forces, abs=1e-9)
        assert one.virial == pytest.approx(other.virial, abs=1e-9, nan_ok=True)
    table = {"kind": "nequip", "path": str(path), "trust": [trusted(path)], "precision": "float64"}
    case = next(one for one in ON_PAIRS if one.kind == "nequip")
    told = asked(python, "nequip", table, case.structures, tmp_path)
    assert told["class"] == "NequipGraph"
    case.assert_same_on_pairs(told)
