"""Labelling that is killed, stopped or occupied loses no label, makes none twice, and ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import time
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from processes import begin_limited, mlmd, start

from mlmd.io.labelled import read_labelled

KILLED, STOPPED, IN_USE = -signal.SIGKILL, 75, 5
SLOW_CALCULATOR = """
import time
from ase.calculators.lj import LennardJones

class Slow(LennardJones):
    def calculate(self, *arguments, **options):
        time.sleep(0.05)
        super().calculate(*arguments, **options)

class Program(LennardJones):
    def calculate(self, *arguments, **options):
        import subprocess
        subprocess.run(["sleep", "300"])
"""


def clusters(path: Path, n: int) -> Path:
    """Structures of two to eight atoms, no two alike."""
    rng = np.random.default_rng(1)
    grid = 1.1 * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], dtype=float)
    frames = []
    for _ in range(n):
        places = grid[: rng.integers(2, 9)]
        frames.append(ase.Atoms(f"Ar{len(places)}", places + rng.normal(scale=0.02, size=places.shape)))
    ase.io.write(path, frames, format="extxyz")
    return path


def command(structures: Path, out: Path, n_processes: int = 1, calculator: str = "ase.calculators.lj:LennardJones"):  # type: ignore[no-untyped-def]
    return ["label", structures, "--out", out, "--ase", calculator, "--processes", n_processes]


def records_of(out: Path) -> list[int]:
    """Numbers of the structures whose records are whole, in the order of the journal."""
    path = out.with_name(out.name + ".part") / "records"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line[9:])["structure"] for line in lines]


def still_working_in(folder: Path) -> list[int]:
    """Processes whose present folder lies in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = (process / "cwd").readlink()
        except OSError:
            continue
        if place.is_relative_to(folder):
            found.append(int(process.name))
    return found


@pytest.mark.parametrize(
    ("n_structures", "n_kills", "n_processes"),
    [(60, 5, 2), pytest.param(1000, 20, 1, marks=pytest.mark.slow), pytest.param(1000, 20, 2, marks=pytest.mark.slow)],
)
def test_labels_killed_at_random_moments_are_neither_lost_nor_doubled(
    n_structures: int, n_kills: int, n_processes: int, tmp_path: Path
) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    rng, errors = random.Random(seed), tmp_path / "errors"
    structures, undisturbed, out = (
        clusters(tmp_path / "a.extxyz", n_structures),
        tmp_path / "one.extxyz",
        tmp_path / "k",
    )
    out = out.with_suffix(".extxyz")
    assert mlmd(["--version"], errors) == 0  # the server has started
    began = time.monotonic()
    assert mlmd(command(structures, undisturbed), errors) == 0
    usual = time.monotonic() - began

    kills, before = 0, []
    while True:
        process = start(command(structures, out, n_processes), errors)
        process.join(rng.uniform(0.0, usual / 2) if kills < n_kills else None)
        if process.exitcode is not None:
            assert process.exitcode == 0, errors.read_text()
            if kills == n_kills:
                break
            assert out.read_bytes() == undisturbed.read_bytes()
            for path in (out, out.with_suffix(".json")):  # done before it could be killed often enough: once more
                path.unlink()
            before = []
            continue
        process.kill()
        process.join()
        kills += 1
        now = records_of(out)
        if now or not out.exists():
            assert now[: len(before)] == before
            assert len(set(now)) == len(now)
            before = now
    assert out.read_bytes() == undisturbed.read_bytes()
    assert len(read_labelled(out)) == n_structures
    record, other = (json.loads(path.with_suffix(".json").read_text()) for path in (out, undisturbed))
    assert record | {"output": other["output"]} == other
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.extxyz", "errors", "one.extxyz", "one.json", "k.extxyz", "k.json",
    }  # fmt: skip
    deadline = time.monotonic() + 5.0
    while still_working_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert still_working_in(tmp_path) == []


def test_labelling_killed_at_every_change_of_its_files_ends_in_the_same_bytes(tmp_path: Path) -> None:
    errors, structures = tmp_path / "errors", clusters(tmp_path / "a.extxyz", 4)
    undisturbed, out = tmp_path / "one.extxyz", tmp_path / "killed.extxyz"
    assert mlmd(command(structures, undisturbed), errors) == 0
    # the n-th process dies at its n-th change, also while it clears up what an earlier one left
    for n in count(1):
        code = mlmd(command(structures, out), errors, killed_at=n)
        if code != KILLED:
            break
    assert code == 0, errors.read_text()
    assert n > 8
    assert out.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_labelling_killed_once_at_any_change_of_its_files_ends_in_the_same_bytes(tmp_path: Path) -> None:
    errors, structures = tmp_path / "errors", clusters(tmp_path / "a.extxyz", 4)
    undisturbed = tmp_path / "one.extxyz"
    assert mlmd(command(structures, undisturbed), errors) == 0
    for n in count(1):
        out = tmp_path / f"killed{n}.extxyz"
        code = mlmd(command(structures, out), errors, killed_at=n)
        assert code in (0, KILLED), errors.read_text()
        assert mlmd(command(structures, out), errors) == 0, errors.read_text()
        assert out.read_bytes() == undisturbed.read_bytes()
        assert not out.with_name(out.name + ".part").exists()
        if code == 0:
            break
    assert n > 12


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A command that takes seconds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW_CALCULATOR)
    return command(clusters(tmp_path / "a.extxyz", 20), tmp_path / "out.extxyz", 1, "slow:Slow")  # type: ignore[no-any-return]


def begin(arguments: list[object], out: Path) -> BaseProcess:
    """Start a command and wait for its first label."""
    process = start(arguments, out.with_name("errors"))
    while not records_of(out):
        assert process.is_alive()
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_programs_of_a_calculator_end_with_the_command(
    number: signal.Signals, slow: list[object], tmp_path: Path
) -> None:
    process = start([word if word != "slow:Slow" else "slow:Program" for word in slow], tmp_path / "errors")
    while len(still_working_in(tmp_path / "out.extxyz.part")) < 2:  # the worker and its program
        assert process.is_alive()
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    deadline = time.monotonic() + 5.0
    while still_working_in(tmp_path / "out.extxyz.part") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert still_working_in(tmp_path / "out.extxyz.part") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_labelling_at_once_and_the_same_command_continues(
    number: signal.Signals, slow: list[object], tmp_path: Path
) -> None:
    out, errors = tmp_path / "out.extxyz", tmp_path / "errors"
    process = begin(slow, out)
    assert process.pid is not None
    os.kill(process.pid, number)
    asked = time.monotonic()
    process.join(30)
    assert process.exitcode == STOPPED
    assert time.monotonic() - asked < 3.0
    assert f"stopped by signal {number.name}" in errors.read_text()
    assert "The same command continues" in errors.read_text()
    n_done = len(records_of(out))
    assert 0 < n_done < 20
    assert still_working_in(tmp_path / "out.extxyz.part") == []
    assert mlmd(slow, errors) == 0
    assert f"Continuing: {n_done} structures are done" in errors.read_text()
    assert len(read_labelled(out)) == 20


def test_of_two_commands_with_one_output_the_second_is_refused(slow: list[object], tmp_path: Path) -> None:
    process = begin(slow, tmp_path / "out.extxyz")
    assert mlmd(slow, tmp_path / "second") == IN_USE
    assert f"in use by process {process.pid}" in (tmp_path / "second").read_text()
    process.join(30)
    assert process.exitcode == 0
    assert len(read_labelled(tmp_path / "out.extxyz")) == 20


def test_a_full_disk_loses_no_label(tmp_path: Path) -> None:
    import resource

    errors, structures = tmp_path / "errors", clusters(tmp_path / "a.extxyz", 60)
    undisturbed, out = tmp_path / "one.extxyz", tmp_path / "out.extxyz"
    assert mlmd(command(structures, undisturbed), errors) == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    process = start(["--version"], errors)
    process.join()
    done = []
    for size in (3_000, 9_000, 20_000):  # the journal needs more, and the output too
        process = begin_limited(command(structures, out), errors, size)
        process.join(60)
        assert process.exitcode == 4, errors.read_text()
        assert "the same command" in errors.read_text().lower()
        done.append(len(records_of(out)))
    assert done == sorted(done)
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits
    assert mlmd(command(structures, out), errors) == 0
    assert out.read_bytes() == undisturbed.read_bytes()
