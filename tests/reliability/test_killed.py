"""A process that dies without warning, at any moment, costs the work since the last checkpoint and nothing else."""

from __future__ import annotations

import random
import secrets
import signal
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from processes import mlmd, start
from runs import assert_same_run, fcc_argon, primitive_argon, read_log, skewed, write_input

from mlmd.rundir import open_run

N_KILLS = 10
OFTEN = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = "{} s"'
HEATED = '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "{0} fs"\n'
SQUEEZED = (
    '[[stage]]\nkind = "npt"\ntemperature = "40 K"\npressure = ["1 bar", "5 kbar"]\nduration = "{0} fs"\n'
    'barostat = {{ kind = "flexible", every = 4 }}'
)


def assert_complete(folder: Path, log_every: int = 10, trajectory_every: int = 20) -> None:
    """Every row and every frame of the plan is there once, in order."""
    run = open_run(folder)
    last = run.stages[-1].last_step
    assert np.array_equal(read_log(run)["step"], np.arange(0, last + 1, log_every))
    n_atoms = len(run.atoms)
    n_frames = (run.trajectory.stat().st_size - 196) / (8 + 48 + 3 * (8 + 4 * n_atoms))
    assert n_frames == len(run.frame_table()[0]) == last // trajectory_every + 1


@pytest.mark.parametrize("cell", ["cubic", "skewed", "rhombohedral"])
@pytest.mark.row("R03")
def test_a_run_killed_at_random_times_ends_as_if_never_killed(cell: str, tmp_path: Path) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    rng, errors = random.Random(seed), tmp_path / "errors"
    atoms = {"cubic": fcc_argon(2), "skewed": skewed(fcc_argon(2))[0], "rhombohedral": primitive_argon()}[cell]
    stages = (HEATED + SQUEEZED).format(600)
    path = write_input(tmp_path, stages, atoms=atoms, output=OFTEN.format(0.05))

    assert mlmd(["--version"], errors) == 0  # the server has started
    began = time.monotonic()
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    usual = time.monotonic() - began
    assert_complete(tmp_path / "one")

    kills, folders = 0, (tmp_path / f"killed{n}" for n in count())
    folder = next(folders)
    while kills < N_KILLS or not (folder / "final.extxyz").exists():
        process = start(["simulate", path, "--out", folder, "--threads", 1], errors)
        process.join(rng.uniform(0.0, usual) if kills < N_KILLS else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            continue
        assert process.exitcode == 0, errors.read_text()
        assert_same_run(tmp_path / "one", folder)
        folder = next(folders) if kills < N_KILLS else folder
    print(f"{folder.name}: {(folder / 'messages.log').read_text()}")


@pytest.mark.row("R03")
def test_a_run_killed_at_every_write_of_its_checkpoints_ends_as_if_never_killed(tmp_path: Path) -> None:
    path, errors = write_input(tmp_path, (HEATED + SQUEEZED).format(100), output=OFTEN.format(0.001)), tmp_path / "err"
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    # the n-th process dies at its n-th write: at every kind of write, also while an earlier death is repaired
    for n in count(1):
        code = mlmd(["simulate", path, "--out", tmp_path / "killed", "--threads", 1], errors, killed_at=n)
        if code != -signal.SIGKILL:
            break
    assert code == 0, errors.read_text()
    assert n > 8
    assert_complete(tmp_path / "killed")
    assert_same_run(tmp_path / "one", tmp_path / "killed")
