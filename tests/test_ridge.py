"""The strength of a regularisation: what made the data is found again, and the formulas are those of all rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from mlmd.errors import InputError
from mlmd.fitting.least_squares import Triangle, combine
from mlmd.fitting.ridge import cross_validation, evidence, ridge


def factor_of(rows: np.ndarray) -> torch.Tensor:
    collected = Triangle(rows.shape[1])
    collected.add(torch.from_numpy(rows))
    return collected.factor


def made(n_rows: int, n_columns: int, *, deviation: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [A | y] of parameters drawn with a standard deviation, and noise; and the parameters."""
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((n_rows, n_columns)) * np.geomspace(0.03, 3, n_columns)
    x = deviation * generator.standard_normal(n_columns)
    y = matrix @ x + noise * generator.standard_normal(n_rows)
    return np.column_stack([matrix, y]), x


def by_normal_equations(rows: np.ndarray, strength: float, penalty: np.ndarray) -> np.ndarray:
    matrix, y = rows[:, :-1], rows[:, -1]
    return np.linalg.solve(matrix.T @ matrix + strength * penalty, matrix.T @ y)


def strengths(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_ridge_solves_the_normal_equations_of_all_rows() -> None:
    rows, _ = made(80, 7, deviation=1, noise=0.5, seed=1)
    prior = np.random.default_rng(2).standard_normal((9, 5))
    penalty = np.zeros((7, 7))
    penalty[:5, :5] = prior.T @ prior
    found = ridge(factor_of(rows), strengths(0.1, 30.0), prior=torch.from_numpy(prior), n_free=2)
    for column, strength in enumerate((0.1, 30.0)):
        assert found[:, column].numpy() == pytest.approx(by_normal_equations(rows, strength, penalty), rel=1e-9)


def test_without_regularisation_what_the_data_leave_open_is_zero() -> None:
    rows, _ = made(40, 4, deviation=1, noise=0.1, seed=3)
    rows[:, 1] = 0.0
    found = ridge(factor_of(rows), strengths(0.0))[:, 0].numpy()
    assert abs(found[1]) < 1e-14
    assert found == pytest.approx(np.linalg.lstsq(rows[:, :-1], rows[:, -1], rcond=None)[0], abs=1e-12)


def test_a_constant_that_no_row_has_changes_nothing_else() -> None:
    rows, _ = made(40, 4, deviation=1, noise=0.1, seed=4)
    more = np.column_stack([rows[:, :4], np.zeros(40), rows[:, 4]])
    expected = ridge(factor_of(rows), strengths(0.5), n_free=1)[:, 0].numpy()
    found = ridge(factor_of(more), strengths(0.5), n_free=2)[:, 0].numpy()
    assert found == pytest.approx([*expected, 0.0], abs=1e-12)


def test_the_evidence_finds_the_noise_and_the_spread_of_the_parameters() -> None:
    n_rows, n_columns = 4000, 200
    rows, x = made(n_rows, n_columns, deviation=2.0, noise=5.0, seed=5)
    found = evidence(factor_of(rows), n_rows)
    # a standard deviation from n numbers is known to 1/√(2n); four times that
    assert found.beta**-0.5 == pytest.approx(5.0, rel=4 / np.sqrt(2 * (n_rows - n_columns)))
    assert found.alpha**-0.5 == pytest.approx(np.sqrt(np.mean(x**2)), rel=4 / np.sqrt(2 * found.n_determined))


def test_at_the_most_probable_strength_mackays_equations_hold() -> None:
    rows, _ = made(300, 30, deviation=0.5, noise=2.0, seed=6)
    found = evidence(factor_of(rows), 300)
    residuals = rows[:, :-1] @ found.x.numpy() - rows[:, -1]
    # at a flat maximum λ is known to the root of the precision of the evidence
    assert found.alpha == pytest.approx(found.n_determined / float(found.x @ found.x), rel=1e-5)
    assert found.beta == pytest.approx((300 - found.n_determined) / (residuals @ residuals), rel=1e-5)
    assert found.x.numpy() == pytest.approx(by_normal_equations(rows, found.strength, np.eye(30)), rel=1e-7)


def test_the_evidence_is_the_density_of_the_targets() -> None:
    rows, _ = made(25, 6, deviation=1.0, noise=1.0, seed=7)
    prior = np.triu(np.random.default_rng(8).standard_normal((6, 6))) + 2 * np.eye(6)
    found = evidence(factor_of(rows), 25, prior=torch.from_numpy(prior))
    of_x = np.linalg.inv(prior.T @ prior) / found.alpha
    covariance = rows[:, :-1] @ of_x @ rows[:, :-1].T + np.eye(25) / found.beta
    assert found.log_evidence == pytest.approx(multivariate_normal.logpdf(rows[:, -1], np.zeros(25), covariance))


def test_free_parameters_do_not_count_as_large_ones() -> None:
    # constants of 1e4 eV: the evidence of the rest is what it is without them
    rows, _ = made(400, 20, deviation=1.0, noise=0.5, seed=9)
    kinds = np.random.default_rng(10).integers(0, 3, size=(400, 2)).astype(float)
    shifted = np.column_stack([rows[:, :-1], kinds, rows[:, -1] + kinds @ [1e4, -2e4]])
    found, plain = evidence(factor_of(shifted), 400, n_free=2), evidence(factor_of(rows), 400)
    assert found.beta == pytest.approx(plain.beta, rel=0.03)
    assert found.alpha == pytest.approx(plain.alpha, rel=0.03)
    assert found.x[-2:].numpy() == pytest.approx([1e4, -2e4], abs=0.2)


def test_the_evidence_of_free_parameters_is_that_of_a_very_wide_prior() -> None:
    rows, _ = made(30, 5, deviation=1.0, noise=1.0, seed=11)
    found = evidence(factor_of(rows), 30, n_free=1)
    wide = 1e3  # standard deviation; its density at the parameter is 1 / (wide √2π) rather than one
    of_x = np.diag([1 / found.alpha] * 4 + [wide**2])
    covariance = rows[:, :-1] @ of_x @ rows[:, :-1].T + np.eye(30) / found.beta
    density = multivariate_normal.logpdf(rows[:, -1], np.zeros(30), covariance)
    assert found.log_evidence == pytest.approx(density + np.log(wide * np.sqrt(2 * np.pi)), abs=1e-4)


def test_data_without_noise_are_fitted_as_they_are() -> None:
    exact, x = made(100, 10, deviation=1.0, noise=0.0, seed=12)
    assert evidence(factor_of(exact), 100).x.numpy() == pytest.approx(x, rel=1e-6)


def test_noise_is_hardly_taken_for_signal() -> None:
    determined = []
    for seed in range(20):
        noise, _ = made(100, 10, deviation=0.0, noise=1.0, seed=seed)
        determined.append(evidence(factor_of(noise), 100).n_determined)
    # least squares would determine all ten; the evidence has its maximum at no signal for every second sample at
    # least (the likelihood's slope there has mean zero), and takes a little chance for signal in others
    assert sum(one < 1e-6 for one in determined) >= 5
    assert np.mean(determined) < 1.0


def test_cross_validation_is_that_of_fits_to_the_other_rows() -> None:
    rows, _ = made(90, 8, deviation=1.0, noise=3.0, seed=13)
    parts = np.split(rows, [20, 50])
    tried = strengths(0.01, 1.0, 100.0)
    found = cross_validation([factor_of(part) for part in parts], tried)
    for strength, error in zip(tried.tolist(), found.errors.tolist(), strict=True):
        squares = 0.0
        for number, part in enumerate(parts):
            others = np.concatenate([other for index, other in enumerate(parts) if index != number])
            x = by_normal_equations(others, strength, np.eye(8))
            squares += np.sum((part[:, :-1] @ x - part[:, -1]) ** 2)
        assert error == pytest.approx(np.sqrt(squares), rel=1e-9)


def test_cross_validation_and_evidence_agree_on_what_made_the_data() -> None:
    folds = []
    whole, x = made(600, 100, deviation=1.0, noise=20.0, seed=14)
    folds = [factor_of(part) for part in np.split(whole, 6)]
    tried = torch.logspace(-2, 6, 60, dtype=torch.float64)
    by_folds = cross_validation(folds, tried).best
    by_evidence = evidence(combine(folds), 600).strength
    # the noise over the spread squared is 400; both know it to less than a factor of three, the minimum is that flat
    assert by_folds == pytest.approx(400, rel=2)
    assert by_evidence == pytest.approx(400, rel=0.5)
    errors = [float(torch.dist(ridge(combine(folds), tried)[:, k], torch.from_numpy(x))) for k in range(60)]
    chosen = torch.argmin((tried.log() - np.log(by_evidence)).abs())
    assert errors[chosen] < 1.1 * min(errors)


def test_problems_that_do_not_fit_are_refused() -> None:
    factor = factor_of(made(20, 3, deviation=1.0, noise=1.0, seed=15)[0])
    with pytest.raises(InputError, match="cannot be negative"):
        ridge(factor, strengths(-1.0))
    with pytest.raises(InputError, match="3 of 3 columns cannot be free"):
        ridge(factor, strengths(1.0), n_free=3)
    with pytest.raises(InputError, match="for 3 parameters"):
        ridge(factor, strengths(1.0), prior=torch.eye(2, dtype=torch.float64))
    with pytest.raises(InputError, match="does not limit all"):
        ridge(factor, strengths(1.0), prior=torch.diag(strengths(1.0, 0.0, 1.0)))
    with pytest.raises(InputError, match="1 rows say nothing"):
        evidence(factor, 1, n_free=1)
    with pytest.raises(InputError, match="nothing to regularise"):
        evidence(torch.zeros((4, 4), dtype=torch.float64), 20)
    with pytest.raises(InputError, match="1 folds"):
        cross_validation([factor], strengths(1.0))
