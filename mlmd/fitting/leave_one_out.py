"""Width and regularisation of kernel ridge regression by leave-one-out cross validation.

Of the fit to all rows but one, the residual at that row is α_s / [(K + λ I)⁻¹]_ss, α = (K + λ I)⁻¹ (y - c): no fit is
repeated, and one decomposition of K serves every λ (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, section 5.4.2). The mean c is that of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.kernels import kernel_named

STRENGTHS = tuple(10.0**power for power in range(-10, 1))
"""λ, in units of the mean of the kernel's diagonal."""
FACTORS = tuple(2.0**power for power in range(-2, 11))
"""Widths in units of the typical distance of two rows."""
_TYPICAL = 500
"""Rows whose distances are looked at."""
_EXPONENTS = {"laplacian": 1, "gaussian": 2}
"""Kernel with a width -> power n of it: k = exp(-(d/ℓ)ⁿ up to a factor)."""


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
    widths = [width] if width is not None or kernel not in _EXPONENTS else _widths(features, kernel)
    best: Choice | None = None
    # of a wide kernel, a narrower one is a power: distances are computed once
    widest = max((one for one in widths if one is not None), default=None)
    matrix = kernel_named(kernel, width=widest, power=power).values(features, features)
    for number, one in enumerate(widths):
        narrowed = matrix if one is None or widest is None else matrix ** ((widest / one) ** _EXPONENTS[kernel])
        scale = float(narrowed.diagonal().mean())
        relative = torch.tensor(STRENGTHS, dtype=torch.float64) * scale
        strengths = relative if regularisation is None else torch.tensor([regularisation], dtype=torch.float64)
        errors = leave_one_out(narrowed, targets, strengths).square().mean(dim=0).sqrt()
        at = int(errors.argmin())
        if best is None or float(errors[at]) < best.error:
            best = Choice(width=one, regularisation=float(strengths[at]), error=float(errors[at]))
        tried(number + 1, len(widths))
    assert best is not None
    return best


def _widths(features: Tensor, kernel: str) -> list[float | None]:
    """`FACTORS` of the median distance of different rows."""
    some = features[:_TYPICAL]
    distances = torch.cdist(some, some, p=1 if kernel == "laplacian" else 2)
    known = distances[distances > 0]
    if not len(known):
        raise InputError("all structures have the same features: the descriptor does not tell them apart.")
    return [factor * float(known.median()) for factor in FACTORS]
