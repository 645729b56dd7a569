"""Width and regularisation of kernel ridge regression by leave-one-out cross validation.

Of the fit to all rows but one, the residual at that row is α_s / [(K + λ I)⁻¹]_ss, α = (K + λ I)⁻¹ (y - c): no fit is
repeated, and one decomposition of K serves every λ (Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, section 5.4.2). The mean c is that of all rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.kernels import GaussianKernel, LaplacianKernel, kernel_named

STRENGTHS = tuple(10.0**power for power in range(-10, 1))
"""λ, in units of the mean of the kernel's diagonal."""
FACTORS = tuple(2.0**power for power in range(-2, 11))
"""Widths in units of the typical distance of two rows."""
_ROUNDS = 2
"""In which the width of each descriptor is looked for beside those of the others."""
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


def choose_units(
    features: Tensor,
    targets: Tensor,
    shares: Sequence[slice],
    *,
    kernel: str,
    widths: Sequence[float] | None = None,
    power: int | None = None,
    regularisation: float | None = None,
    tried: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[tuple[float, ...], Choice]:
    """Units for the features of several descriptors, and the settings of a kernel in these units.

    Of the Gaussian and the Laplacian kernel the units are the widths of the descriptors, and the width of the whole is
    1. First they are in proportion to the typical distances of rows, with the factor of `FACTORS` that predicts best;
    then that of one descriptor after the other is changed where that predicts better, twice: one that says nothing
    about the targets gets a width so large that it says little in the kernel. For other kernels units are the root mean
    squares of the norms of rows, so that all descriptors count the same.

    Args:
        features, targets, kernel, power, regularisation, tried: as those of `choose`.
        shares: columns of each descriptor.
        widths: of each, the only ones that are tried.

    Raises:
        InputError: as `choose`, and where all rows of one descriptor are the same.
    """
    blocks = [features[:, own] for own in shares]
    if kernel not in _WITH_WIDTH:
        norms = [float(block.square().sum(dim=1).mean().sqrt()) or 1.0 for block in blocks]
        whole = torch.cat([block / norm for block, norm in zip(blocks, norms, strict=True)], dim=1)
        chosen = choose(whole, targets, kernel=kernel, power=power, regularisation=regularisation, tried=tried)
        return tuple(norms), chosen
    typical = [_typical_distance(block, kernel, f"descriptor {n}: ") for n, block in enumerate(blocks, 1)]
    made = kernel_named(kernel, width=1.0)
    assert isinstance(made, GaussianKernel | LaplacianKernel)
    exponents = [made.exponents(block / size, block / size) for block, size in zip(blocks, typical, strict=True)]

    def judged(factors: Sequence[float]) -> Choice:
        parts = (one / factor**made.order for one, factor in zip(exponents, factors, strict=True))
        return replace(choose_strength(torch.exp(sum(parts)), targets, regularisation), width=1.0)  # type: ignore[arg-type]

    if widths is not None:
        given = tuple(float(width) for width in widths)
        return given, judged([width / size for width, size in zip(given, typical, strict=True)])
    done, total = itertools.count(1), n_tried(len(blocks))
    found: dict[tuple[float, ...], Choice] = {}

    def best_of(tries: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
        for factors in tries:
            if factors not in found:
                found[factors] = judged(factors)
            tried(next(done), total)
        return min(found, key=lambda factors: found[factors].error)

    best = best_of((factor,) * len(blocks) for factor in FACTORS)
    for number in [*range(len(blocks))] * _ROUNDS:
        best = best_of([(*best[:number], factor, *best[number + 1 :]) for factor in FACTORS])
    return tuple(factor * size for factor, size in zip(best, typical, strict=True)), found[best]


def n_tried(n_descriptors: int) -> int:
    """Choices of widths that are tried for several descriptors, about."""
    return len(FACTORS) * (1 + _ROUNDS * n_descriptors)


def _typical_distance(features: Tensor, kernel: str, place: str = "") -> float:
    """The median distance of different rows, as the kernel measures them, among the first ones."""
    some = features[:_TYPICAL]
    distances = torch.cdist(some, some, p=1 if kernel == "laplacian" else 2)
    known = distances[distances > 0]
    if not len(known):
        raise InputError(f"{place}all structures have the same features: the descriptor does not tell them apart.")
    return float(known.median())
