"""Pairs of atoms: the same as ASE finds, and none missing when a list is reused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list

from mlmd.errors import InputError, SimulationError
from mlmd.graph import Graph
from mlmd.neighbors import SkinList, build_graph, find_pairs

PBC = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)]


def as_rows(i: np.ndarray, j: np.ndarray, shifts: np.ndarray) -> list[tuple[int, ...]]:
    return sorted(map(tuple, np.column_stack([i, j, shifts]).astype(int).tolist()))


@pytest.mark.parametrize("pbc", PBC, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_ase_in_any_cell(pbc: tuple[bool, ...], seed: int) -> None:
    generator = np.random.default_rng(seed)
    cell = np.diag(generator.uniform(1.8, 7, 3)) + generator.normal(0, 0.7, (3, 3))
    if seed == 1:
        cell[0] *= -1  # left-handed
    positions = generator.normal(0, 8, (int(generator.integers(1, 12)), 3))  # far outside the cell
    cutoff = float(generator.uniform(2, 6))
    pairs, shifts = find_pairs(positions, cell, np.array(pbc), cutoff)
    expected = primitive_neighbor_list("ijS", pbc, cell, positions, cutoff)
    assert as_rows(*pairs, shifts) == as_rows(*expected)


@pytest.mark.parametrize("pbc", PBC[1:], ids=str)
def test_cell_vectors_without_periodicity_may_be_zero(pbc: tuple[bool, ...]) -> None:
    positions = np.random.default_rng(0).uniform(0, 6, (20, 3))
    full = np.array([[6.0, 0, 0], [1.0, 6.0, 0], [0, 0.5, 6.0]])
    expected = find_pairs(positions, full, np.array(pbc), 3.0)
    got = find_pairs(positions, np.where(np.array(pbc)[:, None], full, 0.0), np.array(pbc), 3.0)
    assert all(np.array_equal(one, other) for one, other in zip(got, expected, strict=True))


def test_pairs_are_listed_by_centre_then_neighbour_then_shift() -> None:
    graph = build_graph(bulk("Cu"), 6.0)
    rows = np.column_stack([graph.pairs.T.numpy(), graph.shifts.numpy()])
    assert np.array_equal(rows, rows[np.lexsort(rows.T[::-1])])


def test_vectors_point_from_centre_to_neighbour_across_the_cell() -> None:
    graph = build_graph([bulk("Si", cubic=True), bulk("Cu") * (2, 1, 1)], 4.0)
    cell = graph.cells[graph.owner[graph.pairs[0]]]
    expected = graph.positions[graph.pairs[1]] - graph.positions[graph.pairs[0]]
    expected = expected + torch.einsum("pa,pab->pb", graph.shifts, cell)
    assert torch.allclose(graph.vectors, expected, atol=1e-12)
    assert bool((graph.distances < 4.0).all())
    assert graph.volumes.tolist() == pytest.approx([bulk("Si", cubic=True).get_volume(), 2 * bulk("Cu").get_volume()])


def test_a_pair_at_the_cutoff_is_not_listed() -> None:
    assert build_graph(Atoms("H2", [[0, 0, 0], [0, 0, 2.0]]), 2.0).pairs.shape == (2, 0)


def test_an_atom_alone_has_no_pairs() -> None:
    graph = build_graph(Atoms("H", [[0, 0, 0]]), 5.0)
    assert graph.pairs.shape == (2, 0)
    assert graph.vectors.shape == (0, 3)
    assert bool(graph.volumes.isnan().all())


def test_a_flat_periodic_cell_is_refused() -> None:
    with pytest.raises(InputError, match="no volume"):
        build_graph(Atoms("H", [[0, 0, 0]], cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), 2.0)


def test_a_position_that_is_not_finite_is_named() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, np.nan, 0]])
    with pytest.raises(InputError, match="atom 1"):
        build_graph(atoms, 2.0)
    pairs = SkinList(atoms.numbers, atoms.pbc, 2.0, 0.5)
    with pytest.raises(SimulationError, match="atom 1"):
        pairs.graph(atoms.positions, atoms.cell.array)


def assert_same_bits(got: Graph, expected: Graph) -> None:
    for name in ("pairs", "shifts", "vectors", "positions", "cells", "volumes"):
        assert np.array_equal(getattr(got, name), getattr(expected, name), equal_nan=True), name


@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=str)
def test_a_reused_list_equals_a_fresh_one_to_the_last_bit_while_atoms_and_cell_move(pbc: object) -> None:
    generator = np.random.default_rng(4)
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    atoms.pbc = pbc
    pairs = SkinList(atoms.numbers, atoms.pbc, 5.0, 1.0)
    for _ in range(60):
        strain = np.eye(3) + generator.normal(0, 0.004, (3, 3)) * np.outer(atoms.pbc, atoms.pbc)
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += generator.normal(0, 0.04, atoms.positions.shape)
        assert_same_bits(pairs.graph(atoms.positions, atoms.cell.array), build_graph(atoms, 5.0))
    assert 3 < pairs.n_searches < 45  # it was reused, and it was renewed


@pytest.mark.parametrize("skin", [0.3, 1.0])
def test_the_list_is_renewed_before_an_atom_can_come_in_unseen(skin: float) -> None:
    start = np.array([[0.0, 0, 0], [0, 0, 4.0 + skin + 0.02], [2.0, 0, 0], [3.0, 0, 0]])
    pairs = SkinList(np.ones(4), np.zeros(3, bool), 4.0, skin)
    for way in np.linspace(0, 0.6 * skin, 40):  # two atoms approach each other head-on
        positions = start + np.array([[0, 0, way], [0, 0, -way], [0, 0, 0], [0, 0, 0]])
        together = positions[1, 2] - positions[0, 2] < 4.0
        graph = pairs.graph(positions, np.zeros((3, 3)))
        assert bool(((graph.pairs[0] == 0) & (graph.pairs[1] == 1)).any()) == together


def test_compression_alone_renews_the_list_in_time() -> None:
    # one atom, its images at 4.49 Å just outside the list, squeezed until they are within the cutoff
    pairs = SkinList(np.ones(1), np.ones(3, bool), 4.0, 0.48)
    for length in np.linspace(4.49, 3.9, 60):
        graph = pairs.graph(np.zeros((1, 3)), np.diag([length, 9.0, 9.0]))
        assert graph.pairs.shape[1] == (2 if length < 4.0 else 0)


def test_drift_of_the_whole_system_costs_no_search() -> None:
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    pairs = SkinList(atoms.numbers, atoms.pbc, 5.0, 0.5)
    for step in range(20):
        pairs.graph(atoms.positions + step * np.array([0.3, -0.1, 0.2]), atoms.cell.array)
    assert pairs.n_searches == 1


def test_rotation_of_cell_and_atoms_costs_no_search() -> None:
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    pairs = SkinList(atoms.numbers, atoms.pbc, 5.0, 0.5)
    pairs.graph(atoms.positions, atoms.cell.array)
    pairs.graph(atoms.positions @ q, atoms.cell.array @ q)
    assert pairs.n_searches == 1


def test_a_restored_list_is_searched_where_it_was() -> None:
    generator = np.random.default_rng(8)
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    one = SkinList(atoms.numbers, atoms.pbc, 5.0, 0.5)
    one.graph(atoms.positions, atoms.cell.array)
    moved = atoms.positions + generator.normal(0, 0.03, atoms.positions.shape)
    one.graph(moved, atoms.cell.array)
    two = SkinList(atoms.numbers, atoms.pbc, 5.0, 0.5)
    two.restore(one.state())
    assert_same_bits(two.graph(moved, atoms.cell.array), one.graph(moved, atoms.cell.array))
    assert np.array_equal(two.state()["positions"], atoms.positions)
    assert np.array_equal(one.state()["positions"], atoms.positions)


def test_the_state_before_the_first_search_is_empty() -> None:
    pairs = SkinList(np.ones(2), np.zeros(3, bool), 3.0, 0.5)
    assert pairs.state() == {}
    pairs.graph(np.array([[0.0, 0, 0], [0, 0, 1]]), np.zeros((3, 3)))
    pairs.restore({})
    assert pairs.state() == {}


def test_the_list_does_not_hold_on_to_the_callers_array() -> None:
    positions = np.array([[0.0, 0, 0], [0, 0, 2.0]])
    pairs = SkinList(np.ones(2), np.zeros(3, bool), 3.0, 0.5)
    graph = pairs.graph(positions, np.zeros((3, 3)))
    positions += 100.0
    assert float(graph.vectors[0, 2]) == 2.0
    assert pairs.state()["positions"][1, 2] == 2.0


@pytest.mark.parametrize("skin", [-0.1, float("nan"), float("inf")])
def test_an_impossible_skin_is_refused(skin: float) -> None:
    with pytest.raises(InputError, match="skin"):
        SkinList(np.ones(1), np.zeros(3, bool), 3.0, skin)
