"""Settings of kernel ridge regression by leave-one-out cross validation."""

from __future__ import annotations

import math

import pytest
import torch

from mlmd.config import LinearFit, RandomFeaturesFit
from mlmd.errors import InputError
from mlmd.fitting.kernels import kernel_named
from mlmd.fitting.leave_one_out import STRENGTHS, choose, choose_strength, leave_one_out
from mlmd.train.structure_fit import Settings, fitted


def data(n: int = 40, noise: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and a smooth function of them."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn((n, 3), generator=generator, dtype=torch.float64)
    values = torch.sin(rows[:, 0]) + rows[:, 1] ** 2
    return rows, values + noise * torch.randn(n, generator=generator, dtype=torch.float64)


def test_residuals_are_those_of_fits_to_all_other_rows() -> None:
    rows, targets = data()
    matrix = kernel_named("gaussian", width=1.5).values(rows, rows)
    strengths = torch.tensor([1e-6, 1e-2, 1.0], dtype=torch.float64)
    found = leave_one_out(matrix, targets, strengths)
    centred = targets - targets.mean()
    for column, strength in enumerate(strengths):
        for row in range(0, len(rows), 7):
            others = [other for other in range(len(rows)) if other != row]
            part = matrix[others][:, others] + strength * torch.eye(len(others), dtype=torch.float64)
            predicted = matrix[row, others] @ torch.linalg.solve(part, centred[others])
            # the smallest strength leaves a matrix of condition 10⁷
            assert float(found[row, column]) == pytest.approx(float(centred[row] - predicted), abs=1e-8)


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_the_best_of_all_settings_is_chosen(kernel: str) -> None:
    rows, targets = data(noise=0.3)
    best = choose(rows, targets, kernel=kernel)
    assert best.width is not None
    for wider in (0.25, 1.0, 4.0):
        matrix = kernel_named(kernel, width=wider * best.width).values(rows, rows)
        for stronger in (0.1, 1.0, 10.0):
            strength = stronger * best.regularisation
            residuals = leave_one_out(matrix, targets, torch.tensor([strength], dtype=torch.float64))
            error = float(residuals.square().mean().sqrt())
            if wider == stronger == 1:
                # rounding of a kernel, about 10⁻¹⁵, beside a strength of 10⁻¹⁰
                assert error == pytest.approx(best.error, rel=1e-4)
            elif strength >= STRENGTHS[0]:  # a weaker one is not tried
                assert error > best.error


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_errors_are_exact_whatever_the_width_and_however_far_rows_are_apart(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a tenth of the rows is far from the others, and not among the first ones, of which the typical distance is taken
    monkeypatch.setattr("mlmd.fitting.leave_one_out._TYPICAL", 50)
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn((62, 3), generator=generator, dtype=torch.float64)
    rows[56:, 0] += 2000.0
    targets = 0.3 * rows[:, 0] + rows[:, 1] + torch.sin(rows[:, 2])
    best = choose(rows, targets, kernel=kernel)
    assert best.width is not None
    for width in (best.width, 3.0, 3000.0):
        found = choose(rows, targets, kernel=kernel, width=width)
        exact = choose_strength(kernel_named(kernel, width=width).values(rows, rows), targets)
        assert found.error == pytest.approx(exact.error, rel=1e-9)
        assert found.regularisation == exact.regularisation
        assert best.error <= exact.error


def test_more_noise_asks_for_more_regularisation() -> None:
    quiet, loud = (choose(*data(noise=noise), kernel="gaussian", width=2.0) for noise in (1e-3, 1.0))
    assert loud.regularisation > 10 * quiet.regularisation


def test_rows_that_are_all_alike_are_refused() -> None:
    with pytest.raises(InputError, match="does not tell them apart"):
        choose(torch.ones((5, 2), dtype=torch.float64), torch.arange(5.0, dtype=torch.float64), kernel="laplacian")


@pytest.mark.parametrize("n_rows", [60, 6])
def test_a_ridge_fit_solves_its_equations(n_rows: int) -> None:
    # by the normal equations, with more rows than columns and with fewer
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn((n_rows, 1, 10), generator=generator, dtype=torch.float64) * torch.logspace(-2, 2, 10)
    targets = torch.randn(n_rows, generator=generator, dtype=torch.float64)
    fit = LinearFit(regularisation=0.3)
    regressor, _ = fitted(fit, Settings(regularisation=0.3), rows, targets, seed=0)
    flat = rows[:, 0]
    scaled = (flat - flat.mean(dim=0)) / flat.std(dim=0, correction=0)
    normal = scaled.T @ scaled + 0.3**2 * n_rows * torch.eye(10, dtype=torch.float64)
    solution = torch.linalg.solve(normal, scaled.T @ (targets - targets.mean()))
    expected = scaled @ solution + targets.mean()
    found = regressor.energies(flat, torch.zeros(n_rows, dtype=torch.int64))
    assert found.detach().numpy() == pytest.approx(expected.numpy(), abs=1e-10)


def test_the_most_probable_ridge_is_near_the_one_that_made_the_data() -> None:
    # coefficients of variance 1 and noise of standard deviation 0.5: λ = 0.25
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn((400, 1, 50), generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(400, generator=generator, dtype=torch.float64)
    targets = rows[:, 0] @ torch.randn(50, generator=generator, dtype=torch.float64) + noise
    _, settings = fitted(LinearFit(), Settings(), rows, targets, seed=0)
    assert settings.regularisation is not None
    # 50 coefficients and 350 degrees of freedom know the ratio of two variances to about 25 %
    assert settings.regularisation == pytest.approx(math.sqrt(0.25 / 400), rel=0.3)


def test_random_features_do_not_follow_noise() -> None:
    rows, targets = data(n=300, noise=0.3)
    others, expected = data(n=400, noise=0.0)
    fit = RandomFeaturesFit(n_random=400)
    regressor, _ = fitted(fit, Settings(width=4.0), rows[:, None], targets, seed=0)
    error = regressor.energies(others, torch.zeros(400, dtype=torch.int64)).detach() - expected
    assert float(error.square().mean().sqrt()) < 0.3
