"""Atoms arrive at a slab that many processes share: the same atoms, at the same places, as in one process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from command_line import mlmd
from slabs import STAGE, argon_slab, assert_same_deposition, book, deposit_input
from test_lammps_engine import LAMMPS, THREE, assert_alike, carried_out, frames, heard, here, mpirun, needs_mpi

from mlmd import units
from mlmd.config import load_simulate
from mlmd.engine.motion import Motion, Owned, scheme_of
from mlmd.engine.run import simulate
from mlmd.engine.system import Body
from mlmd.errors import InputError
from mlmd.rundir import DEPOSITION, FINAL, MESSAGES

FROZEN = 'frozen = { below = 2 }\nvelocities = "60 K"\n'
SEVENTHS = 'log_every = "35 fs"\ntrajectory_every = "100 fs"\n[guard]\nmax_temperature = "off"'
"""Lines, at which runs are stopped, at steps where somebody arrives (every 20), where others are looked at (every 10),
and between."""
FREE = "\n".join(line for line in STAGE.splitlines() if not line.startswith("bath")) + "\n"
OFTEN = STAGE.replace("0.133 ps", "0.1 ps").replace('"9 Å"', '"5.6 Å"')
"""The layer ends at a plane of atoms, which cross its border all the time."""
COLD = OFTEN.replace('temperature = "60 K"', 'temperature = "1e-30 K"').replace('"2 ps"', '"0.8 ps"')
"""A bath without random forces, so that engines can be compared atom by atom: for so long. Light atoms that bounce off
the wall make differences in the tenth digit of constants ten times as large every 0.15 ps."""
LOW = COLD.replace('"2 Å", below = "5.6 Å"', '"-2 Å", below = "1.6 Å"')
"""A slab whose second layer moves below the origin: where the cell repeats, LAMMPS wraps it to above the wall."""
FAR = FREE.replace("0.133 ps", "1 ps").replace('"2 ps"', '"1 ps"').replace('ceiling = "3 Å"', 'ceiling = "20 Å"')
"""One helium atom that bounces and flies away, far out of the cell that was divided when it came."""
AND_ON = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "0.5 ps"\n'
CASES: dict[str, tuple[str, bool]] = {
    "free": (FREE.replace('"2 ps"', '"1.6 ps"'), False),
    "cold": (LOW + 'at_ceiling = "reflect"\n', True),
    "bath": (OFTEN.replace('"2 ps"', '"1.2 ps"') + AND_ON, False),
    "wall": (OFTEN.replace("0.1 ps", "0.4 ps") + 'at_ceiling = "reflect"\n', True),
    "far": (re.sub("species.*", 'species = "He"', FAR).replace('cone", angle = "40 deg"', 'normal"'), False),
}
"""Stages, and whether the cell repeats upwards."""
STOPS = {"bath": [7, 63, 140, 203, 275], "wall": [84, 140, 273], "far": [175, 189]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs for both engines."""
    folder = tmp_path_factory.mktemp("deposit")
    for name, (stages, periodic) in CASES.items():
        atoms, frozen = argon_slab(periodic=periodic), FROZEN
        if name == "cold":
            atoms.positions[:, 2] -= 4.0
            frozen = frozen.replace("2 }", "-2 }")
        given: dict[str, Any] = {"atoms": atoms, "output": SEVENTHS}
        path = deposit_input(folder / name, stages, options=frozen, **given)
        path.rename(path.with_name("openmm.toml"))
        deposit_input(folder / name, stages, options=LAMMPS + frozen, **given)
    return folder


@pytest.fixture(scope="module")
def on(made: Path) -> Callable[..., Path]:
    """Folder of the run of a case on n processes: whole, or in `parts`."""

    @cache
    def all_of(n: int) -> dict[str, str]:
        jobs: list[dict[str, Any]] = []
        for name in CASES:
            path = str(made / name / "input.toml")
            jobs.append({"input": path, "out": str(made / name / f"on{n}")})
            if name in STOPS and n < 3:
                acts = [["stop", step] for step in STOPS[name]]
                jobs.append({"input": path, "out": str(made / name / f"parts{n}"), "acts": acts})
        return carried_out(n, made, jobs)

    def run_of(name: str, n: int, kind: str = "on") -> Path:
        out = made / name / f"{kind}{n}"
        assert all_of(n)[str(out)] == "done"
        return out

    return run_of


@pytest.fixture(scope="module")
def openmm(made: Path) -> Callable[[str], Path]:
    @cache
    def run_of(name: str) -> Path:
        return simulate(made / name / "openmm.toml", made / name / "openmm", threads=1).path

    return run_of


def assert_same_fates(one: Path, other: Path) -> None:
    """The same atoms arrive, stick, bounce and leave, at the same steps and places."""
    ours, theirs = book(one), book(other)
    for column in ("step", "arrival", "what", "atoms"):
        assert ours[column].tolist() == theirs[column].tolist()
    for column in ("z", "vz"):  # Å and Å/ps; collisions have made differences of the last digits larger
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-5)


@needs_mpi
@pytest.mark.parametrize("n", [1, 2, THREE])
@pytest.mark.parametrize("name", ["free", "cold"])
def test_who_arrives_sticks_bounces_and_leaves_is_that_of_the_other_engine(
    on: Any, openmm: Any, name: str, n: int
) -> None:
    ours, theirs = on(name, n), openmm(name)
    assert_same_fates(ours, theirs)
    assert_alike(ours, theirs, 1e-6)
    seen = set(book(ours)["what"].tolist())
    assert {"inserted", "stuck", "reflected"} | ({"escaped"} if name == "free" else set()) <= seen


@needs_mpi
@pytest.mark.parametrize("n", [2, THREE])
@pytest.mark.parametrize("name", ["bath", "wall"])
def test_the_number_of_processes_changes_no_fate(on: Any, name: str, n: int) -> None:
    assert_same_fates(on(name, n), on(name, 1))
    assert_alike(on(name, n), on(name, 1), 1e-6)


@needs_mpi
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", STOPS)
def test_a_deposition_in_parts_is_the_same_to_the_last_bit(on: Any, name: str, n: int) -> None:
    assert_same_deposition(on(name, n), on(name, n, "parts"))


@needs_mpi
def test_who_flies_out_of_the_cell_that_was_divided_is_still_there_when_a_run_continues(on: Any) -> None:
    heights = {frame.info["step"]: frame.positions[-1, 2] for frame in frames(on("far", 2, "parts"))}
    assert heights[160] > heights[0] + 5.0  # Å, the room that is left around atoms where the cell is open


@needs_mpi
def test_processes_divide_the_slab_and_not_the_vacuum(on: Any) -> None:
    said = (on("wall", 2) / MESSAGES).read_text()
    counts = re.findall(r"LAMMPS: 2 processes have ([\d,]+)(?: to ([\d,]+))? atoms", said)
    assert len(counts) == 1  # told once, not at every arrival
    fewest = int(counts[0][0])
    assert fewest > 0.4 * len(argon_slab())


@needs_mpi
def test_a_killed_process_ends_a_deposition_that_the_same_command_continues(made: Path, on: Any) -> None:
    path, out = made / "bath" / "input.toml", made / "bath" / "killed"
    whole = on("bath", 2)
    given = made / "kill.json"
    given.write_text(json.dumps([{"input": str(path), "out": str(out), "acts": [["stop", 63], ["wait", 210]]}]))
    work = mpirun(2, here / "on_ranks.py", given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (out / "waits").exists():
        assert work.poll() is None
        time.sleep(0.2)
    os.kill(int(given.with_suffix(".1").read_text()), 9)
    heard(work, 60)
    assert work.returncode != 0
    (out / "waits").unlink()
    assert carried_out(2, made, [{"input": str(path), "out": str(out)}]) == {str(out): "done"}
    assert_same_deposition(whole, out)


@needs_mpi
def test_the_folder_is_verified_and_analysed_as_any_other(on: Any) -> None:
    verified = mlmd("verify", on("free", 2))
    assert verified.code == 0 and DEPOSITION in verified.out
    analysed = mlmd("analyze", "deposition", on("free", 2))
    assert analysed.code == 0, analysed.err
    rows = book(on("free", 2))
    assert rows["step"][rows["what"] == "inserted"].tolist() == [round(number * 133 / 5) for number in range(13)]
    there = len(argon_slab()) + sum({"inserted": 1, "escaped": -1}.get(what, 0) for what in rows["what"])
    assert ase.io.read(on("free", 2) / FINAL).arrays["id"].size == there


@needs_mpi
def test_an_arrival_that_the_guard_ends_leaves_its_frame(tmp_path: Path) -> None:
    inside = FREE.replace('height = "7 Å"', 'surface = "-2 Å"\nheight = "7 Å"').replace("3 Å", "0.5 Å")
    inside = re.sub("ceiling.*", 'ceiling = "40 Å"', inside).replace('contact = "5 Å"', 'contact = "4 Å"')
    before = '[[stage]]\nkind = "nve"\nduration = "25 fs"\n'
    path = deposit_input(tmp_path, before + inside, options=LAMMPS + FROZEN, output='[guard]\nmax_force = "5 eV/Å"')
    ends = carried_out(2, tmp_path, [{"input": str(path), "out": str(tmp_path / "run")}])
    said = ends[str(tmp_path / "run")]
    assert re.match(r"SimulationError: at step 5 .*above \[guard\] max_force", said), said
    assert (tmp_path / "run/crash/last.extxyz").read_text().startswith(f"{len(argon_slab()) + 1}\n")


def test_steps_in_the_library_refuse_atoms_that_arrive(tmp_path: Path) -> None:
    path = deposit_input(tmp_path, options='engine = "native"\n' + FROZEN)
    with pytest.raises(InputError, match=r"native: stage 1 \(deposit\): atoms that arrive are for the engines openmm"):
        load_simulate(path)


# -- the layer and the wall, as processes have them --------------------------------------------------------------------


def springs(stage: str, n_atoms: int, folder: Path) -> tuple[Motion, Owned]:
    """Argon atoms and what moves them in a stage, 5 fs a step."""
    deposit = load_simulate(deposit_input(folder, stage, options=FROZEN)).stage[0]
    masses, mobile = np.full(n_atoms, 39.948), np.ones(n_atoms)
    body = Body(np.full(n_atoms, 18), masses, mobile > 0, np.ones(3, bool), False)
    motion = Motion(scheme_of(deposit, 5.0, body, 1), float)  # type: ignore[arg-type]
    return motion, Owned(np.arange(1, n_atoms + 1, dtype=np.int32), masses, mobile)


def test_a_layer_is_at_equipartition_and_the_others_keep_their_energy(tmp_path: Path) -> None:
    n_atoms, layer, stiffness = 200, np.arange(200) < 100, 0.2
    motion, owned = springs(STAGE.replace("2 / ps", "5 / ps"), n_atoms, tmp_path)
    owned = Owned(owned.names, owned.masses, owned.mobile, layer)
    motion.temperature = 60.0
    positions = np.zeros((n_atoms, 3))
    velocities = np.where(layer[:, None], np.zeros(3), np.full(3, 0.003))
    mass = 39.948 * units.KINETIC
    before, kinetic, squares = 0.5 * mass * (velocities[~layer] ** 2).sum(), [], []
    for step in range(8000):
        moves, velocities = motion.step(owned, velocities, -stiffness * positions, np.zeros(3), step)
        positions = positions + moves
        if step > 400 and step % 50 == 0:
            kinetic.append(mass * (velocities[layer] ** 2).mean())
            squares.append(stiffness * (positions[layer] ** 2).mean())
    kt = units.KB * 60.0
    # 300 degrees of freedom, samples 0.25 ps apart that a friction of 5/ps decorrelates to e^-1.25: error 1 %
    assert np.mean(kinetic) == pytest.approx(kt, rel=0.04)
    assert np.mean(squares) == pytest.approx(kt, rel=0.04)
    half = velocities[~layer] - 0.5 * 5.0 * stiffness / mass * positions[~layer]  # leapfrog's are half a step behind
    energy = 0.5 * mass * (half**2).sum() + 0.5 * stiffness * (positions[~layer] ** 2).sum()
    assert energy == pytest.approx(before, rel=2e-3)


def test_a_wall_throws_back_with_the_same_speed_and_lets_nothing_through(tmp_path: Path) -> None:
    motion, owned = springs(FREE + 'at_ceiling = "reflect"\n', 50, tmp_path)
    motion.wall = 20.0
    before = 0.01 * np.random.default_rng(1).normal(size=(50, 3))
    positions, velocities = np.zeros((50, 3)), before.copy()
    for step in range(2000):
        moves, velocities = motion.step(owned, velocities, np.zeros((50, 3)), np.zeros(3), step, positions[:, 2])
        positions = positions + moves
        # half a step beyond it, as the wall is asked in the middle of a step
        assert positions[:, 2].max() < 20.0 + 2.5 * np.abs(before).max()
    assert np.array_equal(np.abs(velocities), np.abs(before))
    assert np.array_equal(velocities[:, :2], before[:, :2])
    assert velocities[:, 2].max() < 20.0 / 10_000.0  # whoever flies upwards has not come to the wall in 10 ps
    assert (velocities[:, 2] != before[:, 2]).any()
