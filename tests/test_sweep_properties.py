"""`mlmd sweep` of a property of whole structures: the errors of every descriptor with every fit, in its unit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write
from command_line import mlmd
from known_molecules import made

from mlmd.errors import Stopped
from mlmd.potentials.load import load_property
from mlmd.train.sweep import SweepStep, sweep

INPUT = """data = "molecules.extxyz"
test = "test.extxyz"
property = { name = "spread", unit = "1/Å" }

[sweep]
descriptor = [
  "coulomb",
  [{ kind = "coulomb", form = "eigenspectrum" },
   { kind = "average", of = { kind = "acsf", n_radial = 4, n_angular = 1 } }],
]
fit = ["linear", "kernel-ridge"]
"""
LABELS = ("coulomb, linear", "coulomb, kernel-ridge")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Distorted molecules with a made-up number, the sum of inverse distances, and an input; the current folder."""
    monkeypatch.chdir(tmp_path)
    for file, seeds in (("molecules.extxyz", range(4)), ("test.extxyz", range(4, 6))):
        write(file, [made(name, seed) for name in ("CH4", "H2O", "NH3", "CO2", "C2H2", "CH3OH") for seed in seeds])
    Path("in.toml").write_text(INPUT, encoding="utf-8")
    return tmp_path


def test_the_table_has_the_errors_that_the_models_make(place: Path) -> None:
    answer = mlmd("sweep", "in.toml")
    assert answer.code == 0, answer.err
    assert "MAE, spread [1/Å]" in answer.out and "RMSE, spread [1/Å]" in answer.out and "meV" not in answer.out
    with Path("in.sweep/sweep.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["descriptor"] for row in rows] == ["coulomb", "coulomb", "coulomb + average", "coulomb + average"]
    assert {"MAE, spread [1/Å]", "RMSE, spread [1/Å]", "training (s)", "evaluation (µs/atom)"} < rows[0].keys()
    assert not any("meV" in key or "MPa" in key for key in rows[0])
    structures = read("test.extxyz", index=":")
    given = np.array([atoms.info["spread"] for atoms in structures])
    for row in rows:
        model = load_property(Path("in.sweep") / row["model"])
        assert model is not None
        error = model.values(structures) - given
        assert float(row["MAE, spread [1/Å]"]) == pytest.approx(np.abs(error).mean(), rel=1e-6)
        assert float(row["RMSE, spread [1/Å]"]) == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-6)
        assert float(row["evaluation (µs/atom)"]) > 0 and float(row["training (s)"]) > 0
    # the smallest mean absolute error is beaten by none
    assert min(rows, key=lambda row: float(row["MAE, spread [1/Å]"]))["best"] == "True"
    assert Path("in.sweep/pareto.png").exists()


def test_a_sweep_that_was_stopped_continues_and_keeps_what_is_done(place: Path) -> None:
    def interrupt(step: SweepStep) -> None:
        if step.label == LABELS[1]:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        sweep("in.toml", progress=interrupt)
    (first,) = (one for one in json.loads(Path("in.sweep/sweep.json").read_text())["outcomes"] if one["model"])
    assert first["label"] == LABELS[0]
    result = sweep("in.toml")
    assert all(one.model and one.mae is not None and one.quantity == "spread [1/Å]" for one in result.outcomes)
    assert len(result.outcomes) == 4
    again = result.outcomes[0]
    assert (again.mae, again.seconds, again.microseconds) == (first["mae"], first["seconds"], first["microseconds"])


def test_check_lists_the_trainings_of_a_property_and_writes_nothing(place: Path) -> None:
    before = sorted(place.iterdir())
    answer = mlmd("check", "in.toml")
    assert answer.code == 0, answer.err
    assert "spread [1/Å]: mean" in answer.out and "features of coulomb + average, kernel-ridge" in answer.out
    found = json.loads(mlmd("check", "in.toml", "--json").out)["inputs"][0]
    assert found["n_trainings"] == 4
    assert sorted(place.iterdir()) == before
