"""Simulated annealing: the thermostat goes through the temperatures of a schedule, also across an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import mlmd
from runs import assert_same_run, read_log, run_in_parts, write_input

from mlmd import config
from mlmd.config.replicas import load_replicas
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.trajectories import open_run as open_frames
from mlmd.rundir import open_run

MELT = "{ points = [30, 150, 150, 30], cycles = 2 }"
QUENCH = '{ points = ["160 K", "20 K"], shape = "exponential" }'


def stage(temperature: str, kind: str = "nvt", duration: str = "3 ps") -> str:
    """A stage with this temperature; a step is 5 fs."""
    pressure = '\npressure = "1 bar"\nbarostat = { every = 4 }' if kind == "npt" else ""
    return f'[[stage]]\nkind = "{kind}"\ntemperature = {temperature}\nduration = "{duration}"{pressure}\n'


def targets(folder: Path, temperature: str) -> tuple[np.ndarray, np.ndarray]:
    """Share of the stage and target temperature in K, of the lines of the log."""
    log = read_log(simulate(write_input(folder, stage(temperature)), folder / "run", threads=1))
    return log["step"] / 600, log["target temperature"]


def test_a_cycle_melts_holds_and_quenches_as_often_as_it_says(tmp_path: Path) -> None:
    share, target = targets(tmp_path, MELT)
    corners = np.array([30, 150, 150, 30, 150, 150, 30.0])
    assert target == pytest.approx(np.interp(share, np.linspace(0, 1, 7), corners))  # lines fall on the grid of ramps
    assert target.max() == 150 and target[-1] == 30


def test_an_exponential_schedule_cools_by_the_same_factor_in_equal_times(tmp_path: Path) -> None:
    share, target = targets(tmp_path, QUENCH)
    assert target == pytest.approx(160 * (20 / 160) ** share)
    assert target[1:] / target[:-1] == pytest.approx(np.full(len(target) - 1, (20 / 160) ** (1 / 60)))


def test_a_schedule_of_two_points_is_the_ramp_bit_for_bit(tmp_path: Path) -> None:
    for name, temperature in (("ramp", "[30, 120]"), ("schedule", "{ points = [30, 120] }")):
        path = write_input(tmp_path / name, stage(temperature, duration="1 ps"))
        simulate(path, tmp_path / name / "run", threads=1)
    assert_same_run(tmp_path / "ramp" / "run", tmp_path / "schedule" / "run")


def test_the_atoms_follow_slowly_enough_changed_targets(tmp_path: Path) -> None:
    # friction of 10 / ps: the kinetic energy follows within 0.1 ps; 32 atoms fluctuate by 14 %, their mean of 60 lines
    # by 2 to 4 %, a lag of 0.1 ps on slopes of 24 K / ps is 2 K
    thermostat = 'thermostat = { kind = "langevin", friction = "10 / ps" }\n'
    path = write_input(tmp_path, stage("{ points = [30, 150, 30] }", duration="10 ps") + thermostat)
    log = read_log(simulate(path, tmp_path / "run", threads=1))
    for part in np.array_split(np.arange(1, len(log["step"])), 4):
        assert log["temperature"][part].mean() == pytest.approx(log["target temperature"][part].mean(), rel=0.15)


@pytest.mark.parametrize("kind", ["nvt", "npt"])
def test_a_stopped_and_continued_schedule_is_the_same_as_one_run(kind: str, tmp_path: Path) -> None:
    temperature = '{ points = ["30 K", "150 K", "30 K"], cycles = 2, shape = "exponential" }'
    path = write_input(tmp_path, stage(temperature, kind, "1 ps"))
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 50, 110, 190], threads=1)  # on a corner, and between
    assert_same_run(tmp_path / "one", tmp_path / "parts")


def test_a_cycle_that_ends_where_it_began_counts_as_a_ramp(tmp_path: Path) -> None:
    path = write_input(tmp_path, stage(MELT, duration="1 ps"))
    run = simulate(path, tmp_path / "run", threads=1)
    with pytest.raises(InputError, match=r"goes through 30→150→150→…→150→30 K, and an average over temperatures"):
        open_frames(run.path)
    path.write_text(path.read_text().replace("1 ps", "2 ps"))
    answer = mlmd("simulate", path, "--out", run.path)
    assert answer.code == 4 and "a ramp cannot grow" in answer.err
    entry = json.loads(mlmd("check", path, "--json").out)["inputs"][0]
    assert entry["stages"] == ["nvt 30→150→150→…→150→30 K 2 ps"]


def test_the_manifest_of_a_run_without_schedules_is_what_it_was(tmp_path: Path) -> None:
    run = simulate(write_input(tmp_path, stage("[30, 60]", duration="0.1 ps")), tmp_path / "run", threads=1)
    assert "shape" not in run.manifest["stages"][0]
    assert run.manifest["input"]["stage"][0]["temperature"] == ["30.0 K", "60.0 K"]
    run = simulate(write_input(tmp_path, stage(QUENCH, duration="0.1 ps")), tmp_path / "exponential", threads=1)
    assert open_run(run.path).stages[0].shape == "exponential"


def test_a_replica_may_be_a_point_of_a_schedule(tmp_path: Path) -> None:
    table = '[replicas]\ntemperatures = ["90 K", "120 K"]\n\n'
    path = write_input(tmp_path, table + stage('{ points = ["30 K", "replica", "30 K"] }'))
    assert [one.config.stage[0].temperature.points for one in load_replicas(path)] == [(30, 90, 30), (30, 120, 30)]
    for one in load_replicas(path):
        (tmp_path / "one.toml").write_text(one.text())
        assert config.load_simulate(tmp_path / "one.toml") == one.config


WRONG = {
    "one point": ("{ points = [300] }", "two different temperatures at least"),
    "constant": ("{ points = [300, 300] }", "two different temperatures at least"),
    "no points": ('{ shape = "exponential" }', "'points' is missing (temperatures in their order"),
    "no list": ('{ points = "300 K" }', "a list is needed"),
    "negative": ("{ points = [300, -300] }", "a temperature above 0.0 K is needed"),
    "unit": ('{ points = ["300 K", "300 bar"] }', "'bar' is not a unit of temperature"),
    "shape": ('{ points = [300, 600], shape = "cosine" }', "shape: "),
    "jump": ("{ points = [300, 600], cycles = 2 }", "the last of the points must be the first again"),
    "no cycle": ("{ points = [300, 600, 300], cycles = 0 }", "cycles: 0: at least 1 is needed"),
    "half a cycle": ("{ points = [300, 600, 300], cycles = 1.5 }", "a whole number is needed"),
    "too many cycles": ("{ points = [300, 600, 300], cycles = 20000 }", "at most 10000 is needed"),
    "unknown": ("{ points = [300, 600], cycle = 2 }", "Did you mean 'cycles'?"),
    "too short": ("{ points = [300, 600, 300], cycles = 31 }", "each of the 62 parts of the schedule needs 10 steps"),
    "list of three": ("[300, 600, 300]", "a ramp has two values, its start and its end. More of them: { points"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_schedule_is_refused(name: str, tmp_path: Path) -> None:
    temperature, told = WRONG[name]
    answer = mlmd("check", write_input(tmp_path, stage(temperature)))
    assert (answer.code, answer.out) == (2, "")
    assert "stage 1 (nvt): temperature: " in answer.err and told in answer.err
