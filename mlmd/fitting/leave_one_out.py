"""Width and regularisation of kernel ridge regression by leave-one-out cross validation.

Of the fit to all rows but one, the residual at that row is α_s / [(K + λ I)⁻¹]_ss, α = (K + λ I)⁻¹ (y - c): no fit is
repeated, and one decomposition of K serves every λ (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, section 5.4.2). The mean c is that of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.kernels import GaussianKernel, LaplacianKernel, kernel_named

STRENGTHS = tuple(10.0**power for power in range(-10, 1))
"""λ, in units of the mean of the kernel's diagonal."""
FACTORS = tuple(2.0**power for power in range(-2, 11))
"""Widths in units of the typical distance of two rows."""
_TYPICAL = 500
"""Rows whose distances are looked at for the typical one."""
_WITH_WIDTH = ("laplacian", "gaussian")


@dataclass(frozen=True)
class Choice:
    """Settings, and how well they predict rows that a fit did not see."""

    width: float | None
    """In units of the features; None for a kernel without."""
    regularisation: float
    error: float
    """Root mean square of the leave-one-out residuals, in the unit of the targets."""


def leave_one_out(matrix: Tensor, targets: Tensor, strengths: Tensor) -> Tensor:
    """(n, n_strengths) residuals y_s - ŷ_s, each predicted from all other rows.

    Args:
        matrix: K, (n, n).
        targets: y, (n,).
        strengths: λ > 0, (n_strengths,).
    """
    values, vectors = torch.linalg.eigh(matrix)
    inverse = 1 / (values.clamp(min=0)[:, None] + strengths)
    centred = vectors.T @ (targets - targets.mean())
    return (vectors @ (centred[:, None] * inverse)) / (vectors.square() @ inverse)


def choose_strength(matrix: Tensor, targets: Tensor, regularisation: float | None = None) -> Choice:
    """The regularisation, of `STRENGTHS` or the one that is given, with the smallest error, for K (n, n) as it is."""
    relative = torch.tensor(STRENGTHS, dtype=torch.float64) * float(matrix.diagonal().mean())
    strengths = relative if regularisation is None else torch.tensor([regularisation], dtype=torch.float64)
    errors = leave_one_out(matrix, targets, strengths).square().mean(dim=0).sqrt()
    at = int(errors.argmin())
    return Choice(width=None, regularisation=float(strengths[at]), error=float(errors[at]))


def choose(
    features: Tensor,
    targets: Tensor,
    *,
    kernel: str,
    width: float | None = None,
    power: int | None = None,
    regularisation: float | None = None,
    tried: Callable[[int, int], None] = lambda done, total: None,
) -> Choice:
    """The settings with the smallest root mean square of the leave-one-out residuals.

    Args:
        features: (n, n_features).
        targets: (n,).
        kernel: a name of `mlmd.fitting.kernels.KERNELS`.
        width: the only one that is tried; `FACTORS` of the typical distance by default.
        power: of the polynomial kernel.
        regularisation: the only one that is tried; `STRENGTHS` by default.
        tried: called with the number of widths done and of all.

    Raises:
        InputError: as `kernel_named`, and when no two rows differ.
    """
    has_width = kernel in _WITH_WIDTH
    typical = _typical_distance(features, kernel) if has_width else 1.0
    widths = [width] if width is not None or not has_width else [factor * typical for factor in FACTORS]
    made = kernel_named(kernel, width=widths[0], power=power)
    with_width = made if isinstance(made, GaussianKernel | LaplacianKernel) else None
    # distances are computed once for all widths; powers of one kernel would lose rows that are far apart for it
    whole = made.values(features, features) if with_width is None else with_width.exponents(features, features)
    best: Choice | None = None
    for number, one in enumerate(widths):
        matrix = whole if with_width is None or one is None else torch.exp(whole / one**with_width.order)
        found = choose_strength(matrix, targets, regularisation)
        if best is None or found.error < best.error:
            best = replace(found, width=one)
        tried(number + 1, len(widths))
    assert best is not None
    return best


def _typical_distance(features: Tensor, kernel: str) -> float:
    """The median distance of different rows, as the kernel measures them, among the first ones."""
    some = features[:_TYPICAL]
    distances = torch.cdist(some, some, p=1 if kernel == "laplacian" else 2)
    known = distances[distances > 0]
    if not len(known):
        raise InputError("all structures have the same features: the descriptor does not tell them apart.")
    return float(known.median())
