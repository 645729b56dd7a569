"""What every regressor must obey: its derivatives, and that it can be kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from mlmd.fitting import REGRESSORS
from mlmd.fitting.committee import Committee
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.fitting.kernel_ridge import KernelRidge
from mlmd.fitting.kernels import KERNELS
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import ACTIVATIONS, Network
from mlmd.fitting.odd_gaussian import OddGaussian
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import FUNCTIONS, RandomFeatures
from mlmd.fitting.sum import Sum
from mlmd.registry import find

N_FEATURES, N_KINDS, N_POINTS = 5, 2, 7
SIZES = {"n_features": N_FEATURES, "n_kinds": N_KINDS}
KERNEL_SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "polynomial": {"power": 3},
    "gaussian": {"width": 1.7},
    "laplacian": {"width": 2.5},
}
STEP = 1e-4
"""In units of features of order one: the error of a difference of four points is its fourth power."""


@dataclass(frozen=True)
class Case:
    """A regressor."""

    name: str
    make: Callable[[], Any]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _scales() -> dict[str, torch.Tensor]:
    return {"shift": normal(N_FEATURES, seed=8), "scale": torch.tensor([0.3, 1.0, 2.0, 0.7, 5.0], dtype=torch.float64)}


def _random(function: str, common: bool = False) -> RandomFeatures:
    made = RandomFeatures(n_random=11, function=function, common=common, amplitude=0.7, **SIZES)
    made.randomise(torch.Generator().manual_seed(1))
    made.standardise(2 * normal(50, N_FEATURES, seed=2) + 0.4)
    return made


def _sparse(kernel: str, n_features: int = N_FEATURES, made: type[SparseGaussian] = SparseGaussian) -> SparseGaussian:
    scales = {name: value[:n_features] for name, value in _scales().items()}
    kinds = torch.arange(N_POINTS) % N_KINDS
    settings = {"kernel": kernel, "amplitude": 1.3, **KERNEL_SETTINGS[kernel], **scales}
    return made(normal(N_POINTS, n_features, seed=3), kinds, n_kinds=N_KINDS, **settings)


def _odd() -> OddGaussian:
    return OddGaussian(normal(N_POINTS, N_FEATURES, seed=3), torch.arange(N_POINTS) % 2, n_kinds=2, width=1.5)


def _process(kernel: str) -> GaussianProcess:
    made = GaussianProcess(
        n_points=N_POINTS, kernel=kernel, amplitude=1.3, **SIZES, **KERNEL_SETTINGS[kernel], **_scales()
    )
    made.points.copy_(made.image(normal(N_POINTS, N_FEATURES, seed=3)))
    made.point_kinds.copy_(torch.arange(N_POINTS) % N_KINDS)
    return made


def _ridge(kernel: str) -> KernelRidge:
    made = KernelRidge(kernel=kernel, **SIZES, **KERNEL_SETTINGS[kernel])
    made.fit(normal(N_POINTS, N_FEATURES, seed=3), normal(N_POINTS, seed=4))
    return made


def _network(**settings: Any) -> Network:
    return Network(**{**SIZES, "n_neurons": (N_FEATURES, 10), **settings})


SMOOTH_KERNELS = [name for name in KERNELS if name != "laplacian"]
CASES = (
    Case("linear", lambda: Linear(**SIZES)),
    Case("polynomial-1", lambda: Polynomial(**SIZES)),
    Case("polynomial-2", lambda: Polynomial(order=2, **SIZES)),
    *(Case(f"random-{name}", lambda name=name: _random(name)) for name in FUNCTIONS),
    *(Case(f"random-{name}-common", lambda name=name: _random(name, common=True)) for name in FUNCTIONS),
    *(Case(f"sparse-{name}", lambda name=name: _sparse(name)) for name in KERNELS),
    *(Case(f"process-{name}", lambda name=name: _process(name)) for name in SMOOTH_KERNELS),
    *(Case(f"ridge-{name}", lambda name=name: _ridge(name)) for name in KERNELS),
    Case("odd-gaussian", _odd),
    Case("sum", lambda: Sum([_sparse("polynomial", 2), _sparse("gaussian", 3)])),
    Case(
        "sum-of-polynomials",
        lambda: Sum([Linear(n_features=3, n_kinds=2), Polynomial(n_features=2, n_kinds=2, order=2)]),
    ),
    *(Case(f"network-{name}", lambda name=name: _network(activation=name)) for name in ACTIVATIONS),
    Case("network-of-one-layer", lambda: _network(n_neurons=4)),
    Case("network-common", lambda: _network(activation=["silu", "tanh"], common=True)),
    Case("network-residual", lambda: _network(residual=True)),
    Case("network-timestep", lambda: _network(residual=True, timestep=True)),
    Case("committee", lambda: Committee([_filled(_network(n_neurons=3), seed) for seed in range(3)])),
)


LINEAR = [case for case in CASES if not case.name.startswith(("network", "process", "committee"))]
"""Those that are linear in their parameters, with a basis."""


def _filled(regressor: Any, seed: int = 9) -> Any:
    """With random numbers in the place of fitted ones."""
    with torch.no_grad():
        for number, parameter in enumerate(regressor.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=100 * seed + number))
    return regressor


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def regressor(request: pytest.FixtureRequest) -> Any:
    return _filled(request.param.make())


ROWS, KINDS = normal(6, N_FEATURES, seed=6) + 0.3, torch.tensor([0, 1, 1, 0, 0, 1])


def said(regressor: Any, rows: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Energies, or components of forces."""
    return (regressor.components if isinstance(regressor, OddGaussian) else regressor.energies)(rows, kinds)


def quotient(of: Callable[[torch.Tensor], torch.Tensor], along: torch.Tensor) -> torch.Tensor:
    """The derivative of a function of rows when these move along directions, by four points."""
    one, two = (of(ROWS + n * STEP * along) - of(ROWS - n * STEP * along) for n in (1, 2))
    return (8 * one - two) / (12 * STEP)


def test_every_regressor_is_tried() -> None:
    assert {case.make().spec()["kind"] for case in CASES} == {*REGRESSORS}
    assert [case for case in CASES if isinstance(case.make(), Expansion)] == LINEAR


def test_the_gradient_by_features_is_the_difference_quotient(regressor: Any) -> None:
    rows = ROWS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(said(regressor, rows, KINDS).sum(), rows)
    assert float(gradient.abs().max()) > 1e-2
    for column, axis in enumerate(torch.eye(N_FEATURES, dtype=torch.float64)):
        expected = quotient(lambda moved: said(regressor, moved, KINDS), axis.expand_as(ROWS))
        torch.testing.assert_close(gradient[:, column], expected, rtol=0, atol=1e-9 * float(gradient.abs().max()))


@pytest.mark.parametrize("regressor", LINEAR, ids=lambda case: case.name, indirect=True)
def test_slopes_of_the_basis_are_difference_quotients_and_add_up_to_the_gradient(regressor: Expansion) -> None:
    directions = normal(len(ROWS), N_FEATURES, 3, seed=7)
    slopes = regressor.slopes(ROWS, KINDS, directions)
    assert slopes.shape == (len(ROWS), regressor.n_basis, 3)
    for column in range(3):
        expected = quotient(lambda moved: regressor.basis(moved, KINDS), directions[..., column])
        torch.testing.assert_close(slopes[..., column], expected, rtol=0, atol=1e-9 * float(slopes.abs().max()))
    rows = ROWS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(said(regressor, rows, KINDS).sum(), rows)
    found = torch.einsum("nbd,b->nd", slopes, regressor.coefficients)
    torch.testing.assert_close(found, torch.einsum("nf,nfd->nd", gradient, directions), rtol=1e-10, atol=1e-10)


def test_energies_of_rows_do_not_depend_on_the_other_rows(regressor: Any) -> None:
    together = said(regressor, ROWS, KINDS)
    one_by_one = torch.cat([said(regressor, ROWS[[n]], KINDS[[n]]) for n in range(len(ROWS))])
    torch.testing.assert_close(one_by_one, together, rtol=1e-12, atol=1e-12)
    assert together.dtype == torch.float64


def test_kept_and_restored_it_gives_the_same_bits(regressor: Any) -> None:
    if isinstance(regressor, Expansion):  # of variances
        regressor.set_factor(torch.eye(regressor.n_basis, dtype=torch.float64) + 0.1)
    spec = json.loads(json.dumps(regressor.spec()))
    assert spec == regressor.spec()
    state = load(save({name: tensor.contiguous() for name, tensor in regressor.state_dict().items()}))
    again = find("mlmd.regressors", spec["kind"], REGRESSORS).restore(spec, state)
    again.load_state_dict(state)
    assert again.spec() == spec
    assert again.n_features == regressor.n_features
    assert again.accepts == regressor.accepts
    assert torch.equal(said(again, ROWS, KINDS), said(regressor, ROWS, KINDS))
    if isinstance(regressor, Expansion):
        rows = regressor.basis(ROWS, KINDS)
        assert torch.equal(again.deviations(rows), regressor.deviations(rows))
