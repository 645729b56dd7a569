"""Diffusion coefficients: right on average, with errors that are as large as the errors that are made."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import pytest
from made_runs import walk
from scipy.signal import lfilter

from mlmd import units
from mlmd.analysis import write
from mlmd.analysis.diffusion import DiffusionResult, ElementDiffusion, diffusion
from mlmd.analysis.einstein import sampled_lags, window_covariance
from mlmd.analysis.estimate import Estimate, average, from_dict
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

INTERVAL = 100.0
"""fs between frames."""
STEP = 0.1
"""Å per frame and axis."""
EXACT = STEP**2 / (2 * INTERVAL) * units.CM2_PER_S
"""cm²/s."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def analysed(positions: np.ndarray, symbols: str | None = None, **options: object) -> DiffusionResult:
    atoms = ase.Atoms(symbols or f"Ar{positions.shape[1]}", cell=[20.0] * 3, pbc=True)
    trajectory = from_arrays(positions, atoms, interval=INTERVAL, unwrapped=True, temperature=600.0)
    return diffusion(trajectory, **({"drift": "none"} | options))  # type: ignore[arg-type]


def only(positions: np.ndarray) -> ElementDiffusion:
    return analysed(positions).species[0]


def vibration(rng: np.random.Generator, n_frames: int, n_atoms: int, size: float, memory: float) -> np.ndarray:
    """Positions around a site, Gaussian with standard deviation `size` and a correlation time `memory` in frames."""
    decay, burn = math.exp(-1 / memory), int(20 * memory)
    kicks = rng.normal(scale=size * math.sqrt(1 - decay**2), size=(n_frames + burn, n_atoms, 3))
    vibrating: np.ndarray = lfilter([1.0], [1.0, -decay], kicks, axis=0)[burn:]
    return vibrating


def coverage(make: Callable[[], np.ndarray], n: int) -> tuple[float, float, float]:
    """Of n trajectories: the share whose error bar holds the exact D, the mean of D / exact, and its error."""
    found = [only(make()).coefficient for _ in range(n)]
    values = np.array([one.value for one in found if math.isfinite(one.value)]) / EXACT
    errors = np.array([one.error for one in found if math.isfinite(one.value)]) / EXACT
    assert len(values) >= 0.95 * n, "too often no diffusive regime was found where there is one"
    return (
        float(np.mean(np.abs(values - 1) < errors)),
        float(values.mean()),
        float(values.std() / math.sqrt(len(values))),
    )


# --- the error is the error -------------------------------------------------------------------------------------


def test_one_standard_error_covers_the_exact_value_in_two_thirds_of_all_walks(rng: np.random.Generator) -> None:
    share, mean, error = coverage(lambda: walk(rng, 200, 16, STEP), 250)
    assert 0.60 <= share <= 0.76  # 68 % expected; 250 trials know it to 3 %
    assert abs(mean - 1.0) < 3 * error


def test_an_ordinary_fit_gives_errors_many_times_too_small(rng: np.random.Generator) -> None:
    inside = []
    for _ in range(100):
        msd = only(walk(rng, 200, 16, STEP)).msd
        lags = np.arange(1, 51)
        (slope, _), covariance = np.polyfit(lags, msd.total[lags], 1, cov=True)
        inside.append(abs(slope - 3 * STEP**2) < math.sqrt(covariance[0, 0]))
    assert np.mean(inside) < 0.3


def test_atoms_that_move_together_count_as_one(rng: np.random.Generator) -> None:
    share, mean, error = coverage(lambda: np.repeat(walk(rng, 400, 6, STEP), 4, axis=1), 120)
    assert 0.55 <= share <= 0.80  # 120 trials know it to 4 %
    assert abs(mean - 1.0) < 3 * error
    alone = [only(walk(rng, 400, 24, STEP)).coefficient for _ in range(24)]
    together = [only(np.repeat(walk(rng, 400, 6, STEP), 4, axis=1)).coefficient for _ in range(24)]
    errors, counts = (
        [np.median([getattr(one, what) for one in several]) for several in (alone, together)]
        for what in ("error", "n_independent")
    )
    assert errors[1] / errors[0] == pytest.approx(2.0, rel=0.25)  # 8 waves know an error to 25 %, 24 times that to 8 %
    assert counts[0] / counts[1] == pytest.approx(4.0, rel=0.4)


@pytest.mark.slow
def test_vibrations_and_rare_hops_do_not_spoil_the_error(rng: np.random.Generator) -> None:
    n_frames, n_atoms, rate = 1000, 64, 0.002

    def hopping() -> np.ndarray:
        hops = rng.choice([-1.0, 1.0], size=(n_frames, n_atoms, 3)) * (rng.random((n_frames, n_atoms, 3)) < rate)
        length = STEP / math.sqrt(rate)
        return np.cumsum(length * hops, axis=0) + vibration(rng, n_frames, n_atoms, 0.5, memory=2.0)

    share, mean, error = coverage(hopping, 150)
    assert 0.55 <= share <= 0.80
    assert abs(mean - 1.0) < 3 * error


@pytest.mark.slow
def test_motion_that_begins_ballistic_is_fitted_where_it_diffuses(rng: np.random.Generator) -> None:
    memory = 4.0
    decay = math.exp(-1 / memory)
    speed = STEP / math.sqrt((1 + decay) / (1 - decay))
    share, mean, error = coverage(lambda: np.cumsum(vibration(rng, 600, 200, speed, memory), axis=0), 100)
    assert 0.55 <= share <= 0.80
    assert abs(mean - 1.0) < 3 * error
    one = only(np.cumsum(vibration(rng, 600, 200, speed, memory), axis=0))
    assert one.window is not None and one.window[0] > 2 * memory * INTERVAL


def test_the_covariance_of_overlapping_windows_is_that_of_the_closed_form() -> None:
    # Relative variance of the mean of 2-dimensional squared displacements over lag n, K = n_frames - n windows,
    # n <= K: (4 n² K + 2 K + n - n³) / (6 n K²) (Qian, Sheetz, Elson, Biophys. J. 1991, 60, 910).
    n_frames, lags = 120, np.array([1, 2, 5, 13, 30])
    gaussian = window_covariance(lags, n_frames, np.arange(200.0), memory=0)
    windows = n_frames - lags
    expected = (4 * lags**2 * windows + 2 * windows + lags - lags**3) / (6 * lags * windows**2)
    assert np.allclose(np.diag(gaussian) / lags**2, expected, rtol=1e-12)
    assert np.linalg.eigvalsh(gaussian).min() > 0.0


def test_the_covariance_of_overlapping_windows_is_that_of_many_walks(rng: np.random.Generator) -> None:
    n_frames, lags = 60, np.array([1, 3, 8, 14])
    walks = np.cumsum(rng.normal(size=(n_frames, 20_000)), axis=0)
    msds = np.array([((walks[lag:] - walks[:-lag]) ** 2).mean(axis=0) for lag in lags])
    gaussian = window_covariance(lags, n_frames, np.arange(100.0), memory=0)
    assert np.allclose(np.cov(msds), 2 * gaussian, rtol=0.06)  # 20,000 walks know a covariance to 1 to 2 %


def test_lags_go_up_to_a_quarter_of_the_trajectory() -> None:
    assert sampled_lags(10).tolist() == [1, 2]
    lags = sampled_lags(1001)
    assert (lags[0], lags[-1]) == (1, 250)
    assert np.all(lags[20:] / lags[19:-1] < 1.25)


# --- what is found -----------------------------------------------------------------------------------------------


def test_each_direction_has_its_own_coefficient(rng: np.random.Generator) -> None:
    along = only(walk(rng, 1000, 60, STEP) * [1.0, 2.0, 0.5]).along
    for axis, factor in zip("xyz", (1.0, 4.0, 0.25), strict=True):
        assert abs(along[axis].value - factor * EXACT) < 3.5 * along[axis].error
        assert along[axis].error < 0.1 * factor * EXACT


def test_a_crystal_does_not_diffuse(rng: np.random.Generator) -> None:
    one = only(vibration(rng, 1000, 64, 0.15, memory=3.0))
    assert one.coefficient.consistent_with_zero
    assert one.coefficient.error < 0.01 * EXACT
    assert any("consistent with zero" in note for note in one.notes)
    assert any("less than a hop" in note for note in one.notes)


def test_atoms_that_do_not_move_have_exactly_no_diffusion() -> None:
    one = only(np.zeros((50, 3, 3)))
    assert (one.coefficient.value, one.coefficient.error) == (0.0, 0.0)
    assert one.notes == ("the atoms do not move",)


def test_where_nothing_is_diffusive_there_is_no_number(rng: np.random.Generator) -> None:
    one = only(rng.normal(size=(10, 3)) * np.arange(200.0)[:, None, None])
    assert math.isnan(one.coefficient.value) and one.window is None
    assert "no diffusive regime" in one.notes[0]
    assert "D(Ar): not determined: no diffusive regime" in str(
        analysed(rng.normal(size=(10, 3)) * np.arange(200.0)[:, None, None])
    )


def test_a_short_trajectory_is_refused_or_says_that_it_is_short(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="at least 10"):
        analysed(walk(rng, 9, 5))
    one = only(walk(rng, 12, 5))
    assert math.isnan(one.coefficient.value) and "run longer" in one.notes[0]


def test_halves_that_disagree_are_pointed_out(rng: np.random.Generator) -> None:
    steps = np.diff(walk(rng, 2000, 100, STEP), axis=0)
    steps[1000:] *= 2.0
    assert any("halves" in note or "half" in note for note in only(np.cumsum(steps, axis=0)).notes)
    assert not only(walk(rng, 2000, 100, STEP)).notes


@pytest.mark.parametrize("step", [4.0, 6.0, 10.0])
def test_wrapped_positions_that_are_too_rare_to_be_followed_are_told(step: float, rng: np.random.Generator) -> None:
    path = walk(rng, 400, 10, step)
    assert any("anywhere in one cell (200 Å²)" in note for note in analysed(path % 20.0).notes)  # 20²/2 of a cube
    assert not analysed(path).notes
    turning = 10.0 + vibration(rng, 400, 10, 3.0, 0.5)  # of a molecule in the middle of its cell
    assert not analysed(turning).notes


# --- conductivity ------------------------------------------------------------------------------------------------


def test_the_conductivity_is_that_of_nernst_and_einstein(rng: np.random.Generator) -> None:
    positions = np.concatenate([walk(rng, 500, 20, STEP), walk(rng, 500, 20, 0.5 * STEP)], axis=1)
    result = analysed(positions, "Mg20Cl20", charges={"Mg": 2.0, "Cl": -1.0})
    e, k, volume, temperature = 1.602176634e-19, 1.380649e-23, 20.0**3 * 1e-24, 600.0  # C, J/K, cm³, K
    factors = [20 * (charge * e) ** 2 / (volume * k * temperature) for charge in (2, 1)]
    coefficients = [one.coefficient for one in result.species]
    expected = sum(factor * one.value for factor, one in zip(factors, coefficients, strict=True))
    apart = math.hypot(*(factor * one.error for factor, one in zip(factors, coefficients, strict=True)))
    assert result.conductivity is not None
    assert result.conductivity.value == pytest.approx(expected, rel=1e-9)
    # the error is that of the sum: near that of independent elements here, known to a quarter from eight waves
    assert result.conductivity.error == pytest.approx(apart, rel=0.5)
    assert result.conductivity.unit == "S/cm"


def test_the_conductivity_of_ions_that_move_together_has_the_error_of_one(rng: np.random.Generator) -> None:
    together = walk(rng, 2000, 20, STEP)
    pairs = analysed(np.concatenate([together, together + 1.0], axis=1), "Li20Cl20", charges={"Li": 1.0, "Cl": -1.0})
    alone = analysed(together, "Li20", charges={"Li": 1.0})
    for result in (pairs, alone):
        assert result.conductivity is not None
    relative = [one.conductivity.error / one.conductivity.value for one in (pairs, alone)]  # type: ignore[union-attr]
    assert relative[0] == pytest.approx(relative[1], rel=1e-6)


def test_ions_without_a_coefficient_and_the_framework_do_not_count_in_the_conductivity(
    rng: np.random.Generator,
) -> None:
    ballistic = rng.normal(size=(10, 3)) * np.arange(500.0)[:, None, None]
    positions = np.concatenate([walk(rng, 500, 20, STEP), ballistic, walk(rng, 500, 5, STEP)], axis=1)
    charges = {"Li": 1.0, "Y": 3.0, "Cl": -1.0}
    result = analysed(positions, "Li20Y10Cl5", charges=charges, drift=["Cl"])
    alone = analysed(positions, "Li20Y10Cl5", charges={"Li": 1.0}, drift=["Cl"])
    assert result.conductivity == alone.conductivity is not None
    assert "Y left out: no diffusion coefficient" in result.notes[0]
    assert "Cl left out: taken to be at rest (drift)" in result.notes[1]
    assert not alone.notes and "nan" not in str(result)


def test_a_conductivity_of_the_literature_is_reproduced() -> None:
    # pymatgen-analysis-diffusion, Li10GeP2S12 at 600 K: 20 Li in 970.4137 Å³, D = 1.16083658794e-6 cm²/s and
    # 74.165372613735684 mS/cm. Its two numbers are of different versions and agree with each other to 4e-4.
    factor = 20 * units.S_PER_CM / units.CM2_PER_S / (970.4137178985233 * units.KB * 600)
    assert factor * 1.16083658794e-06 * 1e3 == pytest.approx(74.165372613735684, rel=5e-4)


def test_charges_without_temperature_or_atoms_are_refused(rng: np.random.Generator) -> None:
    trajectory = from_arrays(walk(rng, 50, 4), ase.Atoms("Li4", cell=[9.0] * 3, pbc=True), interval=1.0, unwrapped=True)
    with pytest.raises(InputError, match="needs the temperature"):
        diffusion(trajectory, charges={"Li": 1.0})
    assert diffusion(trajectory, charges={"Li": 1.0}, temperature=300.0).temperature == 300.0
    with pytest.raises(InputError, match="no 'Na'"):
        diffusion(trajectory, charges={"Na": 1.0}, temperature=300.0)
    molecule = from_arrays(walk(rng, 50, 4), ase.Atoms("Li4"), interval=1.0, unwrapped=True, temperature=300.0)
    with pytest.raises(InputError, match="periodic in all three"):
        diffusion(molecule, charges={"Li": 1.0})


# --- what is written ---------------------------------------------------------------------------------------------


def test_results_are_written_as_json_csv_and_png(tmp_path: Path, rng: np.random.Generator) -> None:
    result = analysed(walk(rng, 100, 8), "Li4Cl4", charges={"Li": 1.0})
    paths = write(result, tmp_path / "analysis")
    assert [path.name for path in paths] == ["diffusion.json", "diffusion.csv", "diffusion.png"]
    data = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert from_dict(data["elements"]["Li"]["D"]) == result.species[0].coefficient
    assert data["provenance"]["n_frames"] == 100 and data["charges_e"] == {"Li": 1.0}
    with paths[1].open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][:3] == ["lag [ps]", "MSD Li [Å^2]", "MSD Li x [Å^2]"]
    assert float(rows[5][1]) == pytest.approx(result.species[0].msd.total[4], rel=1e-7)
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_a_result_without_numbers_is_still_json(tmp_path: Path) -> None:
    result = analysed(np.ones((10, 3)) * np.arange(50.0)[:, None, None], charges={"Ar": 1.0})
    data = json.loads(write(result, tmp_path)[0].read_text(), parse_constant=pytest.fail)
    assert data["elements"]["Ar"]["D"]["value"] is None and data["conductivity"] is None
    assert data["notes"] == ["no conductivity: Ar left out: no diffusion coefficient"]


def test_the_same_trajectory_gives_the_same_files(tmp_path: Path, rng: np.random.Generator) -> None:
    positions = walk(rng, 100, 8)
    first, second = (write(analysed(positions), tmp_path / name) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


# --- numbers with errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.32e-5, 4e-7, "1.32(4)e-05"), (1.32e-5, 1.4e-7, "1.320(14)e-05"), (9.9999e-6, 1e-8, "1.0000(10)e-05"),
        (-1.32e-5, 4e-7, "-1.32(4)e-05"), (0.0, 3e-6, "0(3)e-06"), (-2e-9, 3e-8, "0(3)e-08"),
        (1e-5, 3e-5, "1(3)e-05"), (12.345, 0.4, "12.3(4)"), (12345.6, 200.0, "12300(200)"), (99.96, 0.1, "99.96(10)"),
        (1234567.0, 1000.0, "1.2346(10)e+06"), (0.5, 12.0, "0(12)"), (98.3, 1.6, "98.3(1.6)"),
        (1.32e-5, math.nan, "1.32e-05(?)"), (1.5, 0.0, "1.5"), (0.0, 0.0, "0"), (12.0, 5e-16, "12"),
        (12.0, 1e-7, "12.00000000(10)"),
    ],
)  # fmt: skip
def test_the_bracket_holds_the_error_in_the_last_digits(value: float, error: float, text: str) -> None:
    assert str(Estimate(value, error, "cm²/s", 1.0)) == f"{text} cm²/s"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_not_printed(value: float) -> None:
    assert str(Estimate(value, 1.0, "cm²/s", 1.0)) == "not determined"


def test_estimates_survive_json() -> None:
    for one in (Estimate(1.0, 0.1, "K", 12.0), Estimate(2.0, 0.0, "", 1.0)):
        assert from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert math.isnan(from_dict(Estimate(math.nan, math.nan, "K", math.nan).to_dict()).value)


def test_the_mean_of_a_correlated_series_has_the_error_of_its_independent_part(rng: np.random.Generator) -> None:
    deviations = []
    for _ in range(300):
        one = average(vibration(rng, 1000, 1, 1.0, memory=9.5)[:, 0, 0], "K")
        deviations.append(one.value / one.error)
    # n / 2τ = 1000 / 19 = 53 independent values: their number, and so the error, is known to some 10 %
    assert np.std(deviations) == pytest.approx(1.0, abs=0.2)
    assert average(np.full(50, 3.0), "K").error == 0.0
    assert math.isnan(average(np.ones(1), "K").error)
