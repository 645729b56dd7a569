"""Transport coefficients from fluctuating fluxes: closed forms of noise with a known integral, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command_line import mlmd
from runs import fcc_argon, write_input

from mlmd import units
from mlmd.analysis import write
from mlmd.analysis.cepstrum import zero_frequency
from mlmd.analysis.green_kubo import conductivity, running, thermal_conductivity, viscosity
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.fluxes import read_fluxes
from mlmd.rundir import FLUXES

TEMPERATURE, VOLUME, INTERVAL = 300.0, 8000.0, 5.0
"""K, Å³, fs."""


def _noise() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "noise.py"
    specification = importlib.util.spec_from_file_location("noise", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


NOISE_OF = _noise()
relaxing = NOISE_OF.relaxing


@pytest.mark.parametrize("n_components", [3, 5])
@pytest.mark.parametrize("noise", NOISE_OF.NOISE)
def test_intervals_of_95_percent_hold_the_truth_of_noise_with_a_known_integral(noise: str, n_components: int) -> None:
    covered, error, n_short = NOISE_OF.held(noise, n_components, 20000, 200)
    # 200 draws tell 95 % to 1.5 %, so that 90 % lies three of these below
    assert 0.90 <= covered <= 0.99 and not n_short
    assert error < 0.15  # and it is of use


def test_intervals_hold_the_truth_of_short_series_too() -> None:
    # of a hundred of the longest correlation times; with the number of coefficients that looks best alone 87 % do
    covered = [
        NOISE_OF.held(noise, n_components, 100 * int(NOISE_OF.LONGEST[noise]), 200)[0]
        for noise in ("two times", "vibration")
        for n_components in (3, 5)
    ]
    assert np.mean(covered) > 0.915  # 800 draws tell 94.2 % to 0.8 %, and three of these lie between


def test_the_smooth_spectrum_leads_to_the_value_at_zero() -> None:
    rng = np.random.default_rng(4)
    series, truth = relaxing(rng, 10.0, (3, 20000))
    found = zero_frequency(series[None], 1.0)
    # a Lorentzian is flat at zero: the first point is at 1/20000, of a half width of 1/20π
    assert found.smooth[0] == pytest.approx(found.value, rel=1e-3)
    at_half = found.smooth[np.searchsorted(found.frequencies, 1.0 / (20.0 * math.pi))]
    assert at_half == pytest.approx(0.5 * truth, rel=0.15)


def test_a_flux_is_freed_of_a_current_it_is_carried_by() -> None:
    # heat = own part + enthalpy of ions times their current: without current the own part alone conducts
    rng, misses = np.random.default_rng(2), []
    for _ in range(100):
        own, truth = relaxing(rng, 5.0, (3, 20000))
        current, _ = relaxing(rng, 8.0, (3, 20000))
        found = zero_frequency(np.stack([own + 3.0 * current, 1e-4 * current]), 1.0)
        misses.append(math.log(found.value / truth) / found.relative_error)
    assert np.mean(np.abs(misses) < 1.96) >= 0.88  # 100 draws tell 95 % to 2.2 %
    assert abs(np.mean(misses)) < 0.5


def test_a_flux_is_freed_of_as_many_flows_as_five_elements_have() -> None:
    # more flows than the three components of a vector
    rng, misses, errors = np.random.default_rng(12), [], []
    for _ in range(100):
        own, truth = relaxing(rng, 5.0, (3, 20000))
        flows = np.stack([relaxing(rng, tau, (3, 20000))[0] for tau in (3.0, 5.0, 8.0, 12.0)])
        carried = own + np.einsum("f,fct->ct", [3.0, -1.0, 20.0, 0.2], flows)
        found = zero_frequency(np.stack([carried, *flows]), 1.0)
        misses.append(math.log(found.value / truth) / found.relative_error)
        errors.append(found.relative_error)
    assert np.mean(np.abs(misses) < 1.96) >= 0.88  # 100 draws tell 95 % to 2.2 %
    assert abs(np.mean(misses)) < 0.5 and np.mean(errors) < 0.15


def test_the_running_integral_of_relaxing_noise_is_the_closed_form() -> None:
    tau, n_times = 20.0, 400_000
    series, _ = relaxing(np.random.default_rng(3), tau, (3, n_times))
    lags, correlation, _, integral, error = running(series, 2.0)
    at = int(3 * tau)
    assert lags[at] == 2.0 * at
    exact = 2.0 * tau * (1.0 - math.exp(-at / tau))  # the trapezoidal rule adds 1/12 of an interval squared over tau
    assert abs(integral[at] - exact) < 3.0 * error[at] + 0.01
    assert 0.0 < error[at] < 0.05 * exact
    assert correlation[0] == pytest.approx(1.0, abs=0.03)


def written(folder: Path, columns: dict[str, np.ndarray], **changed: float) -> Path:
    """A file with the columns of fluxes.csv."""
    n_times = len(next(iter(columns.values())))
    state = {"temperature [K]": TEMPERATURE, "volume [Å^3]": VOLUME} | changed
    table = {"time [ps]": 1e-3 * INTERVAL * np.arange(n_times)}
    table |= {name: np.full(n_times, value) for name, value in state.items()} | columns
    path = folder / f"fluxes{len(list(folder.iterdir()))}.csv"
    rows = "\n".join(",".join(f"{value:.12g}" for value in row) for row in np.stack(list(table.values()), axis=1))
    path.write_text(",".join(table) + f"\n{rows}\n")
    return path


def test_of_a_file_with_several_stages_the_last_counts_unless_another_is_named(tmp_path: Path) -> None:
    noise, _ = relaxing(np.random.default_rng(6), 10.0, (6, 4000))
    names = ("xx", "yy", "zz", "yz", "xz", "xy")
    columns = {f"pressure {axes} [bar]": 300.0 * one for axes, one in zip(names, noise, strict=True)}
    stage, kelvin = np.repeat([1.0, 2.0], 2000), np.repeat([300.0, 900.0], 2000)
    path = written(tmp_path, {"stage": stage, **columns, "temperature [K]": kelvin})
    assert read_fluxes(path).temperature == 900.0 and read_fluxes(path, 1).temperature == 300.0
    with pytest.raises(InputError, match=r"stage 3 has no lines\. There are 1, 2"):
        read_fluxes(path, 3)
    with pytest.raises(InputError, match="no column of stages"):
        read_fluxes(written(tmp_path, columns), 1)


def test_coefficients_have_their_units(tmp_path: Path) -> None:
    # SI by hand: each flux has variance s² and a time τ, so that ∫⟨x(0) x(t)⟩ dt = s² (1 + a) / 2 (1 - a) intervals
    rng, tau, n_times = np.random.default_rng(4), 10.0, 60_000
    noise, whole = relaxing(rng, tau, (6, n_times))
    seconds, kelvin, volume = 0.5 * whole * INTERVAL * 1e-15, 1.380649e-23 * TEMPERATURE, VOLUME * 1e-30
    heat = {f"heat flux {axis} [eV Å/fs]": 0.7 * noise[n] for n, axis in enumerate("xyz")}
    current = {f"current {axis} [e Å/fs]": 0.02 * noise[n] for n, axis in enumerate("xyz")}
    # xy is noise[5]; of the diagonal the traceless part has the same variance where each element has twice of it
    sides = math.sqrt(2.0) * noise[:3]
    pressure = {
        f"pressure {axes} [bar]": 300.0 * one
        for axes, one in zip(("xx", "yy", "zz", "yz", "xz", "xy"), (*sides, *noise[3:]), strict=True)
    }
    ev, e = 1.602176634e-19, 1.602176634e-19
    expected = (
        (viscosity, pressure, "mPa s", 1e3 * volume / kelvin * (300e5) ** 2 * seconds),
        (thermal_conductivity, heat, "W/(m K)", (0.7 * ev * 1e5) ** 2 * seconds / (volume * kelvin * TEMPERATURE)),
        (conductivity, current, "S/cm", 1e-2 * (0.02 * e * 1e5) ** 2 * seconds / (volume * kelvin)),
    )
    for analyse, columns, unit, value in expected:
        found = analyse(written(tmp_path, columns)).coefficient
        assert found.unit == unit
        assert abs(found.value - value) < 3.0 * found.error
        assert found.error < 0.1 * value


def test_several_runs_make_the_error_smaller(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    files = []
    for _ in range(4):
        noise, _ = relaxing(rng, 10.0, (3, 20_000))
        files.append(written(tmp_path, {f"heat flux {axis} [eV Å/fs]": noise[n] for n, axis in enumerate("xyz")}))
    results = [thermal_conductivity(chosen) for chosen in (files[:1], files)]
    errors = [one.coefficient.error for one in results]
    assert len(results[1].to_json()["runs"]) == 4
    # four times the data, half the error; how many coefficients are kept differs from draw to draw
    assert 0.3 < errors[1] / errors[0] < 0.8


def test_a_flux_that_is_sampled_too_rarely_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(6).standard_normal((3, 20_000))
    columns = {f"current {axis} [e Å/fs]": noise[n] for n, axis in enumerate("xyz")}
    assert any("too rarely" in note for note in conductivity(written(tmp_path, columns)).notes)


def mixture(rng: np.random.Generator, zeros: tuple[float, ...]) -> tuple[dict[str, np.ndarray], float]:
    """Fluxes of three elements at rest as a whole, with zeros of the energies of atoms (eV), and κ without flows."""
    own, whole = relaxing(rng, 5.0, (3, 20_000))
    momenta = np.stack([relaxing(rng, 8.0, (3, 20_000))[0] for _ in range(2)])
    momenta = np.concatenate([momenta, -momenta.sum(axis=0, keepdims=True)])
    flows = momenta / np.array([7.0, 35.0, 40.0])[:, None, None]
    heat = own + np.einsum("s,sct->ct", zeros, flows)
    columns = {f"heat flux {axis} [eV Å/fs]": heat[n] for n, axis in enumerate("xyz")}
    for element, flow in zip(("Li", "Cl", "Ar"), flows, strict=True):
        columns |= {f"number flux {element} {axis} [Å/fs]": flow[n] for n, axis in enumerate("xyz")}
    per_kappa = units.W_PER_MK / (VOLUME * units.KB * TEMPERATURE**2)
    return columns, 0.5 * per_kappa * whole * INTERVAL


def test_the_conductivity_of_a_mixture_does_not_depend_on_the_zero_of_the_energies_of_atoms(tmp_path: Path) -> None:
    results = []
    for zeros in ((0.0, 0.0, 0.0), (1.0, -2.0, 4.0), (300.0, 40.0, -500.0)):
        columns, truth = mixture(np.random.default_rng(10), zeros)
        results.append(thermal_conductivity(written(tmp_path, columns)))
    values = [one.coefficient.value for one in results]
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-5)  # twelve digits of a flux a thousand times as large
    assert abs(values[0] - truth) < 3.0 * results[0].coefficient.error
    # two of three are independent where the whole is at rest
    assert len(results[0].freed_of) == 2 and any("freed of the number flux" in note for note in results[0].notes)


def test_the_current_is_no_flow_of_its_own_where_charges_are_those_of_elements(tmp_path: Path) -> None:
    columns, _ = mixture(np.random.default_rng(11), (1.0, -2.0, 4.0))
    alone = thermal_conductivity(written(tmp_path, columns))
    for axis in "xyz":
        charged = (columns[f"number flux {element} {axis} [Å/fs]"] for element in ("Li", "Cl"))
        columns[f"current {axis} [e Å/fs]"] = np.subtract(*charged)
    with_current = thermal_conductivity(written(tmp_path, columns))
    assert len(with_current.freed_of) == 2
    assert with_current.coefficient.value == pytest.approx(alone.coefficient.value, rel=1e-5)


def test_without_fluxes_of_elements_the_zero_of_energies_is_told(tmp_path: Path) -> None:
    columns, _ = mixture(np.random.default_rng(10), (1.0, -2.0, 4.0))
    heat = {name: values for name, values in columns.items() if name.startswith("heat")}
    assert any("arbitrary zero" in note for note in thermal_conductivity(written(tmp_path, heat)).notes)
    assert not any("arbitrary zero" in note for note in thermal_conductivity(written(tmp_path, columns)).notes)


def test_a_run_of_two_elements_is_freed_of_one_and_told_where_it_is_not(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    atoms.symbols[::3] = "Kr"
    output = 'log_every = "1 ps"\ntrajectory_every = "5 ps"\nfluxes = ["heat"]\nevery = "15 fs"'
    stage = 'velocities = "250 K"\n[[stage]]\nkind = "nve"\nduration = "30 ps"'
    run = simulate(write_input(tmp_path, stage, atoms=atoms, output=output), tmp_path / "run", threads=1)
    freed = thermal_conductivity(run)
    assert len(freed.freed_of) == 1 and not any("arbitrary zero" in note for note in freed.notes)
    table = [line.split(",") for line in (run.path / FLUXES).read_text().splitlines()]
    kept = [column for column, name in enumerate(table[0]) if not name.startswith("number flux")]
    (run.path / FLUXES).write_text("".join(",".join(row[column] for column in kept) + "\n" for row in table))
    older = thermal_conductivity(run)
    assert not older.freed_of and any("if Kr, Ar diffuse" in note for note in older.notes)


def test_the_running_integral_of_a_flux_that_is_not_freed_is_not_read(tmp_path: Path) -> None:
    result = thermal_conductivity(written(tmp_path, mixture(np.random.default_rng(10), (30.0, 0.0, 0.0))[0]))
    assert not result.running.determined and "integral up to" not in str(result)
    assert result.to_csv().startswith("t [fs],correlation not freed,κ(t) not freed [W/(m K)]")
    legend = result.figure().axes[0].get_legend()
    assert legend is not None and "running integral, not freed" in [text.get_text() for text in legend.get_texts()]


def test_a_run_that_is_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise, _ = relaxing(np.random.default_rng(8), 5.0, (3, 2000))
    path = written(tmp_path, {f"heat flux {axis} [eV Å/fs]": noise[n] for n, axis in enumerate("xyz")})
    (tmp_path / "link.csv").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for again in (path, Path(path.name), tmp_path / "link.csv"):
        with pytest.raises(InputError, match="is given twice"):
            thermal_conductivity([path, again])


def test_runs_with_and_without_a_current_are_not_averaged(tmp_path: Path) -> None:
    noise, _ = relaxing(np.random.default_rng(8), 5.0, (6, 2000))
    heat = {f"heat flux {axis} [eV Å/fs]": noise[n] for n, axis in enumerate("xyz")}
    current = {f"current {axis} [e Å/fs]": noise[n + 3] for n, axis in enumerate("xyz")}
    paths = [written(tmp_path, heat | current), written(tmp_path, heat)]
    for order in (paths, paths[::-1]):
        with pytest.raises(InputError, match=rf"{paths[1].name} has no column of the electric current"):
            thermal_conductivity(order)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.write_text(path.read_text().replace("heat flux y", "heat y")), 'no "heat flux y'),
        (lambda path: path.write_text("\n".join(path.read_text().splitlines()[:150]) + "\n"), "known at 149 times"),
        (lambda path: path.write_text(path.read_text().replace("\n0.01,", "\n0.012,", 1)), "equal intervals"),
        (lambda path: path.write_text(path.read_text().replace("volume", "space")), 'no column "volume'),
    ],
)
def test_files_that_tell_nothing_are_refused(change: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    noise, _ = relaxing(np.random.default_rng(7), 5.0, (3, 2000))
    path = written(tmp_path, {f"heat flux {axis} [eV Å/fs]": noise[n] for n, axis in enumerate("xyz")})
    change(path)
    with pytest.raises(InputError, match=says):
        thermal_conductivity(path)


def test_runs_of_different_states_are_not_averaged(tmp_path: Path) -> None:
    noise, _ = relaxing(np.random.default_rng(8), 5.0, (3, 2000))
    columns = {f"heat flux {axis} [eV Å/fs]": noise[n] for n, axis in enumerate("xyz")}
    paths = [written(tmp_path, columns), written(tmp_path, columns, **{"temperature [K]": 400.0})]
    with pytest.raises(InputError, match="differ in temperature"):
        thermal_conductivity(paths)


def test_a_run_is_analysed_by_a_command(tmp_path: Path) -> None:
    stages = (
        '[[stage]]\nkind = "nvt"\ntemperature = ["90 K", "120 K"]\nduration = "0.5 ps"\n'
        '[[stage]]\nkind = "nve"\nduration = "40 ps"\n'
    )
    output = 'log_every = "1 ps"\ntrajectory_every = "5 ps"\nfluxes = ["stress"]\nevery = "15 fs"'
    run = simulate(write_input(tmp_path, stages, output=output), tmp_path / "run", threads=1)
    answer = mlmd("analyze", "viscosity", run.path, "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    assert result["coefficient"]["unit"] == "mPa s" and result["provenance"]["stage"] == 2
    assert all((run.path / "analysis" / f"viscosity.{ending}").stat().st_size for ending in ("json", "csv", "png"))
    again = mlmd("analyze", "viscosity", run.path, "--stage", "1")
    assert again.code == 2 and "targets of stage 1" in again.err
    other = mlmd("analyze", "thermal-conductivity", run.path)
    assert other.code == 2 and "heat flux x" in other.err


def test_results_are_written(tmp_path: Path) -> None:
    noise, _ = relaxing(np.random.default_rng(9), 5.0, (3, 5000))
    columns = {f"heat flux {axis} [eV Å/fs]": noise[n] for n, axis in enumerate("xyz")}
    result = thermal_conductivity(written(tmp_path, columns))
    _, csv, _ = write(result, tmp_path / "out")
    table = np.loadtxt(csv, delimiter=",", skiprows=1)
    assert table[0, 0] == 0.0 and table[0, 1] == 1.0
    assert "W/(m K)" in str(result)
