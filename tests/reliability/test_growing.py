"""The last stage of a run may become longer; nothing else may change."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import assert_same_run, stopping, write_input

from mlmd.engine.run import simulate
from mlmd.errors import Stopped, StorageError
from mlmd.rundir import open_run

FIRST = '[[stage]]\nkind = "nvt"\ntemperature = ["20 K", "60 K"]\nduration = "{} fs"\n'
LAST = (
    '[[stage]]\nkind = "npt"\ntemperature = "60 K"\npressure = "1 bar"\nduration = "{} fs"\nbarostat = {{ every = 4 }}'
)


def test_a_finished_run_whose_last_stage_grows_is_the_same_as_one_long_run(tmp_path: Path) -> None:
    # the first length is a multiple of no grid: log 10, trajectory 20, barostat 4
    simulate(write_input(tmp_path, (FIRST + LAST).replace("{}", "250", 1).format(505)), tmp_path / "grown", threads=1)
    longer = write_input(tmp_path, (FIRST + LAST).replace("{}", "250", 1).format(1000))
    run = simulate(longer, tmp_path / "grown", threads=1)
    simulate(longer, tmp_path / "one", threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "grown")
    assert run.manifest["state"] == "done"
    assert run.stages == open_run(tmp_path / "one").stages
    assert run.manifest["input"] == open_run(tmp_path / "one").manifest["input"]
    assert (run.path / "input.toml").read_text() == longer.read_text()


def test_an_unfinished_run_may_grow_too(tmp_path: Path) -> None:
    path = write_input(tmp_path, LAST.format(500))
    with pytest.raises(Stopped):
        simulate(path, tmp_path / "grown", threads=1, progress=stopping(tmp_path / "grown", 50))
    longer = write_input(tmp_path, LAST.format(750))
    simulate(longer, tmp_path / "grown", threads=1)
    simulate(longer, tmp_path / "one", threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "grown")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    path = write_input(tmp_path, LAST.format(100))
    simulate(path, tmp_path / "run", threads=1)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir() if file.name != "lock"}
    simulate(path, tmp_path / "run", threads=1)
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        (FIRST.format(250) + LAST.format(250), "a stage cannot shrink"),
        (FIRST.format(500) + LAST.format(500), "only the last stage can grow"),
    ],
)
def test_other_changes_of_length_are_refused(stages: str, reason: str, tmp_path: Path) -> None:
    simulate(write_input(tmp_path, FIRST.format(250) + LAST.format(500)), tmp_path / "run", threads=1)
    with pytest.raises(StorageError, match=reason):
        simulate(write_input(tmp_path, stages), tmp_path / "run", threads=1)


def test_a_ramp_does_not_grow(tmp_path: Path) -> None:
    simulate(write_input(tmp_path, FIRST.format(250)), tmp_path / "run", threads=1)
    with pytest.raises(StorageError, match="its slope would change"):
        simulate(write_input(tmp_path, FIRST.format(500)), tmp_path / "run", threads=1)
