"""Adatoms: walks from site to site of copper's faces at known rates, on slabs whose atoms move."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.build
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, write_run

from mlmd.analysis.adatoms import AdatomsResult, adatoms
from mlmd.analysis.surface_sites import sites_of_face
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

A = 3.62
SIZE = 6
INTERVAL = 100.0
"""fs."""
VIBRATION = 0.08
"""Å, of copper at 250 K."""
CM2_PER_S = 0.1
"""Of one Å²/fs."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def slab_of(face: str) -> ase.Atoms:
    slab: ase.Atoms = getattr(ase.build, face)("Cu", (SIZE, SIZE, 4), a=A, vacuum=8.0)
    slab.info.clear()
    slab.pbc = True
    return slab


def hollow(slab: ase.Atoms, a: int, b: int) -> np.ndarray:
    """A site of (100) or (110), in the middle of four surface atoms."""
    cell = slab.cell.array / SIZE
    corner = slab.positions[slab.positions[:, 2] > slab.positions[:, 2].max() - 0.1][0]
    place: np.ndarray = corner + (a + 0.5) * cell[0] + (b + 0.5) * cell[1] + [0.0, 0.0, 1.7]
    return place


def shaken(slab: ase.Atoms, paths: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ase.Atoms]:
    """Frames of a slab and of adatoms whose sites are paths (n_frames, n, 3) Å."""
    still = np.broadcast_to(slab.positions, (len(paths), *slab.positions.shape))
    positions = np.concatenate([still, paths], axis=1)
    atoms = slab + ase.Atoms(f"Cu{paths.shape[1]}", positions=paths[0])
    return positions + VIBRATION * rng.normal(size=positions.shape), atoms


def walks(face: str, chances: tuple[float, float], n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Four adatoms that start apart; in a frame one hops with these chances along a, and along b, either way alike."""
    slab = slab_of(face)
    steps = slab.cell.array[:2] / SIZE
    draws = rng.random((n_frames, 4, 2))
    signs = np.where(draws < np.array(chances) / 2, -1, np.where(draws > 1 - np.array(chances) / 2, 1, 0))
    starts = np.array([hollow(slab, a, b) for a, b in ((0, 0), (3, 0), (0, 3), (3, 3))])
    paths: np.ndarray = starts + np.cumsum(signs, axis=0) @ steps
    return paths


def of(positions: np.ndarray, atoms: ase.Atoms, unwrapped: bool = True) -> AdatomsResult:
    return adatoms(from_arrays(positions, atoms, interval=INTERVAL, unwrapped=unwrapped))


def test_hops_at_a_known_rate_give_the_diffusion_of_a_random_walk_also_on_a_slab_that_drifts(
    rng: np.random.Generator,
) -> None:
    """On (100) D = ν l² / 4 with ν hops per time."""
    positions, atoms = shaken(slab_of("fcc100"), walks("fcc100", (0.02, 0.02), 4000, rng), rng)
    positions += np.arange(4000)[:, None, None] * [0.001, 0.0, 0.0005]
    result = of(positions, atoms)
    (one,) = result.species
    assert one.n_atoms == 4 and result.atoms.tolist() == [144, 145, 146, 147] and result.monolayer == 36
    length, rate = A / np.sqrt(2), 0.04 / INTERVAL * 1e3
    exact = rate / 1e3 * length**2 / 4 * CM2_PER_S
    assert abs(one.hops.rate.value - rate) < 3 * one.hops.rate.error < 0.2 * rate
    assert one.hops.length.value == pytest.approx(length, abs=0.02)
    assert abs(one.hop_diffusion.value - exact) < 3 * one.hop_diffusion.error < 0.2 * exact
    assert one.hop_diffusion.n_independent == len(one.hops.visits.atom)
    assert abs(one.coefficient.value - exact) < 3 * one.coefficient.error < exact
    assert len(one.hops.places.reduced) == 36 and result.coverage.value == pytest.approx(4 / 36)


def test_diffusion_along_the_rows_of_110_is_told_from_that_across(rng: np.random.Generator) -> None:
    slab = slab_of("fcc110")
    positions, atoms = shaken(slab, walks("fcc110", (0.04, 0.004), 4000, rng), rng)
    (one,) = of(positions, atoms).species
    steps = np.linalg.norm(slab.cell.array[:2], axis=1) / SIZE
    for axis, chance, step in zip("xy", (0.04, 0.004), steps, strict=True):
        exact = chance * step**2 / 2 / INTERVAL * CM2_PER_S
        assert abs(one.along[axis].value - exact) < 3.5 * one.along[axis].error < 1.2 * exact


def test_diffusion_along_x_and_y_is_of_the_lags_in_which_hops_are_no_longer_taken_back() -> None:
    """Of hops that turn back in half of all cases D is half of what they would give alone, along each axis.

    f = (1 + c) / (1 - c) with the mean cosine c of successive hops (Compaan, Haven 1956), here -1/2 + 1/2 · 1/3.
    """
    rng, n_frames, chance = np.random.default_rng(9), 4000, 0.02
    slab = slab_of("fcc100")
    sides = np.concatenate([slab.cell.array[:2], -slab.cell.array[:2]]) / SIZE
    place = np.array([hollow(slab, a, b) for a, b in ((0, 0), (3, 0), (0, 3), (3, 3))])
    last, path = np.zeros(4, dtype=int), np.empty((n_frames, 4, 3))
    for frame in range(n_frames):
        back = (last + 2) % 4
        chosen = np.where(rng.random(4) < 0.5, back, (back + rng.integers(1, 4, 4)) % 4)
        hop = rng.random(4) < chance
        place, last = place + np.where(hop[:, None], sides[chosen], 0.0), np.where(hop, chosen, last)
        path[frame] = place
    (one,) = of(*shaken(slab, path, rng)).species
    cosine = -0.5 + 0.5 / 3
    exact = (1 + cosine) / (1 - cosine) * chance * (A / np.sqrt(2)) ** 2 / 4 / INTERVAL * CM2_PER_S
    for axis in "xy":
        assert abs(one.along[axis].value - exact) < 3.5 * one.along[axis].error < 2 * exact
    assert (one.along["x"].value + one.along["y"].value) / 2 == pytest.approx(one.coefficient.value, rel=1e-9)


def test_a_few_hops_are_counted_one_by_one_on_sites_that_are_visited_in_passing(rng: np.random.Generator) -> None:
    slab = slab_of("fcc100")
    stops = [(0, 0)] * 300 + [(1, 0)] * 3 + [(1, 1)] * 3 + [(2, 1)] * 294
    positions, atoms = shaken(slab, np.array([[hollow(slab, a, b)] for a, b in stops]), rng)
    result = of(positions, atoms)
    seen = result.species[0].hops.visits
    assert seen.frame.tolist() == [300, 303, 306]
    assert seen.vector[:, :2] / (A / np.sqrt(2)) == pytest.approx(np.array([[1, 0], [0, 1], [1, 0]]), abs=0.03)
    assert not result.species[0].coefficient.determined
    assert any("too few hops" in note or "jumps" in note for note in result.notes)


def test_a_hollow_that_is_visited_little_is_a_site_beside_one_that_is_visited_much(rng: np.random.Generator) -> None:
    """On (111) hollows of fcc and hcp are a / √6 apart; places from one to the other make no maximum at the end."""
    slab = ase.build.fcc111("Cu", (4, 4, 3), a=A, vacuum=8.0)
    top, below = (slab.positions[slab.get_tags() == layer] * (1.0, 1.0, 0.0) for layer in (1, 2))
    cell = np.vstack([slab.cell.array[:2], [0.0, 0.0, 12.0]])
    bond = A / np.sqrt(2)
    hcp = below[5]
    towards = top[np.argsort(np.linalg.norm(top - hcp, axis=1))[0]] - hcp
    fcc = hcp - towards  # across the bridge that is opposite to a neighbour
    much = hcp + rng.normal(scale=(0.25, 0.25, 0.0), size=(800, 3))
    little = fcc + rng.random((700, 1)) * towards + rng.normal(scale=(0.25, 0.25, 0.0), size=(700, 3))
    found = sites_of_face(np.concatenate([much, little]), top, cell)
    assert len(found.reduced) == 32 and found.nearest_distance() == pytest.approx(bond / np.sqrt(3), abs=0.1)
    assert len(sites_of_face(much, top, cell).reduced) == 16


def test_a_slab_that_is_wrapped_across_the_cell_has_the_same_adatoms(rng: np.random.Generator) -> None:
    positions, atoms = shaken(slab_of("fcc100"), walks("fcc100", (0.02, 0.02), 400, rng), rng)
    known = of(positions, atoms)
    moved = atoms.copy()
    shift = [0.0, 0.0, -10.0]  # two layers are below the border
    wrapped = []
    for frame in positions:
        moved.positions = frame + shift
        moved.wrap()
        wrapped.append(moved.positions.copy())
    again = of(np.array(wrapped), atoms, unwrapped=False)
    assert again.atoms.tolist() == known.atoms.tolist()
    assert again.species[0].hops.visits.frame.tolist() == known.species[0].hops.visits.frame.tolist()


def test_who_comes_out_of_the_slab_and_who_leaves_it_are_told_and_do_not_count(rng: np.random.Generator) -> None:
    slab = slab_of("fcc100")
    paths = np.tile([hollow(slab, 0, 0), hollow(slab, 3, 3), hollow(slab, 1, 0)], (400, 1, 1))
    paths[:, 1, 2] += 0.02 * np.arange(400)
    positions, atoms = shaken(slab, paths, rng)
    top = int(np.argmax(slab.positions[:, 2]))
    positions[200:, top] += [0.0, 0.0, 2.2]
    result = of(positions, atoms)
    assert result.atoms.tolist() == [144, 146]
    assert any("1 atoms were above the surface for a part" in note for note in result.notes)
    assert any("1 atoms above the surface touch nothing" in note for note in result.notes)
    assert any("touch another one" in note for note in result.notes)  # two on sites side by side


def test_the_picture_of_adatoms_that_stay_says_so(rng: np.random.Generator) -> None:
    path = np.repeat(walks("fcc100", (0.0, 0.0), 1, rng), 200, axis=0)
    _, *empty = of(*shaken(slab_of("fcc100"), path, rng)).figure().axes
    assert [one.texts[0].get_text() for one in empty] == ["no hops", "no hops"]
    assert not any(len(one.get_xticks()) or len(one.get_yticks()) for one in empty)


def test_a_slab_without_adatoms_and_bulk_are_refused(rng: np.random.Generator) -> None:
    slab = slab_of("fcc100")
    bare = np.broadcast_to(slab.positions, (20, *slab.positions.shape))
    with pytest.raises(InputError, match="there are no adatoms"):
        of(bare, slab)
    bulk = ase.build.bulk("Cu", "fcc", A, cubic=True).repeat(3)
    with pytest.raises(InputError, match="there is no vacuum"):
        of(np.broadcast_to(bulk.positions, (20, *bulk.positions.shape)), bulk)


def test_the_command_writes_its_files(tmp_path: Path, rng: np.random.Generator) -> None:
    positions, atoms = shaken(slab_of("fcc100"), walks("fcc100", (0.02, 0.02), 401, rng), rng)
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 4000),), positions)
    answer = mlmd("analyze", "adatoms", run)
    assert answer.code == 0, answer.err
    assert "4 Cu" in answer.out and "coverage 0.111" in answer.out
    saved = json.loads((run / "analysis" / "adatoms.json").read_text(), parse_constant=pytest.fail)
    table = (run / "analysis" / "adatoms.csv").read_text().splitlines()
    assert len(table) == 1 + saved["elements"]["Cu"]["n_hops"] > 10 and (run / "analysis" / "adatoms.png").exists()
