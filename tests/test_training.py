"""Training as mathematics: what is found again, what never rises, and that it is the same to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from kept_states import check_every_state, set_back
from made_data import strained, thermal

from mlmd.config import Train
from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError, Stopped, StorageError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.train import checkpoint
from mlmd.train.curve import learning_curve, triangles
from mlmd.train.dataset import smallest_distance
from mlmd.train.evaluate import errors, predict
from mlmd.train.figures import learning_figure
from mlmd.train.job import prepare
from mlmd.train.optimise import State, _reject, _Rules
from mlmd.train.run import Step, train
from mlmd.train.shards import solver
from mlmd.train.start import start

INPUT = """data = "data.extxyz"
test_fraction = 0.25
[descriptor]
level = {level}
cutoff = "4.5 Å"
n_chebyshev = 4
[fit]
radial = "{radial}"
"""


def write_input(folder: Path, level: int = 6, radial: str = "optimise", iterations: int = 4) -> Path:
    path = folder / "in.toml"
    steps = f"max_iterations = {iterations}\n" if radial == "optimise" else ""
    path.write_text(INPUT.format(level=level, radial=radial) + steps, encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", [*thermal(8), *strained(8)])
    return tmp_path


def taught(elements: tuple[str, str], n_frames: int) -> list[LabelledFrame]:
    """Structures of two elements, labelled by a moment tensor potential with random numbers."""
    generator = np.random.default_rng(5)
    frames = []
    for index in range(n_frames):
        atoms = bulk("Cu", cubic=True, a=3.7) * (2, 1, 1)
        atoms.positions += 0.15 * generator.standard_normal(atoms.positions.shape)
        atoms.symbols = generator.permutation([*([elements[0]] * 5), *([elements[1]] * 3)]).tolist()
        frames.append(LabelledFrame(atoms, None, None, None, "", f"taught@{index}"))
    teacher = teacher_of(frames, elements)
    labelled = []
    for frame in frames:
        said = teacher.predict(build_graph(frame.atoms, teacher.cutoff))
        labels = float(said.energy[0]), said.forces.numpy(), said.stress[0].numpy()
        labelled.append(LabelledFrame(frame.atoms, *labels, "", frame.source))
    return labelled


def teacher_of(frames: list[LabelledFrame], elements: tuple[str, str]) -> LearnedPotential:
    """A potential like the one that is trained, with other radial functions."""
    table = {"data": "data.extxyz", "descriptor": {"level": 6, "cutoff": "4.5 Å", "n_chebyshev": 4}}
    config = Train.model_validate(table, context={"folder": Path()})
    teacher = start(config, frames, smallest_distance(frames), elements)
    generator = torch.Generator().manual_seed(1)
    moments, linear = teacher.descriptor, teacher.expansion
    assert isinstance(moments, Moments)
    noise = torch.randn(moments.radial.coefficients.shape, generator=generator, dtype=torch.float64)
    moments.radial.coefficients.add_(0.4 * noise)
    linear.coefficients.copy_(0.1 * torch.randn(moments.n_features, generator=generator, dtype=torch.float64))
    linear.constants.copy_(torch.tensor([-1.0, -2.0], dtype=torch.float64))
    return teacher


def test_a_potential_of_the_same_form_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # from other radial functions: what remains is a thousandth of what a linear fit leaves
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", taught(("Cu", "Ag"), 24))
    plain = train(write_input(tmp_path, radial="plain"), tmp_path / "plain", n_processes=1)
    best = train(write_input(tmp_path, iterations=60), tmp_path / "best", n_processes=1)
    assert plain.errors["test"] is not None and best.errors["test"] is not None
    for quantity in ("energy", "forces", "stress"):
        assert best.errors["test"].row(quantity).rmse < 1e-3 * plain.errors["test"].row(quantity).rmse, quantity


def test_the_loss_never_rises(place: Path) -> None:
    result = train(write_input(place, iterations=12), n_processes=1)
    state = checkpoint.read(result.path, json.loads((result.path / "train.json").read_text())["digest"])
    assert state is not None
    first, *rest = state.history
    assert [first, *rest] == sorted([first, *rest], reverse=True)
    assert rest[-1] < 0.8 * first
    assert state.best == rest[-1]


def test_another_zero_of_energy_changes_the_constants_only(place: Path) -> None:
    first = train(write_input(place, radial="plain"), place / "first", n_processes=1)
    frames = read_labelled(place / "data.extxyz")
    moved = [replace(frame, energy=(frame.energy or 0.0) + 1000.0 * len(frame.atoms)) for frame in frames]
    write_labelled(place / "data.extxyz", moved)
    second = train(write_input(place, radial="plain"), place / "second", n_processes=1)
    one, other = modelfile.load(first.model), modelfile.load(second.model)
    graph = build_graph(frames[0].atoms, one.cutoff)
    before, after = one.predict(graph), other.predict(graph)
    # energies of 1000 eV an atom have 12 digits behind them
    assert float(after.energy - before.energy) == pytest.approx(1000.0 * len(frames[0].atoms), abs=1e-7)
    assert after.forces.numpy() == pytest.approx(before.forces.numpy(), abs=1e-7)


def test_the_errors_in_the_card_are_those_of_the_file(place: Path) -> None:
    result = train(write_input(place, radial="plain"), n_processes=1)
    job = prepare(place / "in.toml")
    table = errors(job.test, predict(modelfile.load(result.model), job.test))
    assert modelfile.read_card(result.model)["errors"]["test"] == table.to_json()


def test_the_file_is_the_same_whatever_the_number_of_processes_and_threads(place: Path) -> None:
    # each in a fresh interpreter, since a process keeps its number of threads; triangles large enough to be divided
    write_input(place, level=8, iterations=2)
    files = set()
    for n_processes, n_threads in ((1, 1), (2, 2), (1, 2)):
        out = f"{n_processes}-{n_threads}"
        command = [sys.executable, "-m", "mlmd", "train", "in.toml", "--out", out, "--processes", str(n_processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
        subprocess.run([*command, "--quiet"], check=True, env=environment, timeout=300)
        files.add((place / out / "in.mlmd").read_bytes())
    assert len(files) == 1


def test_what_is_taken_from_the_data_does_not_depend_on_the_number_of_threads(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # points, scales and functions are chosen by sums and decompositions, which torch divides otherwise
    before, seen = torch.get_num_threads(), []

    def begin(*arguments: Any, **options: Any) -> LearnedPotential:
        seen.append(torch.get_num_threads())
        return start(*arguments, **options)

    monkeypatch.setattr("mlmd.train.job.start", begin)
    torch.set_num_threads(2)
    try:
        train(write_input(place, iterations=1), n_processes=1)
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


@pytest.mark.parametrize("n_processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_file(place: Path, n_processes: int) -> None:
    whole = train(write_input(place, iterations=8), place / "whole", n_processes=1)
    command = [sys.executable, "-m", "mlmd", "train", "in.toml", "--out", "killed", "--processes", str(n_processes)]
    waits = random.Random(n_processes)
    n_killed = 0
    for _ in range(12):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = (place / "killed" / "checkpoint.safetensors").exists()
        deadline = time.monotonic() + 60
        if not begun:  # the first ones are slow to start: wait until there is something to lose
            while not (place / "killed" / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        else:
            time.sleep(waits.uniform(0.5, 4.0))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_killed += 1
        if n_killed == 5:
            break
    assert n_killed >= 1
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert (place / "killed" / "in.mlmd").read_bytes() == whole.model.read_bytes()


def test_every_state_that_is_kept_leads_to_the_same_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, states = check_every_state(
        write_input(place, iterations=2), place / "whole", monkeypatch, lambda n: range(1, n, 9)
    )
    assert len(states) > 9


def flipped(content: bytes) -> bytes:
    """One bit of the last number changed."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:100] + b"\0" * 50 + b[150:], flipped])
def test_a_damaged_checkpoint_is_refused_by_name(place: Path, damage: Callable[[bytes], bytes]) -> None:
    result = train(write_input(place), n_processes=1)
    set_back(result.path, damage((result.path / checkpoint.FILE).read_bytes()))
    with pytest.raises(StorageError, match=r"checkpoint\.safetensors is damaged"):
        train(place / "in.toml", n_processes=1)


def test_changed_data_are_refused(place: Path) -> None:
    train(write_input(place), n_processes=1)
    frames = read_labelled(place / "data.extxyz")
    write_labelled(place / "data.extxyz", frames[:-1])
    with pytest.raises(StorageError, match="belongs to other data"):
        train(place / "in.toml", n_processes=1)


def test_groups_are_part_of_the_data(place: Path) -> None:
    # loss.groups and the split depend on them
    train(write_input(place), n_processes=1)
    frames = read_labelled(place / "data.extxyz")
    write_labelled(place / "data.extxyz", [replace(frame, group=f"other {frame.group}") for frame in frames])
    with pytest.raises(StorageError, match="belongs to other data"):
        train(place / "in.toml", n_processes=1)


def test_a_part_of_the_data_leads_to_all_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # few equations are enough here, so that the first steps are those of a quarter of the shards
    monkeypatch.setattr("mlmd.train.optimise._ENOUGH_ROWS", 1)
    took_part: list[int] = []
    write = checkpoint.write

    def remember(folder: Path, state: State, key: str) -> None:
        write(folder, state, key)
        took_part.append(state.n_shards)

    monkeypatch.setattr(checkpoint, "write", remember)
    for iterations in (1, 2, 3, 12):
        took_part.clear()
        source = write_input(place, iterations=iterations)
        result = train(source, place / str(iterations), n_processes=1)
        assert took_part == sorted(took_part)
        assert (took_part[0], took_part[-1]) == (3, 12)  # as many shards as there are structures, 12
        state = checkpoint.read(result.path, prepare(source).digest)
        assert state is not None
        assert state.n_iterations == iterations if iterations < 12 else 3 < state.n_iterations <= 12
        for losses in (state.of_part, state.history):
            assert len(losses) and list(losses) == sorted(losses, reverse=True)
        card = modelfile.read_card(result.model)
        assert card["iterations"] == state.n_iterations
        assert card["loss"] == state.history[-1] == state.best
    job = prepare(source)
    with solver(job.problem, 1) as compute:
        curve = learning_curve(job, state, triangles(job, state, compute, lambda done, total: None), None)
    assert (curve.losses, curve.losses_of_part, curve.n_of_part) == ((state.history,), state.of_part, 3)
    part, whole = learning_figure(curve).axes[0].lines
    of_part, of_all = (np.asarray(line.get_xdata()) for line in (part, whole))
    assert of_all[-1] == state.n_iterations
    assert of_part[-1] == of_all[0] == len(state.of_part) - 1


def test_without_a_part_iterations_are_counted_as_the_option_counts_them(place: Path) -> None:
    source = write_input(place, iterations=2)
    result = train(source, n_processes=1)
    state = checkpoint.read(result.path, prepare(source).digest)
    assert state is not None and state.of_part == ()
    assert modelfile.read_card(result.model)["iterations"] == state.n_iterations == 2 == len(state.history) - 1


def test_steps_that_are_not_accepted_count_too() -> None:
    state = State(
        np.zeros(1), np.zeros(2), 4, best=1.0, best_radial=np.ones(1), best_linear=np.ones(2), history=(2.0, 1.0)
    )
    rules = _Rules(1, 2, True, 4, True, max_iterations=50, tolerance=0.0, regularisation=0.0, stronger=torch.ones_like)
    after = _reject(state, rules)
    assert (after.history, after.n_iterations) == ((2.0, 1.0, 1.0), 2)


@pytest.mark.parametrize("radial", ["plain", "optimise"])
def test_a_learning_curve_is_the_same_from_triangles_that_are_kept_and_from_new_ones(place: Path, radial: str) -> None:
    source = write_input(place, radial=radial, iterations=2)
    result = train(source, n_processes=1)
    state = checkpoint.read(result.path, json.loads((result.path / "train.json").read_text())["digest"])
    assert state is not None
    assert len(state.outcomes) == (12 if radial == "plain" else 0)  # as many shards as structures
    job = prepare(source)
    with solver(job.problem, 1) as compute:
        kept, new = (
            learning_curve(job, one, triangles(job, one, compute, lambda done, total: None), None)
            for one in (state, replace(state, outcomes={}))
        )
    assert kept == new


def test_a_part_that_cannot_be_improved_is_not_the_end() -> None:
    state = State(np.zeros(1), np.zeros(2), 4, best=1.0, best_radial=np.ones(1), best_linear=np.ones(2), n_steps=99)
    rules = _Rules(1, 2, True, 16, True, max_iterations=50, tolerance=0.0, regularisation=0.0, stronger=torch.ones_like)
    after = _reject(state, rules)
    assert (after.finished, after.n_shards, after.radial.tolist()) == (False, 16, [1.0])
    assert _reject(replace(after, n_shards=16), rules).finished


def test_perfect_crystals_at_rest_have_nothing_to_teach(place: Path) -> None:
    atoms = bulk("Cu", cubic=True, a=3.6)
    frame = LabelledFrame(atoms, -1.0, np.zeros((4, 3)), None, "", "rest@0")
    write_labelled(place / "data.extxyz", [frame])
    with pytest.raises(InputError, match="no forces"):
        train(write_input(place), n_processes=1)


def test_an_isolated_atom_has_the_energy_of_the_baseline(place: Path) -> None:
    source = write_input(place, radial="plain")
    text = source.read_text()
    atom = Atoms("Cu", cell=[20, 20, 20], pbc=True)
    for given in (0.0, -3.5):
        source.write_text(f'baseline = {{ Cu = "{given} eV" }}\n{text}')
        potential = modelfile.load(train(source, place / str(given), n_processes=1).model)
        assert float(potential.predict(build_graph(atom, potential.cutoff)).energy) == pytest.approx(given, abs=1e-12)


def test_an_element_without_data_is_refused(place: Path) -> None:
    source = write_input(place)
    source.write_text('elements = ["Cu", "Ag"]\n' + source.read_text())
    with pytest.raises(InputError, match="Ag occurs in no training structure"):
        train(source, n_processes=1)
    assert not (place / "in.run").exists()


def test_files_that_are_gone_after_a_training_are_missed(place: Path) -> None:
    result = train(write_input(place, radial="plain"), n_processes=1)
    content = result.model.read_bytes()
    result.model.unlink()
    with pytest.raises(StorageError, match="missing or damaged"):
        train(place / "in.toml", n_processes=1)
    result.model.write_bytes(content)
    (result.path / "errors.json").write_text("{")
    with pytest.raises(StorageError, match="missing or damaged"):
        train(place / "in.toml", n_processes=1)


def test_an_interrupt_while_the_data_of_a_finished_training_are_read_leaves_it_finished(place: Path) -> None:
    write_input(place)
    done = train("in.toml", n_processes=1)
    manifest, model = (done.path / "train.json").read_bytes(), done.model.read_bytes()

    def interrupt(step: Step) -> None:
        if step.what == "reading the data":
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="the training is done already"):
        train("in.toml", n_processes=1, progress=interrupt)
    assert (done.path / "train.json").read_bytes() == manifest
    seen: list[str] = []
    train("in.toml", n_processes=1, progress=lambda step: seen.append(step.what))
    assert set(seen) == {"reading the data"} and done.model.read_bytes() == model


def test_the_card_follows_the_input(place: Path) -> None:
    source = write_input(place, radial="plain")
    train(source, n_processes=1)
    source.write_text(source.read_text() + '[card]\nlicence = "CC0-1.0"\n')
    result = train(source, n_processes=1)
    assert modelfile.read_card(result.model)["licence"] == "CC0-1.0"
    fresh = train(source, place / "fresh", n_processes=1)
    assert modelfile.load(fresh.model).state_dict().keys() == modelfile.load(result.model).state_dict().keys()


def test_a_min_distance_beyond_the_data_is_warned_of(place: Path) -> None:
    source = write_input(place, radial="plain")
    source.write_text(source.read_text().replace("[descriptor]", '[descriptor]\nmin_distance = "3 Å"'))
    findings = train(source, n_processes=1).findings
    assert any("longer than the shortest distance" in finding.text for finding in findings)
