"""How strongly to regularise a linear fit: by the evidence of the data, or by cross validation.

    minimise ‖A x - y‖² + λ ‖R x‖²

from triangles of [A | y] as `least_squares.Triangle` makes them, R the rows of the prior. The last columns of A may be
free of it, as constants are. In coordinates u = R x, and orthogonal to the free columns, A = U S V' and everything
follows from the singular values s and z = U'y: u = V s z / (s² + λ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.least_squares import combine

_GRID = 200
"""Strengths at which the evidence is looked at before the best one is refined."""


@dataclass(frozen=True)
class Evidence:
    """The ridge that makes the data most probable."""

    alpha: float
    """Inverse variance of each component of R x."""
    beta: float
    """Inverse variance of the residuals: 1 when the weights of the rows were right."""
    x: Tensor
    """(n,) the solution, for λ = alpha / beta."""
    n_determined: float
    """γ = Σ s² / (s² + λ), parameters that the data determine rather than the prior."""
    log_evidence: float
    """ln p(y | alpha, beta), the natural logarithm, after integration over the free parameters with p = 1."""

    @property
    def strength(self) -> float:
        """λ = alpha / beta."""
        return self.alpha / self.beta


@dataclass(frozen=True)
class CrossValidation:
    """Errors for rows that the fit did not see."""

    strengths: Tensor
    """λ, (n_strengths,)."""
    errors: Tensor
    """(n_strengths,) the norm ‖A x - y‖ over all folds, each predicted from the others."""

    @property
    def best(self) -> float:
        """The λ of the smallest error."""
        return float(self.strengths[self.errors.argmin()])


@dataclass(frozen=True)
class _Problem:
    """A problem in the coordinates where it is diagonal."""

    s: Tensor
    z: Tensor
    rest: float  # ‖y‖² that no x reaches
    back: Tensor  # x of the penalised columns from components of u along V
    free: Tensor  # pseudo-inverse of the free columns
    matrix: Tensor  # the penalised columns
    target: Tensor
    n_free: int  # independent free columns
    log_free: float  # ln det of the free columns' F'F

    def solutions(self, strengths: Tensor) -> Tensor:
        """(n_parameters, n_strengths)."""
        s, z = self.s[:, None], self.z[:, None]
        known = s > len(s) * torch.finfo(s.dtype).eps * s.amax()
        # what the data leave open is zero, also without regularisation: the smallest norm
        penalised = self.back @ torch.where(known, s * z / (s**2 + strengths), torch.zeros_like(z))
        return torch.cat([penalised, self.free @ (self.target[:, None] - self.matrix @ penalised)])


def ridge(factor: Tensor, strengths: Tensor, *, prior: Tensor | None = None, n_free: int = 0) -> Tensor:
    """Solutions x (n, n_strengths) for several strengths λ of the regularisation.

    Args:
        factor: of rows [A | y].
        strengths: λ, (n_strengths,).
        prior: R, (m, n - n_free) of full rank; the identity by default.
        n_free: how many columns at the end of A are not regularised.

    Raises:
        InputError: when shapes do not fit, a strength is negative, or the prior does not limit all parameters.
    """
    if bool((strengths < 0).any()):
        raise InputError("the strength of a regularisation cannot be negative.")
    return _diagonalised(factor, prior, n_free).solutions(strengths)


def evidence(factor: Tensor, n_rows: int, *, prior: Tensor | None = None, n_free: int = 0) -> Evidence:
    """The most probable variances of noise and parameters (MacKay, Neural Comput. 4, 415, 1992).

    R x is normal with variance 1/α, residuals with 1/β. At the maximum α = γ / ‖R x‖² and β = (N - γ) / ‖A x - y‖².
    For a given λ = α/β the best β is known, and the maximum over λ is searched for, because the iteration of these two
    equations finds local maxima, and slowly where there is little noise.

    Args:
        factor: of rows [A | y], weighted by what is believed of their errors.
        n_rows: N, how many rows there were.
        prior: R, (m, n - n_free) of full rank; the identity by default.
        n_free: how many columns at the end of A are not regularised.

    Raises:
        InputError: as `ridge`, without a feature that varies, and for no more rows than free parameters.
    """
    problem = _diagonalised(factor, prior, n_free)
    s, z = problem.s.numpy(), problem.z.numpy()
    n = n_rows - problem.n_free
    if n < 1:
        raise InputError(f"{n_rows} rows say nothing beyond {problem.n_free} free parameters.")
    largest = float(s.max(initial=0.0))
    if not largest > 0:
        raise InputError("no column of the least-squares problem varies: there is nothing to regularise.")

    def at(log_strength: float) -> tuple[float, float]:
        """ln p with the best β, and β."""
        strength = math.exp(log_strength)
        # ‖A x - y‖² + λ ‖u‖² is this, without cancellation
        cost = problem.rest + float(np.sum(strength * z**2 / (s**2 + strength)))
        beta = n / max(cost, np.finfo(float).tiny)
        log_determinant = float(np.sum(np.log1p(s**2 / strength)))
        return 0.5 * (n * (math.log(beta / (2 * math.pi)) - 1) - log_determinant - problem.log_free), beta

    # beyond these ends the prior would be nothing, or everything, to working precision
    grid = np.linspace(math.log(1e-18 * largest**2), math.log(1e12 * largest**2), _GRID)
    best = int(np.argmax([at(point)[0] for point in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = minimize_scalar(lambda point: -at(point)[0], bounds=bounds, method="bounded", options={"xatol": 1e-9})
    log_evidence, beta = at(found.x)
    strength = math.exp(found.x)
    return Evidence(
        alpha=strength * beta,
        beta=beta,
        x=problem.solutions(torch.tensor([strength], dtype=torch.float64))[:, 0],
        n_determined=float(np.sum(s**2 / (s**2 + strength))),
        log_evidence=log_evidence,
    )


def n_determined(factor: Tensor, strength: float, *, prior: Tensor | None = None, n_free: int = 0) -> float:
    """Σ s² / (s² + λ), parameters that the data determine rather than the prior; arguments and errors of `ridge`."""
    s = _diagonalised(factor, prior, n_free).s
    return float((s**2 / (s**2 + strength)).sum()) if strength > 0 else float((s > 0).sum())


def cross_validation(
    folds: Sequence[Tensor], strengths: Tensor, *, prior: Tensor | None = None, n_free: int = 0
) -> CrossValidation:
    """Errors of every fold, predicted from all others, for several strengths λ.

    Args:
        folds: the factor of the rows [A | y] of each fold; rows of a structure belong into the same one.
        strengths: λ, (n_strengths,).
        prior: R, (m, n - n_free) of full rank; the identity by default.
        n_free: how many columns at the end of A are not regularised.

    Raises:
        InputError: as `ridge`, and for fewer than two folds.
    """
    if len(folds) < 2:
        raise InputError(f"{len(folds)} folds were given; cross validation needs two at least.")
    squares = torch.zeros(len(strengths), dtype=torch.float64)
    for number, held_out in enumerate(folds):
        others = combine(factor for other, factor in enumerate(folds) if other != number)
        x = ridge(others, strengths, prior=prior, n_free=n_free)
        residuals = held_out[:, :-1] @ x - held_out[:, -1:]
        squares += residuals.square().sum(dim=0)
    return CrossValidation(strengths=strengths, errors=squares.sqrt())


def _diagonalised(factor: Tensor, prior: Tensor | None, n_free: int) -> _Problem:
    n_penalised = factor.shape[1] - 1 - n_free
    if n_penalised < 1 or n_free < 0:
        raise InputError(f"{n_free} of {factor.shape[1] - 1} columns cannot be free of the regularisation.")
    if prior is None:
        prior = torch.eye(n_penalised, dtype=torch.float64)
    if prior.ndim != 2 or prior.shape[1] != n_penalised or len(prior) < n_penalised:
        raise InputError(f"a prior of shape {tuple(prior.shape)} was given for {n_penalised} parameters.")
    triangle = torch.linalg.qr(prior.double(), mode="r").R
    if not float(triangle.diagonal().abs().min()) > 0:
        raise InputError("the prior does not limit all parameters.")
    factor = factor.double()
    matrix, free, target = factor[:, :n_penalised], factor[:, n_penalised:-1], factor[:, -1]

    left, values, right = torch.linalg.svd(free, full_matrices=False)
    threshold = max(free.shape) * torch.finfo(torch.float64).eps * float(values.amax()) if len(values) else 0.0
    known = values > threshold
    left, values, right = left[:, known], values[known], right[known]

    whitened = torch.linalg.solve_triangular(triangle, matrix, upper=True, left=False)
    whitened = whitened - left @ (left.T @ whitened)
    remaining = target - left @ (left.T @ target)
    u, s, vh = torch.linalg.svd(whitened, full_matrices=False)
    z = u.T @ remaining
    return _Problem(
        s=s,
        z=z,
        rest=float((remaining - u @ z).square().sum()),
        back=torch.linalg.solve_triangular(triangle, vh.T, upper=True),
        free=right.T @ (left / values).T,
        matrix=matrix,
        target=target,
        n_free=len(values),
        log_free=2 * float(values.log().sum()),
    )
