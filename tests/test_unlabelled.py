"""Structures without any label among the data: no kind of fit learns from them, and a person is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_data import thermal

from mlmd.io.labelled import write_labelled
from mlmd.train.job import prepare
from mlmd.train.preview import preview
from mlmd.train.property_job import prepare_property
from mlmd.train.run import train

SYMMETRY = '{ kind = "acsf", n_radial = 3, n_angular = 0, cutoff = "4 Å" }'
NETWORK = 'kind = "network", n_neurons = [4]'

FITS = {
    "linear": (SYMMETRY, '"linear"'),
    "moments": ('{ kind = "mtp", level = 4, cutoff = "4 Å" }', '{ kind = "linear", max_iterations = 2 }'),
    "random-features": (SYMMETRY, '{ kind = "random-features", n_random = 20 }'),
    "gap": (SYMMETRY, '{ kind = "gap", n_sparse = 10 }'),
    "kernel": (SYMMETRY, '"kernel"'),
    "adamw": (SYMMETRY, f"{{ {NETWORK}, epochs = 2 }}"),
    "one at a time": (SYMMETRY, f"{{ {NETWORK}, epochs = 1, batch = 1 }}"),
    "kalman": (SYMMETRY, f'{{ {NETWORK}, epochs = 1, optimiser = "kalman" }}'),
    "l-bfgs": (SYMMETRY, f'{{ {NETWORK}, epochs = 2, optimiser = "l-bfgs" }}'),
    "patience": (SYMMETRY, f"{{ {NETWORK}, epochs = 2, patience = 1 }}"),
    "committee": (SYMMETRY, f"{{ {NETWORK}, epochs = 1, members = 2, bootstrap = true }}"),
    "deeppot-se": (
        '{ kind = "deeppot-se", cutoff = "4 Å", n_neurons = [4, 8], n_axes = 2 }',
        f"{{ {NETWORK}, epochs = 1 }}",
    ),
    "nep": (
        '{ kind = "nep", cutoff = "4 Å", n_radial = 2, n_angular = 2 }',
        '{ kind = "network", n_neurons = [4], epochs = 1 }',
    ),
    "agni": ('{ kind = "agni", cutoff = "4 Å", n_radial = 3 }', '{ kind = "agni", n_sparse = 10 }'),
    "kernel-ridge": (f'{{ kind = "average", of = {SYMMETRY} }}', '"kernel-ridge"'),
    "structures": (f'{{ kind = "average", of = {SYMMETRY} }}', '"linear"'),
}
"""Descriptor and fit of every way to train."""


def write_data() -> None:
    """``all.extxyz``, whose second and last structures have no label, and ``some.extxyz`` without these two."""
    frames = thermal(n_frames=12, repeat=1)
    bare = [replace(one, energy=None, forces=None, stress=None) for one in thermal(n_frames=2, repeat=1, seed=9)]
    write_labelled("some.extxyz", frames)
    write_labelled("all.extxyz", [frames[0], bare[0], *frames[1:], bare[1]])


def written(data: str, descriptor: str, fit: str, more: str = "test_fraction = 0") -> Path:
    """An input of the name of its data."""
    path = Path(f"{data}.toml")
    path.write_text(f'data = "{data}.extxyz"\n{more}\ndescriptor = {descriptor}\nfit = {fit}\n', encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", FITS)
def test_what_has_no_label_changes_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data()
    done = train(written("all", *FITS[kind]), n_processes=1)
    (text,) = (one.text for one in done.findings if "all.extxyz@1, all.extxyz@13" in one.text)
    assert text.startswith("2 ")
    some = written("some", *FITS[kind])
    job = prepare_property(some) if kind in ("kernel-ridge", "structures") else prepare(some)
    assert len(job.train) == 12 and not any("some.extxyz@" in one.text for one in job.findings)
    assert json.loads((done.path / "train.json").read_text())["digest"] == job.digest


def test_a_check_tells_of_structures_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_data()
    found = preview(written("all", *FITS["adamw"]))
    assert found.n_frames == 12
    (note,) = (one for one in found.notes if "no label" in one)
    assert note == "2 structures have no label and are not used: all.extxyz@1, all.extxyz@13. Is that meant?"


def test_structures_to_test_on_without_labels_are_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_data()
    done = train(written("some", *FITS["linear"], 'test = "all.extxyz"'), n_processes=1)
    assert any(one.text.startswith("2 structures have no label") for one in done.findings)
    table = done.errors["test"]
    assert table is not None and table.row("energy").n == 12


def test_energies_are_no_labels_where_forces_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = thermal(n_frames=6, repeat=1)
    write_labelled("some.extxyz", [replace(frames[0], forces=None), *frames[1:]])
    job = prepare(written("some", *FITS["agni"]))
    (text,) = (one.text for one in job.findings if "not used" in one.text)
    assert text == "1 structure has no forces and is not used: some.extxyz@0. Is that meant?"
