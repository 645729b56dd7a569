"""What every integrator must give: conserved energy, equipartition, the right ensemble, the user's own axes."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import physical_validation
import pytest
from argon_in_openmm import CUTOFF, EPSILON, LENNARD_JONES, SIGMA
from averages import mean
from runs import fcc_argon, primitive_argon, read_log, skewed, write_input

from mlmd.engine import checkpoint
from mlmd.engine.run import simulate
from mlmd.potentials import POTENTIALS
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.pair import LennardJones
from mlmd.rundir import CHECKPOINTS, Run
from mlmd.units import BAR, DENSITY, KB, KINETIC

LANGEVIN = '{ kind = "langevin", friction = "2 / ps" }'
NOSE_HOOVER = '{ kind = "nose-hoover", frequency = "4 / ps" }'


@pytest.fixture(autouse=True)
def _test_potentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "argon in openmm", "argon_in_openmm:Argon")
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")


def nvt(temperature: str, duration: str, thermostat: str = LANGEVIN) -> str:
    """A stage of constant volume."""
    return f'[[stage]]\nkind = "nvt"\ntemperature = {temperature}\nduration = "{duration}"\nthermostat = {thermostat}\n'


def nve(duration: str) -> str:
    """A stage of constant energy."""
    return f'[[stage]]\nkind = "nve"\nduration = "{duration}"\n'


def frames(run: Run) -> list[ase.Atoms]:
    """All frames of an extended XYZ trajectory."""
    return ase.io.read(run.trajectory, index=":")  # type: ignore[return-value]


EXTXYZ = 'trajectory_format = "extxyz"\n'

# -- constant energy --------------------------------------------------------------------------------------------------


def total_energy(folder: Path, timestep: float, duration: str, every: str) -> tuple[np.ndarray, np.ndarray]:
    """Time (ns) and energy per atom (meV) of the same 108 argon atoms at about 60 K, whatever the timestep (fs)."""
    folder.mkdir()
    atoms = fcc_argon(3, 5.5)
    atoms.set_velocities(velocities(atoms, 60.0))
    path = write_input(
        folder, nve(duration), atoms=atoms, potential=LENNARD_JONES,
        options=f'timestep = "{timestep} fs"\nvelocities = "file"', output=f'log_every = "{every}"',
    )  # fmt: skip
    log = read_log(simulate(path, folder / "run", threads=1))
    settled = log["time"] > 1.0  # ps: the crystal of the start gives half of its kinetic energy away
    return log["time"][settled] / 1e3, 1e3 * log["energy per atom"][settled]


def velocities(atoms: ase.Atoms, temperature: float) -> np.ndarray:
    """(n_atoms, 3) in ASE's unit, without drift."""
    drawn = np.random.default_rng(7).standard_normal((len(atoms), 3))
    drawn *= np.sqrt(KB * temperature / atoms.get_masses())[:, None]
    return drawn - np.average(drawn, axis=0, weights=atoms.get_masses())


@pytest.mark.row("R18")
def test_the_energy_of_a_smooth_potential_does_not_drift(tmp_path: Path) -> None:
    time, energy = total_energy(tmp_path / "nve", 4.0, "12 ps", "20 fs")
    slopes = [np.polyfit(t, e, 1)[0] for t, e in zip(np.split(time[:550], 5), np.split(energy[:550], 5), strict=True)]
    drift = np.polyfit(time, energy, 1)[0]
    # slopes of fifths scatter 5^1.5 times as much as the slope of the whole
    error = np.std(slopes, ddof=1) / 5**1.5
    print(f"drift {drift:.4f} ± {error:.4f} meV/atom/ns")
    assert error < 0.01
    assert abs(drift) < 0.1


@pytest.mark.row("R18")
def test_the_fluctuation_of_the_energy_grows_with_the_square_of_the_timestep(tmp_path: Path) -> None:
    (_, fine), (_, coarse) = (
        total_energy(tmp_path / name, timestep, "6 ps", "16 fs") for name, timestep in (("fine", 4.0), ("coarse", 8.0))
    )
    print(coarse.std(), fine.std(), coarse.std() / fine.std())
    assert coarse.std() / fine.std() == pytest.approx(4.0, abs=0.8)


# -- thermostats ------------------------------------------------------------------------------------------------------


def argon_and_xenon() -> ase.Atoms:
    """Light and heavy atoms of the same size: each must get its share."""
    atoms = fcc_argon(3, 6.2)
    atoms.symbols[::2] = "Xe"
    return atoms


@pytest.mark.slow
@pytest.mark.parametrize("thermostat", [LANGEVIN, NOSE_HOOVER], ids=["langevin", "nose-hoover"])
@pytest.mark.row("R19")
def test_a_thermostat_gives_every_element_and_direction_its_share(thermostat: str, tmp_path: Path) -> None:
    path = write_input(
        tmp_path, nvt("180", "10 ps") + nvt("180", "240 ps", thermostat), atoms=argon_and_xenon(),
        potential='{ kind = "argon in openmm" }', options='timestep = "8 fs"',
        output=EXTXYZ + 'trajectory_every = "160 fs"\nlog_every = "40 fs"',
    )  # fmt: skip
    run = simulate(path, tmp_path / "run", threads=1)
    log = read_log(run)
    kinetic = log["kinetic energy"][log["stage"] == 2]
    assert_kinetic_energy_is_maxwellian(kinetic, len(run.atoms))

    tracked = [frame for frame in frames(run) if frame.info["time_fs"] > 10_000]
    momenta = np.array([frame.get_momenta() for frame in tracked])
    masses = run.atoms.get_masses()
    held = (momenta.sum(1) ** 2).sum(1) / masses.sum() / (3 * KB * 180.0)
    # the momentum is removed as each step begins; Langevin's random forces of one step, 2 γ Δt of their kT, come after
    assert held.mean() < (1.3 * 2 * 2.0 * 0.008 if "langevin" in thermostat else 1e-12)
    for element in ("Ar", "Xe"):
        chosen = run.atoms.symbols == element
        # holding the centre of mass takes kT/2 from each direction, divided by mass
        share = chosen.sum() - masses[chosen].sum() / masses.sum()
        for axis in range(3):
            kelvin = (momenta[:, chosen, axis] ** 2 / masses[chosen]).sum(1) / (share * KB)
            print(element, axis, mean(kelvin))
            assert mean(kelvin).agrees_with(180.0, sigmas=3.0)


def assert_kinetic_energy_is_maxwellian(kinetic: np.ndarray, n_atoms: int) -> None:
    """Mean and width within 3 standard errors, centre of mass held (Merz and Shirts, PLoS ONE 13, e0202764, 2018)."""
    data = physical_validation.data.SimulationData(
        units=physical_validation.data.UnitData(
            kb=KB, energy_conversion=96.485, length_conversion=0.1, volume_conversion=1e-3, temperature_conversion=1,
            pressure_conversion=1, time_conversion=1, energy_str="eV", length_str="Å", volume_str="Å³",
            temperature_str="K", pressure_str="bar", time_str="ps",
        ),
        system=physical_validation.data.SystemData(
            natoms=n_atoms, nconstraints=0, ndof_reduction_tra=3, ndof_reduction_rot=0
        ),
        ensemble=physical_validation.data.EnsembleData("NVT", natoms=n_atoms, volume=1.0, temperature=180.0),
        observables=physical_validation.data.ObservableData(kinetic_energy=kinetic),
    )  # fmt: skip
    off_mean, off_width = physical_validation.kinetic_energy.distribution(data, verbosity=0, bootstrap_seed=1)
    print("kinetic energy: mean and width off by", off_mean, off_width, "standard errors")
    assert abs(off_mean) < 3.0
    assert abs(off_width) < 3.0


@pytest.mark.row("R19")
def test_velocities_at_the_start_have_the_temperature_in_every_element_and_no_drift(tmp_path: Path) -> None:
    atoms = fcc_argon(6, 6.2)
    atoms.symbols[::2] = "Xe"
    path = write_input(
        tmp_path, nve("5 fs"), atoms=atoms, options='velocities = "300 K"\n[guard]\nenabled = false',
        potential='{ kind = "trap", stiffness = 0.0 }', output=EXTXYZ + 'log_every = "5 fs"',
    )  # fmt: skip
    first = frames(simulate(path, tmp_path / "run", threads=1))[0]
    momenta, masses = first.get_momenta(), first.get_masses()
    assert np.abs(momenta.sum(0)).max() < 1e-5 * np.abs(momenta).max()
    for element in ("Ar", "Xe"):
        chosen = first.symbols == element
        kelvin = (momenta[chosen] ** 2).sum(1) / masses[chosen] / (3 * KB)
        assert mean(kelvin).error < 12
        assert mean(kelvin).agrees_with(300.0)


def test_a_particle_on_a_spring_has_half_kt_in_it(tmp_path: Path) -> None:
    # 50 atoms that do not see each other: <k x²> = kT for each direction, whatever the friction
    stiffness, atoms = 0.02, ase.Atoms("Ar50", np.random.default_rng(1).random((50, 3)) * 30)
    path = write_input(
        tmp_path, nvt("300", "100 ps"), atoms=atoms, potential=f'{{ kind = "trap", stiffness = {stiffness} }}',
        options='remove_com_motion = false\ntimestep = "20 fs"\n[guard]\nenabled = false',
        output='log_every = "200 fs"\ntrajectory_every = "1 ns"',
    )  # fmt: skip
    log = read_log(simulate(path, tmp_path / "run", threads=1))
    settled = log["time"] > 10
    expected = 1.5 * 50 * KB * 300.0
    for column in ("potential energy", "kinetic energy"):
        assert mean(log[column][settled]).error < 0.02 * expected
        assert mean(log[column][settled]).agrees_with(expected)


@pytest.mark.row("R02")
def test_ramped_targets_follow_their_line_in_every_row(tmp_path: Path) -> None:
    stages = (
        nvt('["20 K", "60 K"]', "1 ps")
        + '[[stage]]\nkind = "npt"\ntemperature = ["60 K", "30 K"]\npressure = ["0 bar", "1 kbar"]\nduration = "1 ps"\n'
        + nve("0.5 ps")
    )
    log = read_log(simulate(write_input(tmp_path, stages), tmp_path / "run", threads=1))
    first, second, last = (log["stage"] == number for number in (1, 2, 3))
    time = log["time"]
    np.testing.assert_allclose(log["target temperature"][first], 20 + 40 * time[first], atol=1e-6)
    np.testing.assert_allclose(log["target temperature"][second], 60 - 30 * (time[second] - 1), atol=1e-6)
    assert np.isnan(log["target temperature"][last]).all()


def test_a_ramp_heats_the_atoms_along_its_line(tmp_path: Path) -> None:
    strong = '{ kind = "langevin", friction = "20 / ps" }'
    path = write_input(
        tmp_path, nvt('["20 K", "120 K"]', "50 ps", strong), atoms=fcc_argon(3, 5.4),
        potential='{ kind = "trap", stiffness = 0.0 }', output='log_every = "50 fs"\n[guard]\nmin_distance = "off"',
    )  # fmt: skip
    log = read_log(simulate(path, tmp_path / "run", threads=1))
    late = log["time"] > 5
    # an ideal gas lags behind a ramp by 1 / (2 friction) = 0.025 ps, 0.05 K
    assert mean((log["temperature"] - log["target temperature"])[late]).agrees_with(-0.05)
    assert mean((log["temperature"] - log["target temperature"])[late]).error < 0.5


# -- pressure ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.row("R20")
def test_the_pressure_is_the_derivative_of_the_energy_with_the_volume(turned: bool, tmp_path: Path) -> None:
    atoms = skewed(fcc_argon(2, 5.2))[0] if turned else fcc_argon(2, 5.2)
    output = EXTXYZ + 'log_every = "50 fs"\ntrajectory_every = "50 fs"'
    path = write_input(tmp_path, nvt("80", "0.2 ps"), atoms=atoms, output=output, potential=LENNARD_JONES)
    run = simulate(path, tmp_path / "run", threads=1)
    log, potential = read_log(run), LennardJones(epsilon=EPSILON, sigma=SIGMA, cutoff=CUTOFF)
    rows = zip(frames(run), log["pressure"], log["kinetic energy"], log["temperature"], log["volume"], strict=True)
    for frame, pressure, kinetic, temperature, volume in rows:
        assert volume == pytest.approx(frame.get_volume(), rel=1e-9)
        assert temperature == pytest.approx(2 * kinetic / (3 * (len(frame) - 1) * KB))
        assert kinetic == pytest.approx(frame.get_kinetic_energy(), rel=1e-6)
        energies, strain = [], 1e-4
        for sign in (1, -1):
            scale = (1 + sign * strain) ** (1 / 3)
            scaled = evaluator(potential, frame.numbers, frame.pbc)
            energies.append(scaled.evaluate(frame.positions * scale, frame.cell.array * scale).energy)
        static = -(energies[0] - energies[1]) / (2 * strain * volume)
        assert pressure * BAR == pytest.approx(static + len(frame) * KB * temperature / volume, rel=1e-5)


def test_the_density_counts_the_masses_of_the_run(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    log = read_log(simulate(write_input(tmp_path, nvt("60", "0.1 ps"), atoms=atoms), tmp_path / "run", threads=1))
    assert log["density"] == pytest.approx(atoms.get_masses().sum() / atoms.get_volume() * DENSITY, rel=1e-9)


# -- orientation ------------------------------------------------------------------------------------------------------


def test_a_crystal_moves_the_same_in_any_lattice_and_orientation(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    atoms.set_velocities(velocities(atoms, 60.0))
    turned, rotation = skewed(atoms)
    turned.set_velocities(atoms.get_velocities() @ rotation)
    runs = []
    for name, structure in (("cubic", atoms), ("turned", turned)):
        path = write_input(
            tmp_path / name, nve("0.5 ps"), atoms=structure, options='velocities = "file"',
            output=EXTXYZ + 'log_every = "50 fs"\ntrajectory_every = "50 fs"',
        )  # fmt: skip
        runs.append(simulate(path, tmp_path / name / "run", threads=1))
    one, other = (read_log(run) for run in runs)
    for column in ("potential energy", "kinetic energy", "pressure", "volume"):
        assert other[column][0] == pytest.approx(one[column][0], rel=1e-9)
        assert other[column] == pytest.approx(one[column], rel=1e-6)
    assert not np.allclose(runs[1].manifest["orientation"], np.eye(3))
    for first, second in zip(frames(runs[0]), frames(runs[1]), strict=True):
        np.testing.assert_allclose(second.positions, first.positions @ rotation, atol=1e-7)
        np.testing.assert_allclose(second.get_velocities(), first.get_velocities() @ rotation, atol=1e-7)
        np.testing.assert_allclose(second.get_forces(), first.get_forces() @ rotation, atol=1e-7)
        np.testing.assert_allclose(second.cell.array, turned.cell.array, atol=1e-9)


def test_a_cell_that_changes_its_reduced_form_goes_on_smoothly(tmp_path: Path) -> None:
    stage = (
        '[[stage]]\nkind = "npt"\ntemperature = 40\npressure = 1\nduration = "2 ps"\n'
        'barostat = { kind = "flexible", every = 1 }'
    )
    output = EXTXYZ + 'log_every = "10 fs"\ntrajectory_every = "10 fs"'
    run = simulate(write_input(tmp_path, stage, atoms=primitive_argon(), output=output), tmp_path / "run", threads=1)
    saved, _ = checkpoint.newest(run.path / CHECKPOINTS)
    assert saved is not None and saved.header["lattice"] != np.eye(3).tolist()  # it has happened
    seen = frames(run)
    cells = np.array([frame.cell.array for frame in seen])
    assert np.abs(np.diff(cells, axis=0)).max() < 0.2  # Å; another lattice vector would be a jump of 12
    moved = np.array([frame.get_scaled_positions(wrap=False) for frame in seen])
    assert np.abs(np.diff(moved, axis=0)).max() < 0.02
    log = read_log(run)
    assert np.abs(np.diff(log["energy per atom"])).max() < 0.005
    assert log["volume"] == pytest.approx([frame.get_volume() for frame in seen], rel=1e-8)
    # the energies belong to the cells and positions that are written
    potential = evaluator(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.0), seen[0].numbers, seen[0].pbc)
    for frame, energy in zip(seen[::20], log["potential energy"][::20], strict=True):
        assert potential.evaluate(frame.positions, frame.cell.array).energy == pytest.approx(energy, abs=1e-6)


# -- masses and frozen atoms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thermostat", [LANGEVIN, NOSE_HOOVER], ids=["langevin", "nose-hoover"])
def test_frozen_atoms_stay_and_the_others_have_the_target_temperature(thermostat: str, tmp_path: Path) -> None:
    atoms = fcc_argon(3, 5.4)
    frozen = np.flatnonzero(atoms.positions[:, 2] < 4.0)
    path = write_input(
        tmp_path, nvt("40", "40 ps", thermostat), atoms=atoms, potential='{ kind = "argon in openmm" }',
        options='timestep = "8 fs"\n[frozen]\nbelow = "4 Å"',
        output=EXTXYZ + 'log_every = "80 fs"\ntrajectory_every = "4 ps"',
    )  # fmt: skip
    run = simulate(path, tmp_path / "run", threads=1)
    for frame in frames(run):
        assert np.array_equal(frame.positions[frozen], run.atoms.positions[frozen])
        assert np.array_equal(frame.get_velocities()[frozen], np.zeros((len(frozen), 3)))
    log = read_log(run)
    late = log["time"] > 10
    assert mean(log["temperature"][late]).error < 2.0
    assert mean(log["temperature"][late]).agrees_with(40.0)


def test_heavier_hydrogen_swings_more_slowly(tmp_path: Path) -> None:
    stiffness, mass = 1.0, 4.0
    atoms = ase.Atoms("HAr", [[0.1, 0.0, 0.0], [5.0, 0.0, 0.0]])
    path = write_input(
        tmp_path, nve("100 fs"), atoms=atoms, potential=f'{{ kind = "trap", stiffness = {stiffness} }}',
        options=f'remove_com_motion = false\nhydrogen_mass = {mass}\ntimestep = "0.5 fs"\nvelocities = 0',
        output=EXTXYZ + 'log_every = "10 fs"\ntrajectory_every = "1 fs"',
    )  # fmt: skip
    run = simulate(path, tmp_path / "run", threads=1)
    seen = frames(run)
    assert seen[0].get_masses()[0] == mass
    time = np.array([frame.info["time_fs"] for frame in seen])
    swing = 0.1 * np.cos(np.sqrt(stiffness / (mass * KINETIC)) * time)
    # leapfrog starts with v = 0 half a step early and is 1 + (ωΔt)²/24 too fast
    np.testing.assert_allclose([frame.positions[0, 0] for frame in seen], swing, atol=0.004)
