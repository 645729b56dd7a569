"""A process that dies without warning, at any moment, costs the work since the last checkpoint and nothing else."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path

import numpy as np
import pytest
from processes import killed_at_every_write, killed_at_random, mlmd
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

    for folder in killed_at_random(path, tmp_path, errors, n_kills=N_KILLS, usual=usual, rng=rng):
        assert_same_run(tmp_path / "one", folder)
    print(f"{folder.name}: {(folder / 'messages.log').read_text()}")


@pytest.mark.row("R03")
def test_a_run_killed_at_every_write_of_its_checkpoints_ends_as_if_never_killed(tmp_path: Path) -> None:
    path, errors = write_input(tmp_path, (HEATED + SQUEEZED).format(100), output=OFTEN.format(0.001)), tmp_path / "err"
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    assert killed_at_every_write(path, tmp_path / "killed", errors) > 8
    assert_complete(tmp_path / "killed")
    assert_same_run(tmp_path / "one", tmp_path / "killed")
