"""Activation energies: one line unless the data show more, intervals that hold the truth, and what is told of them."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np
import pytest
from command_line import mlmd
from made_runs import EVERY, TIMESTEP, stage, walk, write_run
from scipy.stats import linregress

from mlmd import units
from mlmd.analysis import temperature_laws, write
from mlmd.analysis.activation import Activation, Point, activation
from mlmd.analysis.arrhenius import arrhenius, read_table
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.temperature_laws import ONE, TWO, VTF, Choice, choose
from mlmd.errors import InputError

T = np.linspace(300.0, 900.0, 13)
ERROR = 0.03
"""Of the logarithm."""
BREAK, HOT, COLD = 450.0, 0.25, 0.35


def inverse(temperatures: np.ndarray) -> np.ndarray:
    return 1.0 / (units.KB * temperatures)


def line(temperatures: np.ndarray) -> np.ndarray:
    return -5.0 - 0.3 * inverse(temperatures)


def broken(temperatures: np.ndarray) -> np.ndarray:
    x, at = inverse(temperatures), 1.0 / (units.KB * BREAK)
    return -5.0 - HOT * np.minimum(x, at) - COLD * np.maximum(x - at, 0.0)


def glass(temperatures: np.ndarray) -> np.ndarray:
    return -5.0 - 0.06 * inverse(temperatures - 150.0)


def drawn(law: Callable[[np.ndarray], np.ndarray], seed: int, *, known: bool = True) -> Choice:
    y = law(T) + np.random.default_rng(seed).normal(0.0, ERROR, len(T))
    return choose(T, y, np.full(len(T), ERROR) if known else None, seed=seed)


def law_of(choice: Choice, name: str) -> temperature_laws.Law:
    return next(one for one in choice.laws if one.name == name)


@pytest.fixture
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temperature_laws, "N_DRAWS", 400)


def test_one_line_is_weighted_least_squares() -> None:
    errors = np.linspace(0.02, 0.2, len(T))
    y = line(T) + np.random.default_rng(0).normal(0.0, errors)
    slope, covariance = np.polyfit(inverse(T), y, 1, w=1.0 / errors, cov="unscaled")
    found = law_of(choose(T, y, errors), ONE).parameters["E"]
    assert found.value == pytest.approx(-slope[0], rel=1e-10)
    assert found.error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-10)
    assert found.high - found.value == pytest.approx(1.959964 * found.error, rel=1e-6)


def test_without_errors_the_scatter_gives_them() -> None:
    y = line(T) + np.random.default_rng(0).normal(0.0, ERROR, len(T))
    expected = linregress(inverse(T), y)
    found = law_of(choose(T, y, None), ONE).parameters["E"]
    assert found.value == pytest.approx(-expected.slope, rel=1e-10)
    assert found.error == pytest.approx(expected.stderr, rel=1e-10)


@pytest.mark.usefixtures("_few_draws")
def test_a_break_is_found_where_it_is() -> None:
    choice = drawn(broken, 1)
    assert choice.chosen.name == TWO and choice.p_value < 0.01
    found = choice.chosen.parameters
    assert found["T_break"].value == pytest.approx(BREAK, abs=15.0)
    assert found["T_break"].low < BREAK < found["T_break"].high
    assert found["E_hot"].value == pytest.approx(HOT, abs=0.006)
    assert found["E_cold"].value == pytest.approx(COLD, abs=0.009)


@pytest.mark.usefixtures("_few_draws")
def test_a_glass_is_no_break() -> None:
    choice = drawn(glass, 1)
    assert choice.chosen.name == VTF
    assert choice.chosen.parameters["T_0"].value == pytest.approx(150.0, abs=25.0)
    assert choice.chosen.parameters["B"].value == pytest.approx(0.06, abs=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_draws")
@pytest.mark.parametrize("known", [True, False])
def test_one_line_is_split_no_more_often_than_is_said(known: bool) -> None:
    split = sum(drawn(line, seed, known=known).chosen.name != ONE for seed in range(150))
    assert split <= 15  # 7.5 of a twentieth, and 2.8 standard deviations


@pytest.mark.slow
@pytest.mark.usefixtures("_few_draws")
@pytest.mark.parametrize(("law", "name", "key", "truth"), [
    (line, ONE, "E", 0.3), (broken, TWO, "T_break", BREAK), (broken, TWO, "E_cold", COLD), (glass, VTF, "T_0", 150.0),
])  # fmt: skip
def test_intervals_hold_the_truth(law: Callable[[np.ndarray], np.ndarray], name: str, key: str, truth: float) -> None:
    held = [law_of(drawn(law, seed), name).parameters[key] for seed in range(150)]
    inside = sum(not (one.low > truth or one.high < truth) for one in held)
    assert 135 <= inside <= 150  # 142.5 of 95 %, and 2.8 standard deviations


def test_errors_that_are_too_small_are_enlarged_and_told() -> None:
    y = line(T) + np.random.default_rng(3).normal(0.0, 5.0 * ERROR, len(T))
    choice = choose(T[:3], y[:3], np.full(3, ERROR / 10))  # too few temperatures for another law
    assert choice.chosen.name == ONE and math.isnan(choice.p_value) and choice.scatter > 5.0
    assert "times farther from the law than their errors say" in choice.notes[0]


@pytest.mark.usefixtures("_few_draws")
def test_errors_that_are_too_small_make_no_second_regime() -> None:
    split = 0
    for seed in range(40):
        y = line(T[::2]) + np.random.default_rng(seed).normal(0.0, 2.0 * ERROR, 7)
        split += choose(T[::2], y, np.full(7, ERROR), seed=seed).chosen.name != ONE
    assert split <= 6  # 2 of a twentieth, and 2.9 standard deviations


@pytest.mark.usefixtures("_few_draws")
@pytest.mark.parametrize("known", [True, False])
def test_points_on_a_line_have_intervals(known: bool) -> None:
    for energy in (0.1, 0.25, 0.3, 0.61):
        y = -5.0 - energy * inverse(T)
        choice = choose(T, y, np.full(len(T), ERROR) if known else None)
        assert law_of(choice, ONE).parameters["E"].value == pytest.approx(energy)


def test_two_temperatures_have_a_line_and_one_has_none() -> None:
    choice = choose(T[[0, -1]], line(T[[0, -1]]), np.full(2, ERROR))
    assert choice.chosen.parameters["E"].value == pytest.approx(0.3)
    assert "goes through all points" in choice.notes[0]
    with pytest.raises(ValueError, match="two different temperatures"):
        choose(np.full(3, 300.0), np.zeros(3), None)


@pytest.mark.usefixtures("_few_draws")
def test_just_above_the_temperature_of_vogel_a_law_gives_nothing_and_says_so() -> None:
    kelvins, frozen = np.array([320.0, 340.0, 380.0, 450.0, 600.0, 800.0, 1000.0]), 295.0

    def known_to(error: float, b: float, at: list[float]) -> Activation:
        values = np.exp(-5.0 - b * inverse(kelvins - frozen)).tolist()
        points = [Point(t, Estimate(d, error * d, "", 9.0), "a run") for t, d in zip(kelvins, values, strict=True)]
        return activation("D(Li)", points, at)

    glassy = known_to(0.03, 0.06, [300.0, frozen + 0.5, frozen + 0.1, 200.0])
    assert glassy.law.name == VTF and [one.temperature for one in glassy.predictions] == [300.0]
    assert "at 200 K, 295.1 K, 295.5 K, not above T_0 or too close to it, the law gives nothing" in glassy.notes
    straight = known_to(0.45, 0.004, [frozen + 0.05, 0.1])  # the other law has its T_0 there
    assert straight.law.name == ONE and [one.temperature for one in straight.predictions] == [frozen + 0.05]
    assert "at 0.1 K, so far from all runs, the law gives nothing" in straight.notes


def test_a_note_that_all_runs_share_is_told_once() -> None:
    kelvins = (400.0, 500.0, 600.0)
    values = np.exp(line(np.array(kelvins)))
    notes = {400.0: ("shared", "cold"), 500.0: ("shared",), 600.0: ("shared",)}
    points = [
        Point(t, Estimate(d, 0.1 * d, "", 9.0), f"T{t:g}", notes[t]) for t, d in zip(kelvins, values, strict=True)
    ]
    told = activation("D(Li)", points, []).notes
    assert [note for note in told if "shared" in note] == ["of all runs: shared"]
    assert "400 K (T400): cold" in told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs at four temperatures, of walkers whose D has an activation energy of 0.2 eV, and of atoms at rest."""
    made, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(5)
    for kelvin in (500.0, 600.0, 700.0, 800.0):
        step = 0.3 * math.exp(-0.5 * 0.2 * (inverse(np.array(kelvin)) - inverse(np.array(800.0))))
        moving, resting = walk(rng, 400, 24, step), np.zeros((400, 8, 3))
        atoms = ase.Atoms("Li24Cl8", cell=[30.0] * 3, pbc=True)
        stages = (stage(0, 0, 3990, temperature=(kelvin, kelvin)),)
        positions = np.concatenate([moving, resting], axis=1)
        write_run(made / f"T{kelvin:g}", atoms, stages, positions, kind="extxyz")
    return made


def test_a_folder_of_runs_gives_an_activation_energy(folder: Path, tmp_path: Path) -> None:
    found = arrhenius([folder], charges={"Li": 1.0}, drift=["Cl"], at=[300.0, 700.0])
    diffusing, conducting = found.activations[:2]
    assert (diffusing.quantity, conducting.quantity) == ("D(Li)", "conductivity")
    for one in (diffusing, conducting):  # of σT, too, since D and not σ follows the law
        energy = one.choice.chosen.parameters["E"]
        assert energy.low < 0.2 < energy.high and energy.error < 0.02
        assert [round(each.temperature) for each in one.points] == [500, 600, 700, 800]
    at_700 = conducting.predictions[1].value
    assert at_700.value == pytest.approx(conducting.points[2].value.value, rel=0.3)
    assert "300 K is below all runs" in conducting.notes[-1]
    assert "not shown, since they do not diffuse: D(Cl)" in found.notes[0]
    for path in write(found, tmp_path):
        assert path.stat().st_size > 100
    told = json.loads((tmp_path / "arrhenius.json").read_text())["quantities"]["D(Li)"]
    assert told["law"] == "one line" and len(told["points"]) == 4


def test_ions_that_hop_together_conduct_more_than_their_diffusion_says_at_all_temperatures(tmp_path: Path) -> None:
    rng, of_a_group, n_groups, energy, side = np.random.default_rng(8), 3, 10, 0.2, 30.0
    for kelvin in (500.0, 600.0, 700.0, 800.0):
        step = 0.3 * math.exp(-0.5 * energy * (inverse(np.array(kelvin)) - inverse(np.array(800.0))))
        ions = np.repeat(walk(rng, 800, n_groups, step), of_a_group, axis=1)
        atoms = ase.Atoms("Li30", cell=[side] * 3, pbc=True)
        write_run(tmp_path / f"T{kelvin:g}", atoms, (stage(0, 0, 7990, temperature=(kelvin, kelvin)),), ions)
    found = {one.quantity: one for one in arrhenius([tmp_path], charges={"Li": 1.0}, drift="none").activations}
    alone, together = found["conductivity"], found["collective conductivity"]
    e_a = together.law.parameters["E"]
    assert e_a.low < energy < e_a.high and e_a.error < 0.04
    (at_300,) = together.predictions
    d = 0.3**2 / (2.0 * TIMESTEP * EVERY) * math.exp(-energy * (inverse(np.array(300.0)) - inverse(np.array(800.0))))
    exact = n_groups * of_a_group**2 * d / (side**3 * units.KB * 300.0) * units.S_PER_CM  # groups of charge q
    assert at_300.low < exact < at_300.high
    ratio = together.curve(together.law, np.array([650.0]))[0] / alone.curve(alone.law, np.array([650.0]))[0]
    assert ratio == pytest.approx(of_a_group, rel=0.3)  # four values, each known to 10 to 20 %


def test_why_there_is_no_line_through_collective_conductivities_is_told(folder: Path) -> None:
    found = arrhenius([folder], charges={"Li": 1.0, "Cl": -1.0})  # 24 and 8 of them: not neutral, and all are charged
    assert [one.quantity for one in found.activations] == ["D(Li)", "D(Cl)", "conductivity"]
    (why,) = (note for note in found.notes if note.startswith("collective conductivity: larger than twice its error"))
    assert "at no temperature, and two temperatures are needed: all elements have charges, which add up to +16 e" in why


@pytest.mark.parametrize("kelvins", [[900.0, 1000.0, 1100.0, 1200.0], T.tolist(), [600.0, 605.0, 700.0]])
def test_temperatures_do_not_overlap_on_their_axis(kelvins: list[float], tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    path.write_text("T,D\n" + "".join(f"{kelvin},{math.exp(-3000.0 / kelvin)},1e-4\n" for kelvin in kelvins))
    figure = read_table(path).figure()
    figure.draw_without_rendering()
    (top,) = figure.axes[0].child_axes
    labels = [one for one in top.get_xticklabels() if one.get_text()]
    boxes = sorted((one.get_window_extent() for one in labels), key=lambda box: box.x0)
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
    assert len(boxes) >= 2 and labels[0].get_text().startswith("300")  # where the value is predicted, or the coldest


def test_columns_go_from_cold_to_hot_and_tell_what_is_in_the_fit(folder: Path, tmp_path: Path) -> None:
    values = {1000.0: (3e-5, 1e-6), 900.0: (1e-5, 9e-6), 1200.0: (9e-5, 1e-6), 1100.0: (5e-5, 1e-6)}
    path = tmp_path / "values.csv"
    path.write_text("T,D,error\n" + "".join(f"{kelvin},{d},{error}\n" for kelvin, (d, error) in values.items()))
    rows = list(csv.DictReader(read_table(path).to_csv().splitlines()))
    assert [float(row["temperature [K]"]) for row in rows] == sorted(values)
    assert [row["in the fit"] for row in rows] == ["0", "1", "1", "1"]
    found = arrhenius([folder], drift=["Cl"]).activations[0]
    told = [point.temperature for point in found.points]
    assert told == sorted(told)


def test_the_command_writes_beside_the_runs_and_tells_all(folder: Path) -> None:
    answer = mlmd("analyze", "arrhenius", folder, "--element", "Li")
    assert answer.code == 0, answer.err
    assert "D(Li): one line, E_a = 0." in answer.out and "D(Li) at 300 K" in answer.out and "95 % between" in answer.out
    assert (folder / "analysis" / "arrhenius.png").is_file()


def test_a_table_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    values = np.exp(line(T)) / T
    lines = [f"{kelvin},{value},{0.02 * value}" for kelvin, value in zip(T, values, strict=True)]
    path.write_text("\n".join(["T [K], conductivity [S/cm], error", *lines]))
    (one,) = read_table(path).activations
    assert one.quantity == "conductivity" and one.points[0].value.unit == "S/cm"
    assert one.law.name == ONE and one.law.parameters["E"].value == pytest.approx(0.3, rel=1e-6)
    assert one.predictions[0].value.value == pytest.approx(values[0], rel=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "give run folders"),
        (("--table", "nowhere.csv"), "nowhere.csv: No such file"),
        (("--table", "words.csv"), "is no table of numbers below a header"),
        (("--table", "cold.csv"), "a temperature above 0 K"),
        (("--table", "spaces.csv"), "the header 'T D' does not name a temperature and a value"),
        (("--table", "one.csv"), "larger than twice its error at 300 K; two are needed"),
        (("empty",), "neither a run folder nor a folder of runs"),
        (("RUNS/T500",), "1 run at 500 K: an activation energy needs two temperatures"),
        (("RUNS", "--element", "Xx"), "there is no Xx in it"),
        (("RUNS", "--element", "Cl", "--drift", "Cl"), "two are needed"),
        (("RUNS", "--at", "-5 K"), "a temperature above 0 K is needed"),
    ],
)
def test_what_cannot_be_fitted_is_said(given: tuple[str, ...], said: str, folder: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.csv").write_text("T,D\nhot,much\n")
    (tmp_path / "cold.csv").write_text("T,D\n-300,1e-5\n400,2e-5\n")
    (tmp_path / "spaces.csv").write_text("T D\n300,1e-5\n400,2e-5\n")
    (tmp_path / "one.csv").write_text("T,D\n300,1e-5\n300,2e-5\n")
    answer = mlmd("analyze", "arrhenius", *(one.replace("RUNS", str(folder)) for one in given))
    assert answer.code == 2, answer.err
    assert said in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("formula", "changes", "manifest", "said"),
    [
        ("Li20Cl12", {}, {}, "the runs are of different compositions (ClLi3 in "),
        (
            "Li24Cl8",
            {"kind": "npt", "pressure": (1e3, 1e3)},
            {},
            "the runs are at different pressures (no pressure in ",
        ),
        ("Li24Cl8", {}, {"input": {"scale": 0.6}}, "its potential was scaled by 0.6"),
    ],
    ids=["composition", "pressure", "scale"],
)
def test_runs_that_differ_in_more_than_temperature_are_refused(
    formula: str, changes: dict[str, object], manifest: dict[str, object], said: str, folder: Path, tmp_path: Path
) -> None:
    positions = walk(np.random.default_rng(1), 100, 32, 0.3)
    atoms = ase.Atoms(formula, cell=[30.0] * 3, pbc=True)
    stages = (stage(0, 0, 990, temperature=(900.0, 900.0), **changes),)
    other = write_run(tmp_path / "other", atoms, stages, positions, kind="extxyz", **manifest)
    with pytest.raises(InputError) as caught:
        arrhenius([folder, other])
    assert said in str(caught.value)


def test_a_run_that_is_given_twice_is_refused(folder: Path) -> None:
    one = next(path for path in sorted(folder.iterdir()) if (path / "run.json").is_file())
    for runs in ([folder, one], [folder, folder / "." / one.name], [one, one, folder]):
        with pytest.raises(InputError, match=rf"{one.name} is given twice.*Give it once"):
            arrhenius(runs, drift=["Cl"])


def test_a_missing_element_is_an_error_with_the_run(folder: Path) -> None:
    with pytest.raises(InputError, match="T500: there is no Xx"):
        arrhenius([folder], elements=["Xx"])
