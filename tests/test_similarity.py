"""Kernels between structures against DScribe, assignments and sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from scipy.optimize import linear_sum_assignment, linprog
from torch.nn.functional import normalize

from mlmd.descriptors.similarity import average_kernel, rematch_kernel
from mlmd.descriptors.soap import Soap
from mlmd.errors import InputError
from mlmd.neighbors import build_graph


def molecules() -> list[torch.Tensor]:
    soap = Soap(elements=("H", "C", "O"), cutoff=4.0, n_max=4, l_max=4)
    return [soap.features(build_graph(molecule(name), 4.0)) for name in ("CH3OH", "H2O", "C2H6", "CH4", "CO2")]


def random_rows(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand((size, 6), generator=generator, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize("zeta", [1, 3])
@pytest.mark.parametrize("normalised", [True, False])
def test_kernels_are_dscribes(zeta: int, normalised: bool) -> None:
    kernels = pytest.importorskip("dscribe.kernels")
    rows = molecules()
    given = [one.numpy() for one in rows]
    # (γ x·y + c)^degree
    local = {"metric": "polynomial", "degree": zeta, "gamma": 1.0, "coef0": 0.0, "normalize_kernel": normalised}
    expected = kernels.AverageKernel(**local).create(given)
    values = average_kernel(rows, zeta=zeta, normalised=normalised)
    assert np.abs(values.numpy() - expected).max() < 1e-13
    for gamma in (1.0, 0.1):  # the scaling alone, as there, does not end for much smaller ones
        oracle = kernels.REMatchKernel(alpha=gamma, threshold=1e-18, **local)  # of squares of relative changes
        values = rematch_kernel(rows, gamma=gamma, zeta=zeta, normalised=normalised)
        assert np.abs(values.numpy() - oracle.create(given)).max() < 1e-9
        others = rematch_kernel(rows[:2], rows[2:], gamma=gamma, zeta=zeta, normalised=normalised)
        assert np.abs(others.numpy() - oracle.create(given[:2], given[2:])).max() < 1e-9


def squared_cosines(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(n, m) between rows and others: how alike two atoms are, for ζ = 2."""
    return (normalize(rows) @ normalize(others).T) ** 2


def test_a_small_gamma_gives_the_best_match_and_a_large_one_the_average() -> None:
    one, other = random_rows(5, 5)
    similarities = squared_cosines(one, other).numpy()
    best = similarities[linear_sum_assignment(similarities, maximize=True)].mean()
    matched = rematch_kernel([one], [other], gamma=2e-4, zeta=2, normalised=False)
    # exp(-1/γ) times any difference between matches is nothing
    assert float(matched) == pytest.approx(best, abs=1e-6)
    mean = rematch_kernel([one], [other], gamma=1e6, zeta=2, normalised=False)
    assert float(mean) == pytest.approx(similarities.mean(), abs=1e-6)
    assert float(average_kernel([one], [other], zeta=2, normalised=False)) == pytest.approx(similarities.mean())


@pytest.mark.parametrize("gamma", [1e-5, 1e-3, 0.02])
def test_groups_of_equal_atoms_in_other_proportions_are_matched_as_well_as_can_be(gamma: float) -> None:
    # part of a group must go to another: with γ = 0.02 alone that would take exp(50 Δ) steps of Sinkhorn's
    (kinds,) = random_rows(4)
    one, other = kinds[[0] * 7 + [1] * 3 + [2]], kinds[[0] * 2 + [1] * 9 + [2] * 12 + [3] * 4]
    similarities = squared_cosines(one, other).numpy()
    n, m = similarities.shape
    sums = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    parts = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    best = -linprog(-similarities.ravel(), A_eq=sums, b_eq=parts).fun
    found = float(rematch_kernel([one], [other], gamma=gamma, zeta=2, normalised=False))
    # never above the best, and below by less than γ times the entropy
    assert best - gamma * math.log(n * m) < found < best + 1e-9


def test_the_average_of_a_linear_kernel_is_the_product_of_mean_rows() -> None:
    rows = [one / one.norm(dim=1, keepdim=True) for one in random_rows(3, 7, 4)]
    means = torch.stack([one.mean(dim=0) for one in rows])
    assert torch.allclose(average_kernel(rows, normalised=False), means @ means.T)


@pytest.mark.parametrize("gamma", [None, 0.05])
def test_kernels_are_symmetric_positive_and_one_for_the_same_structure(gamma: float | None) -> None:
    rows = molecules()
    values = average_kernel(rows, zeta=2) if gamma is None else rematch_kernel(rows, gamma=gamma, zeta=2)
    assert torch.allclose(values.diagonal(), torch.ones(5, dtype=torch.float64))
    assert torch.equal(values, values.T)
    assert float(torch.linalg.eigvalsh(values).min()) > 0
    assert float(values.triu(1).max()) < 1 - 1e-3
    repeated = [torch.cat([one, one.flip(0)]) for one in rows]  # a supercell, its atoms in another order
    again = average_kernel(repeated, zeta=2) if gamma is None else rematch_kernel(repeated, gamma=gamma, zeta=2)
    assert torch.allclose(again, values, atol=1e-8)


def test_a_best_match_sees_a_difference_that_the_average_does_not() -> None:
    # atoms u, u, v, v with v at a right angle to u, and four atoms between them: with ζ = 1 the averages are the same
    u, v = torch.eye(2, dtype=torch.float64)
    one, other = torch.stack([u, u, v, v]), torch.stack([(u + v) / math.sqrt(2)] * 4)
    assert float(average_kernel([one], [other])) == pytest.approx(1.0)
    assert float(rematch_kernel([one], [other], gamma=0.01)) < 0.8


def test_kernels_can_be_differentiated() -> None:
    one, other = random_rows(3, 4)

    def kernel(given: torch.Tensor) -> torch.Tensor:
        return rematch_kernel([given], [other], gamma=0.2, zeta=2, tolerance=1e-13)

    assert torch.autograd.gradcheck(kernel, one.requires_grad_(True), eps=1e-6, atol=1e-8)


def test_similarity_decays_with_the_distance_of_structures() -> None:
    soap = Soap(elements=("Cu",), cutoff=5.0, n_max=4, l_max=4)
    rows = []
    for amplitude in (0.0, 0.05, 0.1, 0.2):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.rattle(amplitude, seed=4)
        rows.append(soap.features(build_graph(atoms, 5.0)))
    for values in (average_kernel(rows, zeta=4)[0], rematch_kernel(rows, gamma=0.01, zeta=4)[0]):
        assert bool((values.diff() < 0).all())


def test_rows_in_single_precision_have_kernels_too() -> None:
    rows = random_rows(3, 4)
    rounded = [one.float() for one in rows]
    assert torch.allclose(rematch_kernel(rounded, gamma=0.01), rematch_kernel(rows, gamma=0.01), atol=1e-5)


def test_what_has_no_similarity_is_refused() -> None:
    rows = random_rows(3, 4)
    with pytest.raises(InputError, match="γ = 0"):
        rematch_kernel(rows, gamma=0.0)
    with pytest.raises(InputError, match="ζ = -1"):
        average_kernel(rows, zeta=-1)
    with pytest.raises(InputError, match="all zero"):
        average_kernel([*rows, torch.zeros(2, 6, dtype=torch.float64)])
    with pytest.raises(InputError, match="without atoms"):
        average_kernel([rows[0][:0]])
    with pytest.raises(InputError, match="one structure"):
        average_kernel([])
    with pytest.raises(InputError, match="opposite directions"):
        average_kernel([torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])], zeta=0.5)
