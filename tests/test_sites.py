"""Sites and jumps: atoms that hop on known lattices at known rates."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, write_run

from mlmd import units
from mlmd.analysis.sites import sites
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

A = 4.0
"""Å, edge of the cubic cells."""
N = 3
"""Cells along each edge of the box."""
TETRAHEDRAL = A * np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
FACES = A * np.concatenate([np.eye(3), -np.eye(3)])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(31)


def framework() -> ase.Atoms:
    """Sulphur on the edges: corners have 6 of it at a/2, centres 12 at a/√2."""
    return ase.Atoms("S3", scaled_positions=[[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], cell=[A] * 3, pbc=True).repeat(N)


def two_classes(
    rng: np.random.Generator, n_frames: int, n_atoms: int, leave_corner: float, leave_centre: float
) -> tuple[np.ndarray, ase.Atoms]:
    """Li hopping between corners and centres with chances per frame, vibrating, on a framework that drifts."""
    chance = np.array([leave_corner, leave_centre])
    kind = (rng.random(n_atoms) < leave_corner / (leave_corner + leave_centre)).astype(int)
    place = A * (rng.integers(0, N, size=(n_atoms, 3)) + 0.5 * kind[:, None])
    path = np.empty((n_frames, n_atoms, 3))
    for frame in range(n_frames):
        path[frame] = place
        hop = rng.random(n_atoms) < chance[kind]
        place = place + np.where(hop[:, None], TETRAHEDRAL[rng.integers(8, size=n_atoms)], 0.0)
        kind = np.where(hop, 1 - kind, kind)
    rest = framework()
    whole = np.concatenate([path, np.broadcast_to(rest.positions, (n_frames, len(rest), 3))], axis=1)
    whole = whole + rng.normal(scale=0.25, size=whole.shape) + np.linspace(0, 2.0, n_frames)[:, None, None]
    return whole, ase.Atoms([*["Li"] * n_atoms, *rest.symbols], cell=[A * N] * 3, pbc=True)


def lattice_walk(rng: np.random.Generator, n_frames: int, n_atoms: int, chance: float, back: float) -> np.ndarray:
    """Hops between the points of a cubic lattice, of which a part takes the last one back."""
    opposite = np.array([3, 4, 5, 0, 1, 2])
    last = rng.integers(6, size=n_atoms)
    place = A * rng.integers(0, N, size=(n_atoms, 3)).astype(float)
    path = np.empty((n_frames, n_atoms, 3))
    for frame in range(n_frames):
        path[frame] = place
        other = (opposite[last] + rng.integers(1, 6, size=n_atoms)) % 6  # any but the opposite of the last
        chosen = np.where(rng.random(n_atoms) < back, opposite[last], other)
        hop = rng.random(n_atoms) < chance
        place = place + np.where(hop[:, None], FACES[chosen], 0.0)
        last = np.where(hop, chosen, last)
    return path + rng.normal(scale=0.25, size=path.shape)


def corners() -> ase.Atoms:
    return ase.Atoms("Li", positions=[[0.0, 0.0, 0.0]], cell=[A] * 3, pbc=True)


def test_hopping_between_two_kinds_of_sites_has_its_rates(rng: np.random.Generator) -> None:
    n_frames, n_atoms, out_of_corner, out_of_centre = 6000, 24, 0.01, 0.04
    positions, atoms = two_classes(rng, n_frames, n_atoms, out_of_corner, out_of_centre)
    result = sites(from_arrays(positions, atoms, interval=100.0, unwrapped=True), element="Li", drift=["S"])
    assert len(result.places.reduced) == 2 * N**3 and len(result.classes) == 2
    corner, centre = sorted(result.classes, key=lambda one: -one.occupancy.value)
    assert (corner.n_sites, centre.n_sites) == (N**3, N**3)
    expected = {
        corner.label: (0.8 * n_atoms / N**3, 0.1 / out_of_corner),
        centre.label: (0.2 * n_atoms / N**3, 0.1 / out_of_centre),
    }  # fmt: skip
    for one in (corner, centre):
        occupancy, stay = expected[one.label]
        assert abs(one.occupancy.value - occupancy) < 4 * one.occupancy.error < 0.2 * occupancy
        assert abs(one.residence.value - stay) < 4 * one.residence.error < 0.3 * stay
        times, alive = one.survival.T
        early = times < 2 * stay
        # a stay of n frames or more has the chance (1 - p)^n: a step lies after, the curve is seen from above
        assert np.allclose(alive[early], (1 - 0.1 / stay) ** np.rint(times[early] / 0.1), atol=0.05)
    ways = {way.pair: way for way in result.transitions}
    assert set(ways) == {f"{corner.label}→{centre.label}", f"{centre.label}→{corner.label}"}
    for (origin, target), rate in (((corner, centre), out_of_corner / 0.1), ((centre, corner), out_of_centre / 0.1)):
        way = ways[f"{origin.label}→{target.label}"]
        assert abs(way.rate.value - rate) < 4 * way.rate.error < 0.3 * rate
        assert way.length.value == pytest.approx(A * np.sqrt(0.75), abs=0.05)  # centres found within 0.25 Å / √samples
    gamma = 0.8 * out_of_corner / 100.0 + 0.2 * out_of_centre / 100.0  # 1/fs
    exact = gamma * 0.75 * A**2 / 6 * units.CM2_PER_S
    assert abs(result.jump_diffusion.value - exact) < 4 * result.jump_diffusion.error < 0.3 * exact
    assert abs(result.returns.value - 1 / 8) < 4 * result.returns.error
    assert abs(result.correlation.value - 1.0) < 4 * result.correlation.error < 2.0  # directions know nothing


def test_hops_that_are_taken_back_have_their_correlation_factor(rng: np.random.Generator) -> None:
    """f = (1 + c) / (1 - c) with the mean cosine c of successive hops (K. Compaan, Y. Haven, 1956)."""
    back = 0.5
    positions = lattice_walk(rng, 6000, 40, 0.05, back)
    trajectory = from_arrays(positions, ase.Atoms("Li40", cell=[A * N] * 3, pbc=True), interval=10.0, unwrapped=True)
    result = sites(trajectory, element="Li", reference=corners(), drift="none")
    cosine = -back + (1 - back) / 5
    f = (1 + cosine) / (1 - cosine)
    assert abs(result.returns.value - back) < 4 * result.returns.error < 0.1
    assert abs(result.correlation.value - f) < 4 * result.correlation.error < f
    assert result.length.value == pytest.approx(A, rel=1e-9)  # of the reference's places


def test_a_line_that_begins_before_atoms_have_jumped_is_not_taken_for_diffusion() -> None:
    """In this walk the mean squared displacement looks straight from 9 frames on, and an atom jumps every 33."""
    positions = lattice_walk(np.random.default_rng(1), 2000, 20, 0.03, 0.5)
    trajectory = from_arrays(positions, ase.Atoms("Li20", cell=[A * N] * 3, pbc=True), interval=10.0, unwrapped=True)
    result = sites(trajectory, element="Li", reference=corners(), drift="none")
    assert abs(result.correlation.value - 0.6 / 1.4) < 3 * result.correlation.error


def test_the_survival_of_stays_begins_where_they_begin() -> None:
    """An atom jumps every 100 frames, for the first time after 50: no stay is shorter than 100."""
    frames = np.arange(1020)
    positions = np.zeros((1020, 1, 3))
    positions[:, 0, 0] = A * ((frames + 50) // 100)
    trajectory = from_arrays(positions, ase.Atoms("Li", cell=[A * N] * 3, pbc=True), interval=10.0, unwrapped=True)
    one = sites(trajectory, element="Li", reference=corners(), drift="none").classes[0]
    assert one.survival.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert one.residence.value == pytest.approx(10.2 / 10)  # ps over jumps, the stays that were cut off counted in


def test_stays_that_the_ends_cut_off_do_not_shorten_the_residence_time(rng: np.random.Generator) -> None:
    n_frames, n_atoms, chance = 200, 300, 1 / 400  # the run is half as long as a stay
    positions = lattice_walk(rng, n_frames, n_atoms, chance, 1 / 6)
    trajectory = from_arrays(
        positions, ase.Atoms(f"Li{n_atoms}", cell=[A * N] * 3, pbc=True), interval=10.0, unwrapped=True
    )
    one = sites(trajectory, element="Li", reference=corners(), drift="none").classes[0]
    _, durations, begun, ended = sites(trajectory, element="Li", reference=corners(), drift="none").visits.stays()
    assert durations[begun & ended].mean() < 0.25 / chance  # what whole stays alone would say
    assert abs(one.residence.value - 0.01 / chance) < 4 * one.residence.error < 0.4 * 0.01 / chance


def test_vibrations_across_the_border_are_no_jumps(rng: np.random.Generator) -> None:
    """Half of the frames are nearer to the other site, but its core is never reached."""
    swing = 2.0 + 0.4 * np.sin(np.linspace(0, 300.0, 3000))
    positions = np.zeros((3000, 1, 3))
    positions[:, 0, 0] = swing
    positions[0] = positions[-1] = 0.0
    trajectory = from_arrays(positions, ase.Atoms("Li", cell=[A * N] * 3, pbc=True), interval=1.0, unwrapped=True)
    result = sites(trajectory, element="Li", reference=corners())
    assert np.count_nonzero(swing > 2.0) > 1000
    assert len(result.visits.atom) == 0 and result.occupancy.max() == pytest.approx(1.0)
    assert any("no jumps" in note for note in result.notes)
    _, *others = result.figure().axes
    assert [one.texts[0].get_text() for one in others] == ["no jumps", "no jumps"]
    assert not any(len(one.get_xticks()) or len(one.get_yticks()) for one in others)


@pytest.mark.parametrize(("apart", "expected"), [(0.6, [-0.45, 0.45]), (1.2, [-0.45])])
def test_maxima_that_are_close_are_one_site_also_across_the_border(
    rng: np.random.Generator, apart: float, expected: list[float]
) -> None:
    """Two places 0.9 Å apart on the two sides of a face of the cell; the first is taken more often."""
    x = np.where(rng.random(2000) < 0.6, -0.45, 0.45)
    positions = np.stack([x, np.full(2000, 1.0), np.full(2000, 1.0)], axis=1)[:, None] + rng.normal(
        scale=0.05, size=(2000, 1, 3)
    )
    trajectory = from_arrays(positions, ase.Atoms("Li", cell=[6.0] * 3, pbc=True), interval=1.0, unwrapped=True)
    places = sites(trajectory, element="Li", apart=apart, drift="none").places
    found = np.sort((places.reduced[:, 0] + 0.5) % 1.0 - 0.5) * 6.0
    # half of a point of the grid, and what the other place leaves within 0.6 Å
    assert len(found) == len(expected) and np.allclose(found, expected, atol=0.1)
    highest = sites(trajectory, element="Li", apart=0.6, least=0.9, drift="none").places.reduced
    assert len(highest) == 1 and highest[0, 0] > 0.5  # the other one is two thirds as high


@pytest.mark.parametrize("wrapped", [False, True], ids=["unwrapped", "wrapped"])
def test_a_jump_to_the_next_image_of_a_site_is_a_jump(wrapped: bool) -> None:
    """One site in a skewed cell of 4 Å: an atom walks from image to image through the border."""
    cell = np.array([[4.0, 0, 0], [1.5, 4.0, 0], [0, 1.0, 4.5]])
    image = np.repeat(np.arange(40), 50)
    between = np.linspace(0, 1, 10)[:, None] * cell[1]
    parts = [np.concatenate([np.repeat(n * cell[1][None], 40, axis=0), n * cell[1] + between]) for n in range(40)]
    positions = np.concatenate(parts)[:, None] + 0.3
    if wrapped:
        reduced = positions @ np.linalg.inv(cell)
        positions = (reduced - np.floor(reduced)) @ cell
    atoms = ase.Atoms("Li", positions=[[0.3] * 3], cell=cell, pbc=True)
    trajectory = from_arrays(positions, atoms, interval=1.0, unwrapped=not wrapped)
    result = sites(trajectory, element="Li", reference=atoms, drift="none")
    assert len(image) == len(positions) and len(result.visits.atom) == 40
    assert np.allclose(result.visits.vector, cell[1])
    assert result.jump_diffusion.value == pytest.approx(40 * cell[1] @ cell[1] / (6 * 2000) * units.CM2_PER_S)


def test_chunks_of_a_trajectory_give_what_the_whole_gives(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions, atoms = two_classes(rng, 300, 10, 0.05, 0.1)
    trajectory = from_arrays(positions, atoms, interval=100.0, unwrapped=True)
    whole = sites(trajectory, element="Li", drift=["S"])
    monkeypatch.setattr("mlmd.io.frames.CHUNK_BYTES", 24 * 10 * 7)  # seven frames of Li
    parts = sites(trajectory, element="Li", drift=["S"])
    assert np.array_equal(whole.visits.frame, parts.visits.frame) and np.array_equal(
        whole.visits.target, parts.visits.target
    )
    assert np.array_equal(whole.visits.held, parts.visits.held)
    assert whole.visits.held.sum() == np.sum(300 - whole.visits.first_frame)


def test_a_reference_is_repeated_laid_over_the_framework_and_keeps_its_labels(rng: np.random.Generator) -> None:
    positions, atoms = two_classes(rng, 300, 10, 0.02, 0.05)
    trajectory = from_arrays(positions, atoms, interval=100.0, unwrapped=True)
    away = np.array([1.1, -0.4, 0.7])  # the reference has another origin
    unit = ase.Atoms("LiXS3", cell=[A] * 3, pbc=True, scaled_positions=[
        [0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]
    ])  # fmt: skip
    unit.positions += away
    unit.new_array("site", np.array(["corner", "centre", "", "", ""]))
    result = sites(trajectory, element="Li", reference=unit, drift=["S"])
    assert [one.label for one in result.classes] == ["corner", "centre"] and len(result.places.reduced) == 54
    found = sites(trajectory, element="Li", drift=["S"])
    for place in result.places.reduced[result.occupancy > 0.1]:
        apart = found.places.reduced - place
        assert np.linalg.norm((apart - np.rint(apart)) * A * N, axis=1).min() < 0.3
    unit.positions[:2] -= away  # a framework where there is none
    unit.positions[2:] = [[0.2, 0.2, 0.2], [2.2, 0.2, 0.2], [0.2, 2.2, 2.2]]
    with pytest.raises(InputError, match="not those of this structure"):
        sites(trajectory, element="Li", reference=unit, drift=["S"])
    with pytest.raises(InputError, match="repeats"):
        sites(trajectory, element="Li", reference=ase.Atoms("Li", cell=[5.0] * 3, pbc=True), drift=["S"])
    with pytest.raises(InputError, match="no Li"):
        sites(trajectory, element="Li", reference=ase.Atoms("S", cell=[A] * 3, pbc=True), drift=["S"])


def test_missing_sites_large_cores_and_rare_frames_are_told_of(rng: np.random.Generator) -> None:
    positions, atoms = two_classes(rng, 300, 10, 0.3, 0.6)
    trajectory = from_arrays(positions, atoms, interval=100.0, unwrapped=True)
    with pytest.raises(InputError, match=r"4\.00 Å apart, so cores of 0 to 2\.00 Å"):
        sites(trajectory, element="Li", reference=corners(), core=2.5, drift=["S"])
    result = sites(trajectory, element="Li", drift=["S"])
    assert any("jumps are missed" in note for note in result.notes)
    pair = np.broadcast_to(np.array([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]), (50, 2, 3))
    crowd = from_arrays(pair, ase.Atoms("Li2", cell=[A * N] * 3, pbc=True), interval=1.0, unwrapped=True)
    assert any(
        "shares its site" in note for note in sites(crowd, element="Li", reference=corners(), drift="none").notes
    )


def test_the_command_writes_sites_that_another_run_can_be_given(tmp_path: Path, rng: np.random.Generator) -> None:
    positions, atoms = two_classes(rng, 401, 10, 0.02, 0.05)
    atoms.positions = positions[0]
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 4000),), positions)
    answer = mlmd("analyze", "sites", run, "--element", "Li", "--drift", "S")
    assert answer.code == 0 and "Jump diffusion" in answer.out, answer.err
    data = json.loads((run / "analysis" / "sites.json").read_text(), parse_constant=pytest.fail)
    jumps = (run / "analysis" / "sites-jumps.csv").read_text().splitlines()
    assert len(jumps) == 1 + data["n_jumps"] and (run / "analysis" / "sites.png").exists()
    again = mlmd(
        "analyze", "sites", run, "--element", "Li", "--drift", "S", "--sites", run / "analysis" / "sites.extxyz",
        "--core", f"{data['core_A']} Å", "--json", "--out", tmp_path / "again",
    )  # fmt: skip
    other = json.loads(again.out)
    assert other["n_jumps"] == data["n_jumps"] and other["classes"].keys() == data["classes"].keys()
