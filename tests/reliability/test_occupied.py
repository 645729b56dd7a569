"""One folder has one writer."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
from processes import mlmd, seconds_to_end, start, wait_for
from runs import read_log, write_input

from mlmd.engine import checkpoint
from mlmd.rundir import CHECKPOINTS, LOG

IN_USE, STOPPED = 5, 75
STAGE = '[[stage]]\nkind = "nve"\nduration = "{} fs"'


@pytest.mark.row("R11")
@pytest.mark.parametrize("n_pairs", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_of_two_runs_begun_at_once_exactly_one_goes_on(
    n_pairs: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = write_input(tmp_path, 'velocities = "60 K"\n' + STAGE.format(10**6))
    for n in range(n_pairs):
        out = tmp_path / f"both{n}"
        both = [start(["simulate", path, "--out", out, "--threads", 1], tmp_path / "errors") for _ in range(2)]
        wait([process.sentinel for process in both], timeout=60)
        (refused,) = [process for process in both if not process.is_alive()]
        (going,) = [process for process in both if process.is_alive()]
        assert refused.exitcode == IN_USE
        wait_for(out / LOG, going)
        going.terminate()
        going.join(60)
        assert going.exitcode == STOPPED
        steps = read_log(out)["step"]
        assert np.array_equal(steps, 10 * np.arange(len(steps)))
        saved, problems = checkpoint.newest(out / CHECKPOINTS)
        assert saved is not None and steps[-1] <= saved.position[1] < steps[-1] + 10 and not problems
    record_property("pairs", n_pairs)


@pytest.mark.row("R11")
def test_a_run_in_an_occupied_folder_is_refused_at_once_and_changes_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path, out = write_input(tmp_path, 'velocities = "60 K"\n' + STAGE.format(100000)), tmp_path / "run"
    arguments = ["simulate", str(path), "--out", str(out), "--threads", "1"]
    first = start(arguments, tmp_path / "errors")
    wait_for(out / LOG, first)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)  # nothing in the folder changes now unless the second run changes it
    try:
        before = contents(out)
        with (tmp_path / "said").open("w") as said:
            second = subprocess.Popen([sys.executable, "-m", "mlmd", *arguments], stderr=said)
        seconds = seconds_to_end(second.pid, lambda: second.poll() is None)
        assert second.returncode == IN_USE
        assert f"process {first.pid} on {socket.gethostname()}" in (tmp_path / "said").read_text()
        assert contents(out) == before
        record_property("seconds of the refusal", f"{seconds:.2f}")
        assert seconds < 2.0
    finally:
        first.kill()
        first.join()


def contents(folder: Path) -> dict[str, str]:
    """Fingerprints of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.row("R11")
def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    path = write_input(tmp_path, 'velocities = "60 K"\n' + STAGE.format(100))
    out, errors = tmp_path / "run", tmp_path / "errors"
    assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors, killed_at=4) == -9
    assert (out / "lock").exists()
    assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors) == 0
