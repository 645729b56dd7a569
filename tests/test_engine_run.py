"""What a run does with its folder, its input and its failures, beside the physics."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase import units as ase_units
from runs import fcc_argon, write_input

from mlmd.ase import Calculator
from mlmd.config import load_simulate
from mlmd.engine import commit, job
from mlmd.engine.job import prepare
from mlmd.engine.outputs import Log
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError, Stopped, StorageError
from mlmd.rundir import CHECKPOINTS, LOG, MANIFEST, STOP, open_run

NVT = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "{} ps"\n'
NVE = '[[stage]]\nkind = "nve"\nduration = "1 ps"\n'


def stop_at_the_first_line(folder: Path, stages: str) -> tuple[Path, Path]:
    """An input and its run folder, stopped after a checkpoint in the first stage."""
    path, run = write_input(folder, stages), folder / "run"
    with pytest.raises(Stopped):
        simulate(path, run, progress=lambda moment: (run / STOP).touch())
    return path, run


def test_a_run_without_its_checkpoints_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    path, run = stop_at_the_first_line(tmp_path, NVT.format(2))
    shutil.rmtree(run / CHECKPOINTS)
    before = {name: (run / name).read_bytes() for name in (LOG, "trajectory.dcd")}
    with pytest.raises(StorageError, match="holds no checkpoint"):
        simulate(path, run)
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_run_starts_from_a_frame_of_a_file(tmp_path: Path) -> None:
    path = write_input(tmp_path, NVT.format(0.05))
    frames = [fcc_argon(2, a) for a in (5.3, 5.4, 5.5)]
    ase.io.write(tmp_path / "atoms.extxyz", frames, format="extxyz")
    path.write_text(path.read_text().replace("atoms.extxyz", "atoms.extxyz@2"))
    run = simulate(path, tmp_path / "run")
    assert np.genfromtxt(run.path / LOG, delimiter=",", names=True)["volume_Å3"] == pytest.approx(11.0**3)


@pytest.mark.row("R27")
def test_another_version_of_openmm_makes_the_continuation_statistical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = stop_at_the_first_line(tmp_path, NVT.format(2))
    changed = job.versions() | {"openmm": "99.9"}
    monkeypatch.setattr(commit, "versions", lambda: changed)
    simulate(path, run)
    assert "statistically" in (run / "messages.log").read_text()


def test_a_continuation_is_recorded_with_its_versions(tmp_path: Path) -> None:
    path, run = stop_at_the_first_line(tmp_path, NVT.format(2))
    simulate(path, run)
    (entry,) = json.loads((run / MANIFEST).read_text())["continued"]
    assert entry["versions"]["openmm"]
    assert entry["platform"]["openmm"] == "Reference"


def test_frames_carry_the_potential_and_not_the_bias(tmp_path: Path) -> None:
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.5 KAPPA=10000\n")
    stages = NVT.format(0.5) + 'plumed = "plumed.dat"\n'
    output = 'trajectory_format = "extxyz"\ntrajectory_every = "50 fs"\nlog_every = "50 fs"'
    run = simulate(write_input(tmp_path, stages, output=output), tmp_path / "run")
    rows = np.loadtxt(run.log, delimiter=",", skiprows=1)
    frames = ase.io.read(run.trajectory, index=":")
    assert rows[:, 11].max() > 0.1  # the bias, eV
    assert [frame.get_potential_energy() for frame in frames] == pytest.approx(rows[:, 3], abs=1e-6)
    again = frames[-1].copy()
    again.calc = Calculator(prepare(load_simulate(tmp_path / "input.toml")).potential)
    assert frames[-1].get_forces() == pytest.approx(again.get_forces(), abs=1e-6)


def test_velocities_of_the_file_stay_when_hydrogen_gets_heavier(tmp_path: Path) -> None:
    atoms = ase.Atoms("H4", [[0, 0, 0], [5, 0, 0], [0, 5, 0], [0, 0, 5]], cell=[20] * 3, pbc=True)
    velocities = np.random.default_rng(1).normal(size=(4, 3)) * 1e-2
    atoms.set_velocities(velocities / ase_units.fs)
    options = 'velocities = "file"\nhydrogen_mass = "4 amu"'
    job_of_file = prepare(load_simulate(write_input(tmp_path, NVE, atoms=atoms, options=options)))
    assert job_of_file.velocities == pytest.approx(velocities - velocities.mean(axis=0), abs=1e-8)
    assert job_of_file.body.masses == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ('[[stage]]\nkind = "minimize"\ncell = true\n', "periodic in all three"),
        (NVT.format(1) + '[analysis]\nrun = ["diffusion"]\ncharges = { Lu = 1 }\n', "no Lu"),
        (NVT.format(1) + '[analysis]\nrun = ["diffusion"]\ndrift = ["Xe"]\n', "no Xe"),
    ],
)
@pytest.mark.row("R14")
def test_what_cannot_work_is_refused_before_a_folder_is_made(tmp_path: Path, stages: str, words: str) -> None:
    atoms = fcc_argon(2)
    atoms.pbc = False
    with pytest.raises(InputError, match=words):
        simulate(write_input(tmp_path, stages, atoms=atoms), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.row("R08")
def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Log, *row: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    path = write_input(tmp_path, NVT.format(1))
    with monkeypatch.context() as context:
        context.setattr(Log, "row", full)
        with pytest.raises(StorageError, match=r"log\.csv: No space left .* MB are free"):
            simulate(path, tmp_path / "run")
    assert open_run(tmp_path / "run").manifest["state"] == "interrupted"
    simulate(path, tmp_path / "run")
    assert open_run(tmp_path / "run").manifest["state"] == "done"


@pytest.mark.row("R08")
def test_a_disk_that_is_still_full_is_named_when_the_run_is_to_go_on(tmp_path: Path) -> None:
    """No file may grow beyond 100 bytes: the first that is written again is the input."""
    path, out = stop_at_the_first_line(tmp_path, NVT.format(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        with pytest.raises(
            StorageError, match=rf"^{re.escape(str(out))}: File too large.*raise it, and the same command"
        ):
            simulate(path, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    simulate(path, out)
    assert open_run(out).manifest["state"] == "done"


@pytest.mark.row("R16")
def test_an_absolute_limit_of_the_temperature_holds_without_a_thermostat(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    atoms.set_velocities(np.random.default_rng(2).normal(size=(len(atoms), 3)) * 0.02)
    path = write_input(
        tmp_path, NVE + '[guard]\nmax_temperature = "50 K"\n', atoms=atoms, options='velocities = "file"'
    )
    with pytest.raises(SimulationError, match="above the limit of 50 K"):
        simulate(path, tmp_path / "run")


@pytest.mark.row("R16")
def test_a_potential_with_its_elements_in_the_wrong_order_fails_in_the_minimization(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    atoms.set_cell(atoms.cell.array * 0.35, scale_atoms=True)
    stage = '[[stage]]\nkind = "minimize"\nmax_steps = 1\n'
    with pytest.raises(SimulationError, match="order of its file"):
        simulate(write_input(tmp_path, stage, atoms=atoms), tmp_path / "run")
    assert (tmp_path / "run/crash/last.extxyz").exists()


def test_the_current_folder_of_a_library_user_stays(tmp_path: Path) -> None:
    here, seen = Path.cwd(), []
    simulate(write_input(tmp_path, NVT.format(0.5)), tmp_path / "run", progress=lambda moment: seen.append(Path.cwd()))
    assert set(seen) == {here}


def test_stages_in_the_log_count_from_one(tmp_path: Path) -> None:
    run = simulate(write_input(tmp_path, NVT.format(0.2) + NVT.format(0.2)), tmp_path / "run")
    assert set(np.loadtxt(run.log, delimiter=",", skiprows=1, usecols=1)) == {1, 2}
