"""`mlmd sweep`: which trainings it makes of its lists, what it compares, and that it goes on where it stopped."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import mlmd
from made_data import thermal

from mlmd.config import resolved
from mlmd.config.sweep import load_sweep
from mlmd.errors import InputError, Stopped
from mlmd.io.labelled import write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.pair import LennardJones
from mlmd.train.run import Training, train
from mlmd.train.sweep import Outcome, SweepStep, pareto, sweep, time_of

DATA = 'data = "cu.extxyz"\ntest_fraction = 0.25\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "cu.extxyz", thermal(12))
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "in.toml"
    path.write_text(DATA + text, encoding="utf-8")
    return path


def test_every_value_of_one_list_meets_every_value_of_the_others(place: Path) -> None:
    text = '[sweep]\ndescriptor = [{ kind = "mtp", level = 4 }, "snap"]\nfit.kind = ["linear", "gap"]\n'
    found = load_sweep(written(place, text))
    assert [one.label for one in found] == [
        "mtp level=4, kind=linear", "mtp level=4, kind=gap", "snap, kind=linear", "snap, kind=gap",
    ]  # fmt: skip
    assert [(one.config.descriptor.kind, one.config.fit.kind) for one in found if one.config] == [
        ("mtp", "linear"), ("mtp", "gap"), ("snap", "linear"), ("snap", "gap"),
    ]  # fmt: skip


def test_several_descriptors_are_one_value_and_told_as_such(place: Path) -> None:
    text = '[sweep]\ndescriptor = [["deeppot-se", { kind = "acsf", n_angular = 0 }], "acsf"]\n'
    text += 'fit = ["network", "linear"]\n'
    found = load_sweep(written(place, text))
    assert {one.label: one.config is not None for one in found} == {
        "deeppot-se and acsf n_angular=0, network": True,
        "deeppot-se and acsf n_angular=0, linear": False,  # embeddings are learned with a network
        "acsf, network": True,
        "acsf, linear": True,
    }


def test_options_are_set_within_the_tables_of_the_input_and_within_chosen_ones(place: Path) -> None:
    text = (
        '[descriptor]\nkind = "mtp"\ncutoff = "4 Å"\n[sweep]\n"descriptor.level" = [6, 8]\n'
        'fit = [{ kind = "network", epochs = 7 }]\n"fit.n_neurons" = [[5], [6, 7]]\n'
    )
    found = [one.config for one in load_sweep(written(place, text))]
    assert [(one.descriptor.level, one.descriptor.cutoff, one.fit.epochs, one.fit.n_neurons) for one in found] == [
        (6, 4.0, 7, (5,)), (6, 4.0, 7, (6, 7)), (8, 4.0, 7, (5,)), (8, 4.0, 7, (6, 7)),
    ]  # fmt: skip


def test_options_without_a_use_are_left_out_and_no_training_is_done_twice(place: Path) -> None:
    text = '[sweep]\ndescriptor = ["mtp", "acsf"]\nfit.radial = ["optimise", "plain"]\n'
    found = load_sweep(written(place, text))
    assert [one.label for one in found if one.config] == [
        "mtp, radial=optimise", "mtp, radial=plain", "acsf, radial=optimise",
    ]  # fmt: skip
    assert "the same training as acsf, radial=optimise" in found[3].problem
    assert found[2].config is not None
    assert "radial" not in resolved(found[2].config)["fit"]


def test_an_option_of_one_fit_does_not_stop_those_that_have_none(place: Path) -> None:
    found = load_sweep(written(place, '[sweep]\nfit = ["linear", "gap"]\n"fit.n_sparse" = [10, 20]\n'))
    assert [one.label for one in found if one.config] == ["gap, n_sparse=10", "gap, n_sparse=20"]
    assert "'n_sparse' is not an option" in found[0].problem


def test_a_training_that_stands_in_the_lists_twice_is_done_once(place: Path) -> None:
    first, second = load_sweep(written(place, "[sweep]\ndescriptor.level = [4, 4]\n"))
    assert first.config is not None and second.config is None
    assert second.problem == "it is the same training as level=4: it stands in the lists twice."


def test_values_that_do_not_go_together_are_told_and_do_not_stop_the_others(place: Path) -> None:
    text = "[sweep]\ndescriptor.level = [4, 5]\nfit.quadratic = [false, true]\n"
    found = load_sweep(written(place, text))
    assert [one.config is not None for one in found] == [True, False, False, False]
    assert "an even number" in found[2].problem and "quadratic" in found[1].problem


def test_a_property_and_a_potential_are_not_compared(place: Path) -> None:
    found = load_sweep(written(place, '[sweep]\ndescriptor = ["mtp", "coulomb", "snap"]\n'))
    assert [one.label for one in found if one.config] == ["mtp", "snap"]
    assert found[1].problem == (
        "it learns one number of each structure, and mtp learns a potential: their errors cannot be compared."
    )
    with pytest.raises(InputError, match="property: all trainings must have the same structures, the same test"):
        load_sweep(written(place, 'descriptor = "coulomb"\n[sweep]\nproperty = ["gap", "spread"]\n'))
    with pytest.raises(InputError, match='"gap" is for atoms, and "coulomb" describes whole structures'):
        load_sweep(written(place, 'descriptor = "coulomb"\nfit = "gap"\n[sweep]\nelements = [["Cu"]]\n'))


def test_combinations_that_are_left_out_are_not_counted(place: Path) -> None:
    text = LEVELS.replace("[sweep]", "[sweep]\nuncertainty.grade = [false]") + "[7, 4, 5, 6]\n"
    seen: dict[str, tuple[int, int]] = {}
    sweep(
        written(place, text), n_processes=1, progress=lambda step: seen.update({step.label: (step.number, step.total)})
    )
    assert {label.rpartition(" ")[2]: where for label, where in seen.items()} == {"level=4": (1, 2), "level=6": (2, 2)}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", "[sweep] is missing"),
        ("[sweep]\n", "the table is empty"),
        ('[sweep]\nfit = "gap"\n', "fit: 'gap': a list of values to try is needed."),
        ("[sweep]\nfit = []\n", "fit: the list is empty"),
        ("[sweep]\nseed = [1, 2]\n", "seed: all trainings must have the same structures"),
        ('[sweep]\ndescriptor.level = [1, 3]\n', "in.toml: descriptor: level: 1: an even number"),
        ("[sweep]\nlevle = [1]\n", "levle"),
        ('[sweep]\ndescriptor = ["mtp", "sopa"]\n', "in.toml: sweep: descriptor: 'sopa' is not a kind"),
        ('[sweep]\ndescriptor = ["mtp", { kind = "soap", lmax = 3 }]\n', "Did you mean 'l_max'?"),
        ('[sweep]\nfit = ["linear", "gap"]\n"fit.n_sprase" = [50]\n', "'n_sprase' is not an option"),
        ('[sweep]\nfit = ["gap"]\nfit.n_sparse = [50]\n', 'beside its list, quote the name: "fit.n_sparse".'),
        ("[sweep]\nlevel = [4, 6]\n", "sweep: 'level' is not an option here. It belongs to the table [descriptor]."),
        ('[sweep]\n"data.path" = ["x"]\n', "data.path: all trainings must have the same structures"),
        ("[sweep]\n" + "".join(f"fit.a{index} = [1, 2]\n" for index in range(12)), "4,096 combinations; 1,000"),
    ],
)  # fmt: skip
def test_a_wrong_sweep_is_answered_with_one_message(place: Path, text: str, answer: str) -> None:
    with pytest.raises(InputError) as caught:
        load_sweep(written(place, text))
    assert answer in str(caught.value) and str(caught.value).startswith("in.toml: ")


def test_an_input_of_a_sweep_given_to_train_is_sent_to_the_right_command(place: Path) -> None:
    answer = mlmd("train", written(place, "[sweep]\ndescriptor.level = [4, 6]\n"))
    assert answer.code != 0 and "mlmd sweep" in answer.err


def outcome(label: str, microseconds: float | None, forces: float | None) -> Outcome:
    return Outcome(label, "mtp", "linear", microseconds=microseconds, forces=forces)


def test_those_that_no_other_beats_in_both_are_marked() -> None:
    outcomes = [
        outcome("fast", 1.0, 50.0), outcome("good", 9.0, 10.0), outcome("beaten", 9.5, 10.5),
        outcome("as fast as fast", 1.0, 60.0), outcome("between", 4.0, 20.0), outcome("unknown", None, 1.0),
        outcome("twin of good", 9.0, 10.0),
    ]  # fmt: skip
    assert [one.label for one in pareto(outcomes) if one.best] == ["fast", "good", "between", "twin of good"]


def test_a_sweep_compares_goes_on_and_grows(place: Path) -> None:
    text = '[descriptor]\ncutoff = "4 Å"\n[fit]\nradial = "plain"\n[sweep]\ndescriptor.level = [4, 8, 7]\n'
    answer = mlmd("sweep", written(place, text), "--processes", "1")
    assert answer.code == 0, answer.err
    assert "level=7: left out" in answer.err and "energy [meV/atom]" in answer.out
    assert "* no other is both more accurate and faster" in answer.out
    folder = place / "in.sweep"
    again = mlmd("show", folder)
    assert again.code == 0 and again.out.split() == answer.out.split()
    assert json.loads(mlmd("show", folder, "--json").out)["outcomes"][0]["label"] == "level=4"
    refused = mlmd("status", folder)
    assert refused.code == 4 and "is the folder of a sweep, not of a run: `mlmd show" in refused.err
    rows = json.loads((folder / "sweep.json").read_text())["outcomes"]
    assert [row["label"] for row in rows] == ["level=4", "level=8", "level=7"]
    assert rows[0]["forces"] > 1.5 * rows[1]["forces"] > 0 and not rows[2]["model"]
    assert all(row["best"] == bool(row["model"] and (row["label"] == "level=8" or rows[0]["microseconds"] < rows[1][
        "microseconds"])) for row in rows)  # fmt: skip
    assert (folder / "pareto.png").stat().st_size > 10_000
    with (folder / "sweep.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    models = [folder / row["model"] for row in rows[:2]]
    modelfile.load(models[0])
    # a training of the sweep is one that its own input gives
    again = mlmd("train", folder / "inputs" / f"{rows[1]['folder']}.toml", "--out", place / "alone", "--processes", "1")
    assert again.code == 0, again.err
    assert next((place / "alone").glob("*.mlmd")).read_bytes() == models[1].read_bytes()
    # the same command trains nothing twice; another value is added
    stamps = [model.stat().st_mtime_ns for model in models]
    answer = mlmd("sweep", written(place, text.replace("7]", "6]")), "--processes", "1", "--json")
    found = json.loads(answer.out)["outcomes"]
    assert [model.stat().st_mtime_ns for model in models] == stamps
    assert [row["seconds"] for row in found[:2]] == [row["seconds"] for row in rows[:2]]
    assert found[2]["model"] and found[0]["forces"] > found[2]["forces"] > found[1]["forces"]


LEVELS = '[descriptor]\ncutoff = "4 Å"\n[fit]\nradial = "plain"\n[sweep]\ndescriptor.level = '


def rows_of(folder: Path, key: str = "outcomes") -> dict[str, dict[str, Any]]:
    """What a sweep has written, by label."""
    return {row["label"]: row for row in json.loads((folder / "sweep.json").read_text())[key]}


def stopped(source: Path, label: str, what: str) -> None:
    """A sweep that Ctrl-C reaches in some step of some training."""

    def interrupt(step: SweepStep) -> None:
        if step.label == label and step.step.what.startswith(what):
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        sweep(source, n_processes=1, progress=interrupt)


def test_what_is_known_is_not_forgotten_when_a_later_call_is_stopped_or_has_other_values(place: Path) -> None:
    first = sweep(written(place, LEVELS + "[4, 6, 8]\n"), n_processes=1)
    taken = {one.label: (one.seconds, one.microseconds) for one in first.outcomes}
    before = rows_of(first.path)
    stopped(place / "in.toml", "level=6", "reading the data")
    assert rows_of(first.path) == before and not rows_of(first.path, "others")
    sweep(written(place, LEVELS + "[6]\n"), n_processes=1)
    assert rows_of(first.path).keys() == {"level=6"} and rows_of(first.path, "others").keys() == {"level=4", "level=8"}
    again = sweep(written(place, LEVELS + "[4, 6, 8]\n"), n_processes=1)
    assert {one.label: (one.seconds, one.microseconds) for one in again.outcomes} == taken
    assert rows_of(first.path) == before


INTERRUPTED = """
import sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._prims":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
sys.argv = ["mlmd", "sweep", "in.toml", "--processes", "1"]
from mlmd.cli import main
main()
"""


def test_a_signal_while_the_program_is_still_starting_is_no_bug(place: Path) -> None:
    written(place, LEVELS + "[4, 6]\n")
    found = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.strip()) == (130, "Interrupted.")
    assert not (place / "in.sweep").exists()


def test_a_sweep_that_has_done_nothing_yet_is_shown_as_such(place: Path) -> None:
    stopped(written(place, LEVELS + "[4, 6]\n"), "level=4", "reading the data")
    answer = mlmd("show", "in.sweep")
    assert answer.code == 0 and "No training is done yet" in answer.out and "pareto.png" not in answer.out


def test_the_time_of_a_training_is_that_of_all_its_parts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mlmd.train.sweep.time", SimpleNamespace(monotonic=lambda: clock[0]))
    source = written(place, LEVELS + "[4]\n")
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("mlmd.train.sweep.train", passing(clock, 10.0))
            stopped(source, "level=4", "linear fit")
    folder = place / "in.sweep"
    assert not rows_of(folder) and rows_of(folder, "others")["level=4"]["seconds"] == 20.0
    with (folder / "sweep.csv").open() as file:
        assert list(csv.DictReader(file)) == []
    with monkeypatch.context() as patch:
        patch.setattr("mlmd.train.sweep.train", passing(clock, 5.0))
        patch.setattr("mlmd.train.sweep._microseconds", lambda model, config: 1.0)
        (done,) = sweep(source, n_processes=1).outcomes
        assert done.seconds == 25.0 and not rows_of(folder, "others")
        (again,) = sweep(source, n_processes=1).outcomes
        assert again == done
        # of what was trained while nothing was written, the time of reading is not taken for that of the training
        (folder / "sweep.json").write_text('{"format": "mlmd-sweep", "version": 1, "outcomes": []}')
        (unknown,) = sweep(source, n_processes=1).outcomes
        assert unknown.model == done.model and unknown.seconds is None
        # and what is trained anew begins with no time
        shutil.rmtree(folder / done.folder)
        (anew,) = sweep(source, n_processes=1).outcomes
        assert anew.seconds == 5.0


def passing(clock: list[float], seconds: float) -> Callable[..., Training]:
    """A training in which a clock goes on."""

    def timed(*arguments: Any, **options: Any) -> Training:
        clock[0] += seconds
        return train(*arguments, **options)

    return timed


def test_check_tells_the_trainings_of_a_sweep_and_their_time_and_writes_nothing(place: Path) -> None:
    text = '[descriptor]\ncutoff = "4 Å"\n[fit]\nradial = "plain"\n[sweep]\ndescriptor.level = [4, 8, 7]\n'
    source = written(place, text)
    before = sorted(place.iterdir())
    answer = mlmd("check", source)
    assert answer.code == 0, answer.err
    assert "2, 1 of 3 combinations left out" in answer.out and "left out: descriptor: level: 7" in answer.out
    assert "9 structures" in answer.out and "mtp of level 8" in answer.out
    entry = json.loads(mlmd("check", source, "--json").out)["inputs"][0]
    assert entry["ok"] and entry["command"] == "sweep" and (entry["n_trainings"], entry["n_left_out"]) == (2, 1)
    assert [one["label"] for one in entry["trainings"]] == ["level=4", "level=8", "level=7"]
    each = [one["training"] for one in entry["trainings"][:2]]
    assert (
        entry["hours"] == pytest.approx(sum(one["hours"] for one in each)) and each[0]["n_linear"] < each[1]["n_linear"]
    )
    # each is told as `check` tells the input of that training alone
    alone = place / "alone.toml"
    alone.write_text(source.read_text().replace("[sweep]\ndescriptor.level = [4, 8, 7]\n", "").replace(
        "[descriptor]\n", "[descriptor]\nlevel = 8\n"), encoding="utf-8")  # fmt: skip
    told = json.loads(mlmd("check", alone, "--json").out)["inputs"][0]
    for key in ("n_linear", "n_equations", "n_frames", "model", "min_distance_A"):
        assert told[key] == each[1][key]
    answer = mlmd("check", source, alone)
    assert "2 trainings" in answer.out
    assert sorted(place.iterdir()) == sorted([*before, alone])


def test_check_refuses_a_sweep_as_a_sweep_does(place: Path) -> None:
    source = written(place, "[sweep]\ndescriptor.level = [4]\n")
    (place / "cu.extxyz").rename(place / "cu2.extxyz")
    answer = mlmd("check", source)
    assert answer.code == 2 and "in.toml: data:" in answer.err and "'cu2.extxyz'" in answer.err


@pytest.mark.parametrize("command", ["check", "sweep"])
def test_what_no_training_of_a_sweep_can_do_names_the_sweep_and_not_their_inputs(place: Path, command: str) -> None:
    text = "[loss]\ngroups = { liquid = 2 }\n[sweep]\ndescriptor.level = [4, 6]\n"
    answer = mlmd(command, written(place, text), *(("--quiet",) if command == "sweep" else ()))
    said = "loss: groups: no structure is of group 'liquid'. Known: thermal."
    assert answer.code == 2
    assert answer.err == f"InputError: in.toml: level=4: {said}\nin.toml: level=6: {said}\n"
    source = written(place, "[sweep]\ndescriptor.level = [4]\n")
    source.write_text(source.read_text().replace("0.25", "0"))
    answer = mlmd(command, source)
    assert answer.code == 2 and answer.err.startswith("InputError: in.toml: test_fraction: 0 leaves no structures")


def test_a_folder_of_something_else_is_left_alone(place: Path) -> None:
    (place / "taken").mkdir()
    (place / "taken" / "thesis.txt").write_text("x")
    answer = mlmd("sweep", written(place, "[sweep]\ndescriptor.level = [4]\n"), "--out", "taken")
    assert answer.code != 0 and "is not empty" in answer.err
    assert [one.name for one in (place / "taken").iterdir()] == ["thesis.txt"]


def test_without_a_test_there_is_nothing_to_compare(place: Path) -> None:
    text = DATA.replace("0.25", "0") + "[sweep]\ndescriptor.level = [4]\n"
    (place / "in.toml").write_text(text)
    answer = mlmd("sweep", "in.toml")
    assert answer.code != 0 and "no structures to compare" in answer.err


def test_the_time_of_an_evaluation_is_for_each_atom() -> None:
    potential, atoms = LennardJones(epsilon="0.4 eV", sigma="2.3 Å", cutoff="5 Å"), thermal(1)[0].atoms
    few, many = (time_of(potential, atoms, n_atoms=n_atoms, budget=0.3) for n_atoms in (500, 4000))
    assert 0.1 < few / many < 10
