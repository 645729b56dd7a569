"""The element-decoupled extended Kalman filter: weights as what a few observations at a time tell.

Weights w are a state that does not move, residuals ξ (m) observations of it with the noise R = r·1, and P the
covariance of the weights that is left. With the derivatives H = -∂ξ/∂w, a block H_e (m, n_e) for each element,

    A = R + Σ_e H_e P_e H_eᵀ
    w_e ← w_e + P_e H_eᵀ A⁻¹ ξ
    P_e ← P_e - P_e H_eᵀ A⁻¹ H_e P_e + q·1

(Blank and Brown, J. Chemometrics 8, 391, 1994; several observations together: Singraber, Morawietz, Behler and Dellago,
J. Chem. Theory Comput. 15, 3075, 2019; without covariances between elements: Gastegger and Marquetand, ibid. 11, 2187,
2015, after Puskorius and Feldkamp, IEEE Trans. Neural Netw. 5, 279, 1994). As in Singraber et al. r falls and q falls,
both exponentially, from large to small: the derivatives at the first weights are not worth much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mlmd.potentials.threads import in_threads

_ROWS = 512
"""Of a covariance, worked on by one thread."""
_NOISE = (10.0, 1.0)
"""r at first and in the end, squares of what residuals are counted in: errors of the size of sigma are noise."""
_DRIFT = (1e-4, 1e-8)
"""q at first and in the end, relative to the first covariance."""
_FALL = 0.1
"""Part of the steps in which both fall."""


def begin(variances: Tensor, groups: Sequence[Tensor]) -> dict[str, Tensor]:
    """The first covariances P_e, diagonal.

    Args:
        variances: (n,), how far weights are expected from where they begin, squared.
        groups: numbers of the weights of each element.
    """
    return {f"covariance {index}": torch.diag(variances[own]) for index, own in enumerate(groups)}


def schedule(step: int, n_steps: int) -> tuple[float, float]:
    """r, and q relative to the first covariance, at a step of so many."""
    part = min(1.0, step / max(1.0, _FALL * n_steps))
    noise, drift = (math.exp((1 - part) * math.log(a) + part * math.log(b)) for a, b in (_NOISE, _DRIFT))
    return noise, drift


def update(
    weights: Tensor,
    memory: Mapping[str, Tensor],
    residuals: Tensor,
    slopes: Tensor,
    *,
    groups: Sequence[Tensor],
    noise: float,
    drift: Tensor,
    n_threads: int = 1,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weights after some observations, and the covariances that are left.

    Args:
        weights: (n,).
        memory: the covariances P_e of `begin` or of the last update.
        residuals: (m,), what is predicted less what was observed.
        slopes: ∂residuals/∂weights, (m, n).
        groups: as those of `begin`.
        noise: r, variance of an observation.
        drift: q, (n,), by which variances grow.
        n_threads: to work with, on which the result does not depend.
    """
    parts = [slopes[:, own].contiguous() for own in groups]
    covariances = [memory[f"covariance {index}"] for index in range(len(groups))]
    seen = [_product(p, h, n_threads) for p, h in zip(covariances, parts, strict=True)]  # P Hᵀ
    total = noise * torch.eye(len(residuals), dtype=weights.dtype)
    for h, x in zip(parts, seen, strict=True):
        total = total + h @ x
    lower = torch.linalg.cholesky(0.5 * (total + total.T))
    told = torch.cholesky_solve(residuals[:, None], lower)[:, 0]
    new, kept = weights.clone(), {}
    for index, (own, p, x) in enumerate(zip(groups, covariances, seen, strict=True)):
        new[own] = weights[own] - x @ told
        # P Hᵀ A⁻¹ H P = Y Yᵀ with Y = P Hᵀ L⁻ᵀ: symmetric, whatever is rounded
        half = torch.linalg.solve_triangular(lower, x.T, upper=False).T.contiguous()
        kept[f"covariance {index}"] = _less(p, half, drift[own], n_threads)
    return new, kept


def _product(covariance: Tensor, slopes: Tensor, n_threads: int) -> Tensor:
    """P Hᵀ, (n, m), in pieces whose sums do not depend on the threads."""
    pieces = covariance.split(_ROWS)
    return torch.cat(in_threads(lambda rows: rows @ slopes.T, pieces, n_threads))


def _less(covariance: Tensor, half: Tensor, drift: Tensor, n_threads: int) -> Tensor:
    """P - Y Yᵀ + q·1; what is below the diagonal is that above."""
    found = torch.empty_like(covariance)

    def piece(start: int) -> None:
        rows = slice(start, start + _ROWS)
        block = covariance[rows, start:] - half[rows] @ half[start:].T
        square = block[:, : len(block)]
        square.copy_(0.5 * (square + square.T))
        found[rows, start:], found[start:, rows] = block, block.T

    in_threads(piece, range(0, len(covariance), _ROWS), n_threads)
    found.diagonal().add_(drift)
    return found
