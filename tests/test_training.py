"""Training as mathematics: what is found again, what never rises, and that it is the same to the last bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from made_data import strained, thermal

from mlmd.config import Train
from mlmd.errors import StorageError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.train import checkpoint
from mlmd.train.evaluate import errors, predict
from mlmd.train.job import prepare, start
from mlmd.train.run import train

INPUT = """data = "data.extxyz"
test_fraction = 0.25
[model]
level = {level}
cutoff = "4.5 Å"
n_chebyshev = 4
[fit]
radial = "{radial}"
max_iterations = {iterations}
"""


def write_input(folder: Path, level: int = 6, radial: str = "optimise", iterations: int = 4) -> Path:
    path = folder / "in.toml"
    path.write_text(INPUT.format(level=level, radial=radial, iterations=iterations), encoding="utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", [*thermal(12), *strained(8)])
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
    table = {"data": "data.extxyz", "model": {"level": 6, "cutoff": "4.5 Å", "n_chebyshev": 4}}
    config = Train.model_validate(table, context={"folder": Path()})
    teacher = start(config, frames, elements)
    generator = torch.Generator().manual_seed(1)
    moments, linear = teacher.moments_and_linear()
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
    assert rest == sorted(rest, reverse=True)
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


def test_the_file_is_the_same_whatever_the_number_of_processes(place: Path) -> None:
    one = train(write_input(place), place / "one", n_processes=1)
    two = train(write_input(place), place / "two", n_processes=2)
    assert one.model.read_bytes() == two.model.read_bytes()


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
    source = write_input(place, iterations=3)
    kept: list[bytes] = []
    write = checkpoint.write

    def remember(folder: Path, state: object, key: str) -> None:
        write(folder, state, key)  # type: ignore[arg-type]
        kept.append((folder / checkpoint.FILE).read_bytes())

    monkeypatch.setattr(checkpoint, "write", remember)
    whole = train(source, place / "whole", n_processes=1)
    expected, states = whole.model.read_bytes(), list(kept)
    manifest = json.loads((whole.path / "train.json").read_text())
    for number in range(1, len(states), 7):
        (whole.path / checkpoint.FILE).write_bytes(states[number])
        (whole.path / "train.json").write_text(json.dumps({**manifest, "state": "running"}))
        assert train(source, place / "whole", n_processes=1).model.read_bytes() == expected, number


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:100] + b"\0" * 50 + b[150:]])
def test_a_damaged_checkpoint_is_refused_by_name(place: Path, damage: Callable[[bytes], bytes]) -> None:
    result = train(write_input(place), n_processes=1)
    path = result.path / checkpoint.FILE
    path.write_bytes(damage(path.read_bytes()))
    manifest = json.loads((result.path / "train.json").read_text())
    (result.path / "train.json").write_text(json.dumps({**manifest, "state": "running"}))
    with pytest.raises(StorageError, match=r"checkpoint\.safetensors is damaged"):
        train(place / "in.toml", n_processes=1)


def test_changed_data_are_refused(place: Path) -> None:
    train(write_input(place), n_processes=1)
    frames = read_labelled(place / "data.extxyz")
    write_labelled(place / "data.extxyz", frames[:-1])
    with pytest.raises(StorageError, match="belongs to other data"):
        train(place / "in.toml", n_processes=1)
