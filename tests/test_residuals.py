"""Structures with wrong labels, found by what a potential that was fitted to them leaves of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from made_data import strained, thermal

from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.train.evaluate import Labels
from mlmd.train.job import prepare
from mlmd.train.residuals import residual_outliers
from mlmd.train.run import train

INPUT = """data = "cu.extxyz"
test_fraction = 0
[descriptor]
level = 6
cutoff = "4.5 Å"
[fit]
radial = "plain"
"""


def moved(frames: Sequence[LabelledFrame], index: int, energy: float = 0.0, force: float = 0.0) -> list[LabelledFrame]:
    """One frame with another energy (eV/atom), or two of its atoms pulled apart (eV/Å)."""
    frame = frames[index]
    assert frame.energy is not None and frame.forces is not None
    forces = frame.forces.copy()
    forces[:2, 0] += [force, -force]
    changed = replace(frame, energy=frame.energy + energy * len(frame.atoms), forces=forces)
    return [*frames[:index], changed, *frames[index + 1 :]]


def near(frames: Sequence[LabelledFrame], energy: float = 2e-3, force: float = 0.05, seed: int = 4) -> list[Labels]:
    """What a potential says that is off by so much on average (eV/atom, eV/Å)."""
    random = np.random.default_rng(seed)
    labels = []
    for frame in frames:
        assert frame.energy is not None and frame.forces is not None
        off = energy * len(frame.atoms) * random.normal()
        labels.append(Labels(frame.energy + off, frame.forces + random.normal(0, force, frame.forces.shape), None))
    return labels


def said(frames: Sequence[LabelledFrame], labels: Sequence[Labels]) -> str:
    found = residual_outliers(frames, labels)
    assert len(found) == 1 and found[0].severity == "warning"
    return found[0].text


def test_sound_residuals_are_not_doubted() -> None:
    frames = [*thermal(20), *strained(10)]
    assert residual_outliers(frames, near(frames)) == []
    assert residual_outliers(frames, near(frames, energy=0.0, force=0.0)) == []
    assert residual_outliers(frames[:9], near(moved(frames, 3, energy=9.0)[:9])) == []  # too few to say what is usual


def test_an_energy_that_stands_out_is_named() -> None:
    frames = [*thermal(20), *strained(10)]
    labels = near(frames)
    text = said(moved(frames, 7, energy=0.37), labels)
    assert "the labels of 1 training structure are far" in text
    assert "cu.xyz@7 (energy +3" in text and "meV/atom). A calculation" in text and "leave it out" in text
    assert "eV/Å" not in text
    # so small an error is within what fits leave
    assert residual_outliers(moved(frames, 7, energy=0.01), labels) == []


def test_a_force_that_stands_out_is_named_and_what_is_worst_comes_first() -> None:
    frames = moved(moved([*thermal(30), *strained(20)], 3, force=8.0), 40, energy=-2.0)
    labels = near([*thermal(30), *strained(20)])
    text = said(frames, labels)
    assert "the labels of 2 training structures are far" in text
    assert text.index("cu.xyz@110 (energy -") < text.index("cu.xyz@3 (a force ")
    many = frames
    for index in (10, 12, 14):
        many = moved(many, index, energy=0.3)
    assert " and 1 more. " in said(many, labels)


def test_a_kind_of_structures_that_is_reproduced_badly_is_not_doubted() -> None:
    frames = [*thermal(200, repeat=1), *strained(16)]
    labels = [*near(frames[:200]), *near(frames[200:], energy=0.3)]
    assert residual_outliers(frames, labels) == []
    # without groups it is not known that they are of a kind
    assert residual_outliers([replace(frame, group="") for frame in frames], labels)


def test_single_atoms_and_missing_labels_are_passed_over() -> None:
    frames = [*thermal(12)]
    atom = LabelledFrame(Atoms("Cu", cell=[20, 20, 20], pbc=True), 9.0, np.zeros((1, 3)), None, "", "cu.xyz@99")
    labels = [*near(frames), Labels(0.0, np.zeros((1, 3)), None)]
    assert residual_outliers([*frames, atom], labels) == []
    without = [replace(frame, forces=None) for frame in moved(frames, 2, energy=0.4)]
    assert "cu.xyz@2" in said(without, labels[:-1])
    only_forces = [replace(frame, energy=None) for frame in moved(frames, 2, force=9.0)]
    assert "cu.xyz@2 (a force 9" in said(only_forces, labels[:-1])


@pytest.mark.parametrize(
    "kind",
    ['kind = "linear"\nradial = "plain"', 'kind = "network"\noptimiser = "kalman"\nepochs = 8\nn_neurons = [8]'],
)
def test_a_training_tells_of_a_wrong_label_and_tells_it_again(tmp_path: Path, kind: str) -> None:
    # 0.2 eV/atom is within what structures of a set differ by, and far beyond what fits leave
    frames = [*thermal(24), *strained(10)]
    source = tmp_path / "in.toml"
    source.write_text(INPUT.replace('radial = "plain"', kind), encoding="utf-8")
    write_labelled(tmp_path / "cu.extxyz", moved(frames, 5, energy=0.2))
    assert prepare(source).findings == ()
    told: list[str] = []
    training = train(source, tmp_path / "bad", n_processes=1, tell=told.append)
    (finding,) = training.findings
    assert "cu.extxyz@5 (energy +1" in finding.text or "cu.extxyz@5 (energy +2" in finding.text
    assert f"warning: {finding.text}" in told
    log = (tmp_path / "bad" / "messages.log").read_text()
    assert log.count(finding.text) == 1
    again: list[str] = []
    assert train(source, tmp_path / "bad", n_processes=1, tell=again.append).findings == training.findings
    assert f"warning: {finding.text}" in again

    write_labelled(tmp_path / "cu.extxyz", frames)
    assert train(source, tmp_path / "good", n_processes=1).findings == ()


@pytest.mark.parametrize("name", ["Cu", "Li", "Si"])
def test_published_sets_are_not_doubted_and_a_gross_error_in_them_is(shared: Path, tmp_path: Path, name: str) -> None:
    source = tmp_path / "in.toml"
    text = INPUT.replace("4.5", "5").replace("level = 6", "level = 12")
    source.write_text(text + "[uncertainty]\ngrade = false\n", encoding="utf-8")
    frames = read_labelled(shared / "mlearn" / f"{name}_train.xyz.xz")[::3]
    assert len(frames[3].atoms) > 50
    for label, some in (("good", frames), ("bad", moved(frames, 3, energy=0.37))):
        write_labelled(tmp_path / "cu.extxyz", some)
        told = [one.text for one in train(source, tmp_path / label, n_processes=1).findings]
        assert any("cu.extxyz@3 (energy +3" in text for text in told) == (label == "bad"), told
        assert label == "bad" or told == []
