"""Profiles along an axis: amounts are exact, interfaces are where they were put, and drift does not blur them."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from scipy.signal import lfilter

from mlmd import units
from mlmd.analysis.interface import find_slab
from mlmd.analysis.profile import Curve, ProfileResult, profile
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

CELL = np.array([[20.0, 0.0, 0.0], [5.0, 18.0, 0.0], [0.0, 0.0, 60.0]])
LOWER, UPPER, WIDTHS = 15.0, 40.0, (1.5, 2.5)
N_FRAMES = 200


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def heights(rng: np.random.Generator, shape: tuple[int, ...], outside: float = 0.1) -> np.ndarray:
    """Drawn from a slab of density 1 between tangents and `outside` beyond, by inversion of its integral."""
    z = np.linspace(0.0, 60.0, 60001)
    tangents = np.tanh((z - LOWER) / WIDTHS[0]) - np.tanh((z - UPPER) / WIDTHS[1])
    integral = np.cumsum(outside + 0.5 * (1.0 - outside) * tangents)
    return np.interp(rng.random(shape), integral / integral[-1], z)


def liquid(rng: np.random.Generator, n_atoms: int = 400) -> np.ndarray:
    """(n_frames, n_atoms, 3) of atoms that know nothing of each other, in a slab."""
    inside = rng.random((N_FRAMES, n_atoms, 3)) @ CELL
    inside[..., 2] = heights(rng, (N_FRAMES, n_atoms))
    return inside


def of(positions: np.ndarray, symbols: str, pbc: object = True, **options: object) -> ProfileResult:
    atoms = ase.Atoms(symbols, positions[0], cell=CELL, pbc=pbc)
    given = {"drift": "none"} | options
    return profile(from_arrays(positions, atoms, interval=1.0, unwrapped=True), **given)  # type: ignore[arg-type]


def curve(result: ProfileResult, name: str) -> Curve:
    (found,) = (one for one in result.curves if one.name == name)
    return found


def test_interfaces_are_found_within_their_errors(rng: np.random.Generator) -> None:
    slab = curve(of(liquid(rng), "Ar400"), "Ar").slab
    assert slab is not None
    truth = (LOWER, UPPER, *WIDTHS, UPPER - LOWER)
    for found, exact in zip(
        (slab.lower, slab.upper, slab.lower_width, slab.upper_width, slab.thickness), truth, strict=True
    ):
        assert abs(found.value - exact) < 4.0 * found.error  # the error is itself of ten parts
        assert found.error < 0.15
    area = np.linalg.norm(np.cross(CELL[0], CELL[1]))
    known = 400 / area / (25.0 + 0.1 * 35.0)  # ∫ of the profile, whose tangents move nothing from one side to the other
    assert abs(slab.inside.value - known) < 4.0 * slab.inside.error
    assert slab.outside.value == pytest.approx(0.1 * known, rel=0.1)


BINS = np.arange(0.125, 60.0, 0.25)


def wandering(rng: np.random.Generator, memory: float, n_frames: int) -> np.ndarray:
    """(n_frames, n_bins) a slab with noise, whose place, scattered by 1 Å, forgets itself in `memory` frames."""
    kept = np.exp(-1.0 / memory)
    places = lfilter([np.sqrt(1.0 - kept**2)], [1.0, -kept], rng.normal(size=n_frames + 1000))[1000:, None]
    tangents = np.tanh(BINS - 20.0 - places) - np.tanh(BINS - 40.0 - places)
    return 0.1 + 0.45 * tangents + 0.1 * rng.normal(size=(n_frames, len(BINS)))


def test_errors_of_interfaces_are_their_scatter_also_when_frames_remember_each_other(rng: np.random.Generator) -> None:
    found = []
    for _ in range(100):
        frames = wandering(rng, 5.0, 500)
        slab = find_slab(BINS, frames.mean(axis=0), frames - frames.mean(axis=0), "1/Å³", 60.0)
        assert slab is not None
        found.append(slab)
    for name in ("lower", "upper", "thickness"):
        values = [getattr(one, name) for one in found]
        scatter = np.std([one.value for one in values])
        claimed = np.sqrt(np.mean([one.error**2 for one in values]))
        assert claimed == pytest.approx(scatter, rel=0.25)  # 7 % of a scatter of 100; errors of 50 independent frames
    assert found[0].thickness.error < 0.2 * found[0].lower.error  # the noise alone: both interfaces move as one


def test_an_error_is_not_known_where_frames_remember_each_other_too_long(rng: np.random.Generator) -> None:
    unknown = 0
    for _ in range(100):
        frames = wandering(rng, 50.0, 200)
        slab = find_slab(BINS, frames.mean(axis=0), frames - frames.mean(axis=0), "1/Å³", 60.0)
        assert slab is not None
        unknown += np.isnan(slab.lower.error)
    assert unknown > 70  # two independent frames; one trajectory in six does not look like it


def test_the_result_says_where_errors_are_not_known(rng: np.random.Generator) -> None:
    place = np.linspace(0.0, 3.0, N_FRAMES)[:, None]  # it drifts from the beginning to the end
    positions = liquid(rng)
    positions[..., 2] += place
    result = of(positions, "Ar400")
    slab = curve(result, "Ar").slab
    assert slab is not None and np.isnan(slab.lower.error) and "(?)" in str(result)
    assert any("frames remember each other" in note for note in result.notes)
    assert any("2 frames are too few" in note for note in of(positions[:2], "Ar400").notes)


def test_a_step_between_two_bins_has_no_error(rng: np.random.Generator) -> None:
    positions = rng.random((N_FRAMES, 400, 3)) * [1.0, 1.0, 0.5] @ CELL
    result = of(positions, "Ar400")
    slab = curve(result, "Ar").slab
    assert slab is not None and slab.sharp == (True, True)
    assert all(np.isnan(one.error) for one in (slab.lower, slab.upper_width, slab.thickness))
    assert slab.inside.error > 0.0 and slab.thickness.value == pytest.approx(30.0, abs=0.25)
    assert any("lies between two bins" in note for note in result.notes)
    assert not any("remember each other" in note for note in result.notes)
    assert set(result.to_json()["interfaces"]["Ar"]) == {
        "lower", "upper", "lower_width", "upper_width", "thickness", "inside", "outside"
    }  # fmt: skip


def test_a_left_handed_cell_is_not_upside_down(rng: np.random.Generator) -> None:
    cell = np.array([[0.0, 20.0, 0.0], [20.0, 0.0, 0.0], [0.0, 0.0, 40.0]])
    frames = rng.random((20, 400, 3)) * [20.0, 20.0, 10.0] + [0.0, 0.0, 5.0]
    atoms = ase.Atoms("Ar400", frames[0], cell=cell, pbc=(True, True, False))
    result = profile(from_arrays(frames, atoms, interval=1.0, unwrapped=True), drift="none")
    assert result.heights[0] > 4.0 and result.heights[-1] < 16.0


def test_a_slab_across_the_border_of_the_cell_is_the_same_slab(rng: np.random.Generator) -> None:
    positions = liquid(rng)
    one, other = (curve(of(positions + np.array([0.0, 0.0, shift]), "Ar400"), "Ar").slab for shift in (0.0, 30.0))
    assert one is not None and other is not None
    assert other.thickness.value == pytest.approx(one.thickness.value, abs=1e-3)
    assert (other.lower.value - one.lower.value - 30.0) % 60.0 == pytest.approx(0.0, abs=1e-3)


def test_no_interface_is_found_where_there_is_none(rng: np.random.Generator) -> None:
    result = of(rng.random((N_FRAMES, 400, 3)) @ CELL, "Ar400")
    assert [one.slab for one in result.curves] == [None] * len(result.curves)
    assert "no interfaces" in str(result)
    layered = np.tile(ase.build.fcc100("Ar", (5, 4, 20), a=6.0, orthogonal=True).positions, (N_FRAMES, 1, 1))
    result = of(layered + 0.2 * rng.normal(size=layered.shape), "Ar400")
    assert [one.slab for one in result.curves] == [None] * len(result.curves)  # 20 layers are not a slab of the cell


def test_every_atom_and_charge_is_counted_once(rng: np.random.Generator) -> None:
    positions = liquid(rng)
    result = of(positions, "Na200Cl200", charges={"Na": 1.0, "Cl": -0.5})
    step = result.heights[1] - result.heights[0]
    area = np.linalg.norm(np.cross(CELL[0], CELL[1]))
    amounts = {one.name: one.values.sum() * step * area for one in result.curves if one.unit != ""}
    masses = ase.Atoms("Na200Cl200").get_masses().sum()
    assert amounts["Na"] == pytest.approx(200) and amounts["Cl"] == pytest.approx(200)
    assert amounts["charge"] == pytest.approx(100)
    assert amounts["mass"] == pytest.approx(masses * units.DENSITY)
    fractions = curve(result, "fraction of Na").values + curve(result, "fraction of Cl").values
    assert np.allclose(fractions, 1.0)


def test_drift_does_not_blur_an_interface_and_is_told(rng: np.random.Generator) -> None:
    positions = liquid(rng)
    moving = positions + np.linspace(0.0, 25.0, N_FRAMES)[:, None, None] * [0.0, 0.0, 1.0]
    moving[..., 2] -= moving[..., 2].mean(axis=1, keepdims=True) - np.linspace(30.0, 55.0, N_FRAMES)[:, None]
    result, blurred = of(moving, "Ar400", drift="cell"), of(moving, "Ar400")
    slab, blur = curve(result, "Ar").slab, curve(blurred, "Ar").slab
    assert slab is not None
    assert slab.lower_width.value == pytest.approx(WIDTHS[0], abs=0.5)
    assert blur is None or blur.lower_width.value > 4.0
    assert any("moved over 25 Å along z" in note for note in result.notes)


def test_a_vacuum_that_does_not_repeat_has_a_profile_too(rng: np.random.Generator) -> None:
    positions = liquid(rng)
    result = of(positions, "Ar400", pbc=(True, True, False))
    slab = curve(result, "Ar").slab
    assert result.period is None and slab is not None
    assert abs(slab.upper.value - UPPER) < 4.0 * slab.upper.error


def test_order_tells_a_crystal_from_a_gas(rng: np.random.Generator) -> None:
    crystal = ase.build.bulk("Cu", "fcc", 3.6, cubic=True).repeat((4, 4, 6))
    crystal.cell[2, 2] *= 2.0
    gas = rng.random((len(crystal), 3)) * [14.4, 14.4, 19.0] + [0.0, 0.0, 22.5]
    atoms = ase.Atoms(f"Cu{2 * len(crystal)}", np.concatenate([crystal.positions, gas]), cell=crystal.cell, pbc=True)
    frames = atoms.positions + 0.05 * rng.normal(size=(4, len(atoms), 3))
    trajectory = from_arrays(frames, atoms, interval=1.0, unwrapped=True)
    slab = curve(profile(trajectory, order=True, bin_width=1.8, drift="none"), "order").slab
    assert slab is not None and slab.inside.value == pytest.approx(1.0, abs=0.1)
    assert slab.thickness.value == pytest.approx(19.8 - 1.8, abs=1.8)  # its outermost layers have other neighbours
    assert abs(slab.outside.value) < 0.1


def test_what_has_no_profile_is_refused(rng: np.random.Generator) -> None:
    positions = liquid(rng)[:2]
    with pytest.raises(InputError, match="needs an area"):
        of(positions, "Ar400", pbc=(True, False, True))
    with pytest.raises(InputError, match="none is given for Cl"):
        of(positions, "Na200Cl200", charges={"Na": 1.0})
    with pytest.raises(InputError, match="no 'K'"):
        of(positions, "Ar400", charges={"K": 1.0})
    with pytest.raises(InputError, match="bin_width"):
        of(positions, "Ar400", bin_width=50.0)


def test_the_command_takes_files_of_other_programs(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = [ase.Atoms("Ar400", one, cell=CELL, pbc=True) for one in liquid(rng)[:20]]
    ase.io.write(tmp_path / "slab.extxyz", frames, format="extxyz")
    given = ("--unwrapped", "--interval", "1 ps", "--drift", "none", "--bin", 0.5, "--out", tmp_path / "a")
    answer = mlmd("analyze", "profile", tmp_path / "slab.extxyz", *given)
    assert answer.code == 0, answer.err
    assert "beyond" in answer.out and "g/cm³" in answer.out
    data = json.loads((tmp_path / "a" / "profile.json").read_text())
    assert data["interfaces"]["Ar"]["lower"]["value"] == pytest.approx(LOWER, abs=1.0)
    assert (tmp_path / "a" / "profile.csv").read_text().startswith("z [Å],mass [g/cm³],mass error")
    assert (tmp_path / "a" / "profile.png").exists()
