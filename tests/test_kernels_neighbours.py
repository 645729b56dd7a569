"""The compiled search for pairs: the same pairs as ASE and vesin find, none missing while the list is reused."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import vesin
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list

from mlmd.errors import InputError, SimulationError
from mlmd.kernels import CHOICE, library
from mlmd.kernels.pairs import Neighbours, Rows
from mlmd.neighbors import build_graph, find_pairs
from mlmd.pairs import spanning

pytestmark = pytest.mark.skipif(library() is None, reason="the kernels are not compiled, or switched off")

PBC = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)]


def table(i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Pairs and shifts as rows in the canonical order."""
    rows = np.column_stack([i, j, shifts]).astype(np.int64)
    return rows[np.lexsort(rows.T[::-1])]


def found_by_ase(positions: np.ndarray, cell: np.ndarray, pbc: object, cutoff: float) -> np.ndarray:
    return table(*primitive_neighbor_list("ijS", pbc, cell, positions, cutoff))


def found_by_vesin(positions: np.ndarray, cell: np.ndarray, pbc: object, cutoff: float) -> np.ndarray:
    periodic = np.array(pbc)
    box = spanning(cell, periodic)
    search = vesin.NeighborList(cutoff=cutoff, full_list=True)
    return table(*search.compute(points=positions, box=box, periodic=periodic, quantities="ijS"))


def found(positions: np.ndarray, cell: np.ndarray, pbc: object, cutoff: float) -> np.ndarray:
    pairs, shifts = find_pairs(positions, cell, np.array(pbc), cutoff)
    return np.column_stack([pairs.T, shifts])


def by_definition(positions: np.ndarray, cell: np.ndarray, pbc: object, cutoff: float, crossings: int) -> np.ndarray:
    """Every pair through every cell up to a number of crossings."""
    steps = [range(-crossings, crossings + 1) if periodic else (0,) for periodic in np.array(pbc)]
    shifts = np.array(np.meshgrid(*steps, indexing="ij")).reshape(3, -1).T
    vectors = positions[None, :, None] + (shifts @ cell)[None, None] - positions[:, None, None]
    near = np.linalg.norm(vectors, axis=-1) < cutoff
    near[np.arange(len(positions)), np.arange(len(positions)), (shifts == 0).all(axis=1)] = False
    i, j, k = np.nonzero(near)
    return table(i, j, shifts[k])


def some_system(seed: int, n_atoms: int, length: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions partly outside of a skewed cell, the cell, and a cutoff."""
    generator = np.random.default_rng(seed)
    cell = np.diag(generator.uniform(0.5, 1.5, 3)) * length + generator.normal(0, 0.15 * length, (3, 3))
    cell[0] *= -1 if seed % 2 else 1  # left-handed cells too
    return generator.normal(0, 0.7 * length, (n_atoms, 3)), cell, float(generator.uniform(2, 6))


@pytest.mark.parametrize("pbc", PBC, ids=str)
@pytest.mark.parametrize(("n_atoms", "length"), [(7, 3.0), (40, 9.0), (400, 22.0)], ids=["tiny", "small", "large"])
@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_those_of_ase_and_vesin(pbc: tuple[bool, ...], n_atoms: int, length: float, seed: int) -> None:
    positions, cell, cutoff = some_system(seed, n_atoms, length)
    got = found(positions, cell, pbc, cutoff)
    assert np.array_equal(got, found_by_ase(positions, cell, pbc, cutoff))
    assert np.array_equal(got, found_by_vesin(positions, cell, pbc, cutoff))


@pytest.mark.parametrize("pbc", PBC[:3], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_very_skewed_cells_are_the_lattice_that_they_span(pbc: tuple[bool, ...], seed: int) -> None:
    # the same lattice by short vectors, for which ASE is fast, and the same atoms
    positions, cell, cutoff = some_system(seed, 60, 9.0)
    generator = np.random.default_rng(seed)
    steps = np.eye(3, dtype=int)
    for row, other in ((1, 0), (2, 1), (0, 2)):
        if pbc[row] and pbc[other]:
            steps[row] += int(generator.integers(3, 8)) * steps[other]
    skewed = steps @ cell
    got = found(positions, skewed, pbc, cutoff)
    expected = found_by_ase(positions, cell, pbc, cutoff)
    in_skewed = table(*expected[:, :2].T, np.rint(expected[:, 2:] @ np.linalg.inv(steps)))
    assert np.array_equal(got, in_skewed)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_cross_a_cell_much_smaller_than_the_cutoff_many_times(seed: int) -> None:
    positions, cell, _ = some_system(seed, 2, 1.5)
    positions = np.random.default_rng(seed).uniform(0, 1, (2, 3)) @ cell
    got = found(positions, cell, True, 7.0)
    assert np.abs(got[:, 2:]).max() > 4
    assert np.array_equal(got, by_definition(positions, cell, [True] * 3, 7.0, int(np.abs(got[:, 2:]).max()) + 2))


@pytest.mark.parametrize("pbc", PBC, ids=str)
def test_few_atoms_in_a_huge_box(pbc: tuple[bool, ...]) -> None:
    # three clusters far from each other: bins follow the atoms, not the volume
    generator = np.random.default_rng(5)
    centres = np.array([[0, 0, 0], [4e4, 9e4, 1e4], [99999.0, 2.0, 99998.0]])
    positions = (centres[:, None] + generator.normal(0, 3, (3, 30, 3))).reshape(-1, 3)
    got = found(positions, 1e5 * np.eye(3), pbc, 4.0)
    wrapped = positions - 1e5 * np.round(positions / 1e5) * np.array(pbc)
    distances = np.linalg.norm(wrapped[:, None] - wrapped[None], axis=-1)
    i, j = np.nonzero((distances < 4.0) & ~np.eye(90, dtype=bool))
    assert len(got) > 300
    assert np.array_equal(got[:, :2], np.column_stack([i, j]))


def test_a_gas_of_a_few_atoms_far_apart_has_no_pairs() -> None:
    positions = np.random.default_rng(0).uniform(-1e7, 1e7, (200, 3))
    assert found(positions, np.zeros((3, 3)), False, 5.0).shape == (0, 5)


def test_an_atom_that_flew_away_changes_nothing_for_the_others() -> None:
    generator = np.random.default_rng(1)
    positions = generator.uniform(0, 12, (150, 3))
    expected = found(positions, np.zeros((3, 3)), False, 4.0)
    away = np.vstack([positions, [3e8, -2e7, 1e3]])
    assert np.array_equal(found(away, np.zeros((3, 3)), False, 4.0), expected)


@pytest.mark.parametrize("pbc", PBC[1:], ids=str)
def test_cell_vectors_without_periodicity_are_not_looked_at(pbc: tuple[bool, ...]) -> None:
    positions = np.random.default_rng(0).uniform(0, 6, (20, 3))
    full = np.array([[6.0, 0, 0], [1.0, 6.0, 0], [0, 0.5, 6.0]])
    expected = found(positions, full, pbc, 3.0)
    for other in (0.0, np.nan):
        assert np.array_equal(found(positions, np.where(np.array(pbc)[:, None], full, other), pbc, 3.0), expected)


def test_atoms_millions_of_cells_away_are_wrapped() -> None:
    positions, cell, cutoff = some_system(2, 30, 8.0)
    expected, _ = find_pairs(positions, cell, np.ones(3), cutoff)
    steps = np.random.default_rng(0).integers(-1_000_000, 1_000_000, (30, 3))
    pairs, shifts = find_pairs(positions + steps @ cell, cell, np.ones(3), cutoff)
    assert np.array_equal(pairs, expected)
    vectors = positions[pairs[1]] - positions[pairs[0]] + (shifts + steps[pairs[1]] - steps[pairs[0]]) @ cell
    assert np.linalg.norm(vectors, axis=1).max() < cutoff + 1e-6


def test_coincident_atoms_are_neighbours() -> None:
    positions = np.array([[1.0, 2, 3], [1.0, 2, 3], [9.0, 9, 9]])
    assert found(positions, np.zeros((3, 3)), False, 1.0).tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_no_atoms_and_one_atom() -> None:
    none = Neighbours(np.zeros(0), np.ones(3), 3.0, 0.5, n_species=2)
    none.update(np.zeros((0, 3)), np.eye(3))
    assert none.pairs()[0].shape == (2, 0)
    assert none.rows().coordinates.shape == (0, 3)
    assert find_pairs(np.zeros((0, 3)), np.eye(3), np.ones(3), 3.0)[0].shape == (2, 0)
    assert len(found(np.zeros((1, 3)), np.zeros((3, 3)), False, 3.0)) == 0
    assert len(found(np.zeros((1, 3)), 2.5 * np.eye(3), True, 3.0)) == 6


def test_there_are_no_pairs_before_the_first_search() -> None:
    near = Neighbours(np.zeros(3), np.ones(3), 3.0)
    assert near.pairs()[0].shape == (2, 0)
    assert (near.rows().atoms == -1).all()
    with pytest.raises(SimulationError):
        near.update(np.full((3, 3), np.nan), np.eye(3))
    assert near.pairs()[0].shape == (2, 0)


def some_graphs() -> dict[str, np.ndarray]:
    """The arrays of graphs of liquids, and of crystals with shells at the cutoff, where searches round differently."""
    arrays = {}
    for seed, pbc in itertools.product(range(4), PBC):
        positions, cell, cutoff = some_system(seed, 40, 9.0)
        crystal = bulk("Cu", a=4.0, cubic=True) * (2, 2, 1)
        crystal.pbc = pbc
        for number, (atoms, reach) in enumerate(
            [(Atoms("Cu40", positions=positions, cell=cell, pbc=pbc), cutoff), (crystal, 4.0), (crystal, 4.0 * 2**0.5)]
        ):
            graph = build_graph(atoms, reach)
            for field in dataclasses.fields(graph):
                if (value := getattr(graph, field.name)) is not None:
                    arrays[f"{field.name} of {number} with {seed} and {pbc}"] = value.numpy()
    return arrays


def test_a_graph_is_the_same_to_the_last_bit_whoever_searched_its_pairs(tmp_path: Path) -> None:
    program = (
        "import sys, numpy; from test_kernels_neighbours import some_graphs; numpy.savez(sys.argv[1], **some_graphs())"
    )
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "vesin.npz"],
        check=True, cwd=Path(__file__).parent, env={**os.environ, CHOICE: "off"},
    )  # fmt: skip
    compiled, by_vesin = some_graphs(), np.load(tmp_path / "vesin.npz")
    assert compiled.keys() == set(by_vesin.files)
    assert sum(value.shape[-1] for name, value in compiled.items() if name.startswith("pairs")) > 10_000
    for name, value in compiled.items():
        assert np.array_equal(value, by_vesin[name], equal_nan=value.dtype.kind == "f"), name


@pytest.mark.parametrize("cell", [np.diag([3.0, 0, 3]), [[3, 0, 0], [6, 0, 0], [0, 0, 3]], np.diag([3, np.nan, 3])])
def test_a_cell_without_volume_is_refused(cell: np.ndarray) -> None:
    with pytest.raises(InputError, match="no volume"):
        find_pairs(np.zeros((1, 3)), np.array(cell), np.ones(3), 2.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_position_that_is_not_finite_is_refused_and_nothing_changes(value: float) -> None:
    positions, cell, cutoff = some_system(0, 40, 9.0)
    near = Neighbours(np.zeros(40), np.ones(3), cutoff, 0.5)
    near.update(positions, cell)
    before = near.rows()
    bad = positions.copy()
    bad[17, 1] = value
    for call in (near.update, near.search):
        with pytest.raises(SimulationError):
            call(bad, cell)
    assert_same(near.rows(), before)
    assert near.n_searches == 1
    if not np.isfinite(value):
        with pytest.raises(InputError, match="atom 17"):
            find_pairs(bad, cell, np.ones(3), cutoff)


def test_a_cell_of_no_size_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(SimulationError, match="periodic images"):
        find_pairs(np.zeros((1, 3)), 1e-4 * np.eye(3), np.ones(3), 5.0)


@pytest.mark.parametrize(
    ("species", "cutoff", "skin"), [([0, 2], 3.0, 0.5), ([-1, 0], 3.0, 0.5), ([0, 1], 0.0, 0.5), ([0, 1], 3.0, -1.0),
                                    ([0, 1], np.nan, 0.5), ([0, 1], 3.0, np.inf)]
)  # fmt: skip
def test_impossible_arguments_are_refused(species: list[int], cutoff: float, skin: float) -> None:
    with pytest.raises(InputError, match="cutoff"):
        Neighbours(np.array(species), np.ones(3), cutoff, skin, n_species=2)


# -- what kernels read


def assert_same(one: Rows, other: Rows) -> None:
    """The same slots and the same neighbours in the same order; rows may be longer than needed."""
    assert np.array_equal(one.atoms, other.atoms)
    assert np.array_equal(one.ends, other.ends)
    assert np.array_equal(one.coordinates, other.coordinates)
    length = int(one.ends.max(initial=0))
    assert np.array_equal(one.matrix[:, :length], other.matrix[:, :length])


def three_kinds(n: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Species, positions and cell of a rattled crystal of n³ · 4 atoms."""
    atoms = bulk("Al", cubic=True) * (n, n, n)
    generator = np.random.default_rng(3)
    positions = atoms.positions + generator.normal(0, 0.1, atoms.positions.shape)
    return generator.integers(0, 3, len(atoms)), positions, atoms.cell.array


def test_slots_are_sorted_by_species_and_rows_by_species_of_the_neighbour() -> None:
    species, positions, cell = three_kinds()
    near = Neighbours(species, np.ones(3), 5.0, 0.5, n_species=4)  # the last is absent
    near.update(positions, cell)
    rows = near.rows()
    real = rows.atoms >= 0
    assert sorted(rows.atoms[real]) == list(range(len(species)))
    first = 0
    for kind in range(4):
        n_kind = int((species == kind).sum())
        n_slots = -(-n_kind // 16) * 16
        assert (species[rows.atoms[first : first + n_kind]] == kind).all()
        assert (rows.atoms[first + n_kind : first + n_slots] == -1).all()
        first += n_slots
    assert len(rows.atoms) == first
    assert (rows.ends[~real] == 0).all()
    assert (rows.coordinates[: len(real)][~real] == 1e8).all()
    # species of every slot, images included: those of the atoms at the same place in the cell
    fractions = np.linalg.solve(cell.T, (rows.coordinates[:, None] - positions[None]).reshape(-1, 3).T).T
    apart = np.abs(fractions - np.rint(fractions)).max(axis=1).reshape(len(rows.coordinates), -1)
    kinds = species[apart.argmin(axis=1)]
    for slot in np.flatnonzero(real)[::37]:
        begin = 0
        for kind, end in enumerate(rows.ends[slot]):
            assert (kinds[rows.matrix[slot, begin:end]] == kind).all()
            begin = end


def test_the_list_is_the_same_for_any_number_of_threads() -> None:
    generator = np.random.default_rng(0)
    positions = generator.uniform(0, 62, (24_000, 3))
    cell = np.array([[62.0, 0, 0], [20, 62, 0], [-15, 8, 62]])
    species = generator.integers(0, 2, len(positions))
    lists = []
    for n_threads in (1, 2, 3):
        near = Neighbours(species, np.ones(3), 4.0, 0.5)
        near.update(positions, cell, n_threads)
        near.update(positions + 0.01, cell * 1.001, n_threads)
        assert near.n_searches == 1
        lists.append((near.rows(), *near.pairs(n_threads=n_threads)))
    for rows, pairs, shifts in lists[1:]:
        assert_same(rows, lists[0][0])
        assert np.array_equal(pairs, lists[0][1])
        assert np.array_equal(shifts, lists[0][2])


def test_a_search_where_the_last_one_was_gives_the_same_list() -> None:
    species, positions, cell = three_kinds(4)
    generator = np.random.default_rng(0)
    one = Neighbours(species, np.ones(3), 5.0, 0.5)
    for _ in range(30):  # with a past, and rows that had to grow
        one.update(positions * 0.6 + generator.normal(0, 0.3, positions.shape), cell * 0.6)
    one.search(positions, cell)
    two = Neighbours(species, np.ones(3), 5.0, 0.5)
    two.search(positions, cell)
    moved = positions + generator.normal(0, 0.03, positions.shape)
    for near in (one, two):
        near.update(moved, cell)
    assert two.n_searches == 1
    assert_same(one.rows(), two.rows())


@pytest.mark.parametrize("pbc", PBC, ids=str)
def test_no_pair_is_missing_while_atoms_and_cell_move(pbc: tuple[bool, ...]) -> None:
    generator = np.random.default_rng(4)
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    positions, cell = atoms.positions.copy(), atoms.cell.array
    near = Neighbours(np.zeros(len(atoms)), np.array(pbc), 5.0, 1.0)
    for _ in range(60):
        strain = np.eye(3) + generator.normal(0, 0.004, (3, 3)) * np.outer(pbc, pbc)
        positions, cell = positions @ strain, cell @ strain
        positions = positions + generator.normal(0, 0.04, positions.shape)
        near.update(positions, cell)
        pairs, shifts = near.pairs()
        assert np.array_equal(np.column_stack([pairs.T, shifts]), by_definition(positions, cell, pbc, 5.0, 3))
    assert 1 < near.n_searches < 45  # it was reused, and it was renewed


def test_coordinates_follow_atoms_and_images() -> None:
    species, positions, cell = three_kinds(3)
    near = Neighbours(species, np.ones(3), 4.0, 1.0)
    near.update(positions, cell)
    before, n_slots = near.rows(), len(near.rows().atoms)
    strain = np.array([[1.01, 0.004, 0], [0, 0.995, 0], [0.003, 0, 1.0]])
    near.update(positions @ strain, cell @ strain)
    assert near.n_searches == 1
    real = np.append(before.atoms >= 0, np.ones(len(before.coordinates) - n_slots, dtype=bool))
    assert np.allclose(near.rows().coordinates[real], before.coordinates[real] @ strain, atol=1e-12)
    assert (near.rows().coordinates[~real] == 1e8).all()


@pytest.mark.parametrize("skin", [0.3, 1.0])
def test_the_list_is_renewed_before_an_atom_can_come_in_unseen(skin: float) -> None:
    start = np.array([[0.0, 0, 0], [0, 0, 4.0 + skin + 0.02], [2.0, 0, 0], [3.0, 0, 0]])
    near = Neighbours(np.zeros(4), np.zeros(3), 4.0, skin)
    for way in np.linspace(0, 0.6 * skin, 40):  # two atoms approach each other head-on
        positions = start + np.array([[0, 0, way], [0, 0, -way], [0, 0, 0], [0, 0, 0]])
        near.update(positions, np.zeros((3, 3)))
        assert ([0, 1] in near.pairs()[0].T.tolist()) == (positions[1, 2] - positions[0, 2] < 4.0)


def test_compression_alone_renews_the_list_in_time() -> None:
    near = Neighbours(np.zeros(1), np.ones(3), 4.0, 0.48)
    for length in np.linspace(4.49, 3.9, 60):
        near.update(np.zeros((1, 3)), np.diag([length, 9.0, 9.0]))
        assert near.pairs()[0].shape[1] == (2 if length < 4.0 else 0)


def test_drift_and_rotation_of_everything_cost_no_search() -> None:
    species, positions, cell = three_kinds(3)
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    near = Neighbours(species, np.ones(3), 5.0, 0.5)
    for step in range(5):
        near.update(positions + step * np.array([3.0, -1, 2]), cell)
    near.update(positions @ q, cell @ q)
    assert near.n_searches == 1
    assert np.array_equal(near.pairs()[0], find_pairs(positions, cell, np.ones(3), 5.0)[0])


def test_without_a_skin_every_update_searches() -> None:
    species, positions, cell = three_kinds(2)
    near = Neighbours(species, np.ones(3), 5.0)
    for _ in range(3):
        near.update(positions, cell)
    assert near.n_searches == 3


def test_rows_grow_when_atoms_crowd() -> None:
    generator = np.random.default_rng(0)
    start = generator.uniform(0, 60, (600, 3))
    near = Neighbours(generator.integers(0, 2, 600), np.zeros(3), 4.0, 0.5)
    near.update(start, np.zeros((3, 3)))
    crowd = start / 60  # all are neighbours of all
    near.update(crowd, np.zeros((3, 3)))
    assert near.pairs()[0].shape[1] == 600 * 599
    near.update(start, np.zeros((3, 3)))
    assert np.array_equal(near.pairs()[0], find_pairs(start, np.zeros((3, 3)), np.zeros(3), 4.0)[0])


def test_memory_of_a_large_system_is_mostly_its_neighbours() -> None:
    atoms = bulk("Al", cubic=True) * (16, 16, 16)
    near = Neighbours(np.zeros(len(atoms)), np.ones(3), 6.0, 0.5)  # 86 in the list
    near.update(atoms.positions, atoms.cell.array)
    assert near.rows().ends.mean() > 75
    assert near.n_bytes / len(atoms) < 600
