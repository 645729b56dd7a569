"""Heat that flows between slabs: what the exchange conserves, its continuation, and κ from planted profiles."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase
import ase.build
import numpy as np
import pytest
from command_line import mlmd
from runs import assert_same_run, fcc_argon, read_log, run_in_parts, stopping, write_input
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation

from mlmd import units
from mlmd.analysis import write
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.finite_length import extrapolated
from mlmd.analysis.nemd import flow, nemd
from mlmd.config import load_simulate
from mlmd.engine.heat_exchange import heated, slabs_of
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError, Stopped
from mlmd.io import log
from mlmd.io.frames import Provenance
from mlmd.io.slab_temperatures import SlabTemperatures
from mlmd.rundir import TEMPERATURES

SMOOTH = '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "7 Å", onset = "5 Å" }'


def stages(power: str = "0.03 eV/ps", duration: str = "1 ps", more: str = "slabs = 8, every = 4") -> str:
    """Heat through a crystal along z."""
    return (
        f'velocities = "60 K"\n[[stage]]\nkind = "nve"\nduration = "{duration}"\n'
        f'heat_exchange = {{ power = "{power}", {more}, write_every = "25 fs" }}'
    )


def bar() -> ase.Atoms:
    """A long crystal of 96 atoms."""
    atoms = ase.build.bulk("Ar", "fcc", 5.4, cubic=True).repeat((2, 2, 6))
    atoms.rattle(0.03, seed=1)
    return atoms


def test_heat_changes_the_energy_of_a_slab_by_as_much_and_leaves_its_momentum() -> None:
    rng = np.random.default_rng(0)
    velocities, masses = 0.01 * rng.standard_normal((50, 3)) + 0.003, rng.uniform(7.0, 200.0, 50)

    def kinetic(of: np.ndarray) -> float:
        return 0.5 * units.KINETIC * float(masses @ (of**2).sum(axis=1))

    for heat in (0.02, -0.02):
        changed = heated(velocities, masses, heat)
        assert kinetic(changed) - kinetic(velocities) == pytest.approx(heat, rel=1e-12)
        assert masses @ changed == pytest.approx(masses @ velocities, rel=1e-12)


def test_the_total_energy_stays_while_heat_is_exchanged(tmp_path: Path) -> None:
    path = write_input(tmp_path, stages(), atoms=bar(), potential=SMOOTH, options='timestep = "2 fs"')
    table = read_log(simulate(path, tmp_path / "run", threads=1))
    total = table["potential energy"] + table["kinetic energy"]
    # what is left is how far leapfrog's own energy is from the energy, as without an exchange
    assert table["exchanged heat"][-1] == pytest.approx(0.03, rel=1e-9)
    assert np.ptp(total) < 2e-2 * table["exchanged heat"][-1]


def test_the_first_slab_gets_what_the_middle_one_loses(tmp_path: Path) -> None:
    found, totals = [], []
    for name, every in (("with", 4), ("without", 1000)):
        text = stages(duration="20 fs", more=f"slabs = 8, every = {every}").replace('"25 fs"', '"20 fs"')
        output = 'log_every = "20 fs"\ntrajectory_every = "20 fs"'
        run = simulate(write_input(tmp_path / name, text, atoms=bar(), output=output), tmp_path / name / "run")
        rows = log.read_log(run.path / TEMPERATURES)
        found.append(np.array([rows[f"kinetic energy {k} [eV]"][0] for k in range(8)]))
        totals.append(read_log(run)["energy per atom"][-1])
    # 0.03 eV/ps in 20 fs; eight digits are written
    assert found[0] - found[1] == pytest.approx([6e-4, 0, 0, 0, -6e-4, 0, 0, 0], abs=1e-8)
    assert totals[0] == pytest.approx(totals[1], rel=1e-9)  # ten digits


def test_kinetic_energies_of_slabs_add_up_to_that_of_the_log(tmp_path: Path) -> None:
    path = write_input(tmp_path, stages(), atoms=bar(), output='log_every = "25 fs"\ntrajectory_every = "1 ps"')
    table = read_log(simulate(path, tmp_path / "run", threads=1))
    rows = log.read_log(tmp_path / "run" / TEMPERATURES)
    together = sum(rows[f"kinetic energy {k} [eV]"] for k in range(8))
    # eight digits are written of each; the log starts one line earlier, at step 0
    assert np.abs(together / table["kinetic energy"][1:] - 1.0).max() < 1e-6
    assert rows["length [Å]"][0] == pytest.approx(6 * 5.4) and rows["area [Å^2]"][0] == pytest.approx(10.8**2)


def test_a_stopped_and_continued_run_is_that_of_one_run(tmp_path: Path) -> None:
    # the pieces end on and off the steps of exchanges (4) and of lines (5)
    path = write_input(tmp_path, stages(), atoms=bar())
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 40, 110], threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts", (TEMPERATURES,))


def test_lines_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    path = write_input(tmp_path, stages(), atoms=bar())
    simulate(path, tmp_path / "one", threads=1)
    with pytest.raises(Stopped):
        simulate(path, tmp_path / "parts", progress=stopping(tmp_path / "parts", 40), threads=1)
    with (tmp_path / "parts" / TEMPERATURES).open("a") as file:  # as a run does that is killed before its next one
        file.write("45,1,0.225,0.0066,32.4")
    simulate(path, tmp_path / "parts", threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts", (TEMPERATURES,))


def test_slabs_turn_with_the_crystal(tmp_path: Path) -> None:
    atoms = bar()
    atoms.set_velocities(0.05 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    rotation = Rotation.from_euler("xyz", [0.4, -0.7, 1.9]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation)
    turned.positions = atoms.positions @ rotation
    turned.set_velocities(atoms.get_velocities() @ rotation)
    found = []
    for name, structure in (("straight", atoms), ("turned", turned)):
        text = stages(duration="100 fs").replace('"60 K"', '"file"')
        simulate(write_input(tmp_path / name, text, atoms=structure), tmp_path / name / "run", threads=1)
        found.append(log.read_log(tmp_path / name / "run" / TEMPERATURES))
    for name in found[0]:
        # the file keeps eight decimals of positions and velocities
        assert np.allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-9), name


def test_slabs_are_equal_parts_of_the_way_along_a_cell_vector() -> None:
    cell = np.array([[5.0, 0.0, 0.0], [1.0, 5.0, 0.0], [2.0, -1.0, 8.0]])
    middles = (np.arange(-8, 16) + 0.5) / 8
    places = np.stack([np.full(24, 0.3), np.full(24, -1.7), middles], axis=1) @ cell
    assert slabs_of(places, cell, 2, 8).tolist() == [*range(8)] * 3


POWER, AREA, LENGTH = 2e-4, 400.0, 120.0
"""eV/fs, Å², Å."""


def planted(rng: np.random.Generator, kappa: float, n_times: int = 4000, crowd: float = 40.0) -> SlabTemperatures:
    """Atoms of a gas at 300 K with the gradient of a conductivity in W/(m K), whose temperatures relax in 5 lines.

    There are `crowd` atoms in each of 20 slabs, more or less.
    """
    n_slabs = 20
    gradient = units.W_PER_MK * POWER / (2.0 * AREA * kappa)
    places = LENGTH / n_slabs * np.arange(n_slabs)
    mean = 300.0 - gradient * (np.minimum(places, LENGTH - places) - LENGTH / 4.0)
    counts = rng.poisson(crowd, (n_times, n_slabs))
    decay = math.exp(-1.0 / 5.0)
    kicks = rng.standard_normal((n_times + 100, n_slabs)) * math.sqrt(1.0 - decay**2)
    noise = lfilter([1.0], [1.0, -decay], kicks, axis=0)[100:]
    kinetic = 1.5 * counts * units.KB * mean * (1.0 + noise * np.sqrt(2.0 / (3.0 * crowd)))
    origin = Provenance("planted", 2, "nve", 0.0, 100.0 * (n_times - 1), 100.0, n_times)
    n_atoms = counts.sum(axis=1).mean()
    return SlabTemperatures("z", POWER, LENGTH, AREA, kinetic * (n_atoms - 1.0) / n_atoms, counts, origin)


def test_intervals_of_95_percent_hold_a_planted_conductivity() -> None:
    rng, misses = np.random.default_rng(1), []
    for _ in range(200):
        found = flow(planted(rng, 0.7, n_times=2000)).conductivity
        misses.append((found.value - 0.7) / found.error)
    # 200 draws tell 95 % to 1.5 %
    assert 0.90 <= np.mean(np.abs(misses) < 1.96) <= 0.99
    assert abs(np.mean(misses)) < 0.3


def test_a_planted_profile_is_found_with_its_unit_and_its_temperature() -> None:
    found = flow(planted(np.random.default_rng(2), 0.7, crowd=400.0))
    # SI by hand: W over 2 m² times K/m
    watt = POWER * 1.602176634e-19 / 1e-15
    kelvin_per_meter = -found.gradient.value * 1e10
    assert found.conductivity.value == pytest.approx(watt / (2.0 * AREA * 1e-20 * kelvin_per_meter), rel=1e-6)
    assert abs(found.conductivity.value - 0.7) < 3.0 * found.conductivity.error < 0.1
    assert abs(found.temperature.value - 300.0) < 3.0 * found.temperature.error + 0.5
    assert found.distances[-1] == LENGTH / 2.0 and len(found.distances) == 11
    assert found.fitted.tolist() == [False] * 2 + [True] * 7 + [False] * 2
    # a line and nothing else: between the slabs temperatures are on it
    off = (found.temperatures - found.line)[found.fitted] / found.errors[found.fitted]
    assert np.abs(off).max() < 4.0


def test_the_beginning_in_which_the_flow_becomes_steady_is_left_out() -> None:
    series = planted(np.random.default_rng(3), 0.7, crowd=400.0)
    flat = series.kinetic.sum(axis=1, keepdims=True) / series.counts.sum(axis=1, keepdims=True) * series.counts
    grown = 1.0 - np.exp(-np.arange(4000) / 300.0)[:, None]
    found = flow(replace(series, kinetic=flat + grown * (series.kinetic - flat)))
    assert found.first_time >= 20_000.0 and any("became steady" in note for note in found.notes)
    assert abs(found.conductivity.value - 0.7) < 3.0 * found.conductivity.error
    kept = flow(replace(series, kinetic=flat + grown * (series.kinetic - flat)), chosen=True)
    assert kept.first_time == 0.0 and kept.conductivity.value > found.conductivity.value


def test_sides_that_differ_and_profiles_that_bend_are_told() -> None:
    series = planted(np.random.default_rng(4), 0.7, crowd=4000.0)
    mean = series.kinetic.mean(axis=0) / series.counts.mean(axis=0)
    around = mean / mean.mean() - 1.0
    sides = series.kinetic * np.where(np.arange(20) < 10, 1.0 + 0.5 * around, 1.0)
    assert any("both sides differ" in note for note in flow(replace(series, kinetic=sides)).notes)
    bent = series.kinetic * (1.0 + 20.0 * around**2)
    assert any("profile is bent" in note for note in flow(replace(series, kinetic=bent)).notes)
    assert not any("bent" in note or "differ" in note for note in flow(series).notes)


def test_without_a_gradient_there_is_no_conductivity() -> None:
    series = planted(np.random.default_rng(5), 1e6)
    found = flow(series)
    assert not found.conductivity.determined and any("no gradient is seen" in note for note in found.notes)


def test_the_conductivity_of_an_infinite_length_is_that_of_a_planted_path() -> None:
    rng, misses, paths = np.random.default_rng(6), [], []
    lengths = np.array([100.0, 200.0, 300.0, 500.0])
    for _ in range(300):
        truth = 50.0 / (1.0 + 120.0 / lengths)
        errors = 0.02 * truth
        drawn = truth + errors * rng.standard_normal(4)
        value, line, _ = extrapolated(
            lengths.tolist(), [Estimate(one, error, "W/(m K)", 20.0) for one, error in zip(drawn, errors, strict=True)]
        )
        assert line is not None
        misses.append((value.value - 50.0) / value.error)
        paths.append((line.path.value - 120.0) / line.path.error)
    for one in (misses, paths):
        # errors grow where the points scatter, never shrink: 95 % or a little more
        assert 0.92 <= np.mean(np.abs(one) < 1.96) <= 0.995


def test_runs_of_one_length_are_averaged_by_their_errors() -> None:
    given = [Estimate(1.0, 0.1, "W/(m K)", 20.0), Estimate(1.1, 0.2, "W/(m K)", 20.0)]
    value, line, notes = extrapolated([50.0, 50.1], given)
    assert line is None and not notes
    assert value.value == pytest.approx((100 * 1.0 + 25 * 1.1) / 125) and value.error == pytest.approx(125**-0.5)
    apart = [given[0], Estimate(3.0, 0.2, "W/(m K)", 20.0)]
    assert any("scatter" in note for note in extrapolated([50.0, 50.1], apart)[2])
    with pytest.raises(InputError, match="no conductivity with an error"):
        extrapolated([50.0, 100.0], [given[0], Estimate(1.0, math.nan, "W/(m K)", 3.0)])


def test_a_run_is_analysed_by_a_command(tmp_path: Path) -> None:
    path = write_input(
        tmp_path,
        stages("0.005 eV/ps", "8 ps", more="slabs = 12, every = 4"),
        atoms=bar(),
        output='trajectory_every = "4 ps"',
    )
    run = simulate(path, tmp_path / "run", threads=1)
    answer = mlmd("analyze", "nemd", run.path, "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    assert result["conductivity"]["unit"] == "W/(m K)" and result["power"]["value"] == pytest.approx(0.005)
    assert result["length_A"] == pytest.approx(32.4) and result["provenance"]["stage"] == 1
    assert any("grows with L" in note for note in result["notes"])
    assert all((run.path / "analysis" / f"nemd.{ending}").stat().st_size for ending in ("json", "csv", "png"))
    shown = mlmd("analyze", "nemd", run.path, "--from", "2 ps")
    assert shown.code == 0 and "gradient (K/Å)" in shown.out
    few = mlmd("analyze", "nemd", run.path, "--skip", "2")
    assert few.code == 2 and "needs three" in few.err
    twice = mlmd("analyze", "nemd", run.path, run.path)
    assert twice.code == 2 and "given twice" in twice.err


def test_lengths_are_put_together_in_files(tmp_path: Path) -> None:
    flows = []
    # stretched, a gradient is smaller: κ as planted times L / LENGTH
    for number, (length, kappa) in enumerate(((120.0, 0.5), (240.0, 0.7), (480.0, 0.9))):
        made = planted(np.random.default_rng(number), kappa * LENGTH / length, n_times=1000, crowd=4000.0)
        flows.append(flow(replace(made, length=length, counts=made.counts * (length / LENGTH),
                                  kinetic=made.kinetic * (length / LENGTH))))  # fmt: skip
    value, line, notes = extrapolated([one.length for one in flows], [one.conductivity for one in flows])
    from mlmd.analysis.nemd import NEMDResult

    assert [round(one.conductivity.value, 1) for one in flows] == [0.5, 0.7, 0.9]
    result = NEMDResult(tuple(flows), value, line, notes)
    _, csv, _ = write(result, tmp_path)
    table = np.loadtxt(csv, delimiter=",", skiprows=1)
    assert table.shape == (33, 5) and set(table[:, -1]) == {1.0, 2.0, 3.0}
    assert "infinite length" in str(result) and len(result.to_json()["runs"]) == 3
    assert len(result.figure().axes) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (stages(more="slabs = 9"), "is odd"),
        (stages(more="slabs = 40"), r"slab \d+ of 40 along z has 0 atoms"),
        (stages(power="0 eV/ps"), "above 0"),
        (stages(power="3 eV"), "not a unit of power"),
        (stages().replace('"nve"', '"nvt"\ntemperature = "60 K"'), "takes heat from everywhere"),
        (stages().replace('"25 fs"', '"1 fs"'), "shorter than the timestep"),
        (f"{stages()}\n[[stage]]\n{stages('1 eV/ps', more='slabs = 10').split('[[stage]]')[1]}", "the same number"),
    ],
)
def test_exchanges_that_cannot_be_are_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        simulate(write_input(tmp_path, text, atoms=bar()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_analysis_without_a_flow_is_refused(tmp_path: Path) -> None:
    plain = 'velocities = "60 K"\n[[stage]]\nkind = "nve"\nduration = "50 fs"'
    with pytest.raises(InputError, match="made of a flow of heat"):
        load_simulate(write_input(tmp_path, plain, output='[analysis]\nrun = ["nemd"]'))
    run = simulate(write_input(tmp_path, plain, atoms=fcc_argon(2)), tmp_path / "run", threads=1)
    with pytest.raises(InputError, match="no stage exchanges heat"):
        nemd(run)


def test_heat_that_is_not_there_is_not_taken(tmp_path: Path) -> None:
    path = write_input(tmp_path, stages("40 eV/ps"), atoms=bar())
    with pytest.raises(SimulationError, match=r"the cold slab has .* Give a smaller heat_exchange power"):
        simulate(path, tmp_path / "run", threads=1)


@pytest.mark.slow
def test_a_flow_through_the_lennard_jones_fluid_has_the_conductivity_of_the_literature(tmp_path: Path) -> None:
    # ρ* = 0.6, T* = 1.35, r_c = 2.5 σ: κ* is about 3.4 (LAMMPS' examples/KAPPA; by Green-Kubo 3.5(2) in
    # benchmarks/transport.py); benchmarks/nemd.py runs longer
    script = Path(__file__).parents[1] / "benchmarks" / "nemd.py"
    command = [sys.executable, str(script), "--time", "80", "--cells", "8", "--gradient", "0.06"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    numbers = re.search(r"κ\* = ([\d.]+) ± ([\d.]+) at T\* = ([\d.]+)", told)
    assert numbers is not None, told
    found, error, temperature = map(float, numbers.groups())
    assert error < 0.25 * found
    assert abs(found - 3.4) < 3.0 * math.hypot(error, 0.1)
    assert temperature == pytest.approx(1.35, abs=0.1)
