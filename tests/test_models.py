"""Potentials that come with mlmd: called by name wherever a file could stand, wherever mlmd is installed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from command_line import mlmd

from mlmd import config, models
from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError
from mlmd.fitting.linear import Linear
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.load import load_potential
from mlmd.train.error_table import ErrorRow, ErrorTable

STRUCTURE = """2
Lattice="12 0 0 0 12 0 0 0 12" Properties=species:S:1:pos:R:3 pbc="T T T"
Ar 0 0 0
Ar 3.8 0 0
"""
INPUT = """structure = "argon.extxyz"
potential = "argon"
timestep = "2 fs"
seed = 1

[[stage]]
kind = "nvt"
temperature = "10 K"
duration = "20 fs"
"""
ERRORS = ErrorTable(
    (
        ErrorRow("energy", "all", "all", 10, 1.0, 1.25, 3.0, "meV/atom"),
        ErrorRow("forces", "all", "all", 300, 30.0, 45.5, 200.0, "meV/Å"),
        ErrorRow("stress", "all", "all", 0, math.nan, math.nan, math.nan, "MPa"),
    )
)
CARD = {"licence": "CC0-1.0", "errors": {"train": None, "test": ERRORS.to_json()}}


def save(path: Path, element: str = "Ar", scaling: float = 0.1) -> None:
    """A small moment tensor potential of one element."""
    moments = Moments(elements=(element,), cutoff=5.0, min_distance=2.0, level=4, scaling=scaling)
    potential = LearnedPotential(moments, Linear(n_features=moments.n_features, n_kinds=1))
    modelfile.save(potential, path, CARD)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of potentials that come with mlmd: Argon and Copper."""
    folder = tmp_path / "installed" / "models"
    folder.mkdir(parents=True)
    save(folder / "Argon.mlmd")
    save(folder / "Copper.mlmd", "Cu")
    monkeypatch.setattr(models, "FOLDER", folder)
    return folder


@pytest.fixture
def place(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user works: an input that names a potential that comes with mlmd."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "argon.extxyz").write_text(STRUCTURE)
    (folder / "in.toml").write_text(INPUT)
    return folder


def test_a_potential_is_found_by_its_name_whatever_the_case(shipped: Path) -> None:
    assert models.names() == ("Argon", "Copper")
    assert models.path("ARGON") == models.path("Argon") == shipped / "Argon.mlmd"
    with pytest.raises(InputError, match=r"'Coper' comes with mlmd\. Did you mean 'Copper'\? .*: Argon, Copper\.$"):
        models.path("Coper")


@pytest.mark.parametrize("written", ['"Argon"', '"argon"', '{ path = "argon" }', '["argon"]'])
def test_a_name_stands_for_the_file_in_an_input(place: Path, shipped: Path, written: str) -> None:
    (place / "in.toml").write_text(INPUT.replace('"argon"', written, 1))
    run = config.load_simulate(place / "in.toml")
    assert run.potential[0].path == shipped / "Argon.mlmd"
    assert load_potential(run.potential).elements == ("Ar",)


def test_a_file_of_the_user_counts_more_than_a_potential_that_comes_with_mlmd(place: Path) -> None:
    save(place / "argon", "Kr")
    run = config.load_simulate(place / "in.toml")
    assert run.potential[0].path == place / "argon"
    (place / "argon").unlink()
    (place / "argon").mkdir()  # a folder, say of structures, is no potential
    assert config.load_simulate(place / "in.toml").potential[0].path == models.path("Argon")


@pytest.mark.parametrize("written", ["./argon", "sub/argon", "argon.mtp"])
def test_a_path_or_a_suffix_is_no_name(place: Path, written: str) -> None:
    (place / "in.toml").write_text(INPUT.replace('"argon"', f'"{written}"', 1))
    assert config.load_simulate(place / "in.toml").potential[0].path == place / written


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("argn", "Did you mean 'Argon'? Potentials that come with mlmd: Argon, Copper."),
        ("plutonium", "Potentials that come with mlmd: Argon, Copper."),
        ("argon.mlmd", "Did you mean 'Argon'?"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "simulate"])
def test_an_unknown_name_is_answered_with_the_known_ones(place: Path, verb: str, written: str, said: str) -> None:
    (place / "in.toml").write_text(INPUT.replace('"argon"', f'"{written}"', 1))
    answer = mlmd(verb, "in.toml")
    assert answer.code == 2
    assert answer.err.startswith("InputError: in.toml: potential: ")
    assert f"{written}: no such file." in answer.err
    assert said in answer.err


def test_where_mlmd_is_installed_does_not_matter_and_what_the_file_holds_does(
    place: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mlmd("simulate", "in.toml", "--quiet").code == 0
    before = config.physics_hash(config.load_simulate(place / "in.toml"))
    elsewhere = shipped.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(models, "FOLDER", elsewhere)
    assert config.physics_hash(config.load_simulate(place / "in.toml")) == before
    assert mlmd("simulate", "in.toml", "--quiet").code == 0
    save(elsewhere / "Argon.mlmd", scaling=0.2)
    answer = mlmd("simulate", "in.toml", "--quiet")
    assert answer.code == 4
    assert "potential: the content of" in answer.err


def test_show_describes_a_potential_by_its_name(place: Path) -> None:
    facts = json.loads(mlmd("show", "copper", "--json").out)
    assert (facts["what"], facts["elements"]) == ("potential", ["Cu"])
    assert facts["card"]["licence"] == "CC0-1.0"
    answer = mlmd("show", "coper")
    assert answer.code == 2
    assert "Did you mean 'Copper'?" in answer.err


def test_the_potentials_are_listed_with_what_a_user_chooses_by(shipped: Path) -> None:
    title, argon, _, note = mlmd("models").out.splitlines()
    headings = ["name", "elements", "level", "cutoff [Å]", "energy [meV/atom]", "forces [meV/Å]", "stress [MPa]"]
    assert re.split(r"\s{2,}", title.strip()) == [*headings, "licence"]
    assert re.split(r"\s{2,}", argon.strip()) == ["Argon", "Ar", "4", "5", "1.25", "45.5", "–", "CC0-1.0"]
    assert "not trained on" in note
    listed = json.loads(mlmd("models", "--json").out)["models"]
    assert [one["name"] for one in listed] == ["Argon", "Copper"]
    assert (listed[0]["level"], listed[0]["stress [MPa]"]) == (4, None)


def test_an_installation_without_potentials_says_so_and_hints_at_none(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "FOLDER", place)
    assert "No potentials" in mlmd("models").out
    assert mlmd("check", "in.toml").err.endswith("argon: no such file.\n")


def test_an_argument_is_a_file_a_name_or_a_kind(place: Path) -> None:
    assert config.file_or_kind("argon") == {"path": "argon"}
    assert config.file_or_kind("missing.mlmd") == {"path": "missing.mlmd"}
    assert config.file_or_kind("lennard-jones") == {"kind": "lennard-jones"}


def test_every_potential_that_comes_with_mlmd_loads_and_says_what_a_user_must_know() -> None:
    for name in models.names():
        potential = load_potential((config.PotentialTable.model_validate({"path": name}),))
        card = modelfile.read_card(models.path(name))
        assert potential.elements
        for key in ("errors", "licence", "source", "citation"):
            assert card.get(key), f"{name}: the card has no {key}"
