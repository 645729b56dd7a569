"""Rotation of groups: rigid tetrahedra that turn as is known."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, write_run
from scipy.spatial.transform import Rotation

from mlmd.analysis.rotation import RotationResult, rotation
from mlmd.analysis.turns import find_turns
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

BOND = 2.05
"""Å, of P–S in PS4."""
TETRAHEDRON = BOND / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
CELL = np.array([[16.0, 0, 0], [5.0, 15.0, 0], [-4.0, 6.0, 17.0]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(41)


def diffusing(rng: np.random.Generator, n_frames: int, n_groups: int, step: float) -> list[Rotation]:
    """Orientations that make small isotropic steps, `step` radians along each axis, frame after frame."""
    now = Rotation.random(n_groups, rng=rng)
    path = []
    for _ in range(n_frames):
        path.append(now)
        now = Rotation.from_rotvec(rng.normal(scale=step, size=(n_groups, 3))) * now
    return path


def groups(rng: np.random.Generator, path: list[Rotation], wrapped: bool = False) -> tuple[np.ndarray, ase.Atoms]:
    """PS4 with these orientations on a coarse grid in a skewed cell."""
    n = len(path[0])
    grid = np.array([[x, y, z] for x in (0.1, 0.6) for y in (0.0, 0.5) for z in (0.3, 0.8)])[:n] @ CELL
    ligands = np.array([np.stack([one.apply(arm) for arm in TETRAHEDRON], axis=1) for one in path])
    positions = np.concatenate([np.zeros((len(path), n, 1, 3)), ligands], axis=2) + grid[:, None]
    positions = positions.reshape(len(path), 5 * n, 3)
    if wrapped:
        reduced = positions @ np.linalg.inv(CELL)
        positions = (reduced - np.floor(reduced)) @ CELL
    return positions, ase.Atoms(["P", "S", "S", "S", "S"] * n, cell=CELL, pbc=True)


def of(positions: np.ndarray, atoms: ase.Atoms, unwrapped: bool = True, **options: float) -> RotationResult:
    trajectory = from_arrays(positions, atoms, interval=100.0, unwrapped=unwrapped)
    return rotation(trajectory, center="P", ligand="S", cutoff=2.6, **options)


def test_tetrahedra_in_rotational_diffusion_relax_as_debye_has_it(rng: np.random.Generator) -> None:
    """C_l = exp(-l (l + 1) D_r t) (P. Debye, Polar Molecules, 1929)."""
    step = 0.08
    positions, atoms = groups(rng, diffusing(rng, 8000, 8, step))
    result = of(positions, atoms)
    decay = step**2 / 2  # D_r per frame: the mean of P_l over a step s is 1 - l(l+1) <s²>/6, but for fourth powers
    for one, order in zip(result.relaxations, (1, 2), strict=True):
        tau = 0.1 / (order * (order + 1) * decay)
        assert abs(one.time.value - tau) < 4 * one.time.error < 0.5 * tau
        assert one.amplitude == pytest.approx(1.0, abs=0.05)
        exact = np.exp(-result.lags / 1e3 / tau)
        early = (result.lags > 0) & (result.lags < 3e3 * tau)
        assert np.abs((one.values - exact)[early] / one.errors[early]).max() < 5.0  # eight groups, many lags
    assert "8 with 4" in result.notes[0]


def test_a_libration_before_the_turns_is_not_taken_for_them(rng: np.random.Generator) -> None:
    slow = diffusing(rng, 8000, 8, 0.05)
    libration, shaken = np.zeros((8, 3)), []
    for one in slow:  # remembered for ten frames
        libration = 0.9 * libration + rng.normal(scale=0.15 * np.sqrt(1 - 0.81), size=(8, 3))
        shaken.append(Rotation.from_rotvec(libration) * one)
    result = of(*groups(rng, shaken))
    tau = 0.1 / (2 * 0.05**2 / 2)
    first = result.relaxations[0]
    assert abs(first.time.value - tau) < 4 * first.time.error < 0.6 * tau
    assert first.amplitude == pytest.approx(
        np.exp(-2 * 0.15**2), abs=0.03
    )  # of two librations that know nothing of each other


@pytest.mark.parametrize("wrapped", [False, True], ids=["unwrapped", "wrapped"])
def test_bonds_across_the_border_of_a_skewed_cell_are_bonds(rng: np.random.Generator, wrapped: bool) -> None:
    path = diffusing(rng, 300, 8, 0.1)
    positions, atoms = groups(rng, path, wrapped)
    result = of(positions, atoms, unwrapped=not wrapped)
    direct = np.array([np.stack([one.apply(arm) for arm in TETRAHEDRON], axis=1) for one in path]) / BOND
    lag = int(result.lags[12] / 100.0)
    assert lag < 32  # every origin counts
    cosine = np.mean(np.sum(direct[lag:] * direct[:-lag], axis=-1))
    assert result.relaxations[0].values[12] == pytest.approx(cosine, abs=1e-6)  # directions in single precision


def test_turns_that_are_held_are_events_and_looks_are_none(rng: np.random.Generator) -> None:
    """Every 400 frames one group turns by 120° about one of its bonds, and in between looks elsewhere for 5 frames."""
    n_frames = 4000
    now = Rotation.random(4, rng=rng)
    path = []
    for frame in range(n_frames):
        if frame % 400 == 200:
            group = frame // 400 % 4
            arm = now[group].apply(TETRAHEDRON[0] / BOND)
            turn = np.zeros((4, 3))
            turn[group] = arm * np.radians(120.0)
            now = Rotation.from_rotvec(turn) * now
        look = np.zeros((4, 3))
        if frame % 400 > 395:
            look[0] = [0.0, 0.0, np.pi / 2]
        path.append(Rotation.from_rotvec(look + rng.normal(scale=0.05, size=(4, 3))) * now)
    result = of(*groups(rng, path))
    assert result.events == 10 and len(result.turns.bond) == 30  # three bonds turn with each, the fourth is the axis
    assert np.allclose(np.unique(result.turns.frame), 200 + 400 * np.arange(10))
    assert np.allclose(result.turns.angle, np.degrees(np.arccos(-1 / 3)), atol=10.0)  # libration of 0.05, ten frames
    assert result.event_rate.value == pytest.approx(10 / (4 * 0.4)) and result.event_rate.error >= np.sqrt(10) / 1.6


def test_an_event_is_counted_once_until_the_next() -> None:
    turned = np.zeros((100, 1, 3))
    turned[:50, 0, 0], turned[50:, 0, 1] = 1.0, 1.0
    turns = find_turns(turned, np.radians(45.0), 5)
    assert (turns.bond.tolist(), turns.frame.tolist(), turns.angle.tolist()) == ([0], [50], [90.0])
    turned[53:] = [1.0, 0.0, 0.0]  # back after three frames
    assert len(find_turns(turned, np.radians(45.0), 5).frame) == 0


def test_a_turn_within_the_first_frames_is_one_event() -> None:
    """Their mean may be more than 45° from both directions, and none that the bond ever has, or it is the second."""
    for turn in range(1, 10):
        turned = np.zeros((100, 1, 3))
        turned[:turn, 0, 0], turned[turn:, 0] = 1.0, [np.cos(2.1), np.sin(2.1), 0.0]
        turns = find_turns(turned, np.radians(45.0), 10)
        assert len(turns.frame) == (turn > 4) and (turns.angle > 45.0).all(), (turn, turns)


def test_groups_that_do_not_turn_have_no_relaxation_time(rng: np.random.Generator) -> None:
    still = Rotation.random(8, rng=rng)
    path = [Rotation.from_rotvec(rng.normal(scale=0.1, size=(8, 3))) * still for _ in range(1000)]
    result = of(*groups(rng, path))
    assert not any(one.time.determined for one in result.relaxations) and result.events == 0
    assert any("librate" in note for note in result.notes)


def test_bonds_that_break_or_are_not_there_are_refused(rng: np.random.Generator) -> None:
    positions, atoms = groups(rng, diffusing(rng, 100, 8, 0.1))
    broken = positions.copy()
    broken[50:, 1] += 5.0
    with pytest.raises(InputError, match="Bonds of the first frame break"):
        of(broken, atoms)
    trajectory = from_arrays(positions, atoms, interval=100.0, unwrapped=True)
    with pytest.raises(InputError, match=r"No S is within 1\.5 Å of a P"):
        rotation(trajectory, center="P", ligand="S", cutoff=1.5)
    with pytest.raises(InputError, match="several images"):
        rotation(trajectory, center="P", ligand="S", cutoff=6.0)


def test_the_command_prints_times_and_writes_events(tmp_path: Path, rng: np.random.Generator) -> None:
    positions, atoms = groups(rng, diffusing(rng, 301, 8, 0.15))
    atoms.positions = positions[0]
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 3000),), positions)
    options = ("--center", "P", "--ligand", "S", "--cutoff", "2.6 Å", "--hold", "0.1 ps")
    answer = mlmd("analyze", "rotation", run, *options)
    assert answer.code == 0 and "events of rotation" in answer.out, answer.err
    data = json.loads((run / "analysis" / "rotation.json").read_text(), parse_constant=pytest.fail)
    assert data["n_groups"] == 8 and data["orders"]["l = 1"]["relaxation_time"]["value"] > 0
    assert (run / "analysis" / "rotation-events.csv").exists() and (run / "analysis" / "rotation.png").exists()
