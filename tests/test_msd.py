"""Mean squared displacements: exact sums, and displacements that mean something when the cell changes."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import ase
import numpy as np
import pytest
from made_runs import walk
from scipy.fft import dct

from mlmd.analysis import msd as msd_module
from mlmd.analysis.einstein import N_WAVES
from mlmd.analysis.msd import mean_squared_displacements
from mlmd.analysis.unwrap import unwrapped
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.io.trajectories import from_arrays

CUBE = np.eye(3) * 10.0
TRICLINIC = np.array([[11.0, 0.0, 0.0], [3.0, 10.0, 0.0], [-2.0, 4.0, 12.0]])
STEP = 0.1
"""Å per frame and axis."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def trajectory(
    positions: np.ndarray, *, symbols: str | None = None, cell: np.ndarray = CUBE, unwrapped: bool = True,
    cells: np.ndarray | None = None,
) -> Trajectory:  # fmt: skip
    atoms = ase.Atoms(symbols or f"Ar{positions.shape[1]}", cell=cell, pbc=True)
    return from_arrays(positions, atoms, interval=10.0, unwrapped=unwrapped, cells=cells)


def brute_force(positions: np.ndarray) -> np.ndarray:
    """Every pair of frames, (n_frames, 3) Å²."""
    lags = range(1, len(positions))
    return np.array([np.zeros(3), *(((positions[m:] - positions[:-m]) ** 2).mean(axis=(0, 1)) for m in lags)])


def test_all_pairs_of_frames_are_averaged(rng: np.random.Generator) -> None:
    positions = walk(rng, 301, 17, STEP) + 50.0 * rng.random((17, 3))
    msd = mean_squared_displacements(trajectory(positions), drift="none")["Ar"]
    expected = brute_force(positions)
    # The sums are of squares of up to 10 Å² and lose 1e-16 of that, divided by one pair at the longest lag.
    assert np.abs(msd.values - expected).max() < 1e-11
    assert np.array_equal(msd.times, 10.0 * np.arange(301))
    windows = msd.windows["y"]
    assert np.allclose(windows.mean, expected[windows.lags, 1], rtol=1e-9)
    displacements = ((positions[3:, :, 1] - positions[:-3, :, 1]) ** 2).mean(axis=1)
    cosines = dct(displacements, type=2)[1 : N_WAVES + 1] / (math.sqrt(2.0) * len(displacements))
    assert np.allclose(windows.waves[windows.lags == 3], cosines, rtol=1e-9)


def test_ballistic_motion_gives_the_square_of_the_distance(rng: np.random.Generator) -> None:
    velocities = rng.normal(size=(5, 3))
    positions = velocities * np.arange(50)[:, None, None]
    msd = mean_squared_displacements(trajectory(positions), drift="none")["Ar"]
    expected = np.arange(50)[:, None] ** 2 * (velocities**2).mean(axis=0)
    assert np.allclose(msd.values, expected, rtol=1e-10, atol=1e-9)


def test_walkers_diffuse_at_the_rate_of_their_steps(rng: np.random.Generator) -> None:
    n_frames, n_atoms = 400, 200
    msd = mean_squared_displacements(trajectory(walk(rng, n_frames, n_atoms, STEP)), drift="none")["Ar"]
    expected = 3 * STEP**2 * np.arange(n_frames)
    lags = np.array([1, 10, 50])
    error = expected[lags] * np.sqrt(4 * lags / (9 * n_atoms * (n_frames - lags)))  # overlapping windows, Qian 1991
    error[0] = expected[1] * np.sqrt(2 / (3 * n_atoms * (n_frames - 1)))
    assert np.all(np.abs(msd.total[lags] - expected[lags]) < 4 * error)


@pytest.mark.parametrize("limit", ["READ_BYTES", "TRANSFORM_BYTES"])
def test_blocks_of_atoms_give_what_all_at_once_give(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    positions = walk(rng, 60, 23, STEP)
    whole = mean_squared_displacements(trajectory(positions))["Ar"]
    monkeypatch.setattr(msd_module, limit, 5 * 24 * 60)
    parts = mean_squared_displacements(trajectory(positions))["Ar"]
    assert np.allclose(whole.values, parts.values, rtol=1e-12, atol=1e-13)
    assert np.allclose(whole.windows["xyz"].waves, parts.windows["xyz"].waves, rtol=1e-9)


def test_paths_of_one_block_of_atoms_are_in_memory_at_once(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = walk(rng, 400, 1500, STEP)
    monkeypatch.setattr(msd_module, "READ_BYTES", 6e6)
    monkeypatch.setattr(msd_module, "TRANSFORM_BYTES", 2e5)
    monkeypatch.setattr("mlmd.io.frames.CHUNK_BYTES", 2e5)
    tracemalloc.start()
    mean_squared_displacements(trajectory(positions), drift="none")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert positions.nbytes > 14e6
    assert peak < 8e6  # a block, and chunks and transforms besides it; two blocks are 12 MB


def test_elements_are_told_apart(rng: np.random.Generator) -> None:
    positions = np.concatenate([walk(rng, 40, 3, 1.0), walk(rng, 40, 5, 0.1)], axis=1)
    msds = mean_squared_displacements(trajectory(positions, symbols="Li3Cl5"), drift="none")
    assert {name: one.n_atoms for name, one in msds.items()} == {"Li": 3, "Cl": 5}
    assert np.allclose(msds["Li"].values, brute_force(positions[:, :3]), atol=1e-9)
    assert np.allclose(msds["Cl"].values, brute_force(positions[:, 3:]), atol=1e-11)


def test_the_centre_of_mass_does_not_diffuse(rng: np.random.Generator) -> None:
    positions, common = walk(rng, 50, 6, STEP), walk(rng, 50, 1, 5.0)
    still = trajectory(positions, symbols="Li2Cl4")
    carried = trajectory(positions + common, symbols="Li2Cl4")
    for element, expected in mean_squared_displacements(still).items():
        assert np.allclose(mean_squared_displacements(carried)[element].values, expected.values, atol=1e-9)
    one = ase.Atoms("LiCl", cell=CUBE, pbc=True)
    opposite = np.zeros((30, 2, 3))
    opposite[:, 0, 0] = np.arange(30.0)
    opposite[:, 1, 0] = -np.arange(30.0) * one.get_masses()[0] / one.get_masses()[1]
    balanced = mean_squared_displacements(from_arrays(opposite, one, interval=1.0, unwrapped=True))["Li"]
    assert balanced.total[10] == pytest.approx(100.0, rel=1e-9)  # nothing to take off: the centre of mass rests


def test_a_framework_can_be_what_is_at_rest(rng: np.random.Generator) -> None:
    positions, common = walk(rng, 50, 6, STEP), walk(rng, 50, 1, 5.0)
    positions[:, 2:] = 0.0
    msds = mean_squared_displacements(trajectory(positions + common, symbols="Li2Cl4"), drift=["Cl"])
    assert np.allclose(msds["Li"].values, brute_force(positions[:, :2]), atol=1e-9)
    assert np.abs(msds["Cl"].values).max() < 1e-9
    with pytest.raises(InputError, match="no 'P'"):
        mean_squared_displacements(trajectory(positions, symbols="Li2Cl4"), drift=["P"])


@pytest.mark.parametrize("cell", [CUBE, TRICLINIC], ids=["cubic", "triclinic"])
def test_wrapped_positions_are_followed_across_the_border(rng: np.random.Generator, cell: np.ndarray) -> None:
    positions = walk(rng, 300, 8, 0.5) + 10.0 * rng.random((8, 3))
    reduced = positions @ np.linalg.inv(cell)
    wrapped = (reduced - np.floor(reduced)) @ cell
    assert np.abs(wrapped - positions).max() > 10.0
    followed = trajectory(wrapped, cell=cell, unwrapped=False)
    assert np.allclose(
        mean_squared_displacements(followed, drift="none")["Ar"].values, brute_force(positions), atol=1e-8
    )


def test_wrapped_positions_are_followed_from_chunk_to_chunk(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlmd.io.frames.CHUNK_BYTES", 24 * 8 * 7)
    test_wrapped_positions_are_followed_across_the_border(rng, TRICLINIC)


def test_wrapped_positions_that_cannot_be_followed_are_refused(rng: np.random.Generator) -> None:
    wrapped = trajectory(10.0 * rng.random((20, 8, 3)), unwrapped=False)
    with pytest.raises(InputError, match="do not tell where they went"):
        mean_squared_displacements(wrapped)


def test_wrapped_positions_that_were_said_to_be_unwrapped_are_refused(rng: np.random.Generator) -> None:
    positions = walk(rng, 300, 8, 0.5)
    assert mean_squared_displacements(trajectory(positions))
    for pressed in (1.0, 1.01):  # of a cell that keeps its size, and of one that does not
        cells = CUBE * np.linspace(1.0, pressed, len(positions))[:, None, None]
        wrapped = trajectory(positions % 10.0, cells=None if pressed == 1.0 else cells)
        with pytest.raises(InputError, match=r"are wrapped.*--wrapped"):
            mean_squared_displacements(wrapped)


# --- under a barostat -------------------------------------------------------------------------------------------


def breathing(rng: np.random.Generator, n_frames: int, strain: float) -> np.ndarray:
    """Triclinic cells (n_frames, 3, 3) Å that fluctuate around `TRICLINIC`, every component for itself."""
    return TRICLINIC * 2.0 + strain * 20.0 * rng.normal(size=(n_frames, 3, 3)) * (TRICLINIC != 0.0)


def brownian_in(rng: np.random.Generator, cells: np.ndarray, n_atoms: int, cells_away: float) -> np.ndarray:
    """Random walks whose positions are scaled with the cell as a barostat does it; unwrapped, far from home."""
    reduced = cells_away * rng.normal(size=(n_atoms, 3))
    positions = [reduced @ cells[0]]
    for cell in cells[1:]:
        reduced = reduced + rng.normal(scale=STEP, size=(n_atoms, 3)) @ np.linalg.inv(cell)
        positions.append(reduced @ cell)
    return np.array(positions)


def toroidal(positions: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The scheme of Bullerjahn et al. 2023 as they write it: Cartesian displacements of wrapped positions, added up."""
    reduced = np.einsum("tai,tij->taj", positions, np.linalg.inv(cells))
    wrapped = np.einsum("tai,tij->taj", reduced - np.floor(reduced), cells)
    steps = np.diff(wrapped, axis=0)
    images = np.floor(np.einsum("tai,tij->taj", steps, np.linalg.inv(cells[1:])) + 0.5)
    steps -= np.einsum("tai,tij->taj", images, cells[1:])
    return np.concatenate([wrapped[:1], wrapped[0] + np.cumsum(steps, axis=0)])


def relative(positions: np.ndarray) -> np.ndarray:
    return positions - positions.mean(axis=1, keepdims=True)


def slope(positions: np.ndarray) -> float:
    """Of the MSD between lags 20 and 100, over that of the walk."""
    moved = relative(positions)
    short, long = (((moved[lag:] - moved[:-lag]) ** 2).sum(axis=2).mean() for lag in (20, 100))
    return float((long - short) / 80 / (3 * STEP**2))


@pytest.mark.parametrize("wrapped", [False, True], ids=["unwrapped", "wrapped"])
def test_under_a_barostat_walkers_keep_their_diffusion_coefficient(rng: np.random.Generator, wrapped: bool) -> None:
    n_frames, n_atoms = 600, 300
    cells = breathing(rng, n_frames, strain=0.002)
    positions = brownian_in(rng, cells, n_atoms, cells_away=20.0)
    if wrapped:
        reduced = np.einsum("tai,tij->taj", positions, np.linalg.inv(cells))
        stored = np.einsum("tai,tij->taj", reduced - np.floor(reduced), cells)
    else:
        stored = positions
    npt = trajectory(stored, cell=cells[0], cells=cells, unwrapped=not wrapped)
    followed = np.concatenate(list(unwrapped(npt)))
    # Error of the slope over 80 frames for overlapping windows: about sqrt(4 · 80 / (9 · n_atoms · n_frames)) = 1.4 %.
    assert slope(followed) == pytest.approx(1.0, abs=0.05)
    assert slope(followed) == pytest.approx(slope(toroidal(positions, cells)), abs=0.01)
    msd = mean_squared_displacements(npt)["Ar"].total
    assert msd[1] == pytest.approx(3 * STEP**2 * (1 - 1 / n_atoms), rel=0.01)
    # The stored positions themselves would not do: the noise of the cell is many steps large.
    assert (np.diff(relative(positions), axis=0) ** 2).sum(axis=2).mean() > 20 * 3 * STEP**2


def test_a_crystal_under_a_barostat_does_not_diffuse(rng: np.random.Generator) -> None:
    n_frames, n_atoms, vibration = 2000, 200, 0.2
    cells = breathing(rng, n_frames, strain=0.002)
    reduced = rng.random((n_atoms, 3)) + rng.normal(scale=vibration, size=(n_frames, n_atoms, 3)) @ np.linalg.inv(
        cells[0]
    )
    positions = np.einsum("tai,tij->taj", reduced, cells)
    npt = trajectory(positions, cell=cells[0], cells=cells)
    msd = mean_squared_displacements(npt)["Ar"].total
    plateau = 6 * vibration**2 * (1 - 1 / n_atoms)
    assert np.allclose(msd[[1, 10, 100, 1000]], plateau, rtol=0.01)
    # Added Cartesian displacements let atoms on the border walk with it: why they are not what is added up here.
    walked = relative(toroidal(positions, cells))
    assert ((walked[1000:] - walked[:-1000]) ** 2).sum(axis=2).mean() > 1.1 * plateau


# --- what is refused --------------------------------------------------------------------------------------------


def test_too_few_frames_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=r"has 9 frames; .* at least 10"):
        mean_squared_displacements(trajectory(walk(rng, 9, 3)))


def test_one_atom_is_not_its_own_reference(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match='drift = "none"'):
        mean_squared_displacements(trajectory(walk(rng, 20, 1)))
    assert mean_squared_displacements(trajectory(walk(rng, 20, 1)), drift="none")["Ar"].total[1] > 0.0


def test_unequal_intervals_are_refused(rng: np.random.Generator, replace_times: Callable[..., Trajectory]) -> None:
    with pytest.raises(InputError, match="not at equal intervals"):
        mean_squared_displacements(replace_times(trajectory(walk(rng, 20, 3)), np.arange(20.0) ** 2))


@pytest.fixture
def replace_times() -> Callable[..., Trajectory]:
    from dataclasses import replace

    return lambda one, times: replace(one, times=times)
