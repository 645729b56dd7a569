"""The compiled count of pairs: the histogram of the distances that ASE and vesin list, in any cell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list
from kernel_systems import needs_kernels

from mlmd.analysis import pair_counts
from mlmd.analysis.pair_counts import bins_of, pair_counter
from mlmd.errors import SimulationError
from mlmd.kernels.pair_counts import PairCounts

pytestmark = needs_kernels

PBC = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)]
N_KINDS = 4
"""The last without atoms."""


def counted_by_ase(
    positions: np.ndarray, cell: np.ndarray, pbc: object, kinds: np.ndarray, edges: np.ndarray
) -> np.ndarray:
    i, j, distances = primitive_neighbor_list("ijd", pbc, cell, positions, float(edges[-1]))
    counts = np.zeros((N_KINDS, N_KINDS, len(edges) - 1), dtype=int)
    np.add.at(counts, (kinds[i], kinds[j], np.searchsorted(edges, distances, side="right") - 1), 1)
    return counts


def some_system(seed: int, n_atoms: int, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions partly outside of a skewed cell, the cell, and kinds."""
    generator = np.random.default_rng(seed)
    cell = np.diag(generator.uniform(0.5, 1.5, 3)) * length + generator.normal(0, 0.15 * length, (3, 3))
    cell[0] *= -1 if seed % 2 else 1  # left-handed cells too
    return generator.normal(0, 0.7 * length, (n_atoms, 3)), cell, generator.integers(0, N_KINDS - 1, n_atoms)


@pytest.mark.parametrize("pbc", PBC, ids=["bulk", "slab", "wire", "cluster"])
@pytest.mark.parametrize(("n_atoms", "length", "r_max"), [(3, 3.0, 9.0), (40, 9.0, 7.0), (400, 22.0, 5.0)])
@pytest.mark.parametrize("seed", range(2))
def test_counts_are_those_of_the_pairs_that_ase_lists(
    pbc: tuple[bool, ...], n_atoms: int, length: float, r_max: float, seed: int
) -> None:
    positions, cell, kinds = some_system(seed, n_atoms, length)
    edges = np.linspace(0.0, r_max, 38)
    counts = PairCounts(kinds, N_KINDS, np.array(pbc), r_max, len(edges) - 1)(positions, cell)
    assert counts.sum() > 0 or n_atoms == 3
    assert np.array_equal(counts, counted_by_ase(positions, cell, pbc, kinds, edges))


@pytest.mark.parametrize("seed", range(3))
def test_a_very_skewed_cell_is_the_lattice_that_it_spans(seed: int) -> None:
    positions, cell, kinds = some_system(seed, 60, 9.0)
    edges = np.linspace(0.0, 8.0, 41)
    skewed = np.array([[1, 0, 0], [7, 1, 0], [-3, 5, 1]]) @ cell
    counts = PairCounts(kinds, N_KINDS, np.ones(3), 8.0, 40)(positions, skewed)
    assert np.array_equal(counts, counted_by_ase(positions, cell, PBC[0], kinds, edges))


def by_vesin(kinds: np.ndarray, n_kinds: int, edges: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What counts where nothing is compiled."""
    return pair_counts._counter_by_vesin(kinds, n_kinds, edges)


def test_analyses_count_the_same_without_kernels() -> None:
    positions, cell, kinds = some_system(0, 300, 12.0)
    edges = np.linspace(0.0, 9.0, 181)  # beyond half of the cell
    counts = pair_counter(kinds, N_KINDS, edges)(positions, cell)
    assert counts.sum() > 100_000
    assert np.array_equal(counts, by_vesin(kinds, N_KINDS, edges)(positions, cell))
    small = bulk("Cu", a=4.0)  # a shell on the border of two bins, and one at the end
    edges = np.linspace(0.0, 4.0 * 2**0.5, 129)
    none = np.zeros(1, dtype=int)
    one, other = (make(none, 1, edges)(small.positions, small.cell.array)[0, 0] for make in (pair_counter, by_vesin))
    assert np.array_equal(one, other)


def test_a_shell_of_a_crystal_is_in_one_bin_also_where_that_begins() -> None:
    a = 4.05  # Å, 81 bins
    atoms = bulk("Al", a=a, cubic=True) * (3, 3, 3)
    shift = np.random.default_rng(0).uniform(-50, 50, 3)
    edges = np.linspace(0.0, 6.0, 121)
    counts = pair_counter(np.zeros(len(atoms), dtype=int), 1, edges)(atoms.positions + shift, atoms.cell.array)[0, 0]
    shells = {a / 2**0.5: 12, a: 6, a * 1.5**0.5: 24, a * 2**0.5: 12}
    expected = np.zeros(120, dtype=int)
    expected[bins_of(np.array([*shells]), edges)] = np.array([*shells.values()]) * len(atoms)
    assert np.array_equal(counts, expected)


def test_counts_are_the_same_for_any_number_of_threads() -> None:
    generator = np.random.default_rng(1)
    cell = np.array([[40.0, 0, 0], [9, 42, 0], [-5, 4, 44]])
    kinds, positions = generator.integers(0, 2, 6000), generator.uniform(0, 1, (6000, 3)) @ cell
    count = PairCounts(kinds, 2, np.ones(3), 6.0, 60)
    one, *others = (count(positions, cell, n_threads) for n_threads in (1, 2, 3))
    assert one.sum() > 10_000
    assert all(np.array_equal(one, other) for other in others)


def test_only_wanted_kinds_are_counted() -> None:
    positions, cell, kinds = some_system(1, 100, 9.0)
    every = PairCounts(kinds, N_KINDS, np.ones(3), 5.0, 20)(positions, cell)
    wanted = np.zeros((N_KINDS, N_KINDS), dtype=bool)
    wanted[0, 2] = wanted[2, 0] = True
    some = PairCounts(kinds, N_KINDS, np.ones(3), 5.0, 20, wanted)(positions, cell)
    assert every[0, 2].sum() > 0
    assert np.array_equal(some, np.where(wanted[..., None], every, 0))


def test_frames_follow_each_other_in_cells_of_their_own() -> None:
    count = PairCounts(np.zeros(50, dtype=int), 1, np.ones(3), 6.0, 30)
    edges, kinds = np.linspace(0.0, 6.0, 31), np.zeros(50, dtype=int)
    for seed, length in enumerate((9.0, 3.0, 14.0)):
        positions, cell, _ = some_system(seed, 50, length)
        assert np.array_equal(count(positions, cell)[0, 0], counted_by_ase(positions, cell, PBC[0], kinds, edges)[0, 0])


def test_what_cannot_be_counted_is_refused_and_nothing_is_nothing() -> None:
    count = PairCounts(np.zeros(2, dtype=int), 1, np.ones(3), 3.0, 10)
    for positions, cell in (
        (np.full((2, 3), np.nan), np.eye(3)),
        (np.zeros((2, 3)), np.zeros((3, 3))),
        (np.zeros((2, 3)), 1e-4 * np.eye(3)),
    ):
        with pytest.raises(SimulationError):
            count(positions, cell)
    none = PairCounts(np.zeros(0, dtype=int), 2, np.ones(3), 3.0, 10)
    assert none(np.zeros((0, 3)), np.eye(3)).sum() == 0
