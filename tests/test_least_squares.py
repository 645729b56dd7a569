"""Least squares from blocks of rows: the same answer as from all rows at once, from memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import lstsq

from mlmd.errors import InputError
from mlmd.fitting.least_squares import Triangle, combine, solve, whole_factor


def rows(n: int, columns: int, seed: int, condition: float = 1.0) -> torch.Tensor:
    """Rows [A | y] whose columns of A differ in size by the condition number."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((n, columns + 1))
    matrix[:, :columns] *= np.geomspace(1, condition, columns)
    return torch.from_numpy(matrix)


@pytest.mark.parametrize("condition", [1.0, 1e12])
def test_blocks_give_the_solution_of_scipy(condition: float) -> None:
    problem = rows(700, 12, 1, condition)
    collected = Triangle(13)
    for block in problem.split(37):
        collected.add(block)
    expected = lstsq(problem[:, :12].numpy(), problem[:, 12].numpy(), lapack_driver="gelsy")[0]
    found = solve(collected.factor)
    assert found.x.numpy() == pytest.approx(expected, rel=1e-9)
    assert found.residual == pytest.approx(np.linalg.norm(problem[:, :12].numpy() @ expected - problem[:, 12].numpy()))
    assert collected.n_rows == 700


def test_an_ill_conditioned_problem_keeps_the_digits_that_normal_equations_lose() -> None:
    # columns nearly the same: condition 1e7, its square 1e14
    problem = rows(300, 2, 2)
    problem[:, 1] = problem[:, 0] + 1e-7 * problem[:, 1]
    truth = torch.tensor([1.0, 2.0], dtype=torch.float64)
    problem[:, 2] = problem[:, :2] @ truth
    collected = Triangle(3)
    collected.add(problem)
    assert solve(collected.factor).x.numpy() == pytest.approx(truth.numpy(), abs=1e-8)
    normal = problem[:, :2].T @ problem[:, :2]
    by_normal_equations = torch.linalg.solve(normal, problem[:, :2].T @ problem[:, 2])
    assert (by_normal_equations - truth).abs().max() > 1e-4


def test_parts_combine_to_the_whole() -> None:
    problem = rows(200, 5, 3)
    parts = []
    for block in problem.split(60):
        part = Triangle(6)
        part.add(block)
        parts.append(part.factor)
    whole = combine(parts)
    assert (whole.T @ whole).numpy() == pytest.approx((problem.T @ problem).numpy(), rel=1e-12)


def test_a_penalty_however_large_takes_its_own_column_out_and_no_other() -> None:
    problem = rows(200, 5, 6)
    penalty = torch.tensor([1e-6, 1e-6, 1e50, 1e-6, 1e-6], dtype=torch.float64)
    found = solve(problem, penalty=penalty).x
    others = solve(problem, columns=(slice(0, 2), slice(3, 5)), penalty=penalty).x
    assert found.numpy() == pytest.approx(others.numpy(), rel=1e-12, abs=1e-60)
    factor = whole_factor(problem, penalty=penalty)
    sizes = torch.linalg.vector_norm(factor, dim=0) / torch.linalg.vector_norm(problem[:, :5], dim=0)
    assert sizes.numpy() == pytest.approx([1, 1, 1e50, 1, 1], rel=1e-9)


def test_the_factor_of_the_whole_problem_is_that_of_data_penalty_and_prior() -> None:
    problem, prior = rows(200, 6, 4, 1e3), rows(5, 3, 5)
    penalty = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)
    columns = (slice(0, 2), slice(3, 6))
    found = whole_factor(combine([problem]), columns=columns, penalty=penalty, prior=prior)
    sizes = torch.linalg.vector_norm(problem[:, :6], dim=0)
    expected = problem[:, :6].T @ problem[:, :6] + torch.diag((penalty * sizes) ** 2)
    expected[:4, :4] += prior.T @ prior
    kept = [0, 1, 3, 4, 5]
    assert torch.equal(found, torch.triu(found))
    assert (found.T @ found).numpy() == pytest.approx(expected[kept][:, kept].numpy(), rel=1e-11)


def test_equal_columns_share_the_coefficient() -> None:
    problem = rows(50, 3, 4)
    problem[:, 1] = problem[:, 0]
    collected = Triangle(4)
    collected.add(problem)
    found = solve(collected.factor)
    assert found.rank == 2
    assert found.x[0] == pytest.approx(float(found.x[1]))


def test_the_penalty_is_relative_to_the_norm_of_the_column() -> None:
    # one column: x = (a·y) / (a·a (1 + p²)), whatever the unit of the column
    for unit in (1.0, 1e6):
        problem = rows(40, 1, 5)
        problem[:, 0] *= unit
        collected = Triangle(2)
        collected.add(problem)
        plain = solve(collected.factor).x[0]
        damped = solve(collected.factor, penalty=torch.tensor([0.5], dtype=torch.float64)).x[0]
        assert float(damped / plain) == pytest.approx(1 / 1.25)


def test_columns_left_out_get_zero() -> None:
    problem = rows(40, 4, 6)
    collected = Triangle(5)
    collected.add(problem)
    found = solve(collected.factor, columns=(slice(0, 2),))
    expected = lstsq(problem[:, :2].numpy(), problem[:, 4].numpy())[0]
    assert found.x.numpy() == pytest.approx([*expected, 0.0, 0.0])


def test_memory_is_that_of_the_triangle_however_many_rows_come() -> None:
    collected = Triangle(11)
    for seed in range(200):
        collected.add(rows(50, 10, seed))
        assert collected._factor.shape[0] <= 11
        assert sum(map(len, collected._waiting)) < 8 * 11 + 50


def test_rows_that_do_not_fit_are_refused() -> None:
    collected = Triangle(4)
    with pytest.raises(InputError, match="4 columns are needed"):
        collected.add(torch.zeros((2, 3), dtype=torch.float64))
    with pytest.raises(InputError, match="not finite"):
        collected.add(torch.full((2, 4), float("nan"), dtype=torch.float64))
