"""Van Hove functions: those of Brownian motion and of gases are known, and at time zero there is g(r)."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, walk, write_run

from mlmd.analysis import write
from mlmd.analysis.rdf import rdf
from mlmd.analysis.van_hove import van_hove
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

TRICLINIC = np.array([[11.0, 0.0, 0.0], [4.0, 10.0, 0.0], [-3.0, 4.0, 12.0]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_brownian_motion_is_gaussian_at_all_times(rng: np.random.Generator) -> None:
    step, n_atoms = 0.2, 100
    atoms = ase.Atoms(f"Ar{n_atoms}", cell=TRICLINIC, pbc=True)
    positions = rng.random((n_atoms, 3)) @ TRICLINIC + walk(rng, 2000, n_atoms, step)
    result = van_hove(
        from_arrays(positions, atoms, interval=10.0, unwrapped=True), lags=[40.0, 400.0], r_max=6.0, drift="none"
    )
    one = result.selves[0]
    for number, frames in enumerate((4, 40)):
        variance = frames * step**2
        upper, lower = (_chi3(r / np.sqrt(variance)) for r in (result.edges[1:], result.edges[:-1]))
        expected = (upper - lower) / (4 / 3 * np.pi * np.diff(result.edges**3))  # mean of the Gaussian over each bin
        seen = one.density_error[number] > 0.05 * one.density[number].max() * 1e-2
        deviation = (one.density[number] - expected)[seen] / one.density_error[number][seen]
        assert np.mean(deviation**2) < 3.0  # 1 for exact errors; those of ten blocks are themselves uncertain
        area = result.distances**2
        assert np.abs(area * (one.density[number] - expected)).max() < 0.15 * (area * expected).max()  # 200 independent
    sure = one.times <= 1000.0  # with ten blocks or more, whose errors are known to a quarter
    assert np.abs(one.non_gaussian / one.non_gaussian_error)[sure].max() < 5.0
    assert one.peak is None


def _chi3(x: np.ndarray) -> np.ndarray:
    """Probability that three Gaussian components are within a sphere of radius x."""
    from scipy.stats import chi

    return np.asarray(chi.cdf(x, 3))


def test_a_mixture_of_fast_and_slow_atoms_is_not_gaussian(rng: np.random.Generator) -> None:
    slow, fast = 0.1, 0.3
    steps = np.where(np.arange(200) < 100, slow, fast)[None, :, None]
    positions = np.cumsum(rng.normal(size=(1000, 200, 3)) * steps, axis=0)
    result = van_hove(from_arrays(positions, ase.Atoms("Ar200"), interval=1.0, unwrapped=True), drift="none")
    expected = 2 * (slow**4 + fast**4) / (slow**2 + fast**2) ** 2 - 1  # of two Gaussians in equal parts
    one = result.selves[0]
    short = one.times <= 20.0
    assert np.allclose(one.non_gaussian[short], expected, atol=0.05)
    assert one.peak is not None and one.peak.value == pytest.approx(expected, abs=0.1)
    assert result.distincts == () and "density" in result.notes[0]


def test_the_distinct_part_of_an_ideal_gas_is_one(rng: np.random.Generator) -> None:
    positions = rng.random((200, 50, 3)) @ TRICLINIC  # in every frame anew, so no atom knows where it was
    atoms = ase.Atoms("Li20Cl30", cell=TRICLINIC, pbc=True)
    result = van_hove(from_arrays(positions, atoms, interval=1.0, unwrapped=True), lags=[5.0], bin_width=0.5)
    away = result.distances > 1.5
    for pair in result.distincts:
        # G is 1; the one image that an atom has become is its self part, and what is left of it 1 - G_s/ρ
        own = 0.0 if pair.a != pair.b else next(one for one in result.selves if one.element == pair.a).density[0]
        n = {"Li": 20, "Cl": 30}[pair.b]
        expected = 1.0 - own * np.linalg.det(TRICLINIC) / n
        deviation = (pair.g[0] - expected)[away] / pair.g_error[0][away]
        assert np.mean(deviation**2) < 3.0 and np.abs((pair.g[0] - expected)[away]).max() < 0.1


@pytest.mark.parametrize("wrapped", [False, True], ids=["unwrapped", "wrapped"])
def test_atoms_that_stay_keep_their_radial_distribution_function(rng: np.random.Generator, wrapped: bool) -> None:
    fixed = rng.random((30, 3)) @ TRICLINIC
    shift = np.linspace(0, 15.0, 40)[:, None, None] * np.array([1.0, 0.3, 0.2])  # all go together: the cell's drift
    positions = fixed + shift
    if wrapped:
        reduced = positions @ np.linalg.inv(TRICLINIC)
        positions = (reduced - np.floor(reduced)) @ TRICLINIC
    trajectory = from_arrays(
        positions, ase.Atoms("Li10Cl20", cell=TRICLINIC, pbc=True), interval=1.0, unwrapped=not wrapped
    )
    result, known = van_hove(trajectory, lags=[3.0], r_max=9.03), rdf(trajectory, r_max=9.03, bin_width=0.1)
    for pair, g in zip(result.distincts, known.pairs, strict=True):
        assert pair.pair == g.pair and np.allclose(pair.g[0], g.g, atol=1e-9)
    assert all(np.isclose(one.density[0, 0] * 4 / 3 * np.pi * result.edges[1] ** 3, 1.0) for one in result.selves)


def test_an_atom_that_takes_the_place_of_another_is_seen_there(rng: np.random.Generator) -> None:
    """Two sites 3 Å apart that two atoms exchange: half of the time the other is where one was."""
    sites = np.array([[2.0, 5.0, 5.0], [5.0, 5.0, 5.0]])
    swapped = np.cumsum(rng.random(4000) < 0.5) % 2
    positions = np.where(swapped[:, None, None] == 1, sites[::-1], sites)
    atoms = ase.Atoms("Li2", cell=[10.0] * 3, pbc=True)
    result = van_hove(
        from_arrays(positions, atoms, interval=1.0, unwrapped=True), lags=[10.0], r_max=4.0, max_origins=2000
    )
    shells = 4 / 3 * np.pi * np.diff(result.edges**3)
    neighbours = result.distincts[0].g[0] * shells * 2 / 1000.0  # ρ_b = 2 / 1000 Å³
    assert neighbours[0] == pytest.approx(0.5, abs=0.05)  # coin tosses of 2,000 origins
    assert result.selves[0].density[0, 0] * shells[0] == pytest.approx(0.5, abs=0.05)
    assert neighbours[29:31].sum() == pytest.approx(0.5, abs=0.05)


def test_atoms_at_rest_have_a_picture_and_stay_where_they_are(rng: np.random.Generator, tmp_path: Path) -> None:
    fixed = np.broadcast_to(rng.random((12, 3)) @ TRICLINIC, (60, 12, 3))
    result = van_hove(from_arrays(fixed, ase.Atoms("Li12", cell=TRICLINIC, pbc=True), interval=1.0, unwrapped=True))
    write(result, tmp_path)
    (one,) = result.selves
    assert np.isnan(one.non_gaussian).all() and one.peak is None
    assert np.allclose(one.density[:, 0] * 4 / 3 * np.pi * result.edges[1] ** 3, 1.0)


def test_lags_and_bins_that_cannot_be_are_refused(rng: np.random.Generator) -> None:
    trajectory = from_arrays(
        walk(rng, 100, 5), ase.Atoms("Ar5", cell=[9.0] * 3, pbc=True), interval=1.0, unwrapped=True
    )
    with pytest.raises(InputError, match=r"0\.001 to 0\.049 ps"):
        van_hove(trajectory, lags=[60.0])
    with pytest.raises(InputError, match="0 < bin_width < r_max"):
        van_hove(trajectory, bin_width=20.0)
    with pytest.raises(InputError, match="at most 2e"):
        van_hove(trajectory, r_max=3000.0)


def test_the_command_writes_curves_numbers_and_a_picture(tmp_path: Path, rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Li8Cl8", positions=12.0 * rng.random((16, 3)), cell=[12.0] * 3, pbc=True)
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 3000),), atoms.positions + walk(rng, 301, 16))
    answer = mlmd("analyze", "van-hove", run, "--lag", "0.1 ps", "--lag", "1 ps", "--r-max", 5)
    assert answer.code == 0 and "largest α₂" in answer.out, answer.err
    data = json.loads((run / "analysis" / "van-hove.json").read_text(), parse_constant=pytest.fail)
    assert data["lags_ps"] == [0.1, 1.0] and data["pairs"] == ["Li–Li", "Li–Cl", "Cl–Cl"]
    header = (run / "analysis" / "van-hove.csv").read_text().splitlines()[0]
    assert header.startswith("r [Å],Gs Li 0.1 ps [1/Å^3],Gs Li 0.1 ps error,Gs Cl")
    assert (run / "analysis" / "van-hove.png").read_bytes().startswith(b"\x89PNG")
