"""`mlmd check` of sparse Gaussian processes: it counts their points without choosing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_data import strained, thermal

from mlmd.io.labelled import write_labelled
from mlmd.train import regressor
from mlmd.train.job import prepare
from mlmd.train.preview import preview
from mlmd.train.regressor import distinct

ACSF = '{ kind = "acsf", cutoff = "4.5 Å", n_radial = 4, n_angular = 1 }'
SOAP = '{ kind = "soap", cutoff = "4 Å", n_max = 3, l_max = 2 }'
INPUTS = {
    "all": f'descriptor = {ACSF}\nfit = {{ kind = "gap", n_sparse = 1000 }}',
    "farthest": f'descriptor = {ACSF}\nfit = {{ kind = "gap", n_sparse = 20 }}',
    "cur": f'descriptor = {SOAP}\nfit = {{ kind = "gap", n_sparse = 20, selection = "cur" }}',
    "two": f'descriptor = [{ACSF}, {SOAP}]\nfit = {{ kind = "gap", n_sparse = [12, 900] }}',
    "agni": 'descriptor = { kind = "agni", cutoff = "4.5 Å" }\nfit = { kind = "agni", n_sparse = 15 }',
    "all of agni": 'descriptor = { kind = "agni", cutoff = "4.5 Å" }\nfit = { kind = "agni", n_sparse = 1500 }',
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, which is also the current one: copper and silver, in perfect cells atoms that are alike."""
    monkeypatch.chdir(tmp_path)
    frames = [*thermal(4, repeat=2), *strained(6)]
    for frame in frames:
        frame.atoms.numbers[::4] = 47
    write_labelled(tmp_path / "data.extxyz", [*frames, *frames[:3]])
    return tmp_path


@pytest.mark.parametrize("name", INPUTS)
def test_a_check_counts_the_points_that_a_training_chooses(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = place / "in.toml"
    source.write_text(f'data = "data.extxyz"\n{INPUTS[name]}\n', encoding="utf-8")
    job = prepare(source)
    chosen = job.potential.regressor
    assert isinstance(chosen, torch.nn.Module)

    def refuse(*given: object) -> None:
        raise AssertionError("points were chosen")

    for way in ("farthest", "cur"):
        monkeypatch.setattr(regressor, way, refuse)
    found, counted = preview(source), prepare(source, any_points=True).potential.regressor
    assert isinstance(counted, torch.nn.Module)
    assert found.n_linear == sum(one.numel() for one in chosen.parameters())
    shapes = {key: one.shape for key, one in chosen.state_dict().items()}
    assert {key: one.shape for key, one in counted.state_dict().items()} == shapes
    for key, one in chosen.state_dict().items():
        if key.endswith(("shift", "scale", "point_kinds")):
            assert torch.equal(counted.state_dict()[key], one)
    if name == "all":  # alike ones count once
        assert 20 < len(chosen.state_dict()["point_kinds"]) < sum(len(frame.atoms) for frame in job.train)
    if name == "two":
        assert "24 atoms" in found.model  # twelve of each element


def test_the_first_different_rows_are_those_of_all_of_them() -> None:
    random = np.random.default_rng(0)
    rows = torch.from_numpy(random.standard_normal((50, 3))[random.integers(0, 50, 400)])
    every = distinct(rows)
    assert 40 < len(every) < 51
    for most in (1, 2, 7, len(every) - 1, len(every), len(every) + 1, 1000):
        assert torch.equal(distinct(rows, most), every[:most])
