"""One folder has one writer."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from processes import mlmd, start
from runs import assert_same_run, write_input

IN_USE = 5
STAGE = '[[stage]]\nkind = "nve"\nduration = "{} fs"'


def test_of_two_runs_begun_at_once_exactly_one_goes_on(tmp_path: Path) -> None:
    path = write_input(tmp_path, 'velocities = "60 K"\n' + STAGE.format(500))
    assert mlmd(["simulate", path, "--out", tmp_path / "alone", "--threads", 1], tmp_path / "errors") == 0
    for n in range(5):
        arguments = ["simulate", path, "--out", tmp_path / f"both{n}", "--threads", 1]
        both = [start(arguments, tmp_path / f"errors{n}") for _ in range(2)]
        for process in both:
            process.join(60)
        assert sorted(str(process.exitcode) for process in both) == ["0", str(IN_USE)]
        assert_same_run(tmp_path / "alone", tmp_path / f"both{n}")


def test_a_run_in_an_occupied_folder_is_refused_at_once_and_changes_nothing(tmp_path: Path) -> None:
    path, out = write_input(tmp_path, 'velocities = "60 K"\n' + STAGE.format(100000)), tmp_path / "run"
    arguments = ["simulate", str(path), "--out", str(out), "--threads", "1"]
    first = start(arguments, tmp_path / "errors")
    while not (out / "log.csv").exists():
        assert first.is_alive()
        time.sleep(0.01)
    assert first.pid is not None
    os.kill(first.pid, 19)  # SIGSTOP: nothing in the folder changes now unless the second run changes it
    try:
        before = contents(out)
        began = time.monotonic()
        second = subprocess.run([sys.executable, "-m", "mlmd", *arguments], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        assert second.returncode == IN_USE
        assert f"process {first.pid} on {socket.gethostname()}" in second.stderr
        assert contents(out) == before
        assert seconds < 2.0
    finally:
        first.kill()
        first.join()


def contents(folder: Path) -> dict[str, str]:
    """Fingerprints of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    path = write_input(tmp_path, 'velocities = "60 K"\n' + STAGE.format(100))
    out, errors = tmp_path / "run", tmp_path / "errors"
    assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors, killed_at=4) == -9
    assert (out / "lock").exists()
    assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors) == 0
