"""Regressors for whole structures: ridge regression, random features and kernel ridge regression, each in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mlmd.config import KernelRidgeFit, LinearFit, RandomFeaturesFit
from mlmd.errors import InputError
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.kernel_ridge import KernelRidge, solved
from mlmd.fitting.leave_one_out import choose, choose_strength, choose_units
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import RandomFeatures
from mlmd.fitting.ridge import Evidence, evidence, ridge
from mlmd.fitting.scaling import mean_and_deviation

CHOSEN_FROM = 1500
"""Structures, at most, from which settings are chosen: their best values hardly depend on the number."""
MOST_COLUMNS = 20_000
"""Coefficients of a linear fit."""
_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of random features, in units of thrice the root of the number of features."""

StructureFit = LinearFit | RandomFeaturesFit | KernelRidgeFit
StructureRegressor = Polynomial | RandomFeatures | KernelRidge


@dataclass(frozen=True)
class Settings:
    """What a fit needs to know beside its data; None for what it has not, or finds each time."""

    width: float | None = None
    regularisation: float | None = None
    units: tuple[float, ...] | None = None
    """Of the features of each of several descriptors; their widths where the kernel has one."""
    error: float | None = None
    """Of structures that were left out, root mean square, where settings were chosen by it."""


def settings_of(
    fit: StructureFit,
    rows: Tensor,
    targets: Tensor,
    seed: int,
    tried: Callable[[int, int], None],
    shares: Sequence[slice] = (),
) -> Settings:
    """Width and regularisation of a fit, those of the input or the best ones.

    Args:
        fit: of the input.
        rows: (n_structures, n_draws, n_features).
        targets: (n_structures,).
        seed: of random features, and of the structures from which settings are chosen.
        tried: called with the number of widths done and of all.
        shares: columns of each of several descriptors.

    Raises:
        InputError: when the descriptor does not tell structures apart.
    """
    order = np.random.default_rng(seed).permutation(len(rows))[:CHOSEN_FROM]
    # one draw of each: several of one structure would predict each other
    some, of_some = rows[order, 0], targets[order]
    match fit:
        case LinearFit():
            given = fit.regularisation if "regularisation" in fit.model_fields_set else None
            return Settings(regularisation=given if isinstance(given, float) else None)
        case RandomFeaturesFit():
            if fit.width is not None:
                return Settings(width=fit.width)
            best: tuple[float, float] | None = None
            for number, factor in enumerate(_WIDTHS):
                width = factor * 3 * rows.shape[2] ** 0.5
                found = _evident(_random(fit, width, some, seed, shares), some, of_some)[1]
                assert found is not None
                best = max(best or (found.log_evidence, width), (found.log_evidence, width))
                tried(number + 1, len(_WIDTHS))
            assert best is not None
            return Settings(width=best[1])
        case KernelRidgeFit():
            return _of_kernel(fit, some, of_some, some[:, order] if fit.of_environments else None, tried, shares)


def _of_kernel(
    fit: KernelRidgeFit,
    rows: Tensor,
    targets: Tensor,
    matrix: Tensor | None,
    tried: Callable[[int, int], None],
    shares: Sequence[slice],
) -> Settings:
    """Of a kernel of rows (n, n_features), or of a kernel (n, n) that is known as a matrix."""
    width = fit.width if isinstance(fit.width, float) else None
    strength = fit.regularisation if isinstance(fit.regularisation, float) else None
    if matrix is not None and strength is None:
        chosen = choose_strength(matrix, targets)
        return Settings(regularisation=chosen.regularisation, error=chosen.error)
    if shares:
        widths = fit.width if isinstance(fit.width, tuple) else None if width is None else (width,) * len(shares)
        units, chosen = choose_units(
            rows,
            targets,
            shares,
            kernel=fit.kernel,
            widths=widths,
            power=fit.power,
            regularisation=strength,
            tried=tried,
        )
        return Settings(chosen.width, chosen.regularisation, units, chosen.error)
    if strength is not None and (width is not None or fit.kernel not in ("gaussian", "laplacian")):
        return Settings(width=width, regularisation=strength)
    chosen = choose(
        rows, targets, kernel=fit.kernel, width=width, power=fit.power, regularisation=strength, tried=tried
    )
    return Settings(width=chosen.width, regularisation=chosen.regularisation, error=chosen.error)


def fitted(
    fit: StructureFit,
    settings: Settings,
    rows: Tensor,
    targets: Tensor,
    seed: int,
    among: np.ndarray | None = None,
    shares: Sequence[slice] = (),
) -> tuple[StructureRegressor, Settings]:
    """A regressor, and the settings with what it found itself.

    Args:
        fit: of the input.
        settings: of `settings_of`.
        rows: (n_structures, n_draws, n_features); every draw is a row that has the target of its structure.
        targets: (n_structures,).
        seed: of random features.
        among: columns of the rows that belong to these structures, where rows are kernels; all by default.
        shares: columns of each of several descriptors.

    Raises:
        InputError: when there are too many coefficients, or rows are so alike that the fit has no solution.
    """
    flat, targets = rows.flatten(0, 1), targets.repeat_interleave(rows.shape[1])
    n_features = flat.shape[1]
    match fit:
        case LinearFit():
            polynomial = Polynomial(n_features=n_features, order=2 if fit.quadratic else 1)
            if polynomial.n_basis > MOST_COLUMNS:
                raise InputError(
                    f"fit: {n_features:,} features make {polynomial.n_basis:,} coefficients; {MOST_COLUMNS:,} are "
                    'possible. Leave quadratic out, give a smaller descriptor, or fit by "kernel-ridge".'
                )
            strength, _ = _evident(polynomial, flat, targets, settings.regularisation)
            return polynomial, replace(settings, regularisation=strength)
        case RandomFeaturesFit():
            assert settings.width is not None
            random = _random(fit, settings.width, flat, seed, shares)
            strength, _ = _evident(random, flat, targets)
            return random, replace(settings, regularisation=strength)
        case KernelRidgeFit():
            assert settings.regularisation is not None
            if fit.of_environments:
                return _of_kernels(fit, settings.regularisation, flat, targets, among), settings
            kernel = KernelRidge(
                n_features=n_features,
                kernel=fit.kernel,
                width=settings.width,
                power=fit.power,
                regularisation=settings.regularisation,
                units=None if settings.units is None else _counted(settings.units, shares),
            )
            kernel.fit(flat, targets)
            return kernel, settings


def _of_kernels(
    fit: KernelRidgeFit, strength: float, rows: Tensor, targets: Tensor, among: np.ndarray | None
) -> Polynomial:
    """Kernel ridge regression where the rows are the kernel with all structures: Σ_s α_s K_s + c, zero for others."""
    columns = torch.arange(rows.shape[1]) if among is None else torch.from_numpy(among)
    matrix, mean = rows[:, columns].clone(), targets.mean()
    matrix.diagonal().add_(strength)
    try:
        solution = solved(matrix, targets - mean)
    except InputError as error:
        raise InputError(
            f"fit: the {fit.kernel} kernel of {len(rows)} structures {error} with a regularisation of {strength:g}: "
            "some are the same or nearly so. Increase the regularisation."
        ) from None
    regressor = Polynomial(n_features=rows.shape[1])
    with torch.no_grad():
        regressor.coefficients[columns] = solution
        regressor.constants.fill_(mean)
    return regressor


def _counted(units: Sequence[float], shares: Sequence[slice]) -> list[tuple[int, float]]:
    """Columns and unit of each descriptor."""
    return [(own.stop - own.start, unit) for own, unit in zip(shares, units, strict=True)]


def _random(
    fit: RandomFeaturesFit, width: float, rows: Tensor, seed: int, shares: Sequence[slice] = ()
) -> RandomFeatures:
    """Random functions of standardised features; several descriptors count the same, however many features each has."""
    random = RandomFeatures(n_features=rows.shape[1], n_random=fit.n_random, function=fit.function, width=width)
    random.standardise(rows)
    scaled = (rows - random.shift) / random.scale
    for own in shares:
        size = float(scaled[:, own].square().sum(dim=1).mean())  # features that vary
        random.scale[own] *= (size * len(shares) / rows.shape[1]) ** 0.5 or 1.0
    random.randomise(torch.Generator().manual_seed(seed))
    return random


def _evident(
    regressor: Expansion, rows: Tensor, targets: Tensor, strength: float | None = None
) -> tuple[float, Evidence | None]:
    """Give a regressor its coefficients: those of a given ridge, or of the most probable one.

    Columns have mean zero, so that the constant is the mean of the targets; those of a polynomial, whose units differ,
    also variance one.

    Returns:
        The strength as a penalty of `mlmd.fitting.least_squares.solve`, relative to the norm of a column of variance
        one, and the evidence where it was looked at.
    """
    with torch.no_grad():
        columns = regressor.basis(rows, torch.zeros(len(rows), dtype=torch.int64))
    shift, scale = mean_and_deviation(columns)
    if not regressor.relative:
        scale = torch.ones_like(scale)
    matrix, mean = (columns - shift) / scale, targets.mean()
    triangle, back = _row_space(matrix)
    factor = torch.linalg.qr(torch.cat([triangle, (targets - mean)[:, None]], dim=1), mode="r").R
    found = None
    if strength is None:
        found = evidence(factor, len(rows))
        solution, used = found.x, (found.strength / len(rows)) ** 0.5
    else:
        used = strength
        solution = ridge(factor, torch.tensor([strength**2 * len(rows)], dtype=torch.float64))[:, 0]
    coefficients = back(solution) / scale
    with torch.no_grad():
        regressor.coefficients.copy_(coefficients)
        regressor.constants.fill_(float(mean - shift @ coefficients))
    return used, found


def _row_space(matrix: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Columns in which a ridge fit is smaller, and what takes its solution back.

    With fewer rows than columns A = L Q, rows of Q orthonormal: the solution for A is Q' times that for L.
    """
    n_rows, n_columns = matrix.shape
    if n_rows >= n_columns:
        return matrix, lambda solution: solution
    basis, upper = torch.linalg.qr(matrix.T)
    return upper.T, lambda solution: basis @ solution
