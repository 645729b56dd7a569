"""Velocity autocorrelations and vibrational densities of states: oscillators, Langevin's particle, and a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import mlmd
from made_runs import WithVelocities
from runs import write_input
from scipy.signal import lfilter

from mlmd import units
from mlmd.analysis import write
from mlmd.analysis.vacf import VACFResult, vacf
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.frames import ArrayReader, Provenance, Trajectory
from mlmd.io.trajectories import open_run

TEMPERATURE = 300.0


def moving(
    positions: np.ndarray, interval: float, numbers: np.ndarray, masses: np.ndarray, temperature: float = TEMPERATURE
) -> Trajectory:
    """A trajectory in open space of positions (n_frames, n_atoms, 3) Å."""
    n_frames = len(positions)
    times = interval * np.arange(n_frames)
    origin = Provenance("made", None, None, 0.0, float(times[-1]), interval, n_frames)
    return Trajectory(
        ArrayReader(positions, None), range(n_frames), times, np.zeros((n_frames, 3, 3)), numbers, masses,
        np.zeros(3, dtype=bool), True, temperature, origin,
    )  # fmt: skip


def oscillators(interval: float, n_frames: int = 4000) -> tuple[Trajectory, dict[str, tuple[float, float, float]]]:
    """Atoms on springs with the energy of equipartition, and their frequencies (THz) along x, y and z."""
    rng = np.random.default_rng(0)
    known = {"Ar": (1.0, 2.0, 3.0), "Kr": (5.0, 8.0, 12.0)}
    numbers, masses = np.repeat([18, 36], (20, 10)), np.repeat([40.0, 84.0], (20, 10))
    angular = 2e-3 * np.pi * np.array([known["Ar" if number == 18 else "Kr"] for number in numbers])
    reach = np.sqrt(2.0 * units.KB * TEMPERATURE / (units.KINETIC * masses[:, None] * angular**2))
    times = interval * np.arange(n_frames)[:, None, None]
    phases = rng.uniform(0.0, 2.0 * np.pi, (len(numbers), 3))
    return moving(reach * np.cos(angular * times + phases), interval, numbers, masses), known


def modes_near(result: VACFResult, element: int, frequency: float) -> float:
    """∫ g dν over 0.4 THz to both sides."""
    near = np.abs(result.frequencies - frequency) < 0.4
    return float(result.elements[element].density[near].sum() * result.frequencies[1])


def test_every_oscillator_is_a_peak_that_counts_one_mode() -> None:
    # 12 THz every 20 fs: four frames in a period, where differences of positions show 84 % of the power
    trajectory, known = oscillators(20.0)
    result = vacf(trajectory, drift="none")
    assert result.from_positions
    for index, one in enumerate(result.elements):
        for frequency in known[one.element]:
            assert modes_near(result, index, frequency) == pytest.approx(one.n_atoms, rel=0.02)  # phases are few
        assert one.mean_frequency.value == pytest.approx(np.mean(known[one.element]), rel=0.02)
    assert result.total.sum() * result.frequencies[1] == pytest.approx(result.n_modes, rel=0.01)
    assert result.temperature.value == pytest.approx(TEMPERATURE, rel=0.02)


def test_frames_too_far_apart_for_the_vibrations_are_told() -> None:
    trajectory, _ = oscillators(80.0)
    result = vacf(trajectory, drift="none")
    assert any("too far apart for its vibrations" in note for note in result.notes)
    assert any("up to 6.25 THz" in note for note in result.notes)


def langevin(time: float, interval: float, n_atoms: int, n_frames: int) -> Trajectory:
    """Free particles whose velocity is forgotten in a time (fs); positions by integration over a tenth of a frame."""
    rng, fine = np.random.default_rng(1), 10
    thermal, step = np.sqrt(units.KB * TEMPERATURE / (40.0 * units.KINETIC)), interval / fine
    a, early = np.exp(-step / time), int(20 * time / step)
    kicks = rng.standard_normal((n_atoms, 3, fine * n_frames + early)) * thermal * np.sqrt(1 - a * a)
    velocities = lfilter([1.0], [1.0, -a], kicks)[:, :, early:]
    positions = step * np.cumsum(velocities, axis=2)[:, :, ::fine].transpose(2, 0, 1)
    return moving(positions, interval, np.full(n_atoms, 18), np.full(n_atoms, 40.0))


def test_langevins_particle_forgets_its_velocity_exponentially() -> None:
    time, n_atoms = 200.0, 60
    result = vacf(langevin(time, 10.0, n_atoms, 8000), drift="none", resolution=0.4)
    (one,) = result.elements
    inside = result.lags < 3.0 * time
    # means over 10 fs hide (10 / 200)² / 12 of the correlation
    apart = np.abs(one.correlation - np.exp(-result.lags / time))[inside]
    assert (apart < 4.0 * one.correlation_error[inside] + 1e-3).all()
    assert apart.mean() < 0.01 and one.correlation_error[inside].max() < 0.02
    rate, angular = 1.0 / time, 2e-3 * np.pi * result.frequencies
    lorentz = 3 * n_atoms * 4e-3 * rate / (rate**2 + angular**2)
    low = slice(2, 12)  # the window mixes 0.4 THz, in which the top of the peak is round
    assert (np.abs(one.density - lorentz)[low] < 4.0 * one.density_error[low] + 0.03 * lorentz[low]).all()


def test_velocities_of_frames_and_of_positions_say_the_same(tmp_path: Path) -> None:
    stages = 'velocities = "60 K"\n[[stage]]\nkind = "nve"\nduration = "8 ps"'
    output = 'log_every = "1 ps"\ntrajectory_every = "20 fs"\ntrajectory_format = "extxyz"'
    run = simulate(write_input(tmp_path, stages, output=output), tmp_path / "run", threads=1)
    trajectory = open_run(run)
    frames = next(trajectory.chunks(n_per_chunk=trajectory.n_frames))
    plain = Trajectory(
        ArrayReader(frames.positions, frames.cells), range(trajectory.n_frames), trajectory.times, trajectory.cells,
        trajectory.numbers, trajectory.masses, trajectory.pbc, True, trajectory.temperature, trajectory.provenance,
    )  # fmt: skip
    stored, made = vacf(trajectory), vacf(plain)
    assert not stored.from_positions and made.from_positions
    assert stored.n_modes == made.n_modes == 3 * trajectory.n_atoms - 3
    assert made.temperature.value == pytest.approx(stored.temperature.value, rel=0.01)
    apart = np.abs(stored.total - made.total)
    assert apart.max() < 0.05 * stored.total.max()  # one series ends a frame earlier
    answer = mlmd("analyze", "vacf", run.path, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["velocities_from_positions"] is False


def with_velocities(trajectory: Trajectory) -> Trajectory:
    """The same frames, with velocities in the file."""
    assert isinstance(trajectory.reader, ArrayReader)
    positions = trajectory.reader.positions
    velocities = np.gradient(positions, trajectory.provenance.interval, axis=0)
    return replace(trajectory, reader=WithVelocities(positions, None, stored=velocities))


@pytest.mark.parametrize("stored", [False, True], ids=["positions", "velocities"])
def test_atoms_that_are_held_have_no_modes(stored: bool) -> None:
    # one hydrogen on springs, beside two atoms that are held
    times = 5.0 * np.arange(4000)[:, None]
    angular = 2e-3 * np.pi * np.array([3.0, 4.0, 5.0])
    reach = np.sqrt(2.0 * units.KB * TEMPERATURE / (units.KINETIC * 1.008 * angular**2))
    held = np.broadcast_to([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], (4000, 2, 3))
    positions = np.concatenate([(reach * np.cos(angular * times))[:, None], held], axis=1)
    trajectory = moving(positions, 5.0, np.array([1, 3, 3]), np.array([1.008, 6.94, 6.94]))
    result = vacf(with_velocities(trajectory) if stored else trajectory)
    assert result.n_modes == 3 and [one.element for one in result.elements] == ["H"]
    assert result.temperature.value == pytest.approx(TEMPERATURE, rel=0.02)  # differences over 5 fs of 5 THz hide 0.4 %
    assert any("2 atoms never move" in note for note in result.notes)
    with pytest.raises(InputError, match="Li is at rest"):
        vacf(trajectory, elements=["Li"])


def test_an_element_that_is_the_reference_is_not_shown() -> None:
    trajectory, _ = oscillators(20.0)
    trajectory = replace(trajectory, numbers=np.where(np.arange(30) == 0, 29, trajectory.numbers))
    result = vacf(trajectory, drift=["Cu"])
    assert [one.element for one in result.elements] == ["Ar", "Kr"] and np.isfinite(result.total).all()
    assert any("Cu is at rest" in note for note in result.notes)


def test_one_atom_does_not_move_relative_to_itself() -> None:
    trajectory, _ = oscillators(20.0)
    assert isinstance(trajectory.reader, ArrayReader)
    alone = moving(trajectory.reader.positions[:, :1], 20.0, np.array([18]), np.array([40.0]))
    for one in (alone, with_velocities(alone)):
        with pytest.raises(InputError, match='Give drift = "none"'):
            vacf(one)
        assert vacf(one, drift="none").n_modes == 3


def test_results_are_written(tmp_path: Path) -> None:
    _, csv, _ = write(vacf(oscillators(20.0)[0]), tmp_path)
    lines = csv.read_text().splitlines()
    assert lines[0].startswith("t [fs],C Ar,") and lines[1].startswith("0,1,")


def test_what_has_no_vibrations_is_refused() -> None:
    trajectory, _ = oscillators(20.0, n_frames=50)
    with pytest.raises(InputError, match="50 frames are too few"):
        vacf(trajectory)
    still = moving(np.zeros((500, 2, 3)), 10.0, np.full(2, 18), np.full(2, 40.0))
    with pytest.raises(InputError, match="no atom moves"):
        vacf(still)
