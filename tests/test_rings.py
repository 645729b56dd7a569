"""Rings: those of crystals as they are known, those of disordered networks as networkx finds all closed paths."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import ase
import ase.build
import networkx
import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal
from command_line import mlmd
from made_runs import stage, write_run

from mlmd.analysis.ring_search import Network, primitive_rings
from mlmd.analysis.rings import RingsResult, rings
from mlmd.errors import InputError
from mlmd.io.trajectories import from_arrays

SI_O = {("Si", "O"): 1.9}


def of(atoms: ase.Atoms, positions: np.ndarray | None = None, **options: object) -> RingsResult:
    frames = atoms.positions[None] if positions is None else positions
    return rings(from_arrays(frames, atoms, interval=1.0, unwrapped=True), **options)  # type: ignore[arg-type]


def through(result: RingsResult) -> dict[int, Any]:
    return {one.n: pytest.approx(one.through.value) for one in result.sizes}


def quartz() -> ase.Atoms:
    places = [(0.4697, 0, 1 / 3), (0.4135, 0.2669, 0.2144)]
    return crystal(["Si", "O"], places, spacegroup=152, cellpar=[4.916, 4.916, 5.4054, 90, 90, 120])


def alpha_cristobalite() -> ase.Atoms:
    places = [(0.3003, 0.3003, 0), (0.2392, 0.1044, 0.1787)]
    return crystal(["Si", "O"], places, spacegroup=92, cellpar=[4.9717, 4.9717, 6.9223, 90, 90, 90])


def beta_cristobalite() -> ase.Atoms:
    return crystal(["Si", "O"], [(0, 0, 0), (1 / 8, 1 / 8, 1 / 8)], spacegroup=227, cellpar=[7.13] * 3 + [90] * 3)


def wurtzite() -> ase.Atoms:
    return ase.build.bulk("GaN", "wurtzite", a=3.19, c=3.19 * np.sqrt(8 / 3), u=3 / 8)


def disordered(seed: int, size: float, n: int, pbc: bool) -> ase.Atoms:
    rng = np.random.default_rng(seed)
    return ase.Atoms(f"Si{n}", positions=size * rng.random((n, 3)), cell=[size] * 3, pbc=pbc)


@pytest.mark.parametrize(
    ("atoms", "cutoffs", "known"),
    [
        (ase.build.bulk("C", "diamond", 3.57), {("C", "C"): 1.7}, {6: 12}),
        (ase.build.graphene(vacuum=5.0), {("C", "C"): 1.6}, {6: 3}),
        (wurtzite(), {("Ga", "N"): 2.1}, {6: 12}),
        (ase.build.bulk("Po", "sc", 3.3), {("Po", "Po"): 3.5}, {4: 12, 6: 24}),
    ],
    ids=["diamond", "graphene", "wurtzite", "simple cubic"],
)
def test_crystals_have_their_rings_in_their_smallest_cells(
    atoms: ase.Atoms, cutoffs: dict[tuple[str, str], float], known: dict[int, float]
) -> None:
    """By their vertex symbols, 6₂·6₂·6₂·6₂·6₂·6₂ of diamond and 6·6·6 of graphene; simple cubic has 12 corners of
    squares at each atom, and of the 4 hexagons about the diagonals of each of its 8 cubes it is on 3.
    """
    assert through(of(atoms, cutoffs=cutoffs, largest=10)) == known


@pytest.mark.parametrize(
    ("atoms", "known"),
    [(alpha_cristobalite(), {6: 12}), (beta_cristobalite(), {6: 12}), (quartz(), {6: 6, 8: 40})],
    ids=["α-cristobalite", "β-cristobalite", "quartz"],
)
def test_silica_has_its_rings_by_their_silicon(atoms: ase.Atoms, known: dict[int, float]) -> None:
    """Quartz: 6 of 6 and 40 of 8 (Yuan and Cormack 2002)."""
    result = of(atoms, cutoffs=SI_O, count=["Si"], largest=20)
    assert through(result) == known
    assert [one.share.value for one in result.sizes] == [1.0] * len(known) and result.outside.value == 0.0
    everyone = of(atoms, cutoffs=SI_O, largest=20)  # as many O as Si in each ring, of three times as many atoms
    assert {one.n: one.per_atom.value * 3 for one in everyone.sizes} == {
        2 * one.n: pytest.approx(one.per_atom.value) for one in result.sizes
    }


def test_tetrahedra_with_a_common_edge_are_a_ring_of_two_silicon() -> None:
    silica = ase.Atoms("Si2O2", [[0, 0, 0], [2.4, 0, 0], [1.2, 1.2, 0], [1.2, -1.2, 0]])
    assert through(of(silica, cutoffs=SI_O, count=["Si"])) == {2: 1}


@pytest.mark.parametrize("seed", range(2))
def test_a_cluster_has_the_rings_that_networkx_leaves_without_short_cuts(seed: int) -> None:
    atoms = disordered(seed, 9.0, 60, pbc=False)
    i, j = neighbor_list("ij", atoms, 2.9)
    graph = networkx.Graph(zip(i.tolist(), j.tolist(), strict=True))
    apart = dict(networkx.all_pairs_shortest_path_length(graph))
    known: dict[int, int] = {}
    for ring in networkx.simple_cycles(graph, length_bound=8):
        n = len(ring)
        if all(apart[ring[a]][ring[b]] == min(b - a, n - b + a) for a, b in combinations(range(n), 2)):
            known[n] = known.get(n, 0) + 1
    found = of(atoms, cutoffs={("Si", "Si"): 2.9}, largest=8)
    assert {one.n: round(60 * one.per_atom.value, 9) for one in found.sizes} == known
    assert len(known) > 3


def test_a_cell_and_many_of_it_have_the_same_rings() -> None:
    """Also where a path leaves a small cell and comes back to another image of its first atom."""
    small = disordered(7, 4.2, 6, pbc=True)
    cutoffs = {("Si", "Si"): 2.6}
    one, many = (of(atoms, cutoffs=cutoffs, largest=9) for atoms in (small, small.repeat(3)))
    assert through(one) == {size.n: size.through.value for size in many.sizes}
    assert {size.n: size.share.value for size in one.sizes} == {
        size.n: pytest.approx(size.share.value) for size in many.sizes
    }
    assert len(one.sizes) > 2


def test_atoms_that_have_gone_far_are_in_the_rings_that_they_are_in_now() -> None:
    atoms = ase.build.bulk("Si", cubic=True)
    far = atoms.positions + np.random.default_rng(1).integers(-90_000, 90_000, size=(8, 3)) @ atoms.cell.array
    assert through(of(atoms, far[None], cutoffs={("Si", "Si"): 2.5})) == {6: 12}


def test_rings_are_found_once_each() -> None:
    ring = np.arange(7)
    pairs = sorted([(a, (a + 1) % 7) for a in ring.tolist()] + [((a + 1) % 7, a) for a in ring.tolist()])
    i, j = np.array(pairs).T
    (found,) = [
        one for one in primitive_rings(Network(7, i, j, np.zeros((14, 3), int)), 9).values() if len(one.weights)
    ]
    assert found.weights.sum() == 1.0 and set(found.atoms[0].tolist()) == set(range(7))


def test_numbers_are_means_over_frames() -> None:
    hexagon = ase.build.graphene(vacuum=5.0).repeat((3, 3, 1))
    hexagon.pbc = True
    gone = hexagon.positions.copy()
    gone[0, 2] += 3.0  # three hexagons become one ring of twelve
    result = of(hexagon, np.array([hexagon.positions, gone]), cutoffs={("C", "C"): 1.6}, largest=12)
    sizes = {one.n: one for one in result.sizes}
    assert sizes[6].series * 18 == pytest.approx([9, 6]) and sizes[12].series * 18 == pytest.approx([0, 1])
    assert sizes[6].per_atom.value * 18 == pytest.approx(7.5)
    assert sizes[6].share.value == pytest.approx(0.5 * (1 + 17 / 18))
    assert result.outside.value == pytest.approx(0.5 / 18)


def test_sizes_are_whole_numbers_in_the_picture() -> None:
    figure = of(ase.build.bulk("Si", "diamond", 5.43), cutoffs={("Si", "Si"): 2.8}).figure()
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [6.0]


def test_what_is_no_network_is_refused() -> None:
    silica = alpha_cristobalite()
    with pytest.raises(InputError, match="bonded to which"):
        of(silica)
    with pytest.raises(InputError, match="O has no bonds of Si–Si"):
        of(silica, cutoffs={("Si", "Si"): 3.3}, count=["O"])
    copper = ase.build.bulk("Cu", "fcc", 3.6, cubic=True).repeat(2)
    with pytest.raises(InputError, match="12 bonds of Cu–Cu"):
        of(copper, cutoffs={("Cu", "Cu"): 3.0}, largest=16)


def test_the_command_writes_its_files(tmp_path: Path) -> None:
    atoms = alpha_cristobalite().repeat((2, 2, 1))
    shaken = atoms.positions + 0.05 * np.random.default_rng(2).normal(size=(31, len(atoms), 3))
    run = write_run(tmp_path / "made.run", atoms, (stage(0, 0, 300),), shaken)
    answer = mlmd("analyze", "rings", run, "--pair", "Si-O", "--cutoff", "Si-O=2.1 Å", "--count", "Si")
    assert answer.code == 0, answer.err
    assert "size (Si)" in answer.out and "12" in answer.out and "not looked for" in answer.out
    saved = json.loads((run / "analysis" / "rings.json").read_text(), parse_constant=pytest.fail)
    assert saved["sizes"]["6"]["rings_through_an_atom"]["value"] == pytest.approx(12) and saved["n_frames_used"] == 20
    header = (run / "analysis" / "rings.csv").read_text().splitlines()[0]
    assert header == "time [ps],rings of 6 per atom" and (run / "analysis" / "rings.png").exists()
