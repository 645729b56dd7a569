"""The extended Kalman filter of networks, against least squares where the observations are linear."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mlmd.train import kalman

NOISE = 0.3


def made(n: int, m: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A matrix of observations (m, n), what was observed (m,), and the variances of the unknowns (n,)."""
    random = np.random.default_rng(seed)
    matrix, said = random.normal(size=(m, n)), random.normal(size=m)
    return torch.tensor(matrix), torch.tensor(said), torch.tensor(random.uniform(0.5, 2.0, n))


def filtered(
    matrix: torch.Tensor,
    said: torch.Tensor,
    memory: dict[str, torch.Tensor],
    groups: list[torch.Tensor],
    **more: object,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Weights and covariances after all observations, five at a time, from weights of zero."""
    n = matrix.shape[1]
    weights, drift = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    for rows, values in zip(matrix.split(5), said.split(5), strict=True):
        weights, memory = kalman.update(
            weights, memory, rows @ weights - values, rows, groups=groups, noise=NOISE, drift=drift, **more
        )  # type: ignore[arg-type]
    return weights, memory


def test_of_linear_observations_it_is_the_least_squares_solution() -> None:
    # closed form: minimum of |A w - y|²/r + Σ w²/v, and its inverse Hessian, however the rows are divided
    matrix, said, variances = made(12, 40)
    every = [torch.arange(12)]
    weights, memory = filtered(matrix, said, kalman.begin(variances, every), every)
    covariance = np.linalg.inv(matrix.T.numpy() @ matrix.numpy() / NOISE + np.diag(1 / variances.numpy()))
    expected = covariance @ matrix.T.numpy() @ said.numpy() / NOISE
    assert weights.numpy() == pytest.approx(expected, rel=1e-10)
    assert memory["covariance 0"].numpy() == pytest.approx(covariance, rel=1e-9, abs=1e-12)


def test_elements_that_no_observation_joins_are_as_if_they_were_alone() -> None:
    # with blocks of observations of one element only, leaving out covariances between elements leaves out nothing
    first, second = made(6, 20, seed=1), made(4, 20, seed=2)
    groups = [torch.tensor([0, 2, 4, 6, 8, 9]), torch.tensor([1, 3, 5, 7])]
    matrix = torch.zeros(40, 10, dtype=torch.float64)
    matrix[:20, groups[0]], matrix[20:, groups[1]] = first[0], second[0]
    variances = torch.empty(10, dtype=torch.float64)
    variances[groups[0]], variances[groups[1]] = first[2], second[2]
    weights, memory = filtered(matrix, torch.cat([first[1], second[1]]), kalman.begin(variances, groups), groups)
    for index, (own, (rows, said, some)) in enumerate(zip(groups, (first, second), strict=True)):
        every = [torch.arange(len(own))]
        alone, of_alone = filtered(rows, said, kalman.begin(some, every), every)
        assert weights[own].numpy() == pytest.approx(alone.numpy(), rel=1e-10)
        assert memory[f"covariance {index}"].numpy() == pytest.approx(of_alone["covariance 0"].numpy(), rel=1e-9)


def test_an_observation_of_two_elements_is_shared_by_their_variances() -> None:
    # y = a + b with variances 3 and 1 and noise r: the gains are 3 / (4 + r) and 1 / (4 + r)
    groups = [torch.tensor([0]), torch.tensor([1])]
    memory = kalman.begin(torch.tensor([3.0, 1.0], dtype=torch.float64), groups)
    rows, said = torch.ones(1, 2, dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    weights, memory = filtered(rows, said, memory, groups)
    assert weights.tolist() == pytest.approx([3 * 2 / (4 + NOISE), 1 * 2 / (4 + NOISE)], rel=1e-14)
    assert float(memory["covariance 0"]) == pytest.approx(3 - 9 / (4 + NOISE), rel=1e-14)


def test_covariances_stay_symmetric_and_positive_and_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kalman, "_ROWS", 7)  # several pieces, the last one smaller
    matrix, said, variances = made(40, 300, seed=3)
    every = [torch.arange(40)]
    found = [filtered(matrix, said, kalman.begin(variances, every), every, n_threads=n) for n in (1, 3)]
    assert torch.equal(found[0][0], found[1][0])
    covariance = found[0][1]["covariance 0"]
    assert torch.equal(covariance, found[1][1]["covariance 0"])
    assert torch.equal(covariance, covariance.T)
    assert float(torch.linalg.eigvalsh(covariance)[0]) > 0


def test_noise_and_drift_fall_to_their_last_values() -> None:
    steps = [kalman.schedule(step, 1000) for step in range(1000)]
    for values in zip(*steps, strict=True):
        assert all(a >= b > 0 for a, b in itertools.pairwise(values))
    assert steps[0][0] == pytest.approx(kalman._NOISE[0]) and steps[-1][0] == pytest.approx(kalman._NOISE[1])
    assert steps[0][1] == pytest.approx(kalman._DRIFT[0]) and steps[-1][1] == pytest.approx(kalman._DRIFT[1])
