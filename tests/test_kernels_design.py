"""What training asks of the compiled kernels: rows of least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_systems import SYSTEMS, needs_kernels, system
from made_potentials import random_mtp

from mlmd.descriptors.moment_design import MomentDesign
from mlmd.descriptors.moment_kernel import CompiledDesign
from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError
from mlmd.neighbors import build_graph

pytestmark = needs_kernels
ELEMENTS = ("Li", "Y", "Cl")


def descriptor(elements: tuple[str, ...], level: int) -> Moments:
    found = random_mtp(elements, level).descriptor
    assert isinstance(found, Moments)
    return found


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


def test_a_position_that_is_not_finite_is_refused() -> None:
    moments, atoms = descriptor(("Li",), 6), system("crystal", ("Li",), 2.4)
    graph = build_graph(atoms, 0.0)
    graph.positions[3, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        moments.design(graph)
