"""The same input and seed give the same run to the last bit; another seed another run, and a seed is always kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from processes import mlmd
from runs import assert_same_run, read_log, write_input

from mlmd.engine.run import simulate
from mlmd.rundir import open_run

STAGE = (
    '[[stage]]\nkind = "npt"\ntemperature = ["40 K", "90 K"]\npressure = "1 bar"\nduration = "500 fs"\n'
    'barostat = { kind = "flexible", every = 4 }'
)


@pytest.mark.row("R24")
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_the_same_seed_gives_the_same_run_in_another_process(platform: str, tmp_path: Path) -> None:
    path = write_input(tmp_path, STAGE)
    simulate(path, tmp_path / "one", platform=platform, threads=1)
    arguments = ["simulate", path, "--out", tmp_path / "other", "--platform", platform, "--threads", 1]
    assert mlmd(arguments, tmp_path / "errors") == 0
    assert_same_run(tmp_path / "one", tmp_path / "other")


@pytest.mark.row("R24")
def test_another_seed_gives_another_run_and_a_seed_that_was_drawn_is_kept(tmp_path: Path) -> None:
    runs = {}
    for name, options in (("first", "seed = 1"), ("second", "seed = 2"), ("drawn", "# seed")):
        runs[name] = simulate(write_input(tmp_path, STAGE, options=options), tmp_path / name, threads=1)
    energies = {name: read_log(run)["kinetic energy"] for name, run in runs.items()}
    assert energies["first"][0] != energies["second"][0] != energies["drawn"][0]
    seed = open_run(tmp_path / "drawn").manifest["seed"]
    again = simulate(write_input(tmp_path, STAGE, options=f"seed = {seed}"), tmp_path / "again", threads=1)
    assert_same_run(runs["drawn"].path, again.path)


@pytest.mark.row("R24")
def test_the_number_of_threads_changes_no_more_than_the_last_bits(tmp_path: Path) -> None:
    path = write_input(tmp_path, STAGE)
    one, two = (read_log(simulate(path, tmp_path / f"{n}", threads=n)) for n in (1, 2))
    # sums in another order: rounding, which fifty steps of a warm crystal do not amplify to more than this
    np.testing.assert_allclose(two["potential energy"][:6], one["potential energy"][:6], rtol=1e-9)
