"""Signals, a file named STOP and a time limit end a run after a checkpoint with exit code 75."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import INTERRUPTED, mlmd, seconds_to_end, start, wait_for
from runs import assert_same_run, write_input

from mlmd.engine import checkpoint
from mlmd.engine.forces import Forces
from mlmd.engine.run import simulate
from mlmd.errors import Stopped
from mlmd.rundir import CHECKPOINTS, open_run

STAGE = '[[stage]]\nkind = "npt"\ntemperature = "60 K"\npressure = "1 bar"\nduration = "3 ps"\nbarostat = { every = 5 }'
STOPPED = 75


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An input and the folder of its run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    path = write_input(folder, STAGE)
    assert mlmd(["simulate", path, "--out", folder / "one", "--threads", 1], folder / "errors") == 0
    return path, folder / "one"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.row("R10")
def test_a_signal_ends_the_run_after_a_checkpoint(
    number: signal.Signals, uninterrupted: tuple[Path, Path], tmp_path: Path
) -> None:
    (path, one), out, errors = uninterrupted, tmp_path / "run", tmp_path / "errors"
    arguments = ["simulate", path, "--out", out, "--threads", 1]
    process = start(arguments, errors)
    wait_for(out / "log.csv", process)
    assert process.pid is not None
    os.kill(process.pid, number)
    seconds = seconds_to_end(process.pid, process.is_alive)
    assert process.exitcode == STOPPED
    assert seconds < 2.0
    assert f"stopped by signal {number.name}" in errors.read_text()
    assert "The same command continues" in errors.read_text()
    assert open_run(out).manifest["state"] == "stopped"
    saved, _ = checkpoint.newest(out / CHECKPOINTS)
    assert saved is not None and 0 < saved.position[1] < 600

    assert mlmd(arguments, errors) == 0
    assert_same_run(one, out)


@pytest.mark.row("R10")
def test_a_file_named_stop_ends_the_run_once(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    (path, one), out, errors = uninterrupted, tmp_path / "run", tmp_path / "errors"
    arguments = ["simulate", path, "--out", out, "--threads", 1]
    process = start(arguments, errors)
    wait_for(out / "log.csv", process)
    (out / "STOP").touch()
    process.join(30)
    assert process.exitcode == STOPPED
    assert mlmd(arguments, errors) == 0
    assert not (out / "STOP").exists()
    assert_same_run(one, out)


@pytest.mark.row("R10")
def test_runs_with_a_time_limit_make_progress_to_the_end(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    (path, one), out, errors = uninterrupted, tmp_path / "run", tmp_path / "errors"
    codes, seconds = [], 0.02
    while not codes or codes[-1] == STOPPED:
        codes.append(mlmd(["simulate", path, "--out", out, "--threads", 1, "--max-hours", seconds / 3600], errors))
        seconds *= 1.5  # on a busy machine hundreds of runs would come a step farther each
    assert codes[-1] == 0
    assert len(codes) > 1
    assert_same_run(one, out)


@pytest.mark.row("R10")
def test_a_second_signal_does_not_wait_and_does_no_damage(uninterrupted: tuple[Path, Path], tmp_path: Path) -> None:
    (path, one), errors = uninterrupted, tmp_path / "errors"
    for n in range(6):  # most of these arrive while forces are computed
        out = tmp_path / f"run{n}"
        arguments = ["simulate", path, "--out", out, "--threads", 1]
        process = start(arguments, errors)
        wait_for(out / "log.csv", process)
        time.sleep(0.05)
        assert process.pid is not None
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.0005)
        process.join(30)
        assert process.exitcode in (STOPPED, INTERRUPTED)
        assert not (out / "crash").exists()
    assert mlmd(arguments, errors) == 0
    assert_same_run(one, out)


@pytest.mark.row("R10")
def test_a_second_signal_on_the_way_into_the_forces_is_no_failure_of_physics(
    uninterrupted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, _), out, compute, calls = uninterrupted, tmp_path / "run", Forces.__call__, iter(range(10**6))

    def interrupted(self: Forces, state: Any) -> tuple[float, np.ndarray]:
        if next(calls) == 30:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
        return compute(self, state)

    monkeypatch.setattr(Forces, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(path, out, threads=1)
    assert open_run(out).manifest["state"] == "interrupted"
    assert not (out / "crash").exists()


@pytest.mark.row("R10")
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("moment", ["in the forces", "in the checkpoint"])
def test_a_scheduler_that_repeats_itself_gets_its_checkpoint(
    first: signal.Signals,
    moment: str,
    uninterrupted: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (path, one), out, calls = uninterrupted, tmp_path / "run", iter(range(10**6))
    at, function, when = (Forces, "__call__", 30) if moment == "in the forces" else (checkpoint, "_pack", 0)
    ask = getattr(at, function)

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == when:
            for number in (first, signal.SIGTERM, signal.SIGTERM):
                signal.raise_signal(number)
        return ask(*arguments)

    monkeypatch.setattr(at, function, interrupted)
    with pytest.raises(Stopped, match=f"signal {first.name}"):
        simulate(path, out, threads=1)
    assert open_run(out).manifest["state"] == "stopped"
    simulate(path, out, threads=1)
    assert_same_run(one, out)


def wait_until_begun(out: Path, process: BaseProcess) -> None:
    """Wait until a run says that it goes on."""
    wait_for(out / "messages.log", process)
    while process.is_alive() and "stopped by" in "".join((out / "messages.log").read_text().splitlines()[-1:]):
        time.sleep(0.002)


@pytest.mark.row("R10")
@pytest.mark.parametrize("n_requests", [12, pytest.param(20, marks=pytest.mark.slow)])
def test_a_request_at_any_moment_ends_the_run_soon_and_it_goes_on_exactly(
    n_requests: int,
    uninterrupted: tuple[Path, Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    (path, one), errors = uninterrupted, tmp_path / "errors"
    rng, longest, stopped, n, out = random.Random(n_requests), 0.0, 0, 0, tmp_path / "run0"
    while stopped < n_requests:
        process = start(["simulate", path, "--out", out, "--threads", 1], errors)
        number = rng.choice([signal.SIGTERM, signal.SIGUSR1])
        wait_for(out / "log.csv", process)
        if rng.random() < 0.8:  # else on a busy machine none would have begun
            wait_until_begun(out, process)
            number = rng.choice([number, signal.SIGINT])  # which Python answers itself while it starts
        process.join(rng.uniform(0.0, 0.3))
        assert process.pid is not None
        if process.exitcode is None:
            os.kill(process.pid, number)
        seconds = seconds_to_end(process.pid, process.is_alive)
        # or it had just ended, or had hardly begun
        assert process.exitcode in (STOPPED, 0, -number, INTERRUPTED), errors.read_text()
        if process.exitcode == STOPPED:
            stopped, longest = stopped + 1, max(longest, seconds)
        elif process.exitcode == 0:
            assert_same_run(one, out)
            n, out = n + 1, tmp_path / f"run{n + 1}"
    if (out / "run.json").exists():
        assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors) == 0
        assert_same_run(one, out)
    assert longest < 2.0
    record_property("requests", stopped)
    record_property("longest wait [s]", f"{longest:.2f}")
