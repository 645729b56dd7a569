"""What training asks of the compiled kernels: rows of least squares, features, and products with their Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from kernel_systems import SYSTEMS, needs_kernels, system
from made_potentials import random_mtp

from mlmd.descriptors.moment_design import MomentDesign
from mlmd.descriptors.moment_kernel import CompiledDesign, moment_kernel
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.species import species
from mlmd.errors import InputError
from mlmd.kernels.design import Features
from mlmd.neighbors import build_graph

pytestmark = needs_kernels
ELEMENTS = ("Li", "Y", "Cl")


def descriptor(elements: tuple[str, ...], level: int) -> Moments:
    found = random_mtp(elements, level).descriptor
    assert isinstance(found, Moments)
    return found


def features(moments: Moments, atoms: Atoms, n_threads: int = 1) -> Features:
    kinds = species(torch.tensor(atoms.numbers), moments.species_table).numpy()
    return Features(moment_kernel(moments), kinds, len(moments.elements), atoms.pbc, n_threads=n_threads)


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float = 1e-10) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= relative * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("nonlinear", [False, True])
def test_rows_are_those_of_torch_on_all_kinds_of_systems(name: str, nonlinear: bool) -> None:
    moments = descriptor(ELEMENTS, 10)
    atoms = [system(name, ELEMENTS, 2.4), system("tiny", ELEMENTS, 2.6, seed=1)]
    weights = torch.linspace(-1.0, 1.0, moments.n_features, dtype=torch.float64) if nonlinear else None
    expected = MomentDesign(moments.basis)(moments, build_graph(atoms, moments.cutoff), weights)
    found = CompiledDesign(moments)(moments, build_graph(atoms, 0.0), weights)
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        n = moments.n_features  # columns of weights and of radial coefficients differ in size
        for columns in (slice(0, n), slice(n, None)) if nonlinear else (slice(0, n),):
            assert_close(one[..., columns].numpy(), other[..., columns].numpy())


@pytest.mark.parametrize("level", [2, 4, 6, 12, 16, 20])
def test_rows_are_those_of_torch_at_every_level(level: int) -> None:
    moments = descriptor(("Si",), level)
    graph = build_graph(system("crystal", ("Si",), 2.5), moments.cutoff)
    weights = torch.linspace(-1.0, 1.0, moments.n_features, dtype=torch.float64)
    expected, found = MomentDesign(moments.basis)(moments, graph, weights), moments.design(graph, weights)
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        assert_close(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", SYSTEMS)
def test_features_and_their_jacobian_products_are_those_of_autograd(name: str) -> None:
    moments, atoms = descriptor(ELEMENTS, 10), system(name, ELEMENTS, 2.4)
    graph = build_graph(atoms, moments.cutoff)
    compiled = features(moments, atoms)
    positions, cell = atoms.positions, atoms.cell.array
    generator = np.random.default_rng(0)
    displacements, strain = generator.standard_normal(positions.shape), generator.standard_normal((3, 3))
    weights = generator.standard_normal((len(atoms), moments.n_features))

    vectors = graph.vectors.clone().requires_grad_(True)
    values = moments.features(graph.with_vectors(vectors))
    (slopes,) = torch.autograd.grad(values, vectors, torch.from_numpy(weights))
    gradient = torch.zeros((len(atoms), 3), dtype=torch.float64)
    gradient.index_add_(0, graph.pairs[1], slopes).index_add_(0, graph.pairs[0], slopes, alpha=-1.0)
    moved = torch.from_numpy(displacements)
    change = moved[graph.pairs[1]] - moved[graph.pairs[0]] + graph.vectors @ torch.from_numpy(strain)
    # forward derivatives by two backward ones: d/du of u . J at any u, times the change
    seed = torch.zeros_like(values, requires_grad=True)
    (turned,) = torch.autograd.grad(moments.features(graph.with_vectors(vectors)), vectors, seed, create_graph=True)
    (pushed,) = torch.autograd.grad(turned, seed, change)

    assert_close(compiled.values(positions, cell), values.detach().numpy())
    assert_close(compiled.push(positions, cell, displacements, strain), pushed.numpy())
    found, virial = compiled.pull(positions, cell, weights)
    assert_close(found, gradient.numpy())
    assert_close(virial, (graph.vectors.T @ slopes).numpy())


def test_push_is_the_change_of_features_by_finite_differences() -> None:
    moments, atoms = descriptor(("Li", "Cl"), 12), system("skewed", ("Li", "Cl"), 2.4)
    compiled, step = features(moments, atoms), 1e-5
    generator = np.random.default_rng(1)
    moved, strain = generator.standard_normal(atoms.positions.shape), generator.standard_normal((3, 3))
    ends = []
    for sign in (1, -1):
        stretch = np.eye(3) + sign * step * strain
        ends.append(compiled.values((atoms.positions + sign * step * moved) @ stretch, atoms.cell.array @ stretch))
    found = compiled.push(atoms.positions, atoms.cell.array, moved, strain)
    assert_close(found, (ends[0] - ends[1]) / (2 * step), 1e-7)  # the step squared times third derivatives


def test_push_and_pull_are_transposes_of_each_other_with_any_number_of_threads() -> None:
    moments, atoms = descriptor(ELEMENTS, 8), system("liquid", ELEMENTS, 2.4)
    generator = np.random.default_rng(2)
    moved, strain = generator.standard_normal(atoms.positions.shape), generator.standard_normal((3, 3))
    weights = generator.standard_normal((len(atoms), moments.n_features))
    for n_threads in (1, 2, 3):
        compiled = features(moments, atoms, n_threads)
        forwards = (weights * compiled.push(atoms.positions, atoms.cell.array, moved, strain)).sum()
        gradient, virial = compiled.pull(atoms.positions, atoms.cell.array, weights)
        assert (gradient * moved).sum() + (virial * strain).sum() == pytest.approx(forwards, rel=1e-11)


def test_a_position_that_is_not_finite_is_refused() -> None:
    moments, atoms = descriptor(("Li",), 6), system("crystal", ("Li",), 2.4)
    graph = build_graph(atoms, 0.0)
    graph.positions[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        moments.design(graph)
