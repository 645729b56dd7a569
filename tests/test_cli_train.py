"""`mlmd train` and `mlmd check` of its inputs: what a person at the terminal sees and gets."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from command_line import mlmd
from made_data import strained, thermal

from mlmd.cli import train as verb
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials.pair import LennardJones
from mlmd.train.job import prepare
from mlmd.train.optimise import n_linear
from mlmd.train.preview import preview
from mlmd.train.run import Clock, Step

INPUT = """data = "argon.extxyz"
test_fraction = 0.2

[descriptor]
level = 4
cutoff = "5 Å"

[fit]
max_iterations = 2

[card]
licence = "CC0-1.0"
"""


def frames(n_frames: int) -> list[LabelledFrame]:
    """Argon crystals at many densities, shaken, labelled by a Lennard-Jones potential."""
    potential = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="5 Å")
    random = np.random.default_rng(0)
    labelled = []
    for index in range(n_frames):
        atoms = bulk("Ar", "fcc", a=5.26 * (1 + 0.02 * random.normal()), cubic=True)
        atoms.rattle(0.1, rng=random)
        found = potential.predict(build_graph(atoms, potential.cutoff))
        labelled.append(
            LabelledFrame(
                atoms, float(found.energy[0]), found.forces.numpy(), found.stress[0].numpy(), "", f"argon@{index}"
            )
        )
    return labelled


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of labelled structures."""
    path = tmp_path_factory.mktemp("data") / "argon.extxyz"
    write_labelled(path, frames(20))
    return path


@pytest.fixture
def place(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a valid input and its data, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "argon.extxyz").write_bytes(data.read_bytes())
    (tmp_path / "in.toml").write_text(INPUT, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, str]:
    """The folder of a finished training, and what was said at its end."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "argon.extxyz").write_bytes(data.read_bytes())
    (folder / "in.toml").write_text(INPUT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        answer = mlmd("train", "in.toml", "--processes", "1")
    assert answer.code == 0, answer.err
    return folder / "in.run", answer.out


@pytest.fixture
def trained(place: Path, finished: tuple[Path, str]) -> Path:
    """The same in a place of its own: a training that is moved with its input is the same training."""
    return Path(shutil.copytree(finished[0], place / "in.run"))


def test_a_training_ends_with_its_errors_and_where_everything_is(finished: tuple[Path, str]) -> None:
    folder, said = finished
    table, _, rest = said.partition("Potential: ")
    assert "Errors for the test structures" in table
    for words in ("energy", "meV/atom", "forces", "meV/Å", "stress", "MPa"):
        assert words in table
    assert rest.splitlines() == [
        "in.run/in.mlmd",
        "In in.run/: errors.json, learning_curve.png, parity_test.png, parity_train.png",
    ]
    assert all((folder / name).is_file() for name in ("in.mlmd", "errors.json", "parity_test.png"))


def test_a_doubt_about_the_data_is_told_once_and_not_at_all_when_quiet(place: Path) -> None:
    (place / "in.toml").write_text(INPUT.replace("max_iterations = 2", "max_iterations = 1"), encoding="utf-8")
    some = [replace(frame, forces=None) if index < 3 else frame for index, frame in enumerate(frames(20))]
    write_labelled(place / "argon.extxyz", some)
    answer = mlmd("train", "in.toml", "--processes", "1")
    assert answer.code == 0, answer.err
    assert (answer.out + answer.err).count("frames have no forces") == 1
    answer = mlmd("train", "in.toml", "--processes", "1", "--quiet")
    assert (answer.out, answer.err) == ("", "")


def test_the_same_command_again_leaves_a_finished_training_as_it_is(trained: Path, finished: tuple[Path, str]) -> None:
    model = trained / "in.mlmd"
    before, changed = model.read_bytes(), model.stat().st_mtime_ns
    answer = mlmd("train", "in.toml", "--processes", "1")
    assert (answer.code, answer.out) == (0, finished[1])
    assert (model.read_bytes(), model.stat().st_mtime_ns) == (before, changed)


def test_a_training_that_is_stopped_ends_with_75_and_the_same_command_continues_it(
    place: Path, finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_in_the_second_iteration(step: Step) -> str:
        if step.what.startswith("iteration 2"):
            os.kill(os.getpid(), signal.SIGTERM)
        return step.what

    with monkeypatch.context() as patched:
        patched.setattr(verb, "describe", stop_in_the_second_iteration)
        answer = mlmd("train", "in.toml", "--out", "parts", "--processes", "1")
    assert answer.code == 75
    assert "The same command continues" in answer.err
    assert not (place / "parts" / "in.mlmd").exists()
    assert json.loads(mlmd("show", "parts", "--json").out)["state"] == "stopped"
    assert mlmd("train", "in.toml", "--out", "parts", "--processes", "1").code == 0
    assert (place / "parts" / "in.mlmd").read_bytes() == (finished[0] / "in.mlmd").read_bytes()


def test_quiet_says_nothing_and_json_says_all(trained: Path) -> None:
    answer = mlmd("train", "in.toml", "--quiet", "--processes", "1")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    answer = mlmd("train", "in.toml", "--json", "--processes", "1")
    assert answer.err == ""
    found = json.loads(answer.out)
    assert Path(found["model"]) == trained / "in.mlmd"
    assert {row["property"] for row in found["errors"]["test"]["rows"]} == {"energy", "forces", "stress"}
    assert found["findings"] == []


def test_errors_are_those_of_the_training_structures_where_none_are_tested_on(place: Path) -> None:
    (place / "in.toml").write_text(INPUT.replace("0.2", "0").replace("max_iterations = 2", 'radial = "plain"'))
    answer = mlmd("train", "in.toml", "--processes", "1")
    assert "Errors for the training structures" in answer.out


def test_a_line_of_progress_says_what_how_far_how_long_and_how_good() -> None:
    step = Step("iteration 3", 5, 16, 65.2, 1.23456)
    assert verb.describe(step) == "iteration 3  5 of 16  0:01:05 left  loss 1.235"
    assert verb.describe(Step("reading the data", 0, 1, None, None)) == "reading the data  0 of 1"


def test_the_time_left_is_that_of_the_rest_at_the_pace_of_this_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter((0.0, 10.0, 20.0, 20.0, 24.0))
    monkeypatch.setattr("mlmd.train.run.time.monotonic", lambda: next(seconds))
    clock = Clock(0.25)  # continued: a quarter was done by an earlier process
    assert clock(0.5) == pytest.approx(20.0)  # a quarter in 10 s, two are left
    assert clock(0.75) == pytest.approx(10.0)
    assert clock(0.0) is None  # another pass
    assert clock(0.2) == pytest.approx(16.0)


def test_check_counts_equations_and_unknowns_and_writes_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    answer = mlmd("check", "in.toml")
    assert answer.code == 0, answer.err
    for expected in ("16 structures, 64 atoms: Ar", "test       4 structures", "to 5 Å", "The input is valid."):
        assert expected in answer.out
    (found,) = json.loads(mlmd("check", "in.toml", "--json").out)["inputs"]
    assert found["ok"]
    assert found["command"] == "train"
    assert found["n_equations"] == 16 * (1 + 12 + 6)  # energy, 4 atoms, stress
    assert found["n_linear"] > 1
    assert found["n_radial"] > 0
    assert 0 < found["hours"] < 1
    assert 10 < found["memory_MB"] < 1e5
    assert sorted(place.rglob("*")) == before


def test_one_structure_is_counted_as_one(place: Path) -> None:
    (place / "in.toml").write_text(INPUT.replace("test_fraction = 0.2", "test_fraction = 0.05"), encoding="utf-8")
    answer = mlmd("check", "in.toml")
    assert "test       1 structure\n" in "\n".join(line.rstrip() for line in answer.out.splitlines()) + "\n"


def test_check_of_inputs_of_both_kinds_is_one_table(place: Path) -> None:
    (place / "run.toml").write_text(
        'structure = "one.extxyz"\ntimestep = "1 fs"\npotential = { kind = "lennard-jones", epsilon = "0.01 eV", '
        'sigma = "3.4 Å", cutoff = "5 Å" }\n[[stage]]\nkind = "minimize"\n',
        encoding="utf-8",
    )
    write_labelled(place / "one.extxyz", frames(1))
    answer = mlmd("check", "in.toml", "run.toml")
    assert answer.code == 0, answer.err
    assert "mtp of level 4" in answer.out
    assert "lennard-jones" in answer.out
    assert "ms/step" in answer.out and "ns/day" in answer.out


def test_check_of_trainings_alone_has_no_columns_of_simulations(place: Path) -> None:
    shutil.copy(place / "in.toml", place / "other.toml")
    (place / "wrong.toml").write_text(INPUT.replace("level", "levle"), encoding="utf-8")
    answer = mlmd("check", "in.toml", "wrong.toml", "other.toml")
    heading, first, wrong, other = answer.out.splitlines()
    assert heading.split("  ")[0] == "input" and " ".join(heading.split()) == "input atoms potential time MB so far"
    assert first.split()[:5] == ["in.toml", "64", "mtp", "of", "level"] and wrong.split() == [
        "wrong.toml",
        "InputError",
    ]
    assert other.split()[:2] == ["other.toml", "64"]
    assert "Did you mean 'level'?" in answer.err


WRONG = [
    ("unknown key", INPUT.replace("level", "levle"), ("in.toml: descriptor: 'levle'", "Did you mean 'level'?")),
    ("no data", INPUT.replace("argon.ext", "argn.ext"), ("in.toml: data:", "Did you mean 'argon.extxyz'?")),
    ("an element that is not named", 'elements = ["Kr"]\n' + INPUT, ("Ar",)),
    ("a group that is not there", INPUT + "[loss]\ngroups = { Elastic = 0.5 }\n", ("loss: groups:", "'Elastic'")),
    ("a cutoff shorter than all distances", INPUT.replace("5 Å", "1 Å"), ("cutoff", "longer")),
    ("a label that is not there", INPUT.replace('"argon.extxyz"', '{ path = "argon.extxyz", energy = "E" }'), ("'E'",)),
    ("no isolated atom", 'baseline = "isolated"\n' + INPUT, ("Ar",)),
    ("an energy for another element", "baseline = { Kr = -1 }\n" + INPUT, ("baseline: 'Kr'", "Known: Ar")),
    ("data of no such group", INPUT.replace('"argon.extxyz"', '{ path = "argon.extxyz", groups = ["x"] }'), ("'x'",)),
    (
        "a spread of the full kernel",
        INPUT.replace("max_iterations = 2", 'kind = "kernel"') + "[uncertainty]\nspread = true\n",
        ("uncertainty: spread:",),
    ),
    ("a kernel with a kink", INPUT.replace("max_iterations = 2", 'kind = "kernel"\nkernel = "laplacian"'), ("kink",)),
    (
        "a baseline that is wrong",
        'baseline = { potential = { kind = "lennard-jones", epsilon = "1 eV" } }\n' + INPUT,
        ("baseline: potential (lennard-jones)", "cutoff must be given"),
    ),
    (
        "a descriptor that is not there",
        INPUT.replace("level = 4\n", 'model = "in.toml"\n').replace(
            'cutoff = "5 Å"\n\n[fit]\nmax_iterations = 2\n', ""
        ),
        ("ModelError",),
    ),
    ("an input of simulate", 'structure = "a.cif"\ntimestep = "1 fs"\n', ("in.toml",)),
]


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize(("text", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_input_is_one_message_and_leaves_nothing_behind(
    place: Path, text: str, said: tuple[str, ...], command: str
) -> None:
    (place / "in.toml").write_text(text, encoding="utf-8")
    before = sorted(place.rglob("*"))
    answer = mlmd(command, "in.toml")
    assert answer.code == (6 if "ModelError" in said else 2), answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    # whatever it is found in, the text or the data: what is to be changed is this file
    assert answer.err.startswith(("InputError: in.toml: ", "ModelError: in.toml: ", "InputError: in.toml is an input"))
    for words in said:
        assert words in answer.err
    assert sorted(place.rglob("*")) == before


def test_every_line_of_what_is_wrong_with_the_data_names_the_input(place: Path) -> None:
    strange = frames(1)
    strange[0].atoms.numbers[:2] = [36, 54]
    write_labelled(place / "test.extxyz", strange)
    (place / "in.toml").write_text(INPUT.replace("test_fraction = 0.2", 'test = "test.extxyz"'), encoding="utf-8")
    for command in ("check", "train"):
        answer = mlmd(command, "in.toml")
        lines = answer.err.removeprefix("InputError: ").splitlines()
        assert answer.code == 2
        assert [line[: line.index(" only")] for line in lines] == ["in.toml: Kr occurs", "in.toml: Xe occurs"]


def test_what_only_the_fit_finds_names_the_input_too(place: Path) -> None:
    fit = 'radial = "plain"\nregularisation = "cross-validation"'
    write_labelled(place / "argon.extxyz", frames(1))
    text = INPUT.replace("max_iterations = 2", fit).replace("test_fraction = 0.2", "test_fraction = 0")
    (place / "in.toml").write_text(text, encoding="utf-8")
    answer = mlmd("train", "in.toml", "--processes", "1", "--quiet")
    assert answer.code == 2
    assert answer.err.startswith(
        'InputError: in.toml: fit: regularisation: "cross-validation" needs several structures'
    )


def test_show_describes_a_training_and_its_potential(trained: Path) -> None:
    facts = json.loads(mlmd("show", "in.run", "--json").out)
    assert (facts["what"], facts["state"], facts["potential"]) == ("training", "done", "in.run/in.mlmd")
    assert facts["card"]["licence"] == "CC0-1.0"
    refused = mlmd("report", "in.run")
    assert refused.code == 4 and "in.run is the folder of a training, not of a run: `mlmd show in.run`" in refused.err
    shown = mlmd("show", "in.run").out
    assert "not trained on" in shown
    given = shown.partition("Trained with")[2]
    assert "groups" not in given and all(len(line.split()) > 1 for line in given.splitlines() if line)


def test_new_train_writes_an_input_that_check_reads(place: Path) -> None:
    answer = mlmd("new", "train", "-o", "new.toml")
    assert answer.code == 0
    assert "mlmd check new.toml" in answer.err
    answer = mlmd("check", "new.toml")
    assert answer.code == 2
    assert "data.extxyz: no such file" in answer.err


@pytest.mark.parametrize("n_sparse", [5, 20000], ids=["some", "more than there are"])
@pytest.mark.parametrize("fit", ["agni", "gap", "gap of two"])
def test_check_counts_the_points_that_a_training_looks_for(
    fit: str, n_sparse: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copper = [*thermal(3, repeat=1), *strained(3)]  # crystals have few different surroundings
    silver = [LabelledFrame(Atoms("Ag"), 0.0, np.zeros((1, 3)), None, "", "ag.xyz@0")] if fit != "agni" else []
    write_labelled(tmp_path / "data.extxyz", [*copper, *silver])
    descriptors = {
        "agni": '[descriptor]\nkind = "agni"\n',
        "gap": '[descriptor]\nkind = "acsf"\n',
        "gap of two": '[[descriptor]]\nkind = "acsf"\n[[descriptor]]\nkind = "soap"\nn_max = 2\nl_max = 1\n',
    }
    (tmp_path / "in.toml").write_text(
        f'data = "data.extxyz"\ntest_fraction = 0\n{descriptors[fit]}[fit]\nkind = "{fit.partition(" ")[0]}"\n'
        f"n_sparse = {n_sparse}\n",
        encoding="utf-8",
    )
    potential = prepare(tmp_path / "in.toml").potential
    terms = getattr(potential.regressor, "terms", [potential.regressor])
    for term in terms:
        n_copper = int((term.point_kinds == potential.elements.index("Cu")).sum())
        assert n_copper == 5 if n_sparse == 5 else 5 < n_copper < n_sparse

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("farthest points are looked for")

    monkeypatch.setattr("mlmd.train.regressor.farthest", refuse)
    counted = prepare(tmp_path / "in.toml", counted=True).potential
    for term, other in zip(getattr(counted.regressor, "terms", [counted.regressor]), terms, strict=True):
        assert term.point_kinds.tolist() == other.point_kinds.tolist()
    found = preview(tmp_path / "in.toml")
    assert found.n_linear == n_linear(potential)
