"""Atoms that come and go: stopped, killed and prolonged, a run of deposition is the run that was left alone."""

from __future__ import annotations

import random
import secrets
import time
from pathlib import Path

import numpy as np
import pytest
from processes import killed_at_every_write, killed_at_random, mlmd
from runs import read_log, run_in_parts
from slabs import OFTEN, STAGE, argon_slab, assert_same_deposition, book, deposit_input

from mlmd.engine.run import simulate

N_KILLS = 10
AND_ON = STAGE + '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "0.5 ps"\n'
ENDINGS = {"remove": 'at_ceiling = "remove"\n', "reflect": 'at_ceiling = "reflect"\n'}


@pytest.mark.parametrize(
    ("ending", "periodic", "platform"),
    [
        ("remove", False, "Reference"),
        ("remove", True, "CPU"),
        ("reflect", True, "Reference"),
        ("reflect", False, "CPU"),
    ],
)
def test_a_deposition_in_pieces_is_the_same_as_one_run(
    ending: str, periodic: bool, platform: str, tmp_path: Path
) -> None:
    # pieces end where an atom arrives (every 20 steps), where others are looked at (every 10), and between (7)
    # the layer ends at a plane of atoms, which cross its border all the time
    stage = STAGE.replace("0.133 ps", "0.1 ps").replace('"9 Å"', '"5.6 Å"') + ENDINGS[ending]
    output = 'log_every = "35 fs"\ntrajectory_every = "100 fs"'
    path = deposit_input(tmp_path, stage, atoms=argon_slab(periodic=periodic), output=output)
    simulate(path, tmp_path / "one", platform=platform, threads=1)
    run_in_parts(path, tmp_path / "parts", [7, 63, 140, 182, 210, 301], platform=platform, threads=1)
    assert_same_deposition(tmp_path / "one", tmp_path / "parts")
    assert {"inserted", "stuck", "reflected"} <= set(book(tmp_path / "one")["what"].tolist())


def test_a_stage_that_follows_a_deposition_is_continued_with_those_who_are_there(tmp_path: Path) -> None:
    stages = AND_ON + '[[stage]]\nkind = "minimize"\nmax_force = "0.05 eV/Å"\n' + STAGE.replace('"2 ps"', '"0.5 ps"')
    path = deposit_input(tmp_path, stages)
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [390, 440, 540], threads=1)
    assert_same_deposition(tmp_path / "one", tmp_path / "parts")


def test_a_deposition_that_grows_is_the_same_as_one_long_one(tmp_path: Path) -> None:
    short = deposit_input(tmp_path, STAGE.replace('"2 ps"', '"0.955 ps"'))  # 191 steps: no multiple of anything
    simulate(short, tmp_path / "grown", threads=1)
    longer = deposit_input(tmp_path)
    simulate(longer, tmp_path / "grown", threads=1)
    simulate(longer, tmp_path / "one", threads=1)
    assert_same_deposition(tmp_path / "one", tmp_path / "grown")


@pytest.mark.row("R03")
def test_a_deposition_killed_at_random_times_ends_as_if_never_killed(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    rng, errors = random.Random(seed), tmp_path / "errors"
    path = deposit_input(tmp_path, AND_ON, output=OFTEN + '\ncheckpoint_every = "0.05 s"')
    assert mlmd(["--version"], errors) == 0  # the server has started
    began = time.monotonic()
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    usual = time.monotonic() - began
    for folder in killed_at_random(path, tmp_path, errors, n_kills=N_KILLS, usual=usual, rng=rng):
        assert_same_deposition(tmp_path / "one", folder)


@pytest.mark.row("R03")
def test_a_deposition_killed_at_every_write_ends_as_if_never_killed(tmp_path: Path) -> None:
    stages = AND_ON.replace('"2 ps"', '"0.6 ps"').replace('"0.5 ps"', '"0.1 ps"')
    path, errors = deposit_input(tmp_path, stages, output=OFTEN + '\ncheckpoint_every = "0.001 s"'), tmp_path / "errors"
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    assert killed_at_every_write(path, tmp_path / "killed", errors) > 8
    assert_same_deposition(tmp_path / "one", tmp_path / "killed")
    assert np.array_equal(read_log(tmp_path / "killed")["step"], np.arange(0, 141, 10))
