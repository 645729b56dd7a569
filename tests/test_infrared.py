"""Infrared spectra: charged oscillators with known lines and intensities, quantum corrections, and a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import mlmd
from runs import fcc_argon, write_input

from mlmd import units
from mlmd.analysis import run_all, write
from mlmd.analysis.infrared import CORRECTIONS, infrared
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.fluxes import FluxSeries
from mlmd.io.frames import ArrayReader, Provenance, Trajectory

TEMPERATURE, INTERVAL, N_TIMES = 300.0, 1.0, 70_000
KM_MOL = 974.88
"""Intensity of one mode of one e²/amu: 42.2561 km/mol of 1 D²/(Å² amu), times the square of 4.80320 D of 1 e Å."""
CM_PER_THZ = 33.35641


def molecule(frequency: float) -> Trajectory:
    """A charge of 0.5 e and 20 amu on a spring with the energy of equipartition, in THz, and a neutral atom."""
    rng = np.random.default_rng(0)
    angular = 2e-3 * np.pi * frequency
    reach = np.sqrt(2.0 * units.KB * TEMPERATURE / (units.KINETIC * 20.0 * angular**2))
    times = INTERVAL * np.arange(N_TIMES)
    path = reach * np.cos(angular * times[:, None] + rng.uniform(0.0, 2.0 * np.pi, 3))
    positions = np.stack([path, np.zeros_like(path)], axis=1)
    positions[:, 1] = 1e-3 * np.cos(0.02 * times)[:, None]  # moves, and absorbs nothing
    origin = Provenance("made", None, None, 0.0, float(times[-1]), INTERVAL, N_TIMES)
    return Trajectory(
        ArrayReader(positions, None), range(N_TIMES), times, np.zeros((N_TIMES, 3, 3)), np.array([9, 18]),
        np.array([20.0, 40.0]), np.zeros(3, dtype=bool), True, TEMPERATURE, origin,
    )  # fmt: skip


@pytest.mark.parametrize("frequency", [10.0, 60.0, 110.0])
def test_a_charged_oscillator_has_its_line_and_its_intensity(frequency: float) -> None:
    # 110 THz every fs: nine frames in a period, where differences of positions show 98 % of the speed
    result = infrared(molecule(frequency), charges={"F": 0.5}, drift="none")
    assert len(result.lines) == 1
    assert abs(result.lines[0] - CM_PER_THZ * frequency) <= result.wavenumbers[1]
    # three modes of (0.5 e)² / 20 amu; the windows see a whole period more or less
    assert result.intensity.value == pytest.approx(3.0 * KM_MOL * 0.25 / 20.0, rel=2e-3)
    assert result.wavenumbers[1] == pytest.approx(5.0, rel=0.01)


def test_a_current_that_was_written_gives_the_spectrum_of_its_volume() -> None:
    angular, reach = 2e-3 * np.pi * 50.0, 0.01
    times = 2.0 * np.arange(30_000)
    columns = {f"current {axis} [e Å/fs]": reach * np.cos(angular * times + n) for n, axis in enumerate("xyz")}
    origin = Provenance("made", 1, "nve", 0.0, float(times[-1]), 2.0, len(times))
    result = infrared(FluxSeries(columns, TEMPERATURE, 500.0, origin))
    assert result.lines == pytest.approx([50.0 * CM_PER_THZ], abs=result.wavenumbers[1])
    # SI by hand: ∫ α n dω = π ⟨J²⟩ / (6 c ε₀ V k_B T) · ½ · 2, ⟨J²⟩ = 3/2 J₀²; ω = 2πc ν̃
    current = 1.5 * (reach * 1.602176634e-19 * 1e5) ** 2
    over = 6.0 * 299792458.0 * 8.8541878188e-12 * 500e-30 * 1.380649e-23 * TEMPERATURE
    expected = np.pi * current / over / (2.0 * np.pi * 299792458.0) * 1e-2 * 1e-2  # 1/m, and per 1/m, to 1/cm
    table = np.loadtxt(result.to_csv().splitlines(), delimiter=",", skiprows=1)
    assert table.shape[1] == 5
    assert table[:, 3].sum() * result.wavenumbers[1] == pytest.approx(expected, rel=2e-3)


def test_quantum_corrections_are_one_for_slow_vibrations_and_their_formula_for_fast_ones() -> None:
    for name, correction in CORRECTIONS.items():
        assert correction(np.array([0.0, 1e-9])) == pytest.approx([1.0, 1.0]), name
    plain = infrared(molecule(60.0), charges={"F": 0.5}, drift="none").intensity.value
    x = units.PLANCK * 0.06 / (units.KB * TEMPERATURE)  # 9.6
    found = {
        name: infrared(molecule(60.0), charges={"F": 0.5}, drift="none", correction=name).intensity.value / plain
        for name in CORRECTIONS
    }
    # the line is as wide as three points of 0.15 THz
    assert found["harmonic"] == 1.0
    assert found["none"] == pytest.approx((1.0 - np.exp(-x)) / x, rel=2e-3)
    assert found["schofield"] == pytest.approx(2.0 * np.sinh(x / 2.0) / x, rel=2e-2)


def test_vibrations_beyond_the_frames_are_told() -> None:
    trajectory = molecule(110.0)
    rare = Trajectory(
        trajectory.reader, range(0, N_TIMES, 5), trajectory.times[::5], trajectory.cells[::5], trajectory.numbers,
        trajectory.masses, trajectory.pbc, True, TEMPERATURE,
        Provenance("made", None, None, 0.0, 1.0, 5.0, N_TIMES // 5),
    )  # fmt: skip
    notes = infrared(rare, charges={"F": 0.5}, drift="none").notes
    assert any("in the last tenth" in note for note in notes)
    notes = infrared(molecule(60.0), charges={"F": 0.5}, drift="none").notes
    assert not any("in the last tenth" in note for note in notes)


def test_what_tells_no_spectrum_is_refused() -> None:
    trajectory = molecule(10.0)
    with pytest.raises(InputError, match="none are known"):
        infrared(trajectory)
    with pytest.raises(InputError, match="none are known"):
        infrared(trajectory, charges={"F": 0.0})
    with pytest.raises(InputError, match="no quantum correction"):
        infrared(trajectory, charges={"F": 0.5}, correction="kubo")
    with pytest.raises(InputError, match="There is no 'Cl'"):
        infrared(trajectory, charges={"Cl": -1.0}, drift="none")


def test_a_run_is_analysed_by_a_command_from_its_current_and_from_its_frames(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    atoms.symbols[::2] = "Kr"
    output = (
        'log_every = "1 ps"\ntrajectory_every = "20 fs"\ntrajectory_format = "extxyz"\nfluxes = ["current"]\n'
        'every = "10 fs"\n[analysis]\ncharges = { Ar = 1, Kr = -1 }'
    )
    stage = 'velocities = "60 K"\n[[stage]]\nkind = "nve"\nduration = "16 ps"'
    run = simulate(write_input(tmp_path, stage, atoms=atoms, output=output), tmp_path / "run", threads=1)
    assert [one.name for one in run_all(run, ["infrared"], charges={"Ar": 1.0, "Kr": -1.0})] == ["infrared"]
    files = [run.path / "analysis" / f"infrared.{ending}" for ending in ("json", "csv", "png")]
    assert json.loads(files[0].read_text())["current"] == "fluxes.csv" and all(one.stat().st_size for one in files)
    written = mlmd("analyze", "infrared", run.path, "--json")
    assert written.code == 0, written.err
    frames = mlmd("analyze", "infrared", run.path, "--charges", "Ar=1,Kr=-1", "--json")
    assert frames.code == 0, frames.err
    one, other = (json.loads(each.out) for each in (written, frames))
    assert other["current"] == "velocities of frames" and one["volume_A3"] == pytest.approx(10.8**3)
    # the same motion; the frames have every second time, and velocities half a step earlier
    assert other["intensity"]["value"] == pytest.approx(one["intensity"]["value"], rel=0.05)
    # in equilibrium Σ q²/m of 16 atoms each; 32 atoms for 16 ps are a rough mean of it
    truth = 3.0 * KM_MOL * 16.0 * (1.0 / 39.948 + 1.0 / 83.798)
    assert abs(one["intensity"]["value"] - truth) < 0.3 * truth
    shown = mlmd("analyze", "infrared", run.path)
    assert shown.code == 0 and "all (km/mol)" in shown.out


def test_results_are_written(tmp_path: Path) -> None:
    result = infrared(molecule(60.0), charges={"F": 0.5}, drift="none")
    _, csv, _ = write(result, tmp_path)
    assert csv.read_text().startswith("wavenumber [1/cm],absorption [km cm/mol],absorption error\n")
    assert result.to_json()["volume_A3"] is None and f"{result.lines[0]:.0f}" in str(result)
