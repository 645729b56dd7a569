"""What holds for every framework whose models are asked by their names or files: its own numbers, and nothing unasked.

In its environment by its own calculator; in a process of mlmd there; and there on the pairs of mlmd.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from cases import CASES, NAMED, ON_PAIRS, Case, evaluation
from command_line import mlmd
from elsewhere import (
    assert_extensive,
    assert_forces_are_derivatives,
    assert_runs,
    assert_stress_is_derivative,
    evaluate,
    own_answers,
    python_of,
)
from in_process import asked, given_table, harmful, trusted
from runs import read_log, write_input

from mlmd.config import PotentialTable
from mlmd.config.files import sha256
from mlmd.engine.run import simulate
from mlmd.errors import InputError, ModelError, StorageError
from mlmd.potentials import Evaluation
from mlmd.potentials.load import build, load_potential
from mlmd.pretrained.external import External, identities
from mlmd.rundir import FINAL
from mlmd.sample.method import PotentialMethod

Tables = Callable[[Case], dict[str, Any]]
every = pytest.mark.parametrize("case", CASES, ids=str, scope="module")


@pytest.fixture(scope="module")
def table_of(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """What an input says of a model in its environment; its file is made once."""
    folders: dict[str, Path] = {}

    def table(case: Case) -> dict[str, Any]:
        folder = folders.setdefault(str(case), tmp_path_factory.mktemp(case.kind))
        return case.table(python_of(case.kind), folder)

    return table


@pytest.fixture(scope="module")
def model(case: Case, table_of: Tables) -> External:
    """By its calculator, in a process of its environment."""
    return load(case, table_of)


def load(case: Case, table_of: Tables) -> External:
    table = table_of(case) | {"python": python_of(case.kind)}
    made = load_potential([PotentialTable.model_validate(table)])
    assert isinstance(made, External)
    return made


def own(case: Case, table: dict[str, Any], structures: list[Atoms], folder: Path) -> list[Evaluation]:
    """What the framework's own calculator says."""
    lines = case.own.format_map({"modal": None} | table)
    return own_answers(python_of(case.kind), lines, structures, folder)


@every
def test_it_says_what_its_own_calculator_says(case: Case, model: External, table_of: Tables, tmp_path: Path) -> None:
    expected = own(case, table_of(case), case.structures, tmp_path)
    for atoms, one in zip(case.structures, expected, strict=True):
        case.assert_same(evaluate(model, atoms), one, atoms)
    with pytest.raises(AssertionError):  # another structure has other forces: the comparison can fail
        case.assert_same(evaluate(model, case.another(3)), expected[0], case.crystal)


@every
def test_forces_and_stress_are_derivatives_and_energies_add_up(case: Case, model: External) -> None:
    if case.single:
        assert_forces_are_derivatives(model, case.another(2), step=0.01, close=1e-3)
        assert_stress_is_derivative(model, case.another(2), step=0.005, close=3e-3)
    else:
        assert_forces_are_derivatives(model, case.crystal, step=1e-4, close=1e-6)
        assert_stress_is_derivative(model, case.crystal, step=1e-4, close=1e-5)
    assert_extensive(model, case.crystal)


@every
def test_it_runs_and_ends_with_what_its_own_calculator_says(case: Case, table_of: Tables, tmp_path: Path) -> None:
    """At constant energy, then at constant pressure."""
    table = table_of(case)
    assert_runs(tmp_path, case.crystal, given_table(table | {"python": python_of(case.kind)}))
    last = ase.io.read(tmp_path / "run" / FINAL)
    assert isinstance(last, Atoms)
    end, begin = own(case, table, [last, case.crystal], tmp_path)
    assert read_log(tmp_path / "run")["potential energy"][-1] == pytest.approx(end.energy, abs=1e-5)
    assert abs(end.energy - begin.energy) > 1e-3


FILES = {
    "chgnet": "evil.pth.tar",
    "sevennet": "evil.pth",
    "mace": "evil.model",
    "nequip": "evil.nequip.zip",
    "metatomic": "evil.pt",
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_not_trusted_is_not_opened(kind: str, tmp_path: Path) -> None:
    """Neither by its own name nor by that of its kind, here or elsewhere; another's digest does not help."""
    canary = tmp_path / "canary"
    file = harmful(tmp_path / FILES[kind], canary)
    table: dict[str, Any] = {"kind": kind, "path": str(file)}
    other = "sha256:" + 64 * "0"
    for given in (f'"{file}"', *(given_table(table | more) for more in ({}, {"trust": other}, {"python": "python3"}))):
        answer = mlmd("simulate", write_input(tmp_path, '[[stage]]\nkind = "minimize"', potential=given))
        assert answer.code == 6, answer.err
        assert "sha256:" in answer.err
        assert ("Was it changed, or exchanged?" in answer.err) == (other in given)
        assert not canary.exists()


@pytest.mark.parametrize("kind", ["chgnet", "sevennet", "mace", "nequip"])
def test_a_file_or_a_name(kind: str) -> None:
    with pytest.raises(InputError, match="either path"):
        build(kind, {"path": Path("a.file"), "name": "a model"})
    if kind != "chgnet":  # which has a usual one
        with pytest.raises(InputError, match="either path"):
            build(kind, {})


@pytest.mark.parametrize("case", NAMED, ids=str, scope="module")
def test_the_file_that_a_name_stands_for_is_known(case: Case, model: External, table_of: Tables) -> None:
    """A label and a training depend on its content and on the release, and what is stored is held to the content."""
    file = case.file(python_of(case.kind))
    weights = {file.name: sha256(file)}
    assert model.weights == weights
    table = table_of(case) | {"python": python_of(case.kind)}
    kind = table.pop("kind")
    package = {"chgnet": "chgnet", "sevennet": "sevenn"}[kind]
    versions = {package: model.facts["versions"][package]}
    told = PotentialMethod(kind, options=table).identity()
    assert told["models"] == identities(model) == [{"weights": weights, "versions": versions}]
    (name,) = weights
    assert model.described()["weights"] == [f"{name} sha256:{weights[name]}"]
    with pytest.raises(ModelError, match=rf"the name of its {kind} model stands for something else .* sha256:"):
        External.restore({**model.spec(), "weights": {name: 64 * "0"}}, {})
    assert External.restore(model.spec(), {}).weights == weights


@pytest.mark.parametrize("case", NAMED[::2], ids=str, scope="module")  # that of CHGNet 0.2.0 is not whole by itself
def test_a_file_is_opened_when_it_is_trusted(case: Case, model: External) -> None:
    """That of the package, which says the same by its name."""
    file = case.file(python_of(case.kind))
    table = {name: value for name, value in case.given.items() if name != "name"}
    table |= {"path": file, "python": python_of(case.kind)}
    with pytest.raises(ModelError, match="is a Python pickle, which executes code when it is opened"):
        build(case.kind, table)
    made = build(case.kind, table | {"trust": [trusted(file)]})
    assert made.files == {str(file): sha256(file)} and made.weights == {}
    assert evaluate(made, case.crystal).energy == pytest.approx(evaluate(model, case.crystal).energy, abs=1e-5)


@pytest.mark.parametrize("part", ["half", "hole"])
@pytest.mark.parametrize("case", {case.kind: case for case in CASES}.values(), ids=lambda case: case.kind)
def test_a_damaged_file_is_refused(case: Case, part: str, table_of: Tables, tmp_path: Path) -> None:
    """Cut off, or with its end but without what is in its middle."""
    table = table_of(case)
    whole = Path(table.pop("path", None) or case.file(python_of(case.kind)))
    content = whole.read_bytes()
    half, tenth = len(content) // 2, len(content) // 10
    damaged = tmp_path / whole.name
    lost = content[:half] if part == "half" else content[: half - tenth] + bytes(2 * tenth) + content[half + tenth :]
    damaged.write_bytes(lost)
    table = {key: value for key, value in table.items() if key != "name"} | {"trust": trusted(damaged)}
    given = table | {"path": str(damaged), "python": python_of(case.kind)}
    answer = mlmd("show", given.pop("kind"), "--options", json.dumps(given))
    assert answer.code == 6, answer.err
    doubted = "Is the file whole, and one of this framework?" in answer.err
    # an archive of another in the half that is left has an end, too
    assert str(damaged) in answer.err and (doubted or (part == "half" and "the archive has no end" in answer.err))


def test_a_run_does_not_go_on_with_another_model_of_the_same_name(table_of: Tables, tmp_path: Path) -> None:
    """As after an update of the package, or of what was downloaded."""
    case = NAMED[0]
    table = given_table(table_of(case) | {"python": python_of(case.kind)})
    stage = '[[stage]]\nkind = "nve"\nduration = "{} fs"\n'
    options = 'timestep = "0.5 fs"\nvelocities = "300 K"'
    for length, known in ((1, True), (2, True), (3, False)):
        source = write_input(tmp_path, stage.format(length), atoms=case.crystal, potential=table, options=options)
        if known:
            simulate(source, tmp_path / "run")
            continue
        file = tmp_path / "run" / "run.json"
        manifest = json.loads(file.read_text())
        (recorded,) = manifest["models"][0]["weights"]
        manifest["models"][0]["weights"] = ["x sha256:" + 64 * "0"]
        file.write_text(json.dumps(manifest))
        with pytest.raises(StorageError, match=rf"it was x sha256:0+, is {recorded}"):
            simulate(source, tmp_path / "run")


@pytest.fixture(scope="module")
def told(case: Case, table_of: Tables, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What mlmd says in the framework's environment."""
    return asked(python_of(case.kind), case.kind, table_of(case), case.structures, tmp_path_factory.mktemp("told"))


on_pairs = pytest.mark.parametrize("case", ON_PAIRS, ids=str, scope="module")


@on_pairs
def test_on_the_pairs_of_mlmd_it_says_the_same(case: Case, told: dict[str, Any]) -> None:
    """One structure after the other, all at once, and in motion with a list of pairs that is kept."""
    assert told["class"] == case.graph
    case.assert_same_on_pairs(told)


@on_pairs
def test_in_both_processes_it_says_the_same(case: Case, told: dict[str, Any], model: External) -> None:
    for by_calculator, atoms in zip(told["own"], case.structures, strict=True):
        case.assert_same(evaluate(model, atoms), evaluation(by_calculator), atoms)


@on_pairs
def test_a_network_that_answers_otherwise_is_left_to_its_calculator(told: dict[str, Any]) -> None:
    assert told["agree"] == [True, False]


@on_pairs
def test_what_it_leaves_behind(case: Case, told: dict[str, Any]) -> None:
    """Torch opens files as safely as before, its numbers and everybody's seeds are the same, and nothing was said."""
    assert told["switch"] == [None, None] and told["refused"]
    assert told["seeds"] == [True, True, True]
    assert told["numbers"] == ["torch.float32"] * 3
    if case.quiet:
        assert told["said"] == ""


@on_pairs
def test_a_run_goes_on_exactly_where_it_stopped(case: Case, told: dict[str, Any]) -> None:
    assert told["run"]["stopped"] and told["run"]["same"] == [True, True]
    assert np.ptp(told["run"]["total"]) < (0.1 if case.single else 5e-3) * np.ptp(told["run"]["potential"])


@on_pairs
def test_a_training_above_it_stores_no_weights(case: Case, told: dict[str, Any], table_of: Tables) -> None:
    """What is stored is how it is made, which is on the pairs of mlmd where its framework is there."""
    assert told["trained"]["parts"][1] == case.graph
    file = table_of(case).get("path")
    assert told["trained"]["files"] == ([] if file is None else [file])
    assert told["trained"]["bytes"] < (100_000 if file is None else Path(file).stat().st_size / 2)


@on_pairs
def test_it_is_stored_by_how_it_is_made(case: Case, told: dict[str, Any]) -> None:
    assert told["stored"] == [[], True]
    name, again = told["again"]
    assert name == case.graph
    case.assert_same(evaluation(again), evaluation(told["own"][-1]), case.structures[-1])
