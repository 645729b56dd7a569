"""A run with an adaptive biasing force that was stopped or killed goes on as if it had never stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
import pytest
from processes import killed_at_every_write, mlmd
from runs import assert_same_run, run_in_parts, write_input

from mlmd.analysis.abf import read_tables
from mlmd.engine import checkpoint
from mlmd.engine.run import simulate
from mlmd.rundir import CHECKPOINTS

DIMER = ase.Atoms("Ar2", [[1.0, 1.0, 1.0], [4.0, 2.0, 3.0]], cell=[20.0] * 3, pbc=True)
STAGE = (
    '[[stage]]\nkind = "{kind}"\ntemperature = "100 K"\nduration = "{duration}"\n{more}\n'
    'bias = [{{ kind = "abf", cv = {{ kind = "distance", atoms = [0, 1] }}, minimum = "2 Å", maximum = "6 Å", '
    'width = "0.2 Å", full_samples = 10, write_every = "500 fs", extended = {extended} }}]\n'
)
PRESSED = 'pressure = "20 bar"\nbarostat = { kind = "isotropic", every = 5 }'
TABLES = ("abf.dat", "abf_history.dat")


def adaptive_input(
    folder: Path,
    *,
    extended: bool = True,
    pressed: bool = False,
    stages: int = 1,
    duration: str = "5 ps",
    every: float = 60.0,
) -> Path:
    """Two argon atoms whose distance feels an adaptive force; 5 fs a step."""
    stage = STAGE.format(
        kind="npt" if pressed else "nvt",
        duration=duration,
        more=PRESSED if pressed else "",
        extended=str(extended).lower(),
    )
    output = f'log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = {every}\n'
    return write_input(folder, stage * stages, atoms=DIMER, output=output + "[guard]\nenabled = false")


def assert_same_adaptive_run(one: Path, other: Path) -> None:
    """Log, trajectory, tables and every number of the last checkpoint."""
    assert_same_run(one, other, TABLES)
    rows = [
        [line for line in (folder / "COLVAR").read_text().splitlines() if line[0] != "#"]  # PLUMED repeats its header
        for folder in (one, other)
    ]
    assert rows[0] == rows[1]
    last = [checkpoint.newest(folder / CHECKPOINTS)[0] for folder in (one, other)]
    assert last[0] is not None and last[1] is not None
    names = [name for name in last[0].arrays if name.startswith("bias/")]
    assert len(names) >= 4
    for name in names:
        assert np.array_equal(last[0].arrays[name], last[1].arrays[name]), name


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_400_and_600_steps_are_1000_steps(extended: bool, tmp_path: Path) -> None:
    path = adaptive_input(tmp_path, extended=extended)
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [400], threads=1)
    run_in_parts(path, tmp_path / "more parts", [10, 100, 310, 990], threads=1)
    for other in ("parts", "more parts"):
        assert_same_adaptive_run(tmp_path / "one", tmp_path / other)
    history = list(read_tables(tmp_path / "one" / "abf_history.dat"))
    assert [table.step for table in history] == list(range(100, 1001, 100))
    # it did act: a dimer at rest would not have seen so many bins
    assert np.count_nonzero(history[-1].samples >= 10) > 5


def test_extended_variables_under_pressure_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    # trial volumes ask for the bias within a step, and move no extended variable
    path = adaptive_input(tmp_path, pressed=True, duration="2 ps")
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [100, 250], threads=1)
    assert_same_adaptive_run(tmp_path / "one", tmp_path / "parts")
    (table,) = read_tables(tmp_path / "one" / "abf.dat")
    assert table.extended is not None
    assert table.extended.sum() <= 401


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_an_adaptive_force_goes_on_through_the_next_stage(extended: bool, tmp_path: Path) -> None:
    path = adaptive_input(tmp_path, extended=extended, stages=2, duration="2500 fs")
    simulate(path, tmp_path / "two", threads=1)
    run_in_parts(path, tmp_path / "parts", [300, 700], threads=1)
    assert_same_adaptive_run(tmp_path / "two", tmp_path / "parts")
    assert [table.step for table in read_tables(tmp_path / "two" / "abf_history.dat")] == list(range(100, 1001, 100))
    (table,) = read_tables(tmp_path / "two" / "abf.dat")
    assert table.samples.sum() > 600  # of both stages, in which the dimer also leaves the range


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_an_adaptive_force_killed_at_every_write_is_whole(extended: bool, tmp_path: Path) -> None:
    path, errors = adaptive_input(tmp_path, extended=extended, duration="1 ps", every=0.03), tmp_path / "errors"
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0, errors.read_text()
    assert killed_at_every_write(path, tmp_path / "killed", errors, first=2) > 8
    assert_same_adaptive_run(tmp_path / "one", tmp_path / "killed")
