"""Random features: their inner products are kernels, their slopes derivatives, and kinds do not mix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mlmd.errors import InputError
from mlmd.fitting.linear import Linear
from mlmd.fitting.random_features import FUNCTIONS, RandomFeatures


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def drawn(seed: int = 0, **settings: Any) -> RandomFeatures:
    features = RandomFeatures(**{"n_features": 3, "n_random": 20, **settings})
    features.randomise(torch.Generator().manual_seed(seed))
    return features


def gaussian(x: np.ndarray, y: np.ndarray, width: float) -> float:
    return math.exp(-np.sum((x - y) ** 2) / (2 * width**2))


def arc_cosine(x: np.ndarray, y: np.ndarray, width: float, order: int) -> float:
    """Cho and Saul's closed forms, for the vectors (x/ℓ, 1)."""
    x, y = np.append(x / width, 1.0), np.append(y / width, 1.0)
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    angle = math.acos(min(1.0, x @ y / norms))
    if order == 1:
        j = math.sin(angle) + (math.pi - angle) * math.cos(angle)
    else:
        j = 3 * math.sin(angle) * math.cos(angle) + (math.pi - angle) * (1 + 2 * math.cos(angle) ** 2)
    return norms**order * j / math.pi


KERNELS = {
    "fourier": gaussian,
    "arc-cosine-1": lambda x, y, width: arc_cosine(x, y, width, 1),
    "arc-cosine-2": lambda x, y, width: arc_cosine(x, y, width, 2),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_inner_products_are_the_kernel_with_an_error_of_one_over_the_root_of_their_number(function: str) -> None:
    rows = normal(6, 3)
    exact = np.array([[KERNELS[function](x, y, 1.5) for y in rows.numpy()] for x in rows.numpy()])
    zeros = torch.zeros(6, dtype=torch.int64)
    errors = []
    for n_random in (100, 6400):
        of_number = []
        for seed in range(20):
            basis = drawn(seed, n_random=n_random, function=function, width=1.5).basis(rows, zeros)
            of_number.append((basis @ basis.T).numpy() - exact)
        errors.append(np.sqrt(np.mean(np.square(of_number))))
    # 64 times as many: 8 times smaller; the ratio of two such errors, each of 20 draws, scatters by some 20 %
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.4)
    assert errors[1] < 0.04 * exact.max()


def test_order_one_has_forces_that_jump_and_order_two_has_not() -> None:
    for order, jump in ((1, True), (2, False)):
        features = drawn(n_features=1, n_random=1, function=f"arc-cosine-{order}")
        kink = -float(features.phases[0, 0] / features.frequencies[0, 0, 0])
        sides = torch.tensor([[kink - 1e-7], [kink + 1e-7]], dtype=torch.float64)
        ones = torch.ones((2, 1, 1), dtype=torch.float64)
        left, right = features.slopes(sides, torch.zeros(2, dtype=torch.int64), ones).flatten().tolist()
        assert (abs(left - right) > 0.1) == jump


def test_functions_of_one_kind_are_zero_for_others() -> None:
    features = drawn(n_kinds=3)
    basis = features.basis(normal(2, 3), torch.tensor([2, 0]))
    assert basis.shape == (2, 60)
    assert (basis[0, :40] == 0).all() and (basis[0, 40:] != 0).all()
    assert (basis[1, 20:] == 0).all() and (basis[1, :20] != 0).all()


def test_no_rows_have_a_basis_of_no_rows() -> None:
    features = drawn(n_kinds=2)
    nothing, no_kinds = torch.zeros((0, 3), dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    assert features.basis(nothing, no_kinds).shape == (0, 40)
    assert features.slopes(nothing, no_kinds, torch.zeros((0, 3, 5), dtype=torch.float64)).shape == (0, 40, 5)
    assert features.energies(nothing, no_kinds).shape == (0,)


def test_units_and_zeros_of_the_features_do_not_matter_once_they_are_standardised() -> None:
    rows, kinds = normal(30, 3, seed=6), torch.zeros(30, dtype=torch.int64)
    other = rows * torch.tensor([1e-3, 1.0, 1e4], dtype=torch.float64) - 7
    bases = []
    for features in (rows, other):
        regressor = drawn()
        regressor.standardise(features)
        bases.append(regressor.basis(features, kinds).numpy())
    assert bases[0] == pytest.approx(bases[1], abs=1e-9)  # a mean of 1e4 times the deviation costs digits


def test_a_column_that_does_not_vary_counts_for_nothing() -> None:
    rows = normal(30, 3, seed=7)
    rows[:, 1] = 0.1 + 0.2
    regressor = drawn()
    regressor.standardise(rows)
    assert regressor.scale[1] == 1.0


def test_the_same_seed_draws_the_same_functions_and_the_state_restores_them() -> None:
    first, second, other = drawn(1, n_kinds=2), drawn(1, n_kinds=2), drawn(2, n_kinds=2)
    assert torch.equal(first.frequencies, second.frequencies) and torch.equal(first.phases, second.phases)
    assert not torch.equal(first.frequencies, other.frequencies)
    first.standardise(normal(9, 3) + 3)
    again = RandomFeatures.restore(first.spec(), first.state_dict())
    again.load_state_dict(first.state_dict())
    assert again.spec() == first.spec()
    rows, kinds = normal(4, 3, seed=8), torch.tensor([0, 1, 0, 1])
    assert torch.equal(again.basis(rows, kinds), first.basis(rows, kinds))


def test_the_prior_of_random_and_of_linear_features_is_the_identity() -> None:
    assert torch.equal(drawn(n_kinds=2).prior(), torch.eye(40, dtype=torch.float64))
    assert torch.equal(Linear(n_features=3).prior(), torch.eye(3, dtype=torch.float64))


def test_linear_features_are_their_own_basis() -> None:
    linear, rows, directions = Linear(n_features=3), normal(4, 3), normal(4, 3, 2)
    kinds = torch.zeros(4, dtype=torch.int64)
    assert torch.equal(linear.basis(rows, kinds), rows)
    assert torch.equal(linear.slopes(rows, kinds, directions), directions)
    assert linear.n_basis == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_random": 0}, "impossible"),
        ({"function": "fourrier"}, "Did you mean 'fourier'"),
        ({"width": 0.0}, "width 0.0"),
        ({"amplitude": math.nan}, "amplitude nan"),
    ],
    ids=str,
)
def test_impossible_features_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        drawn(**settings)


def test_rows_that_cannot_be_standardised_are_refused() -> None:
    with pytest.raises(InputError, match="3 are needed"):
        drawn().standardise(normal(5, 4))
    with pytest.raises(InputError, match="rows of features"):
        drawn().standardise(normal(0, 3))
    with pytest.raises(InputError, match="not finite"):
        drawn().standardise(torch.full((2, 3), math.inf))
