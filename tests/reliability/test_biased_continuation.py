"""A biased run that was stopped or killed has every hill once, and moves as if it had never stopped."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from processes import begin_limited, killed_at_every_write, killed_at_random, mlmd
from runs import read_log, run_in_parts, stopping, write_input

from mlmd.engine.run import simulate
from mlmd.errors import Stopped, StorageError

N_KILLS = 20
PARTICLE = ase.Atoms("Ar", [[-2.0, 0.0, 0.0]])
STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "3 ps"\nplumed = "bias.dat"\n'
OUTPUT = 'log_every = "50 fs"\ntrajectory_every = "50 fs"\ntrajectory_format = "extxyz"\n'
WELL = (
    "p: POSITION ATOM=1 NOPBC\n"
    "well: CUSTOM ARG=p.x FUNC=16*((x/0.2)^2-1)^2 PERIODIC=NO\n"
    "tube: CUSTOM ARG=p.y,p.z VAR=y,z FUNC=2000*(y^2+z^2) PERIODIC=NO\n"
    "field: BIASVALUE ARG=well,tube\n"
)
METAD = "metad: METAD ARG=p.x SIGMA=0.02 HEIGHT=1.0 PACE=20 BIASFACTOR=8 TEMP=300 FILE=HILLS{}\n"
GRID = " GRID_MIN=-0.6 GRID_MAX=0.6"
OPES = "opes: OPES_METAD ARG=p.x PACE=20 BARRIER=30 TEMP=300 SIGMA=0.02 FILE=KERNELS{}\n"
STATE = " STATE_WFILE=STATE STATE_WSTRIDE=100"
PRINT = "PRINT ARG=p.x,{0}.bias STRIDE=10 FILE=COLVAR\n"
SCRIPTS = {
    "metadynamics": WELL + METAD.format("") + PRINT.format("metad"),
    "metadynamics on a grid": WELL + METAD.format(GRID) + PRINT.format("metad"),
    "opes": WELL + OPES.format("") + PRINT.format("opes"),
    "opes with a state": WELL + OPES.format(STATE) + PRINT.format("opes"),
}


def biased_input(folder: Path, script: str, *, checkpoint_every: float = 60.0) -> Path:
    """An input whose only forces are those of a script."""
    path = write_input(
        folder, STAGE, atoms=PARTICLE, options="remove_com_motion = false",
        output=OUTPUT + f"checkpoint_every = {checkpoint_every}\n[guard]\nmax_temperature = 'off'",
    )  # fmt: skip
    (folder / "bias.dat").write_text(script)
    return path


def table(path: Path) -> np.ndarray:
    """The numbers of one of PLUMED's files; every line must be complete."""
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    assert path.read_text().endswith("\n")
    return np.array(rows, dtype=float)


def assert_same_biased_run(one: Path, other: Path) -> None:
    """Each time of HILLS and COLVAR once, all values and the motion as in the uninterrupted run."""
    for name in ("HILLS", "KERNELS", "COLVAR"):
        if not (one / name).exists():
            continue
        wanted, got = table(one / name), table(other / name)
        assert np.array_equal(wanted[:, 0], got[:, 0]), f"other times in {name}"
        assert (np.diff(got[:, 0]) > 0).all()
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
    wanted, got = read_log(one), read_log(other)
    assert np.array_equal(wanted["step"], got["step"])
    for column in ("kinetic energy", "bias energy"):
        np.testing.assert_allclose(got[column], wanted[column], rtol=0, atol=1e-8)
    frames = [ase.io.read(folder / "trajectory.extxyz", index=":") for folder in (one, other)]
    assert len(frames[0]) == len(frames[1])
    for first, second in zip(*frames, strict=True):
        np.testing.assert_allclose(first.positions, second.positions, rtol=0, atol=1e-8)


@pytest.mark.parametrize("bias", SCRIPTS)
@pytest.mark.row("R04")
def test_a_stopped_bias_goes_on_as_if_never_stopped(bias: str, tmp_path: Path) -> None:
    path = biased_input(tmp_path, SCRIPTS[bias])
    simulate(path, tmp_path / "one", threads=1)
    # on multiples of PACE (100, 400), of the stride of COLVAR (all), and off them
    run_in_parts(path, tmp_path / "parts", [10, 100, 210, 400, 590], threads=1)
    assert_same_biased_run(tmp_path / "one", tmp_path / "parts")
    history = "HILLS" if "metadynamics" in bias else "KERNELS"
    # PLUMED deposits nothing at its first step
    assert np.allclose(table(tmp_path / "parts" / history)[:, 0], 0.1 * np.arange(1, 31), atol=1e-9)
    assert np.allclose(table(tmp_path / "parts" / "COLVAR")[:, 0], 0.05 * np.arange(61), atol=1e-9)


@pytest.mark.parametrize("bias", ["metadynamics on a grid", "opes with a state"])
@pytest.mark.row("R04")
def test_a_bias_killed_at_every_write_is_whole(bias: str, tmp_path: Path) -> None:
    path, errors = biased_input(tmp_path, SCRIPTS[bias], checkpoint_every=0.03), tmp_path / "errors"
    path.write_text(path.read_text().replace("3 ps", "1 ps"))
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    assert killed_at_every_write(path, tmp_path / "killed", errors, first=2) > 8
    assert_same_biased_run(tmp_path / "one", tmp_path / "killed")


@pytest.mark.row("R04")
def test_a_bias_under_pressure_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    stage = (
        '[[stage]]\nkind = "npt"\ntemperature = "60 K"\npressure = "1 bar"\nduration = "1 ps"\nplumed = "bias.dat"\n'
        'barostat = { kind = "flexible", every = 4 }'
    )
    path = write_input(tmp_path, stage, output=OUTPUT)
    (tmp_path / "bias.dat").write_text(
        "d: DISTANCE ATOMS=1,2\nmetad: METAD ARG=d SIGMA=0.01 HEIGHT=0.5 PACE=20 FILE=HILLS\n"
        "PRINT ARG=d,metad.bias STRIDE=4 FILE=COLVAR\n"
    )
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 60, 130, 190], threads=1)
    assert_same_biased_run(tmp_path / "one", tmp_path / "parts")
    # trial volumes call the bias too, and neither deposit nor print
    assert np.allclose(table(tmp_path / "parts" / "HILLS")[:, 0], 0.1 * np.arange(1, 11), atol=1e-9)
    assert np.allclose(table(tmp_path / "parts" / "COLVAR")[:, 0], 0.02 * np.arange(51), atol=1e-9)


@pytest.mark.row("R07")
def test_a_deleted_history_is_refused_by_name(tmp_path: Path) -> None:
    path, out = biased_input(tmp_path, SCRIPTS["metadynamics"]), tmp_path / "run"
    with pytest.raises(Stopped):
        simulate(path, out, threads=1, progress=stopping(out, 100))
    (out / "HILLS").unlink()
    with pytest.raises(StorageError, match="HILLS is missing or shorter"):
        simulate(path, out, threads=1)


def test_hills_of_an_earlier_run_beside_the_script_stay_out_of_this_one(tmp_path: Path) -> None:
    path = biased_input(tmp_path, SCRIPTS["metadynamics"].replace("FILE=HILLS", "FILE=hills.dat"))
    simulate(path, tmp_path / "one", threads=1)
    for name in ("hills.dat", "COLVAR"):
        (tmp_path / name).write_text("#! FIELDS time p.x\n 1 2\n")
    run_in_parts(path, tmp_path / "parts", [100, 210], threads=1)
    assert_same_biased_run(tmp_path / "one", tmp_path / "parts")
    one, parts = (table(tmp_path / run / "hills.dat") for run in ("one", "parts"))
    np.testing.assert_allclose(one, parts, rtol=1e-9)
    assert not list((tmp_path / "parts").glob("bck.*"))


def test_a_script_that_restarts_begins_with_the_hills_beside_it(tmp_path: Path) -> None:
    simulate(biased_input(tmp_path, SCRIPTS["metadynamics"]), tmp_path / "first", threads=1)
    path = biased_input(tmp_path, "RESTART\n" + SCRIPTS["metadynamics"])
    (tmp_path / "HILLS").write_bytes((tmp_path / "first" / "HILLS").read_bytes())
    errors, arguments = tmp_path / "errors", ["simulate", path, "--out", tmp_path / "run", "--threads", 1]
    assert mlmd(arguments, errors, killed_at=4) == -signal.SIGKILL  # before the first checkpoint
    assert mlmd(arguments, errors) == 0, errors.read_text()
    assert len(table(tmp_path / "run" / "HILLS")) == 60
    assert read_log(tmp_path / "run")["bias energy"][0] > 0.05


@pytest.mark.row("R04")
def test_a_bias_goes_on_through_the_next_stage(tmp_path: Path) -> None:
    path = biased_input(tmp_path, SCRIPTS["metadynamics"])
    path.write_text(path.read_text().replace(STAGE, STAGE.replace("3 ps", "1500 fs") * 2))
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [100, 310, 400], threads=1)
    assert_same_biased_run(tmp_path / "one", tmp_path / "parts")
    # the step between the stages is one step: step 300, on the PACE, is deposited and printed once
    assert np.allclose(table(tmp_path / "one" / "HILLS")[:, 0], 0.1 * np.arange(1, 31), atol=1e-9)
    assert np.allclose(table(tmp_path / "one" / "COLVAR")[:, 0], 0.05 * np.arange(61), atol=1e-9)


@pytest.mark.row("R04")
def test_a_bias_that_pauses_for_an_unbiased_stage_loses_no_line(tmp_path: Path) -> None:
    path = biased_input(tmp_path, SCRIPTS["metadynamics"])
    biased, free = STAGE.replace("3 ps", "1 ps"), STAGE.replace("3 ps", "0.5 ps").replace('plumed = "bias.dat"\n', "")
    path.write_text(path.read_text().replace(STAGE, biased + free + biased))
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [100, 210, 310, 400], threads=1)
    assert_same_biased_run(tmp_path / "one", tmp_path / "parts")
    # the first step after the pause is printed: nothing has printed it before
    times = np.concatenate([np.arange(21), np.arange(30, 51)]) * 0.05
    assert np.allclose(table(tmp_path / "one" / "COLVAR")[:, 0], times, atol=1e-9)


@pytest.mark.parametrize(
    "script",
    [
        SCRIPTS["metadynamics"]
        .replace("METAD ", "metad ")
        .replace("PRINT", "print")
        .replace("FILE=HILLS", "file=HILLS"),
        WELL + "Include FILE=rest.dat\n",
        WELL + METAD.format("").replace("METAD", "PBMETAD").replace(" FILE=HILLS", "") + PRINT.format("metad"),
    ],
    ids=["small letters", "included", "parallel"],
)
def test_a_bias_written_in_another_way_has_every_hill_once(script: str, tmp_path: Path) -> None:
    path = biased_input(tmp_path, script)
    (tmp_path / "rest.dat").write_text(METAD.format("") + PRINT.format("metad"))
    out = tmp_path / "run"
    hills, values = out / ("HILLS.p.x" if "PBMETAD" in script else "HILLS"), out / "COLVAR"
    with pytest.raises(Stopped):
        simulate(path, out, threads=1, progress=stopping(out, 100))
    for written in (hills, values):  # what a run that was killed has written since its checkpoint
        written.write_text(written.read_text() + written.read_text().splitlines()[-1] + "\n")
    simulate(path, out, threads=1)
    assert np.allclose(table(hills)[:, 0], 0.1 * np.arange(1, 31), atol=1e-9)
    assert np.allclose(table(values)[:, 0], 0.05 * np.arange(61), atol=1e-9)


def test_a_memory_that_plumed_does_not_keep_is_named_when_the_run_continues(tmp_path: Path) -> None:
    script = SCRIPTS["metadynamics"] + "move: MOVINGRESTRAINT ARG=p.x STEP0=0 AT0=0 KAPPA0=1 STEP1=300 AT1=0.1\n"
    path, out = biased_input(tmp_path, script), tmp_path / "run"
    with pytest.raises(Stopped):
        simulate(path, out, threads=1, progress=stopping(out, 100))
    assert "MOVINGRESTRAINT" not in (out / "messages.log").read_text()
    simulate(path, out, threads=1)
    assert (
        "memory of MOVINGRESTRAINT, which starts anew here: the run continues statistically"
        in (out / "messages.log").read_text()
    )


def test_on_another_platform_a_bias_goes_on_without_a_gap(tmp_path: Path) -> None:
    path, out = biased_input(tmp_path, SCRIPTS["metadynamics"]), tmp_path / "run"
    with pytest.raises(Stopped):
        simulate(path, out, platform="Reference", threads=1, progress=stopping(out, 100))
    simulate(path, out, platform="CPU", threads=1)
    assert np.allclose(table(out / "HILLS")[:, 0], 0.1 * np.arange(1, 31), atol=1e-9)
    assert np.allclose(table(out / "COLVAR")[:, 0], 0.05 * np.arange(61), atol=1e-9)


HISTORY_AT_EVERY_STEP = WELL + METAD.format("").replace("PACE=20", "PACE=1") + "PRINT ARG=p.x STRIDE=50 FILE=COLVAR\n"
VALUES_AT_EVERY_STEP = WELL + METAD.format("") + "PRINT ARG=p.x,metad.bias STRIDE=1 FILE=COLVAR\n"


@pytest.mark.row("R08")
@pytest.mark.parametrize("name", ["HILLS", "COLVAR"])
def test_lines_that_plumed_cannot_write_end_the_run_and_are_written_anew(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    # PLUMED itself goes on without a word; a limit of the system on the size of files stands for a full disk
    script = {"HILLS": HISTORY_AT_EVERY_STEP, "COLVAR": VALUES_AT_EVERY_STEP}[name]
    path, errors = biased_input(tmp_path, script, checkpoint_every=0.02), tmp_path / "errors"
    path.write_text(path.read_text().replace("50 fs", "500 fs"))
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    whole = (tmp_path / "one" / name).read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]  # nothing is torn there
    sizes = [*np.linspace(9000, len(whole) - 100, 6, dtype=int).tolist(), ends[len(ends) * 2 // 3]]
    for size in sizes:
        out = tmp_path / f"full{size}"
        process = begin_limited(["simulate", path, "--out", out, "--threads", 1], errors, size)
        process.join(60)
        said = errors.read_text()
        assert process.exitcode == 4, said
        assert f"{out / name}: PLUMED could not write all of it" in said and "MB are free" in said
        assert mlmd(["simulate", path, "--out", out, "--threads", 1], errors) == 0, errors.read_text()
        assert_same_biased_run(tmp_path / "one", out)
    record_property(f"limits of {name}", len(sizes))


@pytest.mark.row("R04")
@pytest.mark.parametrize("bias", ["metadynamics", pytest.param("opes", marks=pytest.mark.slow)])
def test_a_bias_killed_at_random_times_is_whole(
    bias: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path, errors = biased_input(tmp_path, SCRIPTS[bias], checkpoint_every=0.02), tmp_path / "errors"
    assert mlmd(["--version"], errors) == 0  # the server has started
    began = time.monotonic()
    assert mlmd(["simulate", path, "--out", tmp_path / "one", "--threads", 1], errors) == 0
    usual = time.monotonic() - began
    rng = random.Random(7)
    for folder in killed_at_random(path, tmp_path, errors, n_kills=N_KILLS, usual=usual, rng=rng):
        assert_same_biased_run(tmp_path / "one", folder)
    record_property(f"random kills ({bias})", N_KILLS)
