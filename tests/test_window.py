"""Calculators keep lists of neighbours in windows, and answers stay those of a run that was continued, bit for bit."""

from __future__ import annotations

import gc
import sys
import weakref
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
from runs import assert_same_run, fcc_argon, run_in_parts, write_input

from mlmd.config import PotentialTable
from mlmd.engine import preview as engine_preview
from mlmd.engine.course import Course
from mlmd.engine.run import simulate
from mlmd.potentials.combine import Sum
from mlmd.potentials.load import load_potential
from mlmd.pretrained import external, window
from mlmd.pretrained.external import External, reaches_in, recall_reaches
from mlmd.pretrained.memory import Memory
from mlmd.pretrained.recipe import Recipe
from mlmd.pretrained.window import REACHES, Beginning
from mlmd.rundir import LOG

WHERE = [pytest.param({}, id="here"), pytest.param({"python": sys.executable}, id="elsewhere")]
CALCULATORS = """
import time
import numpy as np
from pathlib import Path
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    '''Atoms on springs; the energy has a last digit of where a list was made, which is renewed beyond a margin.'''

    implemented_properties = ["energy", "forces", "stress"]
    margin, pause, spacing = 0.3, 0.0, 1e3

    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        time.sleep(self.pause)
        with Path(__file__).with_name("told").open("a") as file:
            file.write("a" if "numbers" in changes else "m")
        x = atoms.positions
        if "numbers" in changes or np.abs(x - self.made).max() > self.margin:
            self.made = x.copy()
        x = x - self.spacing * np.round(x / self.spacing)
        self.results = {"energy": (x**2).sum() + 1e-9 * self.made[0, 0], "forces": -2 * x, "stress": np.zeros(6)}


class Narrow(Springs):
    margin = 0.2


class Renews(Springs):
    margin = 0.06


class Density(Springs):
    '''Begins with what it had a step before.'''

    def calculate(self, atoms, properties, changes):
        super().calculate(atoms, properties, changes)
        if "numbers" in changes:
            self.mixed = self.results["energy"]
        self.mixed = 0.5 * (self.mixed + self.results["energy"])
        self.results["energy"] += 1e-6 * self.mixed


class Counts(Springs):
    '''Makes its lists anew after so many questions.'''

    def calculate(self, atoms, properties, changes):
        self.n_asked = 0 if "numbers" in changes else self.n_asked + 1
        if self.n_asked % 10 == 9:
            self.made = atoms.positions.copy()
        super().calculate(atoms, properties, changes)


class Crystal(Springs):
    spacing = 2.7


class DenseCrystal(Density):
    spacing = 2.7


class Slow(Springs):
    pause = 0.06


class Moving(Springs):
    def __init__(self, device):
        super().__init__()


class Lasting(Springs):
    pause = 0.02


class Picky(Springs):
    def calculate(self, atoms, properties, changes):
        if np.abs(atoms.positions).max() > 1.0:
            raise RuntimeError("too far")
        super().calculate(atoms, properties, changes)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A file of calculators."""
    path = tmp_path / "own.py"
    path.write_text(CALCULATORS)
    return path


def own(module: Path, name: str, **table: Any) -> External:
    """A calculator of this file."""
    digest = f"sha256:{sha256(module.read_bytes()).hexdigest()}"
    return load(kind="ase", calculator=f"{module}:{name}", trust=digest, **table)


def load(**table: Any) -> External:
    found = load_potential([PotentialTable.model_validate(table)])
    assert isinstance(found, External)
    return found


def told(module: Path) -> str:
    """Of each question since the last look: a where all had changed, m where atoms had moved."""
    path = module.with_name("told")
    words = path.read_text() if path.exists() else ""
    path.write_text("")
    return words


def input_of(module: Path, folder: Path, name: str, stages: str) -> Path:
    """An input with a calculator of this file."""
    digest = f"sha256:{sha256(module.read_bytes()).hexdigest()}"
    table = f'{{ kind = "ase", calculator = "{module}:{name}", trust = "{digest}" }}'
    return write_input(folder, stages, atoms=fcc_argon(1), output="checkpoint_every = 60.0", potential=table)


MINIMIZE = '[[stage]]\nkind = "minimize"\nmax_steps = 2\n'
STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "0.2 ps"\n'
FARTHEST = REACHES[0]
CELL = 20.0 * np.eye(3)
NUMBERS, PBC = np.array([6, 8, 1]), np.array([True, True, True])
START = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])


def walk(n_steps: int, step: float) -> list[np.ndarray]:
    """Positions of a walk along one direction, atom by atom."""
    return [START + step * n * np.array([[1.0, 0.0, 0.0]]) for n in range(n_steps)]


@pytest.mark.parametrize("where", WHERE)
def test_everything_has_changed_only_where_a_window_begins(module: Path, where: dict[str, str]) -> None:
    one = own(module, "Springs", **where).evaluator(NUMBERS, PBC)
    path = walk(12, 0.25 * FARTHEST)
    one.evaluate(path[0], CELL)
    assert told(module) == "a"
    one.evaluate(path[1], CELL)
    assert told(module) == "aa" + 23 * "m" + "mm" + "am" + "am" + "am"  # away, back, there at once, and on
    for positions in path[2:9]:
        one.evaluate(positions, CELL)
    assert told(module) == "mm" + "ammm" + "a"  # at the fourth and at the eighth step atoms have gone far enough
    one.evaluate(path[8], 1.01 * CELL)
    assert told(module) == "a"


@pytest.mark.parametrize(
    ("stop", "where"), [*((stop, {}) for stop in (1, 2, 3, 7, 8, 11)), (7, {"python": sys.executable})]
)
def test_a_continued_calculator_says_the_same_to_the_last_bit(module: Path, stop: int, where: dict[str, str]) -> None:
    path = walk(16, 0.3 * FARTHEST)
    whole = own(module, "Springs", **where).evaluator(NUMBERS, PBC)
    energies = [whole.evaluate(positions, CELL).energy for positions in path]
    before = own(module, "Springs", **where)
    first = before.evaluator(NUMBERS, PBC)
    for positions in path[:stop]:
        first.evaluate(positions, CELL)
    reaches = reaches_in(before)
    state = first.state()
    potential = own(module, "Springs", **where)
    recall_reaches(potential, reaches)
    second = potential.evaluator(NUMBERS, PBC)
    second.restore(state)
    second.evaluate(path[stop - 1], CELL)  # as a run that goes on makes sure that the potential is the same
    second.restore(state)
    assert [second.evaluate(positions, CELL).energy for positions in path[stop:]] == energies[stop:]
    ends = [round(energy - (positions**2).sum(), 12) for energy, positions in zip(energies, path, strict=True)]
    assert len(set(ends)) == 4  # windows


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Density", "depends on the way"),
        ("Renews", "its margin is too small"),
        ("Slow", "is slow"),
        ("Counts", "counts"),
    ],
)
def test_what_would_not_stay_the_same_is_told_that_everything_has_changed(
    module: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.setattr(window, "SLOW", 0.05)
    one = own(module, name).evaluator(NUMBERS, PBC)
    path = walk(5, 0.1 * FARTHEST)
    for positions in path[:2]:
        one.evaluate(positions, CELL)
    told(module)
    for positions in path[2:]:
        one.evaluate(positions, CELL)
    assert told(module) == "aaa", why


def test_a_calculator_that_fails_when_it_is_tried_goes_on_as_it_was(module: Path) -> None:
    one = own(module, "Picky").evaluator(NUMBERS, PBC)
    path = [START / 3.001 + 0.001 * n for n in (-2, -1, 0)]
    assert [one.evaluate(positions, CELL).energy for positions in path] == pytest.approx(
        [(positions**2).sum() for positions in path]
    )
    assert told(module)[-1] == "a"


def test_two_systems_of_one_calculator_do_not_see_each_other(module: Path) -> None:
    path = walk(10, 0.3 * FARTHEST)
    alone = own(module, "Springs").evaluator(NUMBERS, PBC)
    energies = [alone.evaluate(positions, CELL).energy for positions in path]
    both = own(module, "Springs")
    one, other = both.evaluator(NUMBERS, PBC), both.evaluator(NUMBERS, PBC)
    for n, positions in enumerate(path):
        assert one.evaluate(positions, CELL).energy == energies[n]
        if n % 2:
            other.evaluate(positions + 5.0, CELL)
        else:
            both.ask(NUMBERS, PBC, positions - 5.0, CELL)


@pytest.mark.parametrize(("keep", "words"), [(True, "ammmm"), (False, "aaaaa")])
def test_who_says_what_is_to_be_kept_is_obeyed(module: Path, keep: bool, words: str) -> None:
    one = own(module, "Springs", keep=keep).evaluator(NUMBERS, PBC)
    for positions in walk(5, 0.5 * FARTHEST):
        one.evaluate(positions, CELL)
    assert told(module) == words
    assert one.state() == {}


def test_lists_of_ase_are_kept() -> None:
    atoms = ase.build.bulk("Cu", cubic=True).repeat(2)
    potential = load(kind="ase", calculator="ase.calculators.emt:EMT")
    one = potential.evaluator(atoms.numbers, np.array(atoms.pbc))
    rng, positions = np.random.default_rng(1), atoms.positions.copy()
    for _ in range(3):
        one.evaluate(positions, atoms.cell.array)
        positions += rng.normal(0.0, 0.01, positions.shape)
    assert potential.reach == REACHES[0]


def test_the_reach_is_less_than_the_margin_of_the_lists(module: Path) -> None:
    potential = own(module, "Narrow")
    one = potential.evaluator(NUMBERS, PBC)
    for positions in walk(2, 0.01):
        one.evaluate(positions, CELL)
    assert potential.reach == REACHES[1]


def test_a_window_ends_where_one_atom_has_gone_far() -> None:
    begun = Beginning(START, CELL)
    moved = START.copy()
    moved[1] += [0.99 * FARTHEST, 0.0, 0.0]
    assert begun.covers(moved, CELL, FARTHEST)
    moved[1] += [0.02 * FARTHEST, 0.0, 0.0]
    assert not begun.covers(moved, CELL, FARTHEST)
    assert not begun.covers(START, CELL + 1e-12, FARTHEST)


def test_before_any_question_there_is_no_window_to_go_back_to(module: Path) -> None:
    one = own(module, "Springs").evaluator(NUMBERS, PBC)
    kept = one.state()
    one.evaluate(START, CELL)
    one.restore(kept)
    assert one.state() == {}


@pytest.mark.parametrize("name", ["Crystal", "DenseCrystal"])
@pytest.mark.parametrize("first", [MINIMIZE, STAGE], ids=["after a minimization", "after dynamics"])
def test_what_was_tried_in_one_stage_is_not_tried_again_in_the_next(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, name: str
) -> None:
    path, begin, tried = input_of(module, tmp_path, name, first + STAGE), Course._dynamics, []

    def killed(self: Course, record: Any, *arguments: Any) -> Any:
        if record.index == 1:
            raise KeyboardInterrupt
        return begin(self, record, *arguments)

    def counted(*arguments: Any) -> float:
        tried.append(window.reach_of(*arguments))
        return tried[-1]

    monkeypatch.setattr(external, "reach_of", counted)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Course, "_dynamics", killed)
        simulate(path, tmp_path / "killed")
    assert tried == [0.0 if name.startswith("Dense") else FARTHEST]
    simulate(path, tmp_path / "killed")
    assert len(tried) == 1
    simulate(path, tmp_path / "whole")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_rerun_that_goes_on_does_not_try_again(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms, rng = fcc_argon(1), np.random.default_rng(2)
    frames = [atoms.copy() for _ in range(24)]
    for frame in frames:
        frame.positions += rng.normal(0.0, 0.05, frame.positions.shape)
    ase.io.write(tmp_path / "frames.extxyz", frames)
    stage = '[[stage]]\nkind = "rerun"\ntrajectory = "frames.extxyz"\n'
    path, tried = input_of(module, tmp_path, "Crystal", stage), []

    def counted(*arguments: Any) -> float:
        tried.append(window.reach_of(*arguments))
        return tried[-1]

    monkeypatch.setattr(external, "reach_of", counted)
    run_in_parts(path, tmp_path / "parts", [7], threads=1)
    assert tried == [FARTHEST]
    simulate(path, tmp_path / "whole", threads=1)
    assert (tmp_path / "parts" / LOG).read_bytes() == (tmp_path / "whole" / LOG).read_bytes()


def test_of_several_calculators_each_has_its_own(module: Path) -> None:
    def made() -> Sum:
        return Sum([own(module, name) for name in ("Springs", "Narrow", "Density", "Lasting")])

    before = made()
    one = before.evaluator(NUMBERS, PBC)
    one.evaluate(START, CELL)
    assert np.isnan(reaches_in(before)["reaches"]).all()
    one.evaluate(START + 0.01, CELL)
    kept = reaches_in(before)
    assert kept["reaches"].tolist() == [REACHES[0], REACHES[1], 0.0, REACHES[0]]
    after = made()
    recall_reaches(after, kept)
    assert [part.reach for part in after.parts] == kept["reaches"].tolist()
    recall_reaches(after, {"reaches": np.full(4, np.nan)})  # of another that had not tried
    assert [part.reach for part in after.parts] == kept["reaches"].tolist()
    assert reaches_in(own(module, "Springs", keep=True)) == {}


def test_what_is_remembered_does_not_hide_that_an_answer_depends_on_the_way(module: Path, tmp_path: Path) -> None:
    potential = own(module, "Density")
    potential.memory = Memory(tmp_path / "answers", "a model")
    one = potential.evaluator(NUMBERS, PBC)
    for positions in walk(2, 0.01):
        one.evaluate(positions, CELL)
    assert potential.reach == 0.0


def test_a_calculator_that_moves_to_another_device_is_given_back(module: Path) -> None:
    potential = External(Recipe("ase", f"{module}:Moving", {}, moves=True), device="cpu")
    potential.ask(NUMBERS, PBC, START, CELL, "cpu")
    before = weakref.ref(potential.calculator)
    potential.calculator_on("meta")
    gc.collect()
    assert before() is None


def test_the_speed_that_is_foretold_is_not_that_of_the_trial(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_preview, "BUDGET", 0.2)  # which the trial takes up
    path = input_of(module, tmp_path, "Lasting", STAGE)
    assert 0.02 <= engine_preview.preview(path).seconds_per_step < 0.1
