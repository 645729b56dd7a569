"""Runs that share an adaptive biasing force: one that is killed loses nothing, and the file of another stays."""

from __future__ import annotations

import signal
from itertools import count
from pathlib import Path

import ase
import numpy as np
import pytest
from processes import mlmd
from runs import stopping, write_input

from mlmd.analysis.abf import read_tables
from mlmd.analysis.fes import fes
from mlmd.bias.shared import read_left
from mlmd.engine.run import simulate
from mlmd.errors import InputError, Stopped

DIMER = ase.Atoms("Ar2", [[1.0, 1.0, 1.0], [4.0, 2.0, 3.0]], cell=[20.0] * 3, pbc=True)
STEPS = 100


def walker(folder: Path, number: int, *, extended: bool = True, width: str = "0.2 Å") -> Path:
    """The input of one of two walkers, who look at each other every 10 steps of 5 fs."""
    kind = 'extended = true, boundary = "reflect"' if extended else "extended = false"
    stage = (
        '[[stage]]\nkind = "nvt"\ntemperature = "100 K"\nduration = "500 fs"\n'
        'bias = { kind = "abf", cv = { kind = "distance", atoms = [0, 1] }, minimum = "2 Å", maximum = "6 Å", '
        f'width = "{width}", full_samples = 10, write_every = "100 fs", {kind}, '
        f'walkers = {{ folder = "../shared", number = {number}, count = 2, read_every = "50 fs" }} }}\n'
    )
    output = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = 0.03\n[guard]\nenabled = false'
    return write_input(folder / f"walker{number}", stage, atoms=DIMER, options=f"seed = {number}", output=output)


@pytest.mark.row("R04")
@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_a_walker_killed_at_every_write_collects_every_step_once(extended: bool, tmp_path: Path) -> None:
    first = simulate(walker(tmp_path, 0, extended=extended), tmp_path / "zero", threads=1)
    shared, path, errors = tmp_path / "shared", walker(tmp_path, 1, extended=extended), tmp_path / "errors"
    kept, reached = (shared / "abf.0").read_bytes(), -1
    for n in count(2):
        code = mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors, killed_at=n)
        if (shared / "abf.1").exists():  # whole, and never farther back than it was
            left = read_left(shared / "abf.1")
            assert left.step >= reached
            reached = left.step
        if code != -signal.SIGKILL:
            break
    assert code == 0, errors.read_text()
    assert n > 8
    assert (shared / "abf.0").read_bytes() == kept
    assert reached == STEPS
    own, (table,) = read_left(shared / "abf.1").bins, read_tables(tmp_path / "one" / "abf.dat")
    assert np.array_equal(own["true"][0], table.samples.ravel())
    if extended:  # reflected, so that no step is outside of the bins
        assert own["extended"][0].sum() == STEPS + 1
    found = fes([first, tmp_path / "one"])
    (other,) = read_tables(first.path / "abf.dat")
    assert found.provenance.n_frames == table.samples.sum() + other.samples.sum()
    assert not any("walker" in note for note in found.notes)
    assert "the samples of one walker of 2" in " ".join(fes([first]).notes)


def test_a_walker_that_goes_on_says_that_it_does_so_statistically(tmp_path: Path) -> None:
    simulate(walker(tmp_path, 0), tmp_path / "zero", threads=1)
    path, out = walker(tmp_path, 1), tmp_path / "one"
    with pytest.raises(Stopped):
        simulate(path, out, threads=1, progress=stopping(out, 50))
    simulate(path, out, threads=1)
    assert (
        "have collected by now acts from here on: the run continues statistically" in (out / "messages.log").read_text()
    )


def test_a_second_run_with_the_number_of_a_walker_is_refused(tmp_path: Path) -> None:
    simulate(walker(tmp_path, 0), tmp_path / "zero", threads=1)
    with pytest.raises(InputError, match=r"abf\.0 is of another run .* does not write over it"):
        simulate(walker(tmp_path, 0), tmp_path / "again", threads=1)
    with pytest.raises(InputError, match=r"abf\.0 has n_bins"):
        simulate(walker(tmp_path, 1, width="0.1 Å"), tmp_path / "one", threads=1)
