"""Sparse Gaussian processes and their kernels, against the dense formulas."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from mlmd.errors import InputError
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.kernels import KERNELS, Kernel, kernel_named
from mlmd.fitting.least_squares import Triangle, solve

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "polynomial": {"power": 3},
    "gaussian": {"width": 1.7},
    "laplacian": {"width": 2.5},
}

CLOSED_FORMS = {
    "linear": lambda x, y: x @ y,
    "polynomial": lambda x, y: (x @ y / math.sqrt((x @ x) * (y @ y))) ** 3,
    "gaussian": lambda x, y: math.exp(-np.sum((x - y) ** 2) / (2 * 1.7**2)),
    "laplacian": lambda x, y: math.exp(-np.sum(np.abs(x - y)) / 2.5),
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def zeros(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(rows), dtype=torch.int64)


def of_kernel(name: str) -> Kernel:
    return kernel_named(name, **SETTINGS[name])


def process(points: torch.Tensor, kinds: torch.Tensor | None = None, **settings: Any) -> SparseGaussian:
    settings = {"kernel": "gaussian", "width": 1.5, "amplitude": 0.8, "jitter": 1e-12, **settings}
    return SparseGaussian(points, zeros(points) if kinds is None else kinds, **settings)


def fit(model: SparseGaussian, rows: torch.Tensor, y: torch.Tensor, sigma: float, n_constants: int = 0) -> None:
    """Least squares of weighted rows and the prior's, as a training does it."""
    n = rows.shape[1]
    prior = torch.nn.functional.pad(model.prior(), (0, n_constants + 1))
    collected = Triangle(n + 1)
    collected.add(torch.cat([rows, y[:, None]], dim=1) / sigma)
    collected.add(prior)
    with torch.no_grad():
        x = solve(collected.factor).x
        model.coefficients.copy_(x[: model.n_basis])
        if n_constants:
            model.constants.copy_(x[model.n_basis :])
    model.set_factor(collected.factor[:n, :n])


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_their_closed_forms(name: str) -> None:
    x, y = normal(5, 4), normal(6, 4, seed=1) + 0.5
    expected = [[CLOSED_FORMS[name](a, b) for b in y.numpy()] for a in x.numpy()]
    assert of_kernel(name).values(x, y).numpy() == pytest.approx(np.array(expected), rel=1e-12)
    alike = of_kernel(name).values(x, x).diagonal()
    assert of_kernel(name).diagonal(x).numpy() == pytest.approx(alike.numpy(), rel=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_slopes_of_kernels_are_their_derivatives(name: str) -> None:
    x, y, directions = normal(5, 4), normal(6, 4, seed=1), normal(5, 4, 3, seed=2)
    slopes = of_kernel(name).slopes(x, y, directions)
    step = 1e-5
    for column in range(3):
        moved = [of_kernel(name).values(x + sign * step * directions[..., column], y) for sign in (1, -1)]
        # step² times third derivatives of some hundred, and rounding over step
        assert slopes[..., column].numpy() == pytest.approx(((moved[0] - moved[1]) / (2 * step)).numpy(), abs=3e-8)


@pytest.mark.parametrize("name", KERNELS)
def test_torch_differentiates_kernels_as_their_slopes_say(name: str) -> None:
    x, y = normal(5, 4).requires_grad_(True), normal(6, 4, seed=1)
    weights = normal(6, seed=3)
    (gradient,) = torch.autograd.grad((of_kernel(name).values(x, y) @ weights).sum(), x)
    slopes = of_kernel(name).slopes(x.detach(), y, torch.eye(4, dtype=torch.float64).expand(5, 4, 4))
    assert torch.einsum("nmd,m->nd", slopes, weights).numpy() == pytest.approx(gradient.numpy(), rel=1e-10)


def test_the_gaussian_kernel_keeps_its_digits_far_from_zero() -> None:
    x, y = normal(4, 3), normal(5, 3, seed=1)
    far = of_kernel("gaussian").values(x + 1e4, y + 1e4)
    # 1e4 itself is known to 1e-12 only; squares of 1e8 would leave 1e-8
    assert far.numpy() == pytest.approx(of_kernel("gaussian").values(x, y).numpy(), abs=1e-11)


def test_many_rows_of_the_laplacian_kernel_are_worked_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, directions = normal(9, 4), normal(6, 4, seed=1), normal(9, 4, 3, seed=2)
    whole = of_kernel("laplacian").slopes(x, y, directions)
    monkeypatch.setattr("mlmd.fitting.kernels._NUMBERS_AT_ONCE", 2 * y.numel())
    assert of_kernel("laplacian").slopes(x, y, directions).numpy() == pytest.approx(whole.numpy(), rel=1e-13)


def test_a_row_of_zeros_is_like_nothing_and_has_no_slope() -> None:
    rows, directions = torch.zeros((1, 4), dtype=torch.float64), normal(1, 4, 2)
    kernel = kernel_named("polynomial", power=1)
    assert float(kernel.values(rows, normal(3, 4)).abs().max()) == 0
    assert float(kernel.slopes(rows, normal(3, 4), directions).abs().max()) == 0
    assert float(kernel.diagonal(rows)) == 0


@pytest.mark.parametrize("kernel", ["polynomial", "gaussian"])
def test_with_all_rows_as_points_it_is_the_full_gaussian_process(kernel: str) -> None:
    rows, y, new = normal(30, 3), normal(30, seed=1), normal(12, 3, seed=2)
    # a polynomial kernel of three features is of low rank and needs its jitter
    settings = {"kernel": kernel, "width": None, "power": 8} if kernel == "polynomial" else {}
    model = process(rows, **settings)
    sigma = 0.3
    fit(model, model.basis(rows, zeros(rows)), y, sigma)

    k = (0.8**2 * model._kernel.values(rows, rows)).numpy()
    between = (0.8**2 * model._kernel.values(new, rows)).numpy()
    factor = scipy.linalg.cho_factor(k + sigma**2 * np.eye(30))
    mean = between @ scipy.linalg.cho_solve(factor, y.numpy())
    variance = 0.8**2 - np.sum(between * scipy.linalg.cho_solve(factor, between.T).T, axis=1)
    # the jitter of 1e-12 is amplified by the weights of the points, which are large where points are alike
    assert model.energies(new, zeros(new)).numpy() == pytest.approx(mean, abs=1e-7)
    assert model.variance(new, zeros(new)).numpy() == pytest.approx(variance, abs=1e-7)


def test_fewer_points_give_the_formula_of_bartok_and_csanyi() -> None:
    rows, y, points = normal(50, 3), normal(50, seed=1), normal(8, 3, seed=2)
    observed = torch.from_numpy(np.random.default_rng(3).integers(0, 2, (20, 50)).astype(float))  # sums of some rows
    model = process(points)
    sigma = 0.2
    fit(model, observed @ model.basis(rows, zeros(rows)), observed @ y, sigma)
    k_mm = (0.8**2 * model._kernel.values(points, points)).numpy()
    k_mn = (0.8**2 * model._kernel.values(points, rows)).numpy()
    lk = observed.numpy() @ k_mn.T / sigma
    alpha = np.linalg.solve(k_mm + lk.T @ lk, lk.T @ (observed @ y).numpy() / sigma)
    assert model.coefficients.numpy() == pytest.approx(alpha, rel=1e-6)


def test_deviations_are_those_of_samples_of_the_coefficients() -> None:
    rows, points, new = normal(40, 3), normal(6, 3, seed=1), normal(5, 3, seed=2)
    model = process(points)
    fit(model, model.basis(rows, zeros(rows)), normal(40, seed=3), 0.5)
    basis = model.basis(rows, zeros(rows)).numpy() / 0.5
    k_mm = 0.8**2 * model._kernel.values(points, points).numpy()
    covariance = np.linalg.inv(basis.T @ basis + k_mm)
    direction = normal(5, 3, 1, seed=4)
    forces = model.slopes(new, zeros(new), direction)[..., 0]
    expected = np.sqrt(np.einsum("nb,bc,nc->n", forces.numpy(), covariance, forces.numpy()))
    assert model.deviations(forces).numpy() == pytest.approx(expected, rel=1e-7)


def test_far_from_all_points_the_variance_is_that_of_the_prior() -> None:
    model = process(normal(6, 3))
    fit(model, model.basis(normal(40, 3, seed=1), torch.zeros(40, dtype=torch.int64)), normal(40, seed=2), 0.1)
    far = torch.full((1, 3), 50.0, dtype=torch.float64)
    assert float(model.variance(far, zeros(far))) == pytest.approx(0.8**2)
    assert float(model.deviations(model.basis(far, zeros(far)))) == pytest.approx(0, abs=1e-12)


def test_the_variance_of_a_well_known_row_is_that_of_its_mean() -> None:
    # one point, seen n times with σ: 1 / (1/δ² + n/σ²)
    point = normal(1, 3)
    model = process(point)
    rows = point.expand(9, 3)
    fit(model, model.basis(rows, zeros(rows)), normal(9, seed=1), 0.6)
    assert float(model.variance(point, zeros(point))) == pytest.approx(1 / (1 / 0.8**2 + 9 / 0.6**2))


def test_what_a_constant_leaves_open_counts_too() -> None:
    # energies of nothing but a constant, seen n times with σ: variance σ²/n + δ² far from the points
    point = normal(1, 3)
    model = process(point, n_kinds=1)
    rows = torch.cat([torch.zeros((16, 1), dtype=torch.float64), torch.ones((16, 1), dtype=torch.float64)], dim=1)
    fit(model, rows, normal(16, seed=1) + 1e5, 0.6, n_constants=1)
    far = torch.full((1, 3), 50.0, dtype=torch.float64)
    assert float(model.variance(far, zeros(far))) == pytest.approx(0.8**2 + 0.6**2 / 16)
    assert float(model.energies(far, zeros(far))) == pytest.approx(1e5, abs=1)
    force = torch.ones((1, 1), dtype=torch.float64)  # in which a constant has no part
    assert float(model.deviations(force)) == pytest.approx(1 / 0.8)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("n_kinds", [1, 2])
def test_directions_that_all_rows_share_give_what_directions_of_their_own_give(kernel: str, n_kinds: int) -> None:
    points, rows, directions = normal(7, 4), normal(6, 4, seed=1), normal(4, 3, seed=2)
    point_kinds, kinds = torch.arange(7) % n_kinds, torch.arange(6) % n_kinds
    settings = {"width": None, **SETTINGS[kernel], "scale": torch.tensor([1.0, 2.0, 0.5, 3.0])}
    model = process(points, point_kinds, kernel=kernel, n_kinds=n_kinds, **settings)
    shared = directions.expand(6, -1, -1)  # as `Linearised.rows` asks for all of them
    found, expected = model.slopes(rows, kinds, shared), model.slopes(rows, kinds, shared.contiguous())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_points_of_one_kind_are_nothing_to_rows_of_another() -> None:
    points, kinds = normal(5, 3), torch.tensor([1, 0, 1, 0, 0])
    model = process(points, kinds, n_kinds=3)
    assert model.point_kinds.tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(model.points, points[[1, 3, 4, 0, 2]])
    basis = model.basis(points[:1].expand(3, 3), torch.tensor([0, 1, 2]))
    assert [(row != 0).tolist() for row in basis] == [
        [True, True, True, False, False],
        [False, False, False, True, True],
        [False] * 5,  # a kind without points has a constant only
    ]
    prior = model.prior()
    same = model.point_kinds[:, None] == model.point_kinds
    assert ((prior.T @ prior != 0) == same).all()


def test_the_prior_is_the_root_of_the_matrix_of_kernels() -> None:
    points = normal(7, 3)
    model = process(points)
    k_mm = 0.8**2 * model._kernel.values(points, points)
    assert (model.prior().T @ model.prior()).numpy() == pytest.approx(k_mm.numpy(), rel=1e-10)


def test_a_process_comes_back_from_spec_and_state_with_its_variances() -> None:
    rows = normal(20, 3)
    kinds = torch.arange(20) % 2
    scales = {"shift": normal(3, seed=5), "scale": torch.full((3,), 2.0, dtype=torch.float64)}
    model = process(rows[:6], kinds[:6], n_kinds=2, **scales)
    fit(model, model.basis(rows, kinds), normal(20, seed=1), 0.3)
    for kept in (True, False):
        if not kept:
            model.factor = None
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        again = SparseGaussian.restore(model.spec(), state)
        again.load_state_dict(state)
        assert again.spec() == model.spec()
        assert torch.equal(again.energies(rows, kinds), model.energies(rows, kinds))
        if kept:
            assert torch.equal(again.variance(rows, kinds), model.variance(rows, kinds))
        else:
            with pytest.raises(InputError, match="without keeping"):
                again.variance(rows, kinds)


def test_features_in_single_precision_give_the_same_to_that_precision() -> None:
    model = process(normal(6, 3))
    with torch.no_grad():
        model.coefficients.copy_(normal(6, seed=1))
        model.constants.fill_(1e6)
    rows = normal(9, 3, seed=2)
    energies = model.energies(rows.float(), zeros(rows))
    assert energies.dtype == torch.float64
    assert energies.numpy() == pytest.approx(model.energies(rows, zeros(rows)).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kernel": "gausian"}, "Did you mean 'gaussian'"),
        ({"width": None}, "needs a width"),
        ({"width": -1.0}, "is positive"),
        ({"power": 2}, "has no power"),
        ({"kernel": "polynomial", "width": None, "power": 0}, "whole number from 1"),
        ({"kernel": "linear"}, "has no width; it has no settings"),
        ({"amplitude": 0.0}, "amplitude 0.0"),
        ({"jitter": -1.0}, "jitter -1.0"),
        ({"kinds": torch.tensor([0, 0, 1])}, "0 to 0, not"),
        ({"kinds": torch.tensor([0, 0])}, "3 points with 2 kinds"),
        ({"points": torch.zeros((0, 3))}, "finite rows of features"),
        ({"points": torch.full((3, 3), math.nan)}, "finite rows of features"),
        ({"shift": torch.zeros(2)}, "2 shifts"),
    ],
    ids=str,
)
def test_impossible_processes_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        process(**{"points": normal(3, 3), **settings})


def test_points_that_are_the_same_are_told() -> None:
    points = normal(1, 3).repeat(40, 1)
    with pytest.raises(InputError, match="40 points of kind 0 are not positive definite"):
        process(points, jitter=1e-18).prior()


def test_factors_and_rows_that_do_not_fit_are_refused() -> None:
    model = process(normal(3, 3))
    with pytest.raises(InputError, match="without keeping"):
        model.deviations(torch.ones((1, 3)))
    with pytest.raises(InputError, match=r"\(3, 3\) or \(4, 4\) fits"):
        model.set_factor(torch.eye(5))
    with pytest.raises(InputError, match="do not determine"):
        model.set_factor(torch.diag(torch.tensor([1.0, 0.0, 1.0])))
    model.set_factor(torch.eye(3))
    with pytest.raises(InputError, match="2 columns"):
        model.deviations(torch.ones((1, 2)))
