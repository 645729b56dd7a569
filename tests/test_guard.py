"""What the guard stops and warns of besides forces that are not finite: far moves, near atoms, a drifting energy."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from runs import fcc_argon, read_log, write_input
from trap import Trap

from mlmd.engine.drift import slope_of
from mlmd.engine.run import simulate
from mlmd.engine.warmth import Warmth
from mlmd.potentials import POTENTIALS
from mlmd.rundir import MESSAGES, open_run

NVE = '[[stage]]\nkind = "nve"\nduration = "{}"\n'
NVT = '[[stage]]\nkind = "nvt"\ntemperature = "{} K"\nduration = "2 ps"\n'


def pushed_by(spring: float) -> Callable[[Trap, np.ndarray, np.ndarray], object]:
    """A trap with a force (eV/Å²) round its axis, which is the derivative of no energy."""
    evaluate = Trap.evaluate

    def pushed(self: Trap, positions: np.ndarray, cell: np.ndarray) -> object:
        found = evaluate(self, positions, cell)
        found.forces[:, :2] += spring * np.stack([-positions[:, 1], positions[:, 0]], axis=1)
        return found

    return pushed


def last_frames(out: Path) -> list[ase.Atoms]:
    frames: list[ase.Atoms] = ase.io.read(out / "crash" / "last.extxyz", index=":")
    return frames


@pytest.mark.row("R16")
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_an_atom_that_moves_too_far_in_one_step_ends_the_run_there(platform: str, tmp_path: Path) -> None:
    # 0.6 Å in a step of 5 fs, from the first step on
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [5, 0, 0]], cell=[40, 40, 40], pbc=True)
    atoms.set_velocities([[0, 0.12 / ase.units.fs, 0], [0, -0.12 / ase.units.fs, 0]])
    path = write_input(tmp_path, NVE.format("1 ps"), atoms=atoms, options='velocities = "file"')
    answer = mlmd("simulate", path, "--out", tmp_path / "run", "--platform", platform)
    assert answer.code == 3
    assert "at step 1 " in answer.err and "moved by 0.6 Å in one step" in answer.err
    assert "max_displacement = 0.5 Å" in answer.err
    good, bad = last_frames(tmp_path / "run")
    assert (good.info["step"], bad.info["step"]) == (0, 1)
    assert np.linalg.norm(bad.positions - good.positions, axis=1).max() == pytest.approx(0.6, abs=0.01)
    why = (tmp_path / "run" / "crash" / "why.txt").read_text()
    assert "moved by 0.6 Å" in why and "The last good and the bad frame are in crash/last.extxyz. Try a sh" in why


@pytest.mark.row("R16")
def test_atoms_that_come_nearer_than_atoms_can_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # an ideal gas has no repulsion: what a potential does where it was trained on nothing
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")
    atoms = ase.Atoms("ArXe", [[19.0, 0, 0], [21.2, 0, 0]], cell=[20, 20, 20], pbc=True)
    atoms.set_velocities([[0.004 / ase.units.fs, 0, 0], [-0.004 / ase.units.fs, 0, 0]])
    path = write_input(
        tmp_path, NVE.format("2 ps"), atoms=atoms, potential='{ kind = "trap", stiffness = 0 }',
        options='velocities = "file"\nremove_com_motion = false',
    )  # fmt: skip
    answer = mlmd("simulate", path, "--out", tmp_path / "run")
    assert answer.code == 3
    assert "atoms 0 (Ar) and 1 (Xe, counted from 0) are 0.16 Å apart at step 51" in answer.err
    assert "min_distance = 0.5 Å" in answer.err
    path.write_text(path.read_text() + '[guard]\nmin_distance = "off"\n')
    assert mlmd("simulate", path, "--out", tmp_path / "run", "--quiet").code == 0  # the guard may change


@pytest.mark.row("R16")
@pytest.mark.parametrize("what", ["timestep", "temperature", "overlap"])
def test_an_explosion_is_found_within_a_hundred_steps_and_explained(
    what: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    atoms, options, stage = fcc_argon(2), "", NVT.format(60)
    if what == "timestep":  # thirty times what the fastest vibration allows
        options, stage = 'timestep = "300 fs"', stage.replace("2 ps", "60 ps")
    if what == "temperature":
        options = 'velocities = "6000 K"'
    if what == "overlap":
        atoms.positions[1] = atoms.positions[0] + [1.0, 0, 0]
    output = 'log_every = "300 fs"\ntrajectory_every = "300 fs"'
    path = write_input(tmp_path, stage, atoms=atoms, options=options, output=output)
    answer = mlmd("simulate", path, "--out", tmp_path / "run")
    assert answer.code == 3, answer.err
    assert any(
        limit in answer.err for limit in ("max_force =", "max_displacement =", "min_distance =", "max_temperature)")
    )
    assert "Try a shorter timestep" in answer.err
    step = int(last_frames(tmp_path / "run")[-1].info["step"])
    record_property(f"steps of {what}", step)
    assert step <= 100
    assert open_run(tmp_path / "run").manifest["state"] == "failed"


@pytest.mark.row("R18")
def test_an_energy_that_drifts_in_nve_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")
    atoms = ase.Atoms("Ar8", 4.0 * np.indices((2, 2, 2)).reshape(3, 8).T)
    path = write_input(
        tmp_path, 'velocities = "100 K"\n' + NVE.format("10 ps"), atoms=atoms,
        potential='{ kind = "trap", stiffness = 0.01 }', options="remove_com_motion = false",
        output='log_every = "20 fs"\n[guard]\nmax_temperature = "off"\nmin_distance = "off"',
    )  # fmt: skip
    simulate(path, tmp_path / "good")
    assert "drifts" not in (tmp_path / "good" / MESSAGES).read_text()
    monkeypatch.setattr(Trap, "evaluate", pushed_by(1e-4))
    simulate(path, tmp_path / "bad")
    assert (tmp_path / "bad" / MESSAGES).read_text().count("the total energy drifts by ") == 1
    log = read_log(tmp_path / "bad")
    assert abs(np.polyfit(log["time"], log["energy per atom"], 1)[0]) > 1e-5


def test_a_mean_temperature_is_told_of_where_it_is_another_and_certain() -> None:
    rng = np.random.default_rng(5)
    for true, words in ((300.0, ""), (325.0, ""), (360.0, "something heats the atoms"), (240.0, "something cools")):
        for _ in range(20):
            told: list[str] = []
            warmth = Warmth(300.0, 1.0, told.append)
            for n, one in enumerate(rng.normal(true, 60.0, 3000)):
                warmth.look(float(n), one)
            assert len(told) == bool(words) and words in "".join(told)


def test_a_mean_temperature_is_not_told_of_before_the_thermostat_had_time() -> None:
    """From rest in a minimum, and an atom alone whose temperature wanders; friction 1 / ps, a line every 10 fs."""
    rng, every, n_runs = np.random.default_rng(8), 0.01, 200
    times = every * np.arange(6000)
    told: list[str] = []
    warmth = Warmth(300.0, 1.0, told.append)
    for time, one in zip(times, rng.normal(300.0 * (1.0 - 0.5 * np.exp(-times)), 5.0), strict=True):
        warmth.look(time, one)
    assert not told
    kept, velocities = np.exp(-every), rng.standard_normal((n_runs, 3))
    alone = [Warmth(300.0, 1.0, told.append) for _ in range(n_runs)]
    for time in times:
        velocities = kept * velocities + (1.0 - kept**2) ** 0.5 * rng.standard_normal((n_runs, 3))
        for one_warmth, kelvin in zip(alone, 300.0 * (velocities**2).mean(axis=1), strict=True):
            one_warmth.look(time, kelvin)
    assert not told  # a quarter of them were, where the mean was looked at after 5 ps


def test_a_mean_temperature_of_a_long_stage_takes_no_more_memory_and_is_told_of_all_the_same() -> None:
    rng = np.random.default_rng(9)
    told: list[str] = []
    warmth = Warmth(300.0, 1.0, told.append)
    tracemalloc.start()
    try:
        for n, one in enumerate(rng.normal(320.0, 60.0, 100_000)):  # within a tenth
            warmth.look(float(n), one)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert not told and used < 1e6 + 8 * 100_000  # bytes, the numbers themselves included; all lines would take 6 MB
    for n, one in enumerate(rng.normal(420.0, 60.0, 200_000), 100_000):
        warmth.look(float(n), one)
    assert len(told) == 1


def test_heat_that_a_thermostat_does_not_hold_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")
    path = write_input(
        tmp_path, '[[stage]]\nkind = "nvt"\ntemperature = "100 K"\nduration = "120 ps"',
        atoms=ase.Atoms("Ar", [[0.0, 0.0, 0.0]]), potential='{ kind = "trap", stiffness = 0.5 }',
        options="remove_com_motion = false", output='log_every = "50 fs"\n[guard]\nmax_temperature = "off"',
    )  # fmt: skip
    simulate(path, tmp_path / "good")
    assert "the mean temperature" not in (tmp_path / "good" / MESSAGES).read_text()
    monkeypatch.setattr(Trap, "evaluate", pushed_by(0.04))
    simulate(path, tmp_path / "bad")
    (line,) = (one for one in (tmp_path / "bad" / MESSAGES).read_text().splitlines() if "the mean temperature" in one)
    assert "where the thermostat holds 100 K" in line and "something heats the atoms" in line


def test_the_error_of_a_slope_is_what_slopes_of_noise_scatter_by() -> None:
    rng, times = np.random.default_rng(3), np.linspace(0.0, 7.0, 200)
    slopes, errors = np.transpose([slope_of(times, 3.0 * times + rng.normal(size=200)) for _ in range(400)])
    assert slopes.mean() == pytest.approx(3.0, abs=4 * slopes.std() / 20)
    # 400 variances of four degrees of freedom: their mean is known to 3.5 %
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(slopes.std(), rel=0.15)
