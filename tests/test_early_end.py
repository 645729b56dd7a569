"""Stages that end before their last step: where PLUMED says so, and when a quantity is known well enough."""

from __future__ import annotations

from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest
from runs import assert_same_run, fcc_argon, read_log, run_in_parts, write_input

from mlmd.analysis.diffusion import diffusion
from mlmd.config import load_simulate
from mlmd.config.stop import looks, next_look
from mlmd.engine.run import simulate
from mlmd.engine.schedule import stage_records, usual_temperature
from mlmd.engine.verify import verify
from mlmd.errors import InputError, StorageError
from mlmd.io.trajectories import open_run
from mlmd.rundir import End, Run, ends_of, with_ends

HOT = '[[stage]]\nkind = "nvt"\ntemperature = "{}"\nduration = "{}"\n'
OFTEN = 'log_every = "50 fs"\ntrajectory_every = "25 fs"'
STOP = '[stop]\nquantity = "D:Ar"\nrelative_error = {}\n'
COMMITTOR = (
    "d: DISTANCE ATOMS=1,2\n"
    "COMMITTOR ARG=d STRIDE=7 BASIN_LL1=0.39 BASIN_UL1=0.9 FILE=BASIN{}\n"
    "PRINT ARG=d STRIDE=1 FILE=COLVAR\n"
)
"""Atoms 1 and 2, which are neighbours 0.38 nm apart, have to go away from each other."""


def committing(folder: Path, *, more: str = "", output: str = OFTEN) -> Path:
    """An input of two stages, the first of which ends when two atoms are far from each other."""
    first = HOT.format("120 K", "5 ps") + 'plumed = "c.dat"\n'
    path = write_input(folder, first + HOT.format("120 K", "0.3 ps"), output=output)
    (folder / "c.dat").write_text(COMMITTOR.format(more))
    return path


def liquid(folder: Path, asked: str, *, duration: str = "200 ps") -> Path:
    """An input of 32 atoms of gas or liquid, which diffuse."""
    stages = HOT.format("150 K", "0.5 ps") + HOT.format("150 K", duration) + asked
    return write_input(folder, stages, atoms=fcc_argon(2, 6.2), output=OFTEN)


def thermal(folder: Path, asked: float, duration: str = "100 ps") -> Path:
    """An input of atoms whose temperature forgets itself in some 30 fs."""
    stop = f'[stop]\nquantity = "temperature"\nrelative_error = {asked}\n'
    stage = HOT.format("60 K", duration) + 'thermostat = { kind = "langevin", friction = "30 / ps" }\n'
    return write_input(folder, stage + stop, output='log_every = "10 fs"\ntrajectory_every = "1 ps"')


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("committed")
    return simulate(committing(folder), folder / "run", threads=1)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has ended when D was known to 8 %."""
    folder = tmp_path_factory.mktemp("known")
    return simulate(liquid(folder, STOP.format(0.08)), folder / "run", threads=1)


# --- PLUMED -----------------------------------------------------------------------------------------------------


def test_a_stage_ends_at_the_first_look_of_committor_that_finds_a_basin(committed: Run) -> None:
    first, second = committed.stages
    colvar = np.loadtxt(committed.path / "COLVAR")
    steps, distances = np.rint(colvar[:, 0] / 0.005).astype(int), colvar[:, 1]
    looked = steps % 7 == 0
    there = steps[looked & (distances > 0.39) & (distances < 0.9)]
    assert first.n_steps == there[0] == steps[-1] < 1000
    assert first.end is not None and "COMMITTOR (line 2) of c.dat" in first.end.why and "basin 1" in first.end.why
    assert (second.first_step, second.n_steps, second.end) == (first.n_steps, 60, None)


def test_what_comes_after_an_early_end_follows_it_in_time(committed: Run) -> None:
    log, end = read_log(committed), committed.stages[0].n_steps
    assert log["step"][log["stage"] == 2][0] == end + 10
    assert np.allclose(log["time"], 0.005 * log["step"], rtol=1e-9)
    _, steps, times = committed.frame_table()
    assert open_run(committed, 1).n_frames + open_run(committed, 2).n_frames == len(steps)
    assert np.allclose(times, 5.0 * steps)
    assert not verify(committed.path).problems


def test_a_run_that_was_stopped_on_the_way_commits_at_the_same_step(committed: Run, tmp_path: Path) -> None:
    end = committed.stages[0].n_steps
    steps = [end // 20 * 10, end // 10 * 10, end + 20]
    run = run_in_parts(committing(tmp_path), tmp_path / "run", steps, threads=1)
    assert run.stages == committed.stages
    assert_same_run(committed.path, run.path, extra=("COLVAR", "BASIN"))


def test_a_committor_that_is_not_to_stop_does_not(tmp_path: Path) -> None:
    run = simulate(committing(tmp_path, more=" NOSTOP"), tmp_path / "run", threads=1)
    assert (run.stages[0].n_steps, run.stages[0].end) == (1000, None)


def test_a_stage_is_guarded_by_the_temperature_that_a_ramp_before_it_has_reached(tmp_path: Path) -> None:
    stages = '[[stage]]\nkind = "nvt"\ntemperature = ["100 K", "500 K"]\nduration = "5 ps"\n'
    config = load_simulate(write_input(tmp_path, stages + '[[stage]]\nkind = "nve"\nduration = "1 ps"\n'))
    ended = with_ends(stage_records(config), {0: End(250, 1000, "")})
    assert usual_temperature(ended[1], config, ended[:1]) == pytest.approx(200.0)


# --- a quantity ---------------------------------------------------------------------------------------------------


def test_a_stage_ends_at_the_second_look_that_finds_d_known_well_enough(known: Run, tmp_path: Path) -> None:
    first, last = known.stages
    assert last.end is not None and last.end.early and first.end is None
    path = liquid(tmp_path, "", duration=f"{5 * last.n_steps} fs")
    whole = simulate(path, tmp_path / "whole", threads=1)
    for name in ("log.csv", "trajectory.dcd", "final.extxyz"):  # the looks have not touched the dynamics
        assert (whole.path / name).read_bytes() == (known.path / name).read_bytes()
    good = []
    for n in takewhile(lambda n: 5 * n <= last.n_steps, looks()):
        one = diffusion(open_run(whole, last_time=5.0 * (first.n_steps + 5 * n)), elements=["Ar"]).species[0]
        enough = one.line is not None and one.line.steady and n / one.line.first_lag >= 10
        good.append(enough and one.coefficient.error / one.coefficient.value <= 0.08)
    assert good[-3:] == [False, True, True]
    assert not any(one and other for one, other in pairwise(good[:-1]))
    told = (known.path / "messages.log").read_text()
    assert "the next look has to find the same" in told
    assert f"ended at step {last.n_steps:,} of 40,000: D(Ar) = " in told and "ps were needed" in told


def test_a_run_that_has_ended_early_is_at_its_end(known: Run, tmp_path: Path) -> None:
    folder, before = known.path.parent, (known.path / "messages.log").read_bytes()
    for path in (folder / "input.toml", liquid(tmp_path, STOP.format(0.2), duration="300 ps")):
        assert simulate(path, known.path, threads=1).stages == known.stages
    assert (known.path / "messages.log").read_bytes() == before
    assert not verify(known.path).problems


def test_a_smaller_error_continues_a_run_as_if_it_had_been_asked_for_at_first(tmp_path: Path) -> None:
    path = thermal(tmp_path, 0.03)
    once = simulate(path, tmp_path / "run", threads=1)
    path.write_text(path.read_text().replace("0.03", "0.015"))
    more = simulate(path, once.path, threads=1)
    assert more.stages[0].n_steps > once.stages[0].n_steps
    at_once = simulate(thermal(tmp_path / "other", 0.015), tmp_path / "at once", threads=1)
    assert ends_of(more.stages) == ends_of(at_once.stages)
    assert_same_run(at_once.path, more.path)


def test_a_run_that_was_stopped_on_the_way_knows_at_the_same_step(tmp_path: Path) -> None:
    once = simulate(thermal(tmp_path, 0.015), tmp_path / "run", threads=1)
    end = once.stages[0].n_steps
    steps = [end // 4 * 2, end // 4 * 2 + 20, end - 2]
    run = run_in_parts(tmp_path / "input.toml", tmp_path / "in parts", steps, threads=1)
    assert run.stages == once.stages
    assert_same_run(once.path, run.path)


def test_a_stage_that_is_over_before_says_how_much_longer_it_takes(tmp_path: Path) -> None:
    path = thermal(tmp_path, 0.0001, "1.5 ps")
    run = simulate(path, tmp_path / "run", threads=1)
    end = run.stages[0].end
    assert end is not None and not end.early and run.stages[0].n_steps == 300
    assert "its duration is over, 1.5 ps; temperature = " in end.why and "ns more until 0.0001" in end.why
    path.write_text(path.read_text().replace('"1.5 ps"', '"2 ps"'))
    longer = simulate(path, run.path, threads=1)
    assert longer.stages[0].n_steps == 400
    assert_same_run(simulate(path, tmp_path / "at once", threads=1).path, longer.path)


def test_a_mean_of_the_log_can_end_a_stage_of_its_own(tmp_path: Path) -> None:
    npt = 'kind = "npt"\ntemperature = "60 K"\npressure = "1 bar"\nbarostat = { every = 5 }'
    stop = 'stop = { quantity = "density", relative_error = 0.02 }'
    stages = f'[[stage]]\n{npt}\nduration = "100 ps"\n{stop}\n' + HOT.format("60 K", "0.1 ps")
    path = write_input(tmp_path, stages, output='log_every = "10 fs"')
    run = simulate(path, tmp_path / "run", threads=1)
    first, second = run.stages
    assert first.end is not None and first.end.early and "g/cm³" in first.end.why
    assert next_look(first.n_steps // 2 - 1) == first.n_steps // 2
    assert second.n_steps == 20
    path.write_text(path.read_text().replace("0.02", "0.001"))
    with pytest.raises(StorageError, match="the stages behind it have begun"):
        simulate(path, run.path, threads=1)


# --- what makes no sense ------------------------------------------------------------------------------------------

NVT = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "10 ps"\n'
UMBRELLA = 'bias = { kind = "umbrella", cv = { kind = "distance", atoms = [0, 1] }, at = "3 Å", spring = "1 eV/Å^2" }\n'


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (NVT + STOP.format(0.0), "relative_error"),
        (NVT + STOP.format(-0.1), "relative_error"),
        (NVT + STOP.format(1.5), "relative_error"),
        (NVT + STOP.format('"0.1 %"'), "relative_error"),
        (NVT + STOP.format(0.1).replace("D:Ar", "D"), 'write "D:Li"|Write for example "D:Li"'),
        (NVT + STOP.format(0.1).replace("D:Ar", "densty"), "Did you mean 'density'"),
        (NVT + STOP.format(0.1).replace("D:Ar", "potential_energy"), "zero of an energy is arbitrary"),
        (NVT + STOP.format(0.1).replace("D:Ar", "pressure"), "may be zero"),
        (NVT + STOP.format(0.1).replace("D:Ar", "density"), "constant in nvt"),
        (NVT + STOP.format(0.1).replace("D:Ar", "conductivity"), "never guessed"),
        (NVT + STOP.format(0.1).replace("D:Ar", "D:Li"), "no Li"),
        (NVT.replace('"60 K"', '["60 K", "80 K"]') + STOP.format(0.1), "where a temperature or a pressure changes"),
        (NVT.replace("10 ps", "1 ps") + STOP.format(0.1), "after 100 frames, and the stage has 40"),
        (NVT + UMBRELLA + STOP.format(0.1), "a bias has moved"),
        (NVT + STOP.format(0.1) + "every = 3\n", "every"),
        ('[[stage]]\nkind = "minimize"\n' + STOP.format(0.1), "nve, nvt or npt"),
        (NVT + 'stop = { quantity = "D:Ar", relative_error = 0.1 }\n' + STOP.format(0.2), "Leave one of them out"),
        ('frozen = { elements = ["Ar"] }\n' + NVT + STOP.format(0.1), "frozen"),
    ],
)
def test_an_end_that_makes_no_sense_is_refused(tmp_path: Path, stages: str, words: str) -> None:
    options, _, rest = stages.rpartition('frozen = { elements = ["Ar"] }\n')
    frozen = 'frozen = { elements = ["Ar"] }' if "frozen" in stages else ""
    path = write_input(tmp_path, rest, options=frozen, output=OFTEN)
    with pytest.raises(InputError, match=words):
        simulate(path, tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()
    assert not options
