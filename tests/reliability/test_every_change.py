"""Whatever change to its files is the last or fails, the same command ends in the same bytes: every one is tried."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from faults import BROKEN, FULL, KILL, POWER, SHORT, TORN, Fault
from processes import DEADLINE, mlmd, start
from runs import assert_same_run, write_input

STORAGE = 4
STAGES = (
    '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "50 fs"\n'
    '[[stage]]\nkind = "npt"\ntemperature = "40 K"\npressure = "1 bar"\nduration = "50 fs"\n'
    'barostat = { kind = "flexible", every = 5 }'
)
OFTEN = 'log_every = "25 fs"\ntrajectory_every = "25 fs"\ntrajectory_format = "{}"\ncheckpoint_every = "1e-6 s"'


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """For a format of the trajectory an input and the folder of its run."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            path = write_input(folder, STAGES, output=OFTEN.format(kind))
            assert mlmd(["simulate", path, "--out", folder / "one", "--threads", 1], folder / "errors") == 0
            made[kind] = path, folder / "one"
        return made[kind]

    return make


def struck(path: Path, place: Path, kind: str) -> Iterator[tuple[Path, int, str]]:
    """Runs of an input that were struck at their 1st, 2nd, ... change, until one is struck no more.

    Yields the folder, the exit code and the messages of each; two processes work at a time.
    """
    numbers, waiting = count(1), []
    while True:
        while len(waiting) < 2:
            n = next(numbers)
            out, errors = place / f"{kind}{n}", place / f"{kind}{n}.errors"
            arguments = ["simulate", path, "--out", out, "--threads", 1]
            waiting.append((out, errors, start(arguments, errors, fault=Fault(kind, n, str(out)))))
        out, errors, process = waiting.pop(0)
        process.join(DEADLINE)
        assert process.exitcode is not None, f"the command hangs after {out.name}"
        if process.exitcode == 0:
            waiting[0][2].join(DEADLINE)
            return
        yield out, process.exitcode, errors.read_text()


def finish(path: Path, out: Path) -> None:
    """The same command again, undisturbed, and the folder goes."""
    errors = out.with_suffix(".errors")
    assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors) == 0, (out, errors.read_text())


@pytest.mark.row("R03")
@pytest.mark.parametrize("kind", [KILL, pytest.param(TORN, marks=pytest.mark.slow), POWER])
def test_a_run_killed_at_every_change_once_ends_as_if_never_killed(
    kind: str,
    undisturbed: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    path, one = undisturbed("dcd")
    n = 0
    for out, code, said in struck(path, tmp_path, kind):
        assert code == -signal.SIGKILL, (out, said)
        finish(path, out)
        assert_same_run(one, out)
        assert (out / "structure.extxyz").read_bytes() == (one / "structure.extxyz").read_bytes(), out
        shutil.rmtree(out)
        n += 1
    assert n > 40
    record_property({KILL: "kills", TORN: "torn writes", POWER: "losses of power"}[kind], n)


@pytest.mark.row("R08")
@pytest.mark.parametrize(
    ("kind", "trajectory"),
    [(FULL, "dcd"), (SHORT, "xtc"), pytest.param(SHORT, "dcd", marks=pytest.mark.slow),
     pytest.param(FULL, "extxyz", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_disk_that_is_full_at_any_write_costs_nothing_but_time(
    kind: str,
    trajectory: str,
    undisturbed: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    path, one = undisturbed(trajectory)
    n = 0
    for out, code, said in struck(path, tmp_path, kind):
        assert code == STORAGE, (out, said)
        assert "Traceback" not in said and re.search(r"StorageError: .*No space left", said), (out, said)
        finish(path, out)
        assert_same_run(one, out)
        n += 1
    assert n > 30
    record_property(f"{kind} disks ({trajectory})", n)


@pytest.mark.row("R08")
@pytest.mark.slow
def test_an_error_of_the_disk_at_any_change_costs_nothing_but_time(
    undisturbed: Callable[[str], tuple[Path, Path]], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path, one = undisturbed("dcd")
    n = 0
    for out, code, said in struck(path, tmp_path, BROKEN):
        assert code == STORAGE, (out, said)
        assert "Traceback" not in said and "Input/output error" in said, (out, said)
        finish(path, out)
        assert_same_run(one, out)
        n += 1
    assert n > 40
    record_property("errors of the disk", n)
