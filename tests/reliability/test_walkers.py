"""Several runs fill one free energy over a shared folder; a killed one comes back, and no file is cut."""

from __future__ import annotations

import signal
from pathlib import Path

import ase
import numpy as np
import pytest
from processes import mlmd
from runs import read_log, stopping, write_input

from mlmd.engine.run import simulate
from mlmd.errors import Stopped

DIMER = ase.Atoms("Ar2", [[1.0, 1.0, 1.0], [4.0, 2.0, 3.0]], cell=[20.0] * 3, pbc=True)


def walker(folder: Path, number: int) -> Path:
    """The input of one of two walkers; a hill every 10 steps of 5 fs, the others' read as often."""
    stage = (
        '[[stage]]\nkind = "nvt"\ntemperature = "100 K"\nduration = "2 ps"\n'
        'bias = { kind = "metadynamics", cv = { kind = "distance", atoms = [0, 1] }, width = "0.2 Å", '
        'height = "1 kJ/mol", every = "50 fs", '
        f'walkers = {{ folder = "../shared", number = {number}, count = 2, read_every = "50 fs" }} }}\n'
    )
    return write_input(folder / f"walker{number}", stage, atoms=DIMER, options=f"seed = {number}")


def hills(path: Path) -> np.ndarray:
    """The hills of a walker; every line must be whole."""
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    assert path.read_text().endswith("\n")
    return np.array(rows, dtype=float)


def test_a_walker_feels_the_hills_of_the_others(tmp_path: Path) -> None:
    simulate(walker(tmp_path, 0), tmp_path / "zero", threads=1)
    first = (tmp_path / "shared" / "HILLS.0").read_bytes()
    simulate(walker(tmp_path, 1), tmp_path / "one", threads=1)
    assert read_log(tmp_path / "zero")["bias energy"][0] == 0.0
    assert read_log(tmp_path / "one")["bias energy"][0] > 0.005  # before it has a hill of its own
    assert (tmp_path / "shared" / "HILLS.0").read_bytes() == first
    assert len(hills(tmp_path / "shared" / "HILLS.1")) == 40
    assert not list(tmp_path.rglob("bck.*"))


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn line"])
def test_a_walker_goes_on_from_all_hills_and_cuts_none(torn: bool, tmp_path: Path) -> None:
    simulate(walker(tmp_path, 0), tmp_path / "zero", threads=1)
    path, out, own = walker(tmp_path, 1), tmp_path / "one", tmp_path / "shared" / "HILLS.1"
    with pytest.raises(Stopped):
        simulate(path, out, threads=1, progress=stopping(out, 200))
    first, before = (tmp_path / "shared" / "HILLS.0").read_bytes(), own.read_bytes()
    # what a killed walker had deposited after its checkpoint others may have read: it stays
    lines = before.decode().splitlines()
    own.write_text(before.decode() + lines[-1] + "\n" + (lines[-1][:40] if torn else ""))
    simulate(path, out, threads=1)
    assert (tmp_path / "shared" / "HILLS.0").read_bytes() == first
    assert own.read_bytes().startswith(before)
    assert len(hills(own)) == 41
    assert "the run continues statistically" in (out / "messages.log").read_text()


def test_a_walker_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    path, errors = walker(tmp_path, 0), tmp_path / "errors"
    arguments = ["simulate", path, "--out", tmp_path / "zero", "--threads", 1]
    assert mlmd(arguments, errors, killed_at=4) == -signal.SIGKILL
    assert mlmd(arguments, errors) == 0, errors.read_text()
    assert len(hills(tmp_path / "shared" / "HILLS.0")) == 40
