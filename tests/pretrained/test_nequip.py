"""NequIP and Allegro in their own environment, with random networks in every kind of file that they come in."""

from __future__ import annotations

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
from in_process import asked, assert_same_on_our_pairs, made_by, made_there, trusted
from lithium_chloride import salt, structures
from runs import write_input

from mlmd.errors import InputError
from mlmd.pretrained.external import External
from mlmd.pretrained.nequip import load

OWN = """
import torch
from nequip.integrations.ase import NequIPCalculator
from nequip.utils.global_state import set_global_state
set_global_state()
path = {path!r}
make = NequIPCalculator.from_compiled_model if ".nequip.p" in path else NequIPCalculator._from_saved_model
calculator = make(path, chemical_species_to_atom_type_map=True)
"""
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


@pytest.fixture(scope="module")
def told(python: str, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What mlmd says in the framework's environment."""
    table = {"kind": "nequip", "path": str(weights), "trust": [trusted(weights)], "precision": "float64"}
    return asked(python, "nequip", table, structures(), tmp_path_factory.mktemp("told"))


def test_it_says_what_its_own_calculator_says(nequip: External, python: str, weights: Path, tmp_path: Path) -> None:
    expected = own_answers(python, OWN.format(path=str(weights)), structures(), tmp_path)
    for atoms, own in zip(structures(), expected, strict=True):
        found = evaluate(nequip, atoms)
        assert_same(found, own, atoms, energy=1e-9)
        assert found.forces == pytest.approx(own.forces, abs=1e-9)
    with pytest.raises(AssertionError):  # another structure has other forces: the comparison can fail
        assert_same(evaluate(nequip, salt(3)), expected[0], salt())


def test_forces_and_stress_are_derivatives_and_energies_add_up(nequip: External) -> None:
    assert_forces_are_derivatives(nequip, salt(), step=1e-4, close=1e-6)
    assert_stress_is_derivative(nequip, salt(), step=1e-4, close=1e-5)
    assert_extensive(nequip, salt())


def test_what_it_tells_of_itself(nequip: External, weights: Path) -> None:
    assert nequip.elements == ("Li", "Cl")
    assert nequip.cutoff == pytest.approx(4.0)
    assert nequip.facts["computes on"] == "cpu"
    assert nequip.facts["versions"].keys() >= {"nequip", "torch"}
    if weights.name.endswith(".zip"):  # the other file does not tell
        assert nequip.facts["precision"] == "float64" and nequip.facts["parameters"] > 100


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    table = f'{{ kind = "nequip", path = "{weights}", python = "{python}", trust = "{trusted(weights)}" }}'
    assert_runs(tmp_path, salt(), table)


def test_on_the_pairs_of_mlmd_it_says_the_same(told: dict[str, Any]) -> None:
    """One structure after the other, all at once, and in motion with a list of pairs that is kept."""
    assert told["class"] == "NequipGraph"
    assert_same_on_our_pairs(told, structures())


def test_what_it_leaves_behind(told: dict[str, Any]) -> None:
    """Torch opens files as safely as before, its numbers and seeds are the same, and nothing was said."""
    assert told["switch"] == [None, None] and told["refused"]
    assert told["numbers"] == ["torch.float32"] * 3
    assert told["seeds"] == [True, True, True]
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


def test_a_network_that_says_something_else_is_noticed_when_it_is_made(told: dict[str, Any]) -> None:
    assert told["agree"] == [True, False]


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
    (tmp_path / name).write_bytes(b"PK\x03\x04 something")
    for python in ("", ', python = "python3"'):
        table = f'{{ kind = "nequip", path = "{tmp_path / name}"{python} }}'
        answer = mlmd("simulate", write_input(tmp_path, '[[stage]]\nkind = "minimize"', potential=table))
        assert answer.code == 6, answer.err
        assert "is executed when it is opened" in answer.err and f'trust = "{trusted(tmp_path / name)}"' in answer.err


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
    for atoms in structures():
        one, other = evaluate(compiled, atoms), evaluate(eager, atoms)
        assert one.energy == pytest.approx(other.energy, abs=1e-9)
        assert one.forces == pytest.approx(other.forces, abs=1e-9)
        assert one.virial == pytest.approx(other.virial, abs=1e-9, nan_ok=True)
    table = {"kind": "nequip", "path": str(path), "trust": [trusted(path)], "precision": "float64"}
    told = asked(python, "nequip", table, structures(), tmp_path)
    assert told["class"] == "NequipGraph"
    assert_same_on_our_pairs(told, structures())
