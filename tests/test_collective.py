"""Conduction by all ions together, diffusion along directions of a crystal, and the finite size of a liquid's cell."""

from __future__ import annotations

import importlib.util
import json
import lzma
import math
from pathlib import Path
from types import ModuleType

import ase
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from made_runs import walk
from scipy import constants

from mlmd.analysis.diffusion import DiffusionResult, diffusion
from mlmd.analysis.einstein import N_WAVES, error_of, slow_waves
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.msd import mean_squared_displacements, msd_of_path
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.io.trajectories import from_arrays
from mlmd.units import parse

CELL, INTERVAL = 20.0, 100.0
"""Å, fs."""
MPAS = parse("1 mPa s", "viscosity")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def trajectory(positions: np.ndarray, symbols: str, cell: object = None) -> Trajectory:
    atoms = ase.Atoms(symbols, cell=[CELL] * 3 if cell is None else cell, pbc=True)
    return from_arrays(positions, atoms, interval=INTERVAL, unwrapped=True, temperature=600.0)


def conducting(positions: np.ndarray, symbols: str, charges: dict[str, float], **options: object) -> DiffusionResult:
    return diffusion(trajectory(positions, symbols), charges=charges, **({"drift": "none"} | options))  # type: ignore[arg-type]


def within(estimate: Estimate | None, exact: float, n_errors: float = 3.0) -> bool:
    assert estimate is not None
    return abs(estimate.value - exact) < n_errors * estimate.error


# --- the error ---------------------------------------------------------------------------------------------------


def test_slow_waves_have_the_variance_of_the_mean_of_a_series_with_memory(rng: np.random.Generator) -> None:
    # A moving average over 5 of noise of variance 1: the mean of n has the variance 1/n, the noise's.
    noise = rng.normal(size=(2000, 604))
    series = np.mean([noise[:, shift : shift + 600] for shift in range(5)], axis=0)
    waves = slow_waves(series)
    assert waves.shape == (2000, N_WAVES)
    assert np.allclose(waves.var(axis=0), 1 / 600, rtol=0.12)  # 2,000 series know a variance to 3 %
    assert np.allclose(series.mean(axis=1).var(), 1 / 600, rtol=0.12)
    assert np.abs(np.corrcoef(waves.T) - np.eye(N_WAVES)).max() < 0.09


def test_two_errors_are_the_interval_of_student(rng: np.random.Generator) -> None:
    for memory, n_waves in ((1, 8), (100, 5), (400, 4)):
        means, waves = rng.normal(size=4000), rng.normal(size=(4000, N_WAVES))
        errors = np.array([error_of(one, memory, 1000) for one in waves])
        assert errors[0] == pytest.approx(math.sqrt(np.sum(waves[0, :n_waves] ** 2) / (n_waves - 2)))
        assert np.mean(np.abs(means) < 1.96 * errors) == pytest.approx(0.95, abs=0.015)


def calibration() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "diffusion_calibration.py"
    specification = importlib.util.spec_from_file_location("diffusion_calibration", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    import sys

    sys.modules["diffusion_calibration"] = module
    specification.loader.exec_module(module)
    return module


def test_the_interval_holds_the_truth_where_a_gate_opens_and_closes_for_all_ions() -> None:
    rows, _, _ = calibration().rows_of("gated", 100)
    held = {
        quantity: np.mean([row.low < 1.0 < row.high for row in rows if row.quantity == quantity])
        for quantity in ("D", "sigma", "D, naive")
    }
    # 95 % expected, which 100 trajectories know to 2 %; the line that takes its points as independent is shown beside.
    assert held["D"] >= 0.89 and held["sigma"] >= 0.89
    assert held["D, naive"] < 0.4


KINISI = {
    "brownian": ((0.9409, 1.0273), (0.9449, 1.0344), (0.9494, 1.0384), (0.9281, 1.0855)),
    "few": ((0.7839, 1.4075), (0.8027, 1.4198), (0.4910, 1.1625), (0.7420, 1.3382)),
}
"""Bounds of 95 % of D over the truth by kinisi 2.1, of the first trajectories of `diffusion_calibration.py`."""


@pytest.mark.parametrize("kind", KINISI)
def test_d_lies_within_the_intervals_that_kinisi_has_given(kind: str) -> None:
    rows, _, _ = calibration().rows_of(kind, len(KINISI[kind]))
    found = [row.value for row in rows if row.quantity == "D"]
    assert all(low < one < high for one, (low, high) in zip(found, KINISI[kind], strict=True)), found


# --- collective conduction ---------------------------------------------------------------------------------------


def test_haven_and_charge_diffusion_of_the_literature_are_reproduced(shared: Path) -> None:
    # pymatgen-analysis-diffusion's own test: Li10GeP2S12 at 600 K, displacements from the mean of the framework,
    # lines with weights 1/t (one of its numbers: without) through windows between 1 ps and 2/3 of the trajectory.
    folder = shared / "ref_diffusion" / "pymatgen"
    asserted = json.loads((folder / "expected_values.json").read_text())
    with lzma.open(folder / "DiffusionAnalyzer.json.xz") as file:
        stored = json.load(file)
    moved = np.array(stored["displacements"])
    symbols = [site["species"][0]["element"] for site in stored["structure"]["sites"]]
    lithium = np.array(symbols) == "Li"
    paths = (moved - moved[~lithium].mean(axis=0))[lithium].transpose(1, 0, 2)
    msd = mean_squared_displacements(trajectory(paths, f"Li{lithium.sum()}"), drift="none")["Li"].total
    charge = msd_of_path(paths.sum(axis=1), 20.0, "Li").total / lithium.sum()
    longest = lithium.sum() * len(paths) // stored["min_obs"]
    lags = np.arange(50, longest, (longest - 50) // 200)
    plain = asserted["smoothed=as stored (min)"]
    assert np.allclose(charge[lags[:4]], plain["mscd_first4"], rtol=1e-7)

    def slope(curve: np.ndarray, weights: np.ndarray | None) -> float:
        return float(np.polyfit(lags, curve[lags], 1, w=weights)[0]) / 6 / 20.0 * 0.1  # cm²/s

    d, d_charge = (slope(curve, lags**-0.5) for curve in (msd, charge))
    assert slope(msd, None) == pytest.approx(plain["diffusivity_cm2_s"], rel=1e-9)
    assert d_charge == pytest.approx(plain["chg_diffusivity_cm2_s"], rel=1e-9)
    assert d / d_charge == pytest.approx(plain["haven_ratio"], rel=1e-9)  # 0.31854; 0.31842 with the line for D above


def test_ions_that_are_independent_have_a_haven_ratio_of_one(rng: np.random.Generator) -> None:
    result = conducting(walk(rng, 4000, 20), "Li20", {"Li": 1.0})
    assert result.collective is not None and result.conductivity is not None
    assert within(result.collective.haven, 1.0)
    assert result.collective.haven is not None and result.collective.haven.error < 0.1
    assert within(result.collective.conductivity, result.conductivity.value)
    assert not result.collective.transference  # one element carries all


def test_ions_in_single_file_push_each_other(rng: np.random.Generator) -> None:
    # On a ring of 6 sites 3 ions cannot pass: in the end each goes where all go, and the Haven ratio is 1/3.
    n_sites, n_ions, n_frames = 6, 3, 6000
    places, taken = np.array([0, 2, 4]), np.array([True, False, True, False, True, False])
    path = np.empty((n_frames, n_ions))
    for frame in range(n_frames):
        for ion, step in zip(rng.integers(0, n_ions, 6), rng.choice([-1, 1], 6), strict=True):
            old, new = places[ion] % n_sites, (places[ion] + step) % n_sites
            if not taken[new]:
                taken[old], taken[new] = False, True
                places[ion] += step
        path[frame] = places
    positions = np.zeros((n_frames, n_ions, 3))
    positions[..., 0] = path
    result = conducting(positions, "Li3", {"Li": 1.0})
    assert result.collective is not None
    assert within(result.collective.haven, 1 / 3) and result.collective.haven.value < 0.5  # type: ignore[union-attr]
    # The exclusion process has an exact current: 2 attempts a frame and ion, 3/5 of which find the site empty.
    exact = 3 * 2 * 0.6 / 6 / INTERVAL * 1.602176634e-19 / (CELL**3 * 8.617333e-5 * 600) / 1e-25 * 1e-2
    assert within(result.collective.conductivity, exact)


def test_transference_numbers_are_the_shares_of_the_current(rng: np.random.Generator) -> None:
    positions = np.concatenate([walk(rng, 3000, 15, 0.2), walk(rng, 3000, 15, 0.1)], axis=1)
    result = conducting(positions, "Li15Cl15", {"Li": 1.0, "Cl": -1.0})
    assert result.collective is not None
    numbers = result.collective.transference
    assert numbers["Li"].value + numbers["Cl"].value == pytest.approx(1.0, abs=1e-12)
    assert within(numbers["Li"], 0.8) and numbers["Li"].error < 0.1


def test_a_neutral_current_does_not_depend_on_what_is_at_rest(rng: np.random.Generator) -> None:
    positions = np.concatenate([walk(rng, 500, 10, 0.2), walk(rng, 500, 10, 0.1)], axis=1) + walk(rng, 500, 1, 0.5)
    charges = {"Li": 1.0, "Cl": -1.0}
    results = [conducting(positions, "Li10Cl10", charges, drift=drift) for drift in ("none", "cell")]
    curves = [one.collective.msd.total for one in results if one.collective is not None]
    assert np.allclose(curves[0], curves[1], rtol=1e-6, atol=1e-9)
    assert not any("add up" in note for one in results for note in one.notes)
    alone = conducting(positions, "Li10Cl10", {"Li": 1.0}, drift="cell")
    assert any("add up to +10 e" in note for note in alone.notes)
    charged = conducting(positions, "Li10Cl10", {"Li": 1.0, "Cl": -0.5}, drift="cell")
    assert charged.collective is not None and not charged.collective.conductivity.determined
    assert any("not neutral depends on what is at rest" in note for note in charged.notes)
    assert not any("add up" in note for note in conducting(positions, "Li10Cl10", {"Li": 1.0}, drift=["Cl"]).notes)


def test_a_current_of_one_species_is_relative_to_the_framework(rng: np.random.Generator) -> None:
    lithium, framework = walk(rng, 500, 10, 0.2), walk(rng, 500, 1, 0.5)
    positions = np.concatenate([lithium + framework, np.broadcast_to(framework, (500, 10, 3))], axis=1)
    carried = conducting(positions, "Li10Cl10", {"Li": 1.0}, drift=["Cl"])
    still = conducting(lithium, "Li10", {"Li": 1.0})
    assert carried.collective is not None and still.collective is not None
    assert np.allclose(carried.collective.msd.total, still.collective.msd.total, rtol=1e-6, atol=1e-9)


def test_one_charged_element_has_the_conductivity_of_all_whose_charges_are_given(rng: np.random.Generator) -> None:
    silver, iodide = walk(rng, 1000, 10, 0.2), 0.3 * walk(rng, 1000, 10, 0.1)
    positions = np.concatenate([silver, iodide], axis=1)
    one, both = (conducting(positions, "Ag10I10", {"Ag": 1.0, **more}, drift="cell") for more in ({}, {"I": -1.0}))
    assert one.collective is not None and both.collective is not None
    assert np.allclose(one.collective.msd.total, both.collective.msd.total, rtol=1e-6, atol=1e-9)


# --- directions --------------------------------------------------------------------------------------------------


def test_diffusion_is_projected_on_directions_of_the_lattice(rng: np.random.Generator) -> None:
    positions = walk(rng, 3000, 40, 0.1) * [1.0, 2.0, 0.5]
    exact = 0.1**2 / (2 * INTERVAL) * 0.1  # cm²/s of the x direction
    hexagonal = [[10.0, 0, 0], [-5.0, 5.0 * math.sqrt(3.0), 0], [0, 0, 15.0]]
    one = diffusion(trajectory(positions, "Li40", hexagonal), drift="none", along=("b", "1,2,0", "c")).species[0]
    assert within(one.along["b"], (1 / 4 + 4 * 3 / 4) * exact)
    assert within(one.along["1,2,0"], 4 * exact)  # a + 2 b is along y
    assert one.along["1,2,0"].value == pytest.approx(one.along["y"].value, rel=1e-9)
    assert one.along["c"].value == pytest.approx(one.along["z"].value, rel=1e-9)
    assert one.coefficient.value == pytest.approx(np.mean([one.along[axis].value for axis in "xyz"]), rel=1e-9)


@pytest.mark.parametrize("name", ["d", "1,1", "0,0,0", "1,1,nan", ""])
def test_what_is_no_direction_is_refused(rng: np.random.Generator, name: str) -> None:
    with pytest.raises(InputError, match="is not a direction"):
        diffusion(trajectory(walk(rng, 50, 4), "Li4"), along=(name,))


def test_hops_on_a_lattice_have_their_exact_coefficient_along_each_axis(rng: np.random.Generator) -> None:
    """D = k a² / 2 along an axis, of ions that vibrate, too, in a cell that is not cubic: within 3 %."""
    chances, lengths = np.array([0.2, 0.05, 0.1]), np.array([2.0, 3.0, 4.0])
    draws = rng.random((4000, 300, 3))
    hops = np.cumsum(np.where(draws < chances / 2, -1, np.where(draws > 1 - chances / 2, 1, 0)), axis=0) * lengths
    one = diffusion(
        trajectory(hops + rng.normal(scale=0.2, size=hops.shape), "Li300", np.diag(5 * lengths)), drift="none"
    ).species[0]
    for axis, exact in zip("xyz", chances * lengths**2 / 2 / INTERVAL * 0.1, strict=True):
        assert one.along[axis].value == pytest.approx(exact, rel=0.03) and within(one.along[axis], exact, 3.5)


# --- the finite size of the cell ---------------------------------------------------------------------------------


def test_a_liquid_diffuses_faster_without_its_images(rng: np.random.Generator) -> None:
    result = diffusion(trajectory(walk(rng, 500, 30), "Ar30"), viscosity=0.5 * MPAS)
    one = result.species[0]
    rise = 2.837297 * constants.k * 600.0 / (6 * math.pi * 0.5e-3 * CELL * 1e-10) * 1e4  # cm²/s
    assert one.endless is not None
    assert one.endless.value - one.coefficient.value == pytest.approx(rise, rel=1e-6)
    assert one.endless.error == one.coefficient.error
    assert "Yeh–Hummer" in str(result) and result.to_json()["viscosity_mPa_s"] == pytest.approx(0.5)
    assert diffusion(trajectory(walk(rng, 500, 30), "Ar30")).species[0].endless is None  # never silently


def test_the_correction_is_refused_where_it_does_not_hold(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="periodic cubic cell"):
        diffusion(trajectory(walk(rng, 50, 4), "Ar4", [10.0, 10.0, 12.0]), viscosity=MPAS)
    with pytest.raises(InputError, match="positive number"):
        diffusion(trajectory(walk(rng, 50, 4), "Ar4"), viscosity=0.0)
    atoms = ase.Atoms("Ar4", cell=[CELL] * 3, pbc=True)
    unheated = from_arrays(walk(rng, 50, 4), atoms, interval=1.0, unwrapped=True)
    with pytest.raises(InputError, match="needs the temperature"):
        diffusion(unheated, viscosity=MPAS)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_tells_all_of_it(rng: np.random.Generator, tmp_path: Path) -> None:
    positions = np.concatenate([walk(rng, 400, 6, 0.2), walk(rng, 400, 6, 0.1)], axis=1)
    atoms = ase.Atoms("Li6Cl6", cell=[CELL] * 3, pbc=True)
    file = tmp_path / "frames.extxyz"
    frames = []
    for frame in positions:
        atoms.positions = frame
        frames.append(atoms.copy())
    ase.io.write(file, frames, format="extxyz")
    words = [
        "analyze", "diffusion", str(file), "--unwrapped", "--temperature", "600 K", "--charges", "Li=1,Cl=-1",
        "--interval", "100 fs", "--along", "1,1,0", "--viscosity", "1 mPa s", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    answer = mlmd(*words)
    assert answer.code == 0, answer.err
    for words_of_it in ("D_1,1,0", "Collective conductivity", "Haven ratio", "t(Li)", "Yeh–Hummer"):
        assert words_of_it in answer.out
    found = json.loads((tmp_path / "out" / "diffusion.json").read_text())
    assert found["transference"].keys() == {"Li", "Cl"}
    low, high = found["collective_conductivity_95"]
    assert 0.0 < low < found["collective_conductivity"]["value"] < high
    assert found["elements"]["Li"]["D_1,1,0"]["unit"] == "cm²/s"
