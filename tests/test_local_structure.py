"""Angles, coordination numbers and lifetimes of bonds, of crystals, gases, and pairs that bind at known rates."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import ase
import ase.build
import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from command_line import mlmd
from made_runs import stage, walk, write_run
from scipy.special import sph_harm_y

from mlmd.analysis.adf import adf
from mlmd.analysis.coordination import coordination
from mlmd.analysis.lifetimes import lifetimes
from mlmd.analysis.order import order
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.io.trajectories import from_arrays

TRICLINIC = np.array([[11.0, 0.0, 0.0], [4.0, 10.0, 0.0], [-3.0, 4.0, 12.0]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(51)


def one_frame(atoms: ase.Atoms) -> Trajectory:
    return from_arrays(atoms.positions[None], atoms, interval=1.0, unwrapped=True)


def gas(rng: np.random.Generator, n_frames: int = 60) -> tuple[np.ndarray, ase.Atoms]:
    return rng.random((n_frames, 40, 3)) @ TRICLINIC, ase.Atoms("Li15S25", cell=TRICLINIC, pbc=True)


def test_a_crystal_has_its_angles_also_in_its_smallest_cell() -> None:
    for atoms in (ase.build.bulk("Cu", "fcc", 3.6), ase.build.bulk("Cu", "fcc", 3.6, cubic=True)):
        one = adf(one_frame(atoms), cutoffs={("Cu", "Cu"): 3.0}, bin_width=4.0).triplets[0]
        counts = np.rint(one.density * 4.0 * 66)
        # of the 66 pairs of 12 neighbours; 60, 90, 120 and 180 degrees
        assert [counts[k - 1 : k + 1].sum() for k in (15, 30)] == [24, 24] and counts[-1] == 6
        assert counts[22] == 12 and counts.sum() == 66 and one.per_center.value == 66
    silicon = adf(one_frame(ase.build.bulk("Si")), cutoffs={("Si", "Si"): 2.6}).triplets[0]
    assert silicon.per_center.value == 6 and silicon.mean.value == pytest.approx(np.degrees(np.arccos(-1 / 3)))


def test_neighbours_without_order_have_the_angles_of_a_sphere(rng: np.random.Generator) -> None:
    positions, atoms = gas(rng)
    trajectory = from_arrays(positions, atoms, interval=1.0, unwrapped=True)
    result = adf(
        trajectory,
        triplets=[("S", "Li", "S"), ("Li", "Li", "S")],
        cutoffs={("Li", "S"): 4.0, ("Li", "Li"): 3.5},
        bin_width=15.0,
    )
    for one in result.triplets:
        expected = -0.5 * np.diff(np.cos(np.radians(result.edges))) / 15.0
        assert np.mean(((one.density - expected) / one.density_error) ** 2) < 3.0  # 1 for exact errors of ten parts
        assert one.density.sum() * 15.0 == pytest.approx(1.0)
    between = 4 / 3 * np.pi * 4.0**3 * 25 / 1320.0  # neighbours, a Poisson number: its pairs are half its square
    assert abs(result.triplets[0].per_center.value - between**2 / 2) < 4 * result.triplets[0].per_center.error


def test_ase_finds_the_same_angles_and_neighbours(rng: np.random.Generator) -> None:
    positions, atoms = gas(rng, 3)
    cutoffs = {("Li", "S"): 3.1, ("S", "S"): 2.7}
    trajectory = from_arrays(positions + 40.0, atoms, interval=1.0, unwrapped=True)
    result = adf(trajectory, triplets=[("Li", "S", "S"), ("S", "S", "S")], cutoffs=cutoffs, bin_width=10.0)
    numbers = coordination(trajectory, cutoffs=cutoffs)
    angles: dict[tuple[str, ...], list[float]] = {("Li", "S", "S"): [], ("S", "S", "S"): []}
    seen: Counter[tuple[str, str]] = Counter()
    for frame in positions:
        atoms.positions = frame
        i, j, vectors = neighbor_list("ijD", atoms, dict(cutoffs))
        symbols = np.array(atoms.get_chemical_symbols())
        seen.update(zip(symbols[i].tolist(), symbols[j].tolist(), strict=True))
        for center in np.flatnonzero(symbols == "S"):
            at = np.flatnonzero(i == center)
            for first, k in enumerate(at):
                for m in at[first + 1 :]:
                    ends = sorted([symbols[j[k]], symbols[j[m]]])
                    key = (ends[0], "S", ends[1])
                    if key in angles:
                        cosine = vectors[k] @ vectors[m] / np.linalg.norm(vectors[k]) / np.linalg.norm(vectors[m])
                        angles[key].append(float(np.degrees(np.arccos(cosine))))
    for one in result.triplets:
        known = angles[one.triplet]
        assert one.per_center.value * 25 * 3 == pytest.approx(len(known)) and len(known) > 20
        assert np.allclose(one.density, np.histogram(known, result.edges)[0] / len(known) / 10.0)
        assert one.mean.value == pytest.approx(np.mean(known))
    for pair in numbers.pairs:
        assert pair.mean.value * 3 * {"Li": 15, "S": 25}[pair.a] == pytest.approx(seen[pair.a, pair.b])


def test_a_crystal_has_its_coordination_without_a_cutoff_being_given(rng: np.random.Generator) -> None:
    salt = ase.build.bulk("NaCl", "rocksalt", 5.6, cubic=True).repeat(2)
    positions = salt.positions + rng.normal(scale=0.1, size=(30, len(salt), 3))
    result = coordination(
        from_arrays(positions, salt, interval=1.0, unwrapped=True), pairs=[("Na", "Cl"), ("Cl", "Na")]
    )
    for pair in result.pairs:
        assert pair.mean.value == 6.0 and [part.value for part in pair.fractions] == [0, 0, 0, 0, 0, 0, 1]
    assert result.pairs[0].cutoff == result.pairs[1].cutoff and len(result.notes) == 1
    assert "first minimum of g(r)" in result.notes[0]


def test_the_distribution_of_neighbours_is_that_of_the_frames() -> None:
    near, far = np.array([[0, 0, 0], [2.0, 0, 0], [0, 2.0, 0]]), np.array([[0, 0, 0], [2.0, 0, 0], [0, 5.0, 0]])
    positions = np.array([near, far, far, far] * 10)
    result = coordination(
        from_arrays(positions, ase.Atoms("PS2"), interval=2.0, unwrapped=True), cutoffs={("P", "S"): 3.0}
    )
    around = result.pairs[0]
    assert around.pair == "P–S" and [part.value for part in around.fractions] == [0.0, 0.75, 0.25]
    assert around.mean.value == 1.25 and around.series[:4].tolist() == [2.0, 1.0, 1.0, 1.0]
    assert result.times[1] == 2.0


@pytest.mark.parametrize(
    ("atoms", "cutoff", "q4", "q6"),
    [
        (ase.build.bulk("Cu", "fcc", 3.6), 3.0, 0.191, 0.575),
        (ase.build.bulk("Mg", "hcp", 3.2, c=3.2 * np.sqrt(8 / 3)), 3.6, 0.097, 0.485),
        (ase.build.bulk("Fe", "bcc", 2.87), 2.6, 0.509, 0.629),
        (ase.build.bulk("Po", "sc", 3.3), 3.5, 0.764, 0.354),
    ],
    ids=["fcc", "hcp", "bcc", "sc"],
)
def test_crystals_have_their_bond_orientational_order(atoms: ase.Atoms, cutoff: float, q4: float, q6: float) -> None:
    """Known values, and the definition by spherical harmonics, with SciPy's of neighbours that ASE finds."""
    symbol = atoms.symbols[0]
    one = order(one_frame(atoms), cutoffs={(symbol, symbol): cutoff}).pairs[0]
    assert [mean.value for mean in one.means] == pytest.approx([q4, q6], abs=5e-4)
    i, vectors = neighbor_list("iD", atoms, cutoff)
    x, y, z = vectors[i == 0].T
    polar, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    for degree, mean in zip((4, 6), one.means, strict=True):
        moments = [np.mean(sph_harm_y(degree, m, polar, azimuth)) for m in range(-degree, degree + 1)]
        defined = np.sqrt(4 * np.pi / (2 * degree + 1) * np.sum(np.abs(moments) ** 2))
        assert mean.value == pytest.approx(defined, abs=1e-9)
    assert one.densities[..., 0].sum(axis=1) / 100 == pytest.approx([1.0, 1.0])


def test_neighbours_without_order_have_little_of_it(rng: np.random.Generator) -> None:
    """⟨q_l²⟩ = 1/n of n neighbours at random."""
    n = 10
    arms = rng.normal(size=(4000, n, 3))
    arms /= np.linalg.norm(arms, axis=2, keepdims=True)
    positions = np.concatenate([np.zeros((4000, 1, 3)), 2.0 * arms], axis=1)
    trajectory = from_arrays(positions, ase.Atoms(f"PS{n}"), interval=1.0, unwrapped=True)
    result = order(trajectory, pairs=[("P", "S")], cutoffs={("P", "S"): 2.1}, degrees=[3, 6], max_frames=4000)
    q = (np.arange(100) + 0.5) / 100
    for density in result.pairs[0].densities[..., 0]:
        assert np.sum(density * q**2) / 100 == pytest.approx(1 / n, rel=0.05)  # 4,000 centres


def pairs_that_bind(rng: np.random.Generator, n_frames: int, n_pairs: int, make: float, cut: float) -> Trajectory:
    """Isolated pairs, bound at 2 Å and not at 4 Å, with chances of a change in each frame."""
    bound = rng.random(n_pairs) < make / (make + cut)
    states = []
    for _ in range(n_frames):
        states.append(bound)
        bound = np.where(bound, rng.random(n_pairs) >= cut, rng.random(n_pairs) < make)
    positions = np.zeros((n_frames, 2 * n_pairs, 3))
    positions[:, :, 1] = np.tile(20.0 * np.arange(n_pairs), 2)
    positions[:, n_pairs:, 0] = np.where(np.array(states), 2.0, 4.0)
    return from_arrays(positions, ase.Atoms(f"O{n_pairs}H{n_pairs}"), interval=10.0, unwrapped=True)


def test_bonds_that_break_at_a_rate_live_as_long_as_that_has_it(rng: np.random.Generator) -> None:
    make, cut = 0.02, 0.05
    result = lifetimes(pairs_that_bind(rng, 4000, 40, make, cut), cutoffs={("O", "H"): 3.0})
    one = result.pairs[0]
    frames = np.rint(result.lags / 10.0)
    for curve, exact in (
        (one.continuous, (1 - cut) ** frames),
        (one.intermittent, (make + cut * (1 - make - cut) ** frames) / (make + cut)),
    ):
        assert curve[0, 0] == 1.0
        early = (frames > 0) & (frames < 3 / cut)
        assert np.abs((curve[early, 0] - exact[early]) / curve[early, 1]).max() < 5.0  # ten groups, many lags
        assert np.allclose(curve[early, 0], exact[early], atol=0.03)
    assert abs(one.lifetime.value - 0.01 / cut) < 4 * one.lifetime.error < 0.2 * 0.01 / cut
    assert one.n_bonds == pytest.approx(40 * make / (make + cut), rel=0.05)
    level = np.exp(-1.0) * (1 - one.chance) + one.chance
    exact_time = 0.01 * np.log((level * (make + cut) - make) / cut) / np.log(1 - make - cut)
    assert abs(one.relaxation.value - exact_time) < 4 * one.relaxation.error + 0.01  # lags are a frame apart


def test_a_short_run_does_not_shorten_the_lives_of_bonds(rng: np.random.Generator) -> None:
    one = lifetimes(pairs_that_bind(rng, 60, 600, 0.01, 0.01), cutoffs={("O", "H"): 3.0}).pairs[0]
    assert abs(one.lifetime.value - 1.0) < 4 * one.lifetime.error < 0.6  # ps; the run is 0.6 ps


def test_short_interruptions_break_no_bond_where_a_gap_is_given(rng: np.random.Generator) -> None:
    positions = np.zeros((100, 2, 3))
    positions[:, 1, 0] = 2.0
    positions[[20, 50, 51, 52], 1, 0] = 4.0
    trajectory = from_arrays(positions, ase.Atoms("OH"), interval=10.0, unwrapped=True)
    lives = [lifetimes(trajectory, cutoffs={("O", "H"): 3.0}, gap=gap).pairs[0].lifetime.value for gap in (0.0, 10.0)]
    assert lives == pytest.approx([0.96 / 2, 0.97 / 1])
    assert not lifetimes(trajectory, cutoffs={("O", "H"): 3.0}, gap=30.0).pairs[0].lifetime.determined


def test_bonds_within_one_element_count_once(rng: np.random.Generator) -> None:
    positions, atoms = gas(rng, 30)
    result = lifetimes(from_arrays(positions, atoms, interval=1.0, unwrapped=True), cutoffs={("S", "S"): 3.0})
    known = coordination(from_arrays(positions, atoms, interval=1.0, unwrapped=True), cutoffs={("S", "S"): 3.0})
    assert result.pairs[0].n_bonds == pytest.approx(known.pairs[0].mean.value * 25 / 2)
    assert any("breakings are missed" in note for note in result.notes)


def test_cutoffs_that_cannot_be_are_refused(rng: np.random.Generator) -> None:
    positions, atoms = gas(rng, 30)
    trajectory = from_arrays(positions, atoms, interval=1.0, unwrapped=True)
    with pytest.raises(InputError, match="above zero"):
        coordination(trajectory, cutoffs={("Li", "S"): -1.0})
    with pytest.raises(InputError, match="no 'P'"):
        adf(trajectory, triplets=[("S", "P", "S")])
    with pytest.raises(InputError, match="several images"):
        lifetimes(trajectory, cutoffs={("Li", "S"): 6.0})
    with pytest.raises(InputError, match=r"no g\(r\)"):
        coordination(from_arrays(positions, ase.Atoms("Li15S25"), interval=1.0, unwrapped=True))


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("adf", ("--triplet", "Cl-Li-Cl", "--cutoff", "Li-Cl=4 Å"), "Cl–Li–Cl"),
        ("coordination", ("--pair", "Li-Cl", "--cutoff", "Li-Cl=4 Å"), "distribution"),
        ("order", ("--cutoff", "Li-Cl=4 Å", "--degree", "6"), "q_6"),
        ("bonds", ("--cutoff", "Li-Cl=4 Å,Li-Li=3", "--gap", "20 fs"), "Li–Li"),
    ],
)
def test_the_commands_write_their_files(
    tmp_path: Path, rng: np.random.Generator, name: str, options: tuple[str, ...], word: str
) -> None:
    atoms = ase.Atoms("Li8Cl8", positions=9.0 * rng.random((16, 3)), cell=[9.0] * 3, pbc=True)
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 1000),), atoms.positions + walk(rng, 101, 16))
    answer = mlmd("analyze", name, run, *options)
    assert answer.code == 0 and word in answer.out, answer.err
    json.loads((run / "analysis" / f"{name}.json").read_text(), parse_constant=pytest.fail)
    assert (run / "analysis" / f"{name}.csv").exists() and (run / "analysis" / f"{name}.png").exists()
    refused = mlmd("analyze", name, run, "--cutoff", "Li=4")
    assert refused.code == 2 and "ELEMENT-ELEMENT=LENGTH" in refused.err
