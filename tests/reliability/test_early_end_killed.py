"""A stage that ends early ends at the same step however often its process dies, also as its end is written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import killed_at_every_write, mlmd
from runs import assert_same_run, write_input

from mlmd.engine.verify import verify
from mlmd.rundir import open_run

STAGES = (
    '[[stage]]\nkind = "nvt"\ntemperature = "120 K"\nduration = "5 ps"\nplumed = "c.dat"\n'
    '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\n'
    'thermostat = { kind = "langevin", friction = "30 / ps" }\nduration = "100 ps"\n'
    '[stop]\nquantity = "temperature"\nrelative_error = 0.05\n'
)
COMMITTOR = "d: DISTANCE ATOMS=1,2\nCOMMITTOR ARG=d STRIDE=7 BASIN_LL1=0.382 BASIN_UL1=0.9 FILE=BASIN\n"


@pytest.mark.row("R03")
def test_a_run_killed_at_every_write_of_its_early_ends_ends_at_the_same_steps(tmp_path: Path) -> None:
    output = 'log_every = "5 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = "0.2 s"'
    path, errors = write_input(tmp_path, STAGES, output=output), tmp_path / "errors"
    (tmp_path / "c.dat").write_text(COMMITTOR)
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    stages = open_run(tmp_path / "one").stages
    assert all(stage.end is not None and stage.end.early for stage in stages)
    n = killed_at_every_write(path, tmp_path / "killed", errors)
    print(f"{n} deaths; {stages}")
    assert open_run(tmp_path / "killed").stages == stages
    assert_same_run(tmp_path / "one", tmp_path / "killed", extra=("BASIN",))
    assert not verify(tmp_path / "killed").problems
