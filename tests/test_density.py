"""Probability densities: they add up to the atoms, are where the atoms are, and other programs read their files."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.io.cube import read_cube
from command_line import mlmd
from made_runs import stage, walk, write_run

from mlmd.analysis import write
from mlmd.analysis.density import density, smoothed
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

TRICLINIC = np.array([[11.0, 0.0, 0.0], [4.0, 10.0, 0.0], [-3.0, 4.0, 12.0]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(21)


def test_the_density_of_a_vibrating_atom_is_a_gaussian_at_its_place(rng: np.random.Generator) -> None:
    centre, width = np.array([0.95, 0.1, 0.5]), 0.8  # its cloud crosses two faces of the cell
    positions = centre @ TRICLINIC + rng.normal(scale=width, size=(60000, 1, 3))
    trajectory = from_arrays(positions, ase.Atoms("Li", cell=TRICLINIC, pbc=True), interval=1.0, unwrapped=True)
    one = density(trajectory, spacing=0.5, drift="none").elements[0]
    reduced = np.stack(np.meshgrid(*(np.arange(n) / n for n in one.values.shape), indexing="ij"), axis=-1) - centre
    images = np.array(list(np.ndindex(3, 3, 3))) - 1.0
    squares = np.min(
        [np.sum(((reduced - np.rint(reduced) + image) @ TRICLINIC) ** 2, axis=-1) for image in images], axis=0
    )
    # the mean of a Gaussian over a voxel of 0.5 Å is that of one wider by 0.5² / 12
    widened = width**2 + 0.25 / 12
    expected = (2 * np.pi * widened) ** -1.5 * np.exp(-0.5 * squares / widened)
    seen = expected > 0.1 * expected.max()
    assert np.mean(((one.values - expected)[seen] / one.error[seen]) ** 2) < 3.0  # 1 for exact errors of ten parts
    assert np.abs(one.values - expected).max() < 0.15 * expected.max()  # four errors of 740 counts
    assert one.volume == pytest.approx(4 / 3 * np.pi * (2.5003 * width) ** 3, rel=0.05)  # χ of 3: 90 % within 2.5003 σ


def test_a_density_adds_up_to_the_atoms(rng: np.random.Generator) -> None:
    positions = rng.random((50, 12, 3)) @ TRICLINIC + rng.integers(-4, 4, size=(50, 12, 3)) @ TRICLINIC
    trajectory = from_arrays(positions, ase.Atoms("Li5Cl7", cell=TRICLINIC, pbc=True), interval=1.0, unwrapped=True)
    for smooth in (0.0, 0.4):
        for one in density(trajectory, spacing=0.4, smooth=smooth, drift="none").elements:
            voxel = np.linalg.det(TRICLINIC) / one.values.size
            assert one.values.sum() * voxel == pytest.approx(one.n_atoms, rel=1e-6)
            assert all(profile[:, 0].mean() == pytest.approx(one.n_atoms / 1320.0) for profile in one.profiles)


def test_smoothing_folds_with_a_gaussian_in_any_cell() -> None:
    point = np.zeros((44, 40, 48))
    point[0, 0, 0] = 1.0
    field = smoothed(point, TRICLINIC, 0.7)
    fractions = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in point.shape), indexing="ij"), axis=-1)
    squares = np.sum((fractions @ TRICLINIC) ** 2, axis=-1)
    voxel = np.linalg.det(TRICLINIC) / point.size
    assert np.allclose(field, voxel * (2 * np.pi * 0.49) ** -1.5 * np.exp(-0.5 * squares / 0.49), atol=1e-9)


def test_the_drift_of_the_framework_and_the_breathing_of_the_cell_smear_nothing(rng: np.random.Generator) -> None:
    scales = 1.0 + 0.02 * rng.normal(size=200)
    cells = TRICLINIC * scales[:, None, None]
    reduced = rng.random((9, 3))
    drift = np.cumsum(rng.normal(scale=0.01, size=(200, 1, 3)), axis=0)
    trajectory = from_arrays(
        (reduced + drift - drift[0]) @ cells, ase.Atoms("LiCl8", cell=TRICLINIC, pbc=True), interval=1.0,
        unwrapped=True, cells=cells,
    )  # fmt: skip
    result = density(trajectory, elements=["Li"], drift=["Cl"])
    one = result.elements[0]
    assert np.count_nonzero(one.values) <= 2  # of rounding on the border of two voxels
    nearest = np.rint(reduced[0] * one.values.shape) / one.values.shape
    assert np.abs(np.subtract(one.peak_place, nearest)).max() <= 1.01 / min(one.values.shape)
    assert np.allclose(result.cell, TRICLINIC * scales.mean()) and len(result.framework) == 9


def test_ase_reads_the_cube_file(rng: np.random.Generator, tmp_path: Path) -> None:
    positions = 11.0 * rng.random((10, 3)) + rng.normal(scale=0.3, size=(40, 10, 3))
    trajectory = from_arrays(positions, ase.Atoms("Li4Cl6", cell=TRICLINIC, pbc=True), interval=1.0, unwrapped=True)
    result = density(trajectory, elements=["Li"], spacing=0.7)
    write(result, tmp_path)
    with (tmp_path / "density-Li.cube").open() as file:
        read = read_cube(file)
    assert np.allclose(read["data"], result.elements[0].values, rtol=1e-5, atol=1e-12)
    # seven decimals of a voxel's edge in Bohr, times the number of voxels
    assert np.allclose(read["atoms"].cell.array, TRICLINIC, atol=1e-4)
    assert np.allclose(read["origin"], 0.0)
    assert np.array_equal(read["atoms"].numbers, result.framework.numbers)
    assert np.allclose(read["atoms"].positions, result.framework.positions, atol=1e-5)
    voxel = read["atoms"].get_volume() / read["data"].size
    assert read["data"].sum() * voxel == pytest.approx(4.0, rel=1e-4)


def test_one_frame_has_a_density_too(rng: np.random.Generator, tmp_path: Path) -> None:
    atoms = ase.Atoms("Li6", positions=9.0 * rng.random((6, 3)), cell=[9.0] * 3, pbc=True)
    result = density(from_arrays(atoms.positions[None], atoms, interval=1.0, unwrapped=True), elements=["Li"])
    write(result, tmp_path)
    (one,) = result.elements
    assert one.values.sum() * 9.0**3 / one.values.size == pytest.approx(6.0)


def test_grids_that_cannot_be_are_refused(rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Ar5", cell=TRICLINIC, pbc=True)
    trajectory = from_arrays(rng.random((20, 5, 3)), atoms, interval=1.0, unwrapped=True)
    with pytest.raises(InputError, match=r"spacing of 0\.05 Å or more"):
        density(trajectory, spacing=0.01)
    with pytest.raises(InputError, match="spacing > 0"):
        density(trajectory, spacing=0.0)
    open_cell = from_arrays(rng.random((20, 5, 3)), ase.Atoms("Ar5"), interval=1.0, unwrapped=True)
    with pytest.raises(InputError, match="periodic in all three"):
        density(open_cell)


def test_the_command_writes_a_cube_file_beside_the_rest(tmp_path: Path, rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Li8Cl8", positions=12.0 * rng.random((16, 3)), cell=[12.0] * 3, pbc=True)
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 3000),), atoms.positions + walk(rng, 301, 16, 0.02))
    answer = mlmd("analyze", "density", run, "--element", "Li", "--spacing", "0.5 Å", "--drift", "Cl")
    assert answer.code == 0 and "density-Li.cube" in answer.out, answer.err
    data = json.loads((run / "analysis" / "density.json").read_text(), parse_constant=pytest.fail)
    assert data["elements"]["Li"]["grid"] == [24, 24, 24] and data["drift"] == ["Cl"]
    for name in ("density-Li.cube", "density.csv", "density.png"):
        assert (run / "analysis" / name).stat().st_size > 0
