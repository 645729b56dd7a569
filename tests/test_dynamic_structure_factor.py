"""Dynamic structure factors: walkers, free flight, a travelling wave, and dynasor."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import ase
import dynasor_oracle
import numpy as np
import pytest
from command_line import mlmd
from made_runs import WithVelocities, stage, walk, write_run

from mlmd.analysis.scattering.correlations import correlate, relaxation_time, self_correlate, spectrum
from mlmd.analysis.scattering.currents import transverse_currents
from mlmd.analysis.scattering.density import Density
from mlmd.analysis.scattering.dynamic import DynamicStructureFactor, dynamic_structure_factor
from mlmd.analysis.scattering.wavevectors import reciprocal, wavevectors
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

CELL = np.eye(3) * 12.0
CURRENTS = ("C_T(q,w)", "C_L(q,w)")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def of(atoms: ase.Atoms, positions: np.ndarray, interval: float = 10.0, **options: float) -> DynamicStructureFactor:
    return dynamic_structure_factor(from_arrays(positions, atoms, interval=interval, unwrapped=True), **options)  # type: ignore[arg-type]


def with_velocities(
    atoms: ase.Atoms, positions: np.ndarray, velocities: np.ndarray, interval: float = 10.0, **options: float
) -> DynamicStructureFactor:
    trajectory = from_arrays(positions, atoms, interval=interval, unwrapped=True)
    trajectory = replace(trajectory, reader=WithVelocities(positions, None, stored=velocities))
    return dynamic_structure_factor(trajectory, **options)  # type: ignore[arg-type]


def test_walkers_forget_where_they_were_as_exp_minus_d_q_squared_t(rng: np.random.Generator) -> None:
    step, n = 0.25, 200
    frames = 12.0 * rng.random((n, 3)) + np.cumsum(step * rng.normal(size=(1000, n, 3)), axis=0)
    atoms = ase.Atoms(f"Ar{n}", cell=CELL, pbc=True)
    result = of(atoms, frames % 12.0, q_max=1.2, bin_width=0.02, longest_lag=500.0)  # wrapped: no difference
    rate = step**2 / 2 / 10.0  # D, Å²/fs
    for name, tolerance in (("F_self Ar", 0.02), ("F", 0.15)):  # one observation a step against one an atom and step
        values = result.memories[name].values
        exact = np.exp(-rate * np.outer(result.q**2, result.lags))
        assert np.abs(values / values[:, :1] - exact).max() < tolerance
    times = np.array([time.value for time in result.memories["F_self Ar"].times])
    exact = 1e-3 / (rate * result.q**2)
    seen = exact < 0.45  # ps, of lags up to 0.5
    assert seen.sum() > 2 and np.allclose(times[seen], exact[seen], rtol=0.05)
    assert np.isnan(times[exact > 0.6]).all()


def test_errors_are_the_scatter_of_other_trajectories(rng: np.random.Generator) -> None:
    atoms, found = ase.Atoms("Ar40", cell=CELL, pbc=True), []
    for _ in range(20):
        frames = 12.0 * rng.random((40, 3)) + np.cumsum(0.4 * rng.normal(size=(300, 40, 3)), axis=0)
        memory = of(atoms, frames, q_max=1.5, bin_width=0.5, longest_lag=100.0).memories["F"]
        found.append((memory.values[:, 0], memory.error[:, 0]))
    values, errors = (np.array(one) for one in zip(*found, strict=True))
    ratio = np.sqrt((errors**2).mean(axis=0)) / values.std(axis=0, ddof=1)
    assert np.all((ratio > 0.6) & (ratio < 1.5))  # 20 draws tell a scatter to 16 %


def test_free_flight_has_a_gaussian_spectrum(rng: np.random.Generator) -> None:
    speed, q = 0.01, 2.0 * np.pi / 12.0  # Å/fs
    velocities = speed * rng.normal(size=(4000, 3))
    times = 10.0 * np.arange(400)
    fractional = (12.0 * rng.random((4000, 3)) + times[:, None, None] * velocities) / 12.0
    found = self_correlate(fractional, np.array([[1, 0, 0], [0, -1, 0]]), 80).mean(axis=1) / 4000
    assert np.abs(found - np.exp(-((q * speed * times[:80]) ** 2) / 2)).max() < 0.03
    frequencies, values = spectrum(np.exp(-((q * speed * 10.0 * np.arange(4000)) ** 2) / 2), 10.0)
    exact = np.exp(-((frequencies / (q * speed)) ** 2) / 2) / (q * speed * np.sqrt(2 * np.pi))
    assert np.abs(values - exact).max() < 1e-3 * exact.max()  # the window is 4 % down where F is 1e-2
    integral = 2.0 * np.trapezoid(values, frequencies)
    assert integral == pytest.approx(1.0, abs=1e-9)


def test_a_wave_is_seen_at_its_frequency(rng: np.random.Generator) -> None:
    omega, interval = 0.02, 10.0  # rad/fs
    grid = np.stack(np.meshgrid(*[np.arange(8) * 1.5] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    times = interval * np.arange(2000)
    q = 2.0 * np.pi / 12.0
    frames = np.repeat(grid[None], len(times), axis=0)
    frames[..., 0] += 0.05 * np.cos(q * grid[:, 0] - omega * times[:, None])
    result = of(ase.Atoms(f"Ar{len(grid)}", cell=CELL, pbc=True), frames, interval, q_max=0.6, bin_width=0.2)
    sound = result.sound(0)
    assert sound.value == pytest.approx(1e3 * omega, abs=sound.error)
    # a longitudinal wave of amplitude u has S(q) = N (q u / 2)² at ±q along it, one of three directions here
    assert result.memories["F"].values[0, 0] == pytest.approx(len(grid) * (q * 0.05 / 2) ** 2 / 3, rel=0.01)
    # and its current has velocities of amplitude u ω; the window makes the line 0.0005 rad/fs wide
    current = 2.0 * np.trapezoid(result.spectra["C_L(q,w)"][0][0], result.frequencies)
    assert current == pytest.approx(len(grid) * (omega * 0.05 / 2) ** 2 / 3, rel=0.02)


def test_a_wave_across_its_way_is_a_transverse_current_and_no_other() -> None:
    omega, interval, size, q = 0.02, 10.0, 0.05, 2.0 * np.pi / 12.0
    grid = np.stack(np.meshgrid(*[np.arange(8) * 1.5] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    phases = q * grid[:, 0] - omega * interval * np.arange(2000)[:, None]
    frames, velocities = np.repeat(grid[None], 2000, axis=0), np.zeros((2000, len(grid), 3))
    frames[..., 1] += size * np.cos(phases)
    velocities[..., 1] = size * omega * np.sin(phases)
    result = with_velocities(ase.Atoms(f"Ar{len(grid)}", cell=CELL, pbc=True), frames, velocities, q_max=0.6)
    peak = result.sound(0, "C_T(q,w)")
    assert peak.value == pytest.approx(1e3 * omega, abs=peak.error)
    across, along = (2.0 * np.trapezoid(result.spectra[name][0][0], result.frequencies) for name in CURRENTS)
    # one of two directions across, at one of three directions of q
    assert across == pytest.approx(len(grid) * (omega * size / 2) ** 2 / 6, rel=0.02)
    assert along < 1e-4 * across


def test_transverse_currents_of_a_gas_are_those_of_free_flight(rng: np.random.Generator) -> None:
    speed, n = 0.01, 2000  # Å/fs
    velocities = speed * rng.normal(size=(n, 3))
    frames = 12.0 * rng.random((n, 3)) + 10.0 * np.arange(400)[:, None, None] * velocities
    atoms = ase.Atoms(f"Ar{n}", cell=CELL, pbc=True)
    result = with_velocities(
        atoms, frames, np.repeat(velocities[None], 400, axis=0), q_max=1.6, bin_width=0.4, longest_lag=700.0
    )
    exact = speed**2 * np.exp(-((np.outer(result.q, result.lags) * speed) ** 2) / 2)  # ⟨v²⟩ of one direction
    expected = spectrum(exact.T, 10.0)[1].T
    values, errors = result.spectra["C_T(q,w)"]
    slow = slice(0, 12)
    assert np.abs(values[:, slow] - expected[:, slow]).max() < 0.2 * expected.max()
    assert (np.abs(values - expected)[:, slow] < 5.0 * errors[:, slow] + 0.05 * expected.max()).all()


def test_without_velocities_there_are_no_transverse_currents(rng: np.random.Generator) -> None:
    atoms, frames = ase.Atoms("Ar20", cell=CELL, pbc=True), walk(rng, 100, 20)
    result = of(atoms, frames)
    assert "C_T(q,w)" not in result.spectra and any("need velocities" in note for note in result.notes)


def test_correlations_are_sums_over_all_origins(rng: np.random.Generator) -> None:
    a, b = (rng.normal(size=(23, 2)) + 1j * rng.normal(size=(23, 2)) for _ in range(2))
    found = correlate(a, b, 9)
    for lag in range(9):
        pairs = a[: 23 - lag] * b[lag:].conj() + b[: 23 - lag] * a[lag:].conj()
        assert np.allclose(found[lag], 0.5 * pairs.real.mean(axis=0))
    turns = rng.normal(size=(23, 4, 3))
    of_atoms = self_correlate(turns, np.array([[1, -2, 3]]), 9)[:, 0]
    angles = 2.0 * np.pi * turns @ np.array([1, -2, 3])
    exact = [np.cos(angles[lag:] - angles[: 23 - lag]).sum(axis=1).mean() for lag in range(9)]
    assert np.allclose(of_atoms, exact)


def test_correlations_take_little_memory_beside_what_is_correlated(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    density = rng.normal(size=(2000, 200)) + 1j * rng.normal(size=(2000, 200))
    turns, indices = rng.normal(size=(2000, 200, 3)), np.array([[1, -2, 3]])
    for name, correlated in (
        ("densities", lambda: correlate(density, density, 100)),
        ("atoms", lambda: self_correlate(turns, indices, 100)),
    ):
        whole = correlated()
        monkeypatch.setattr("mlmd.analysis.scattering.correlations.TRANSFORM_BYTES", 5e5)
        tracemalloc.start()
        parts = correlated()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        monkeypatch.undo()
        assert np.allclose(parts, whole, rtol=0.0, atol=1e-12 * np.abs(whole).max()), name
        assert peak < 0.5 * density.nbytes, name  # at once it was several times as much as the densities


def test_single_atoms_may_be_read_some_at_a_time(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = ase.Atoms("Ar7", positions=12.0 * rng.random((7, 3)), cell=CELL, pbc=True)
    frames = atoms.positions + np.cumsum(0.1 * rng.normal(size=(60, 7, 3)), axis=0)
    whole = of(atoms, frames).memories["F_self Ar"].values
    monkeypatch.setattr("mlmd.analysis.scattering.dynamic.SELF_BYTES", 24 * 60 * 2)  # two atoms at once
    assert np.allclose(of(atoms, frames).memories["F_self Ar"].values, whole, rtol=0.0, atol=1e-12)


def test_what_does_not_relax_has_no_relaxation_time() -> None:
    lags = np.arange(50)
    assert relaxation_time(np.exp(-lags / 7.3), 2.0) == pytest.approx(14.6, rel=0.01)
    assert np.isnan(relaxation_time(0.5 + 0.5 * np.exp(-lags / 7.3), 2.0))


def test_dynasor_gives_the_same_intermediate_scattering_functions(tmp_path: Path, rng: np.random.Generator) -> None:
    atoms, start = dynasor_oracle.frames()
    frames = start[0] + np.cumsum(0.2 * rng.normal(size=(60, 36, 3)), axis=0)
    points = wavevectors(dynasor_oracle.CELL, 2.5, 0.1)
    theirs = dynasor_oracle.intermediate(tmp_path, atoms, frames, points.indices @ reciprocal(dynasor_oracle.CELL), 6)
    fractional = frames @ np.linalg.inv(dynasor_oracle.CELL)
    density = Density(points.indices)
    si, o = (np.array([density(one[part]) for one in fractional]) for part in (slice(12), slice(12, None)))
    assert np.allclose(correlate(si, si, 6).T / 36, theirs["Fqt_coh_Si_Si"], atol=1e-6)
    assert np.allclose(2.0 * correlate(si, o, 6).T / 36, theirs["Fqt_coh_O_Si"], atol=1e-6)
    assert np.allclose(self_correlate(fractional[:, :12], points.indices, 6).T / 36, theirs["Fqt_incoh_Si"], atol=1e-6)


def test_dynasor_gives_the_same_transverse_currents(tmp_path: Path, rng: np.random.Generator) -> None:
    cell, atoms = dynasor_oracle.CELL, ase.Atoms("Ar36", cell=dynasor_oracle.CELL, pbc=True)
    frames = rng.random((36, 3)) @ cell + np.cumsum(0.2 * rng.normal(size=(60, 36, 3)), axis=0)
    velocities = 0.01 * rng.normal(size=(60, 36, 3)) + 0.01 * np.sin(np.arange(60)[:, None, None] / 5 + frames)
    points = wavevectors(cell, 2.0, 0.2)
    trajectory = from_arrays(frames, atoms, interval=1.0, unwrapped=True)
    ours = transverse_currents(trajectory, lambda rows: velocities[rows.start : rows.stop], points)
    both = np.mean([correlate(one, one, 6) for one in ours], axis=0)
    theirs = dynasor_oracle.transverse(tmp_path, atoms, frames, velocities, points.indices @ reciprocal(cell), 6)
    assert np.allclose(both.T, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def test_the_command_writes_what_it_found(rng: np.random.Generator, tmp_path: Path) -> None:
    atoms = ase.Atoms("Li8Cl8", positions=12.0 * rng.random((16, 3)), cell=CELL, pbc=True)
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 2000),), atoms.positions + walk(rng, 201, 16))
    answer = mlmd("analyze", "dynamic-structure-factor", run, "--q-max", "2", "--bin", "0.5")
    assert answer.code == 0, answer.err
    for word in ("1/e of F_self Li", "S_NN", "Ashcroft–Langreth", "rad/ps"):
        assert word in answer.out
    data = json.loads((run / "analysis" / "dynamic-structure-factor.json").read_text(), parse_constant=pytest.fail)
    assert len(data["wavevectors"]) == 3 and "time of F_self Cl" in next(iter(data["wavevectors"].values()))
    with (run / "analysis" / "dynamic-structure-factor.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert {"F_ab Li-Cl", "F_self Cl error", "S(q,w) [ps]"} <= set(rows[0])
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows) == 1 + 3 * 21
    assert (run / "analysis" / "dynamic-structure-factor.png").read_bytes().startswith(b"\x89PNG")
    refused = mlmd("analyze", "dynamic-structure-factor", run, "--lag", "3 ps")
    assert refused.code == 2 and "at most a fifth of the trajectory" in refused.err


def test_what_has_no_dynamics_is_refused(rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Ar5", cell=CELL, pbc=True)
    frames = 12.0 * rng.random((60, 5, 3))
    with pytest.raises(InputError, match="at least 50 are needed"):
        of(atoms, frames[:20])
    cells = np.linspace(1.0, 1.1, 60)[:, None, None] * CELL
    with pytest.raises(InputError, match="the cell changes"):
        dynamic_structure_factor(from_arrays(frames, atoms, interval=1.0, unwrapped=True, cells=cells))
    with pytest.raises(InputError, match="GB"):
        of(atoms, np.repeat(frames, 20, axis=0), q_max=40.0, points_per_bin=100_000)
    with pytest.raises(InputError, match="periodic in all three"):
        of(ase.Atoms("Ar5", cell=CELL, pbc=[True, True, False]), frames)
