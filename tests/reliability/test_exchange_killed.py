"""Replicas that exchange and are killed at any moment go on together, and end as if they had never been killed."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path

import numpy as np
import pytest
from processes import killed_at_every_write, killed_at_random, mlmd
from runs import assert_same_run, read_log, write_input

from mlmd.engine.exchange_log import EXCHANGES
from mlmd.rundir import CHECKPOINTS

NAMES = ("60K", "75K")
N_KILLS = 10
OFTEN = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = "{} s"'
STAGES = (
    '[replicas]\ntemperatures = ["60 K", "75 K"]\nexchange_every = "40 fs"\n\n'
    '[[stage]]\nkind = "nvt"\ntemperature = ["30 K", "replica"]\nduration = "50 fs"\n\n'
    '[[stage]]\nkind = "npt"\ntemperature = "replica"\npressure = "1 bar"\nduration = "{} fs"\n'
    'barostat = {{ kind = "flexible", every = 4 }}'
)


def assert_same(one: Path, other: Path) -> None:
    """Both replicas and their exchanges are the same, byte for byte, and some were accepted."""
    assert (one / EXCHANGES).read_bytes() == (other / EXCHANGES).read_bytes()
    for name in NAMES:
        assert_same_run(one / name, other / name)
    walkers = np.loadtxt(one / EXCHANGES, delimiter=",", skiprows=1, usecols=(4, 5))
    assert (walkers != [0, 1]).any()


@pytest.mark.row("R03")
def test_replicas_killed_at_random_times_end_as_if_never_killed(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    rng, errors = random.Random(seed), tmp_path / "errors"
    path = write_input(tmp_path, STAGES.format(1000), output=OFTEN.format(0.05))
    assert mlmd(["--version"], errors) == 0  # the server has started
    began = time.monotonic()
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0, errors.read_text()
    usual = time.monotonic() - began
    for folder in killed_at_random(path, tmp_path, errors, n_kills=N_KILLS, usual=usual, rng=rng):
        assert_same(tmp_path / "one", folder)


@pytest.mark.slow
@pytest.mark.row("R03")
def test_replicas_killed_at_every_write_end_as_if_never_killed(tmp_path: Path) -> None:
    path, errors = write_input(tmp_path, STAGES.format(100), output=OFTEN.format(0.001)), tmp_path / "err"
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0, errors.read_text()
    assert killed_at_every_write(path, tmp_path / "killed", errors) > 8
    assert_same(tmp_path / "one", tmp_path / "killed")


@pytest.mark.row("R05")
def test_replicas_of_which_one_lost_its_checkpoint_go_back_together(tmp_path: Path) -> None:
    path, errors = write_input(tmp_path, STAGES.format(160), output=OFTEN.format(0.001)), tmp_path / "err"
    for out in ("one", "damaged"):
        assert mlmd(["simulate", path, "--out", tmp_path / out, "--threads", 1], errors) == 0, errors.read_text()
    newest = max((tmp_path / "damaged" / "75K" / CHECKPOINTS).glob("*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    path.write_text(path.read_text().replace("160 fs", "200 fs"))
    for out in ("one", "damaged"):
        assert mlmd(["simulate", path, "--out", tmp_path / out, "--threads", 1], errors) == 0, errors.read_text()
    assert_same(tmp_path / "one", tmp_path / "damaged")
    assert "is damaged" in (tmp_path / "damaged" / "messages.log").read_text()
    assert read_log(tmp_path / "damaged" / "60K")["step"][-1] == 50
