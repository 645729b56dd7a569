"""A graphics card that fails costs the work since the last checkpoint; with --retries a new process goes on by itself.

The failure is simulated: a potential that raises what torch raises, and goes on raising it in the same process.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import mlmd
from runs import assert_same_run, write_input
from trap import Breaking, Trap

from mlmd.engine.run import simulate
from mlmd.potentials import POTENTIALS
from mlmd.rundir import open_run

FAILED = "CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA` to ..."
STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "1 ps"\n'
POTENTIAL = '{ kind = "losing", at = 101 }'
PLUGIN = """
from mlmd.potentials import POTENTIALS
POTENTIALS["losing"] = "losing:Losing"
"""
LOSING = """
import os
from pathlib import Path
from trap import Breaking, Trap

FOLDER = Path({folder!r})
IS_LOST = len(list(FOLDER.glob("lost*"))) < {n_failures}

class Losing(Breaking):
    def evaluate(self, positions, cell):
        self._left -= 1
        if IS_LOST and self._left < 0:  # and so will every later call in this process
            (FOLDER / f"lost{{os.getpid()}}").touch()
            raise RuntimeError({message!r})
        return Trap.evaluate(self, positions, cell)
"""


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "mlmd", "simulate", str(folder / "input.toml"), "--out", str(folder / "run"), *more]


def surroundings(folder: Path, *, n_failures: int) -> dict[str, str]:
    """An environment in which the card of the first processes fails at their 101st configuration."""
    (folder / "sitecustomize.py").write_text(PLUGIN)
    (folder / "losing.py").write_text(LOSING.format(folder=str(folder), n_failures=n_failures, message=FAILED))
    places = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", str(Path(__file__).parents[2]))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_input(
        tmp_path, STAGE, potential=POTENTIAL, options="remove_com_motion = false",
        output='log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = "0.001 s"',
    )  # fmt: skip
    return tmp_path


@pytest.mark.row("R25")
def test_a_run_with_a_lost_device_is_continued_by_new_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = surroundings(folder, n_failures=1)
    answer = subprocess.run(command(folder, "--retries", "3"), env=where, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "DeviceError: cpu failed: CUDA error: an illegal memory access" in answer.stderr
    assert answer.stderr.count("A new process continues the run") == 1
    assert re.search(r"continues at step (90|100) of 200", answer.stderr)  # a checkpoint at each line of the log
    monkeypatch.setitem(POTENTIALS, "losing", "trap:Breaking")
    monkeypatch.setattr(Breaking, "evaluate", Trap.evaluate)
    simulate(folder / "input.toml", folder / "one", threads=1)
    assert_same_run(folder / "one", folder / "run")


@pytest.mark.row("R25")
def test_retries_end(folder: Path) -> None:
    where = surroundings(folder, n_failures=9)
    path = folder / "input.toml"
    path.write_text(path.read_text().replace("1 ps", "2 ps"))
    answer = subprocess.run(command(folder, "--retries", "1"), env=where, capture_output=True, text=True, check=False)
    assert answer.returncode == 75
    assert answer.stderr.count("DeviceError") == 2
    assert open_run(folder / "run").manifest["state"] == "lost device"


@pytest.mark.row("R25")
def test_a_signal_to_the_command_reaches_the_process_that_works(folder: Path) -> None:
    where = surroundings(folder, n_failures=0)
    path = folder / "input.toml"
    path.write_text(path.read_text().replace("1 ps", "1 us"))
    process = subprocess.Popen(command(folder, "--retries", "3"), env=where, stderr=subprocess.PIPE, text=True)
    while not (folder / "run" / "log.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped by signal SIGTERM" in said and "A new process" not in said


@pytest.mark.row("R25")
@pytest.mark.parametrize(
    ("message", "said"),
    [
        (FAILED, ("cpu failed: CUDA error: an illegal memory access", "--retries 3")),
        ("CUDA out of memory. Tried to allocate 20.00 GiB.", ("not enough for 32 atoms", "20.00 GiB", "--device cpu")),
    ],
    ids=["lost", "memory"],
)
def test_a_failure_of_the_device_is_told_as_such_and_costs_no_crash(
    message: str, said: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Breaking, *arguments: object) -> object:
        self._left -= 1
        if self._left < 0:
            raise RuntimeError(message)
        return Trap.evaluate(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setitem(POTENTIALS, "losing", "trap:Breaking")
    monkeypatch.setattr(Breaking, "evaluate", fail)
    answer = mlmd("simulate", folder / "input.toml", "--out", folder / "run")
    assert answer.code == 75
    assert all(words in answer.err for words in said), answer.err
    assert open_run(folder / "run").manifest["state"] == "lost device"
    assert not (folder / "run" / "crash").exists()
    monkeypatch.setattr(Breaking, "evaluate", Trap.evaluate)
    assert mlmd("simulate", folder / "input.toml", "--out", folder / "run").code == 0


def test_a_terminal_that_closes_ends_the_process_that_works_too(tmp_path: Path) -> None:
    """Only the group of the terminal hears of it; nobody would ever end the run in the other."""
    begun, works = tmp_path / "begun", tmp_path / "works.sh"
    works.write_text(f'#!/bin/sh\necho $$ > "{begun}.tmp"; mv "{begun}.tmp" "{begun}"; exec sleep 60\n')
    works.chmod(0o755)
    words = (
        "import sys; from pathlib import Path; from mlmd.cli.retry import with_retries; "
        f"sys.executable = {str(works)!r}; sys.exit(with_retries([], Path(), 1))"
    )
    with subprocess.Popen([sys.executable, "-c", words]) as process:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)  # handlers are set after the child has begun
        process.send_signal(signal.SIGHUP)
        code = process.wait(timeout=30)
    try:
        os.kill(int(begun.read_text()), signal.SIGKILL)
        left = True
    except ProcessLookupError:
        left = False
    assert not left and code == 128 + signal.SIGHUP
