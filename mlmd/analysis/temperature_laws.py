"""How a rate depends on temperature: one activation energy, two, or Vogel–Tammann–Fulcher, and which the data show.

With y the logarithm of a diffusion coefficient (or of σT), x = 1/k_B T and known standard errors s of y:

    one line    y = a - E x                                           (Arrhenius)
    two lines   y = a - E_hot min(x, x_b) - E_cold max(x - x_b, 0)    (continuous, break at T_b = 1/k_B x_b)
    VTF         y = a - B / k_B (T - T_0),   0 < T_0 < T              (Vogel 1921, Fulcher 1925, Tammann and Hesse 1926)

Each is fitted by weighted least squares, its one nonlinear parameter (x_b, T_0) by a search over its range. A law with
more parameters always fits better, and because x_b and T_0 have no meaning where one line is true, neither χ² nor the
Bayesian information criterion BIC = χ² + k ln n (Schwarz, Ann. Stat. 6, 461, 1978) has its usual distribution: plain
BIC finds a break in too many data without one (`benchmarks/arrhenius.py` prints how many). Therefore the gain in BIC of
the better of the two over one line is compared with that of `N_DRAWS` sets of data drawn from the fitted line, with the
errors of these points at these temperatures (a parametric bootstrap of the likelihood ratio: McLachlan, Appl. Stat. 36,
318, 1987): one line stands unless fewer than the part `SIGNIFICANT` of them gains as much. Where points seem to scatter
more about every law than their errors say, their scatter has to show it, too: errors that are too small make no regime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2, f, norm, t

from mlmd import units

ONE, TWO, VTF = "one line", "two lines", "VTF"
SIGNIFICANT = 0.05
"""Part of data without a second parameter that may seem to have one."""
N_DRAWS = 4000
CLOSE = 2.0
"""Difference in BIC below which two laws are not told apart (Kass and Raftery, J. Am. Stat. Assoc. 90, 773, 1995)."""
_BAD_FIT, _DOUBTFUL = 0.01, 0.3
_GRID = 240
_LEVEL = 0.95


@dataclass(frozen=True)
class Parameter:
    """A number of a law, with its standard error and its interval of 95 %."""

    value: float
    error: float
    low: float
    high: float
    """Infinite or nan where the data leave that end open."""
    unit: str


@dataclass(frozen=True)
class Law:
    """One of the laws, fitted."""

    name: str
    parameters: Mapping[str, Parameter]
    """``E`` (eV); ``E_hot``, ``E_cold`` (eV) and ``T_break`` (K); ``B`` (eV) and ``T_0`` (K); and ``a``."""
    chi2: float
    """Weighted sum of squares; of residuals in units of y where errors are not known."""
    bic: float
    n_free: int
    """Observations less parameters."""
    quantile: float
    """Standard errors from the middle of an interval of 95 % to its ends."""
    _columns: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    _coefficients: np.ndarray = field(repr=False)
    _covariance: np.ndarray = field(repr=False)

    def at(self, temperatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """y at temperatures (n,) K and its standard error, both (n,)."""
        tangent = self._columns(np.asarray(temperatures, dtype=float))
        n = len(self._coefficients)
        mean = tangent[:, :n] @ self._coefficients
        return mean, np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", tangent, self._covariance, tangent), 0.0))


@dataclass(frozen=True)
class Choice:
    """All laws that could be fitted, and the one that the data show."""

    laws: tuple[Law, ...]
    chosen: Law
    p_value: float
    """How often data of one line seem to show another law as strongly as these; nan without another law."""
    scatter: float
    """By how much errors were multiplied, because the points lie farther from the law than theirs say; else 1."""
    notes: tuple[str, ...]


def choose(temperatures: np.ndarray, y: np.ndarray, errors: np.ndarray | None, *, seed: int = 0) -> Choice:
    """Fit all laws that so many temperatures allow, and choose.

    One line needs two temperatures, VTF four, two lines five.

    Args:
        temperatures: (n,) K.
        y: (n,) logarithms.
        errors: (n,) their standard errors; None where they are not known: what the scatter shows is taken then.
        seed: of the draws.

    Raises:
        ValueError: for fewer than two different temperatures, and for errors that are not above zero.
    """
    temperatures, y = np.asarray(temperatures, dtype=float), np.asarray(y, dtype=float)
    weights = np.ones(len(y)) if errors is None else 1.0 / np.asarray(errors, dtype=float)
    distinct = np.unique(temperatures)
    if len(distinct) < 2:
        raise ValueError("two different temperatures are needed")
    if not (np.isfinite(weights).all() and (weights > 0.0).all() and np.isfinite(y).all()):
        raise ValueError("finite numbers with errors above zero are needed")
    known = errors is not None
    families = _families(distinct)
    found = {name: _best(family, temperatures, y, weights) for name, family in families.items()}
    p_value = math.nan
    if len(families) > 1:
        p_value = _p_value(families, temperatures, y, weights, known=known, seed=seed)
        if known and _scatters(families, found, len(y)):
            p_value = max(p_value, _p_value(families, temperatures, y, weights, known=False, seed=seed))
    bics = {
        name: float(_bic(np.array(square), families[name].n_parameters, len(y), known=known))
        for name, (_, square) in found.items()
    }
    others = sorted((bic, name) for name, bic in bics.items() if name != ONE)
    best = others[0][1] if others and p_value < SIGNIFICANT else ONE
    scatter, notes = _scatter(found[best][1], len(y) - families[best].n_parameters, known=known)
    laws = {
        name: _law(families[name], temperatures, y, weights, found[name], bics[name], scatter, known=known)
        for name in families
    }
    if best != ONE and len(others) > 1 and others[1][0] - others[0][0] < CLOSE:
        notes.append(f"{others[0][1]} and {others[1][1]} describe the points equally well")
    if known and (small := len(y) - families[best].n_parameters) == 0:
        notes.append(f"{best} goes through all points: {small} are left to test it")
    return Choice(tuple(laws.values()), laws[best], p_value, scatter, tuple(notes))


@dataclass(frozen=True)
class _Family:
    """A law before it is fitted: linear but for one parameter."""

    name: str
    columns: Callable[[np.ndarray, float], np.ndarray]
    """(n_temperatures, n_linear) at temperatures and the nonlinear parameter."""
    slope: Callable[[np.ndarray, float, np.ndarray], np.ndarray] | None
    """(n_temperatures,) derivative by the nonlinear parameter, of temperatures, parameter and coefficients."""
    range: tuple[float, float] | None
    n_parameters: int


def _inverse(temperatures: np.ndarray) -> np.ndarray:
    return 1.0 / (units.KB * temperatures)


def _families(distinct: np.ndarray) -> dict[str, _Family]:
    x = np.sort(_inverse(distinct))
    families = {ONE: _Family(ONE, _one_columns, None, None, 2)}
    if len(distinct) >= 5:
        families[TWO] = _Family(TWO, _two_columns, _two_slope, (x[1], x[-2]), 4)
    if len(distinct) >= 4:
        families[VTF] = _Family(VTF, _vtf_columns, _vtf_slope, (0.01 * distinct[0], 0.97 * distinct[0]), 3)
    return families


def _one_columns(temperatures: np.ndarray, nothing: float) -> np.ndarray:
    return np.stack([np.ones(len(temperatures)), -_inverse(temperatures)], axis=1)


def _two_columns(temperatures: np.ndarray, broken: float) -> np.ndarray:
    x = _inverse(temperatures)
    return np.stack([np.ones(len(x)), -np.minimum(x, broken), -np.maximum(x - broken, 0.0)], axis=1)


def _two_slope(temperatures: np.ndarray, broken: float, found: np.ndarray) -> np.ndarray:
    return np.where(_inverse(temperatures) > broken, found[2] - found[1], 0.0)


def _vtf_columns(temperatures: np.ndarray, frozen: float) -> np.ndarray:
    return np.stack([np.ones(len(temperatures)), -1.0 / (units.KB * (temperatures - frozen))], axis=1)


def _vtf_slope(temperatures: np.ndarray, frozen: float, found: np.ndarray) -> np.ndarray:
    return -found[1] / (units.KB * (temperatures - frozen) ** 2)


def _places(family: _Family) -> np.ndarray:
    return np.zeros(1) if family.range is None else np.linspace(*family.range, _GRID)


def _squares(family: _Family, temperatures: np.ndarray, weighted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n_places, n_sets) χ² of y·weights (n, n_sets) at every place of the nonlinear parameter."""
    columns = np.stack([family.columns(temperatures, place) * weights[:, None] for place in _places(family)])
    basis, triangle = np.linalg.qr(columns)
    sizes = np.abs(np.diagonal(triangle, axis1=1, axis2=2))
    basis *= (sizes > 1e-10 * sizes.max(axis=1, keepdims=True))[:, None, :]  # what is no direction of its own
    explained = ((basis.swapaxes(1, 2) @ weighted) ** 2).sum(axis=1)
    return np.maximum((weighted**2).sum(axis=0) - explained, 0.0)


def _best(family: _Family, temperatures: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The nonlinear parameter and χ²."""
    squares = _squares(family, temperatures, (y * weights)[:, None], weights)[:, 0]
    at = int(squares.argmin())
    if family.range is None:
        return 0.0, float(squares[0])
    places = _places(family)
    ends = places[max(at - 1, 0)], places[min(at + 1, len(places) - 1)]
    near = minimize_scalar(
        lambda place: _square(family, temperatures, y, weights, place), bounds=ends, method="bounded"
    )
    return (float(near.x), float(near.fun)) if near.fun < squares[at] else (float(places[at]), float(squares[at]))


def _square(family: _Family, temperatures: np.ndarray, y: np.ndarray, weights: np.ndarray, place: float) -> float:
    columns = family.columns(temperatures, place) * weights[:, None]
    found = np.linalg.lstsq(columns, y * weights, rcond=None)[0]
    return float((((columns @ found) - y * weights) ** 2).sum())


def _bic(squares: np.ndarray, n_parameters: int, n: int, *, known: bool) -> np.ndarray:
    fit: np.ndarray = squares if known else n * np.log(np.maximum(squares, 1e-300) / n)
    return fit + n_parameters * math.log(n)


def _p_value(
    families: Mapping[str, _Family], temperatures: np.ndarray, y: np.ndarray, weights: np.ndarray, *, known: bool,
    seed: int,
) -> float:  # fmt: skip
    """How often data of one line gain as much in BIC by another law; the data themselves are one of the draws."""
    columns = families[ONE].columns(temperatures, 0.0) * weights[:, None]
    line = columns @ np.linalg.lstsq(columns, y * weights, rcond=None)[0]
    noise = np.random.default_rng(seed).standard_normal((len(y), N_DRAWS))
    if not known:
        noise *= math.sqrt(float(((line - y * weights) ** 2).sum()) / max(len(y) - 2, 1))
    sets = np.concatenate([(y * weights)[:, None], line[:, None] + noise], axis=1)
    bics = {
        name: _bic(_squares(one, temperatures, sets, weights).min(axis=0), one.n_parameters, len(y), known=known)
        for name, one in families.items()
    }
    gains = np.max([bics[ONE] - bic for name, bic in bics.items() if name != ONE], axis=0)
    return float((gains >= gains[0] * (1.0 - 1e-12)).mean())


def _scatters(families: Mapping[str, _Family], found: Mapping[str, tuple[float, float]], n: int) -> bool:
    """Whether points seem to be farther from every law than their errors say."""
    return all(chi2.sf(found[name][1], max(n - one.n_parameters, 1)) < _DOUBTFUL for name, one in families.items())


def _scatter(square: float, n_free: int, *, known: bool) -> tuple[float, list[str]]:
    """What errors are multiplied by, and what to say of it."""
    if n_free < 1:
        return (1.0, []) if known else (math.nan, ["too few points for an error: give errors of the values"])
    ratio = math.sqrt(square / n_free)
    if not known:
        return ratio, []
    if chi2.sf(square, n_free) < _BAD_FIT:
        text = f"the points lie {ratio:.1f} times farther from the law than their errors say"
        return ratio, [f"{text}; errors are multiplied by that"]
    return 1.0, []


def _law(
    family: _Family, temperatures: np.ndarray, y: np.ndarray, weights: np.ndarray, best: tuple[float, float],
    bic: float, scatter: float, *, known: bool,
) -> Law:  # fmt: skip
    place, square = best
    columns = family.columns(temperatures, place)
    found = np.linalg.lstsq(columns * weights[:, None], y * weights, rcond=None)[0]
    n_free = len(y) - family.n_parameters

    def tangent(where: np.ndarray) -> np.ndarray:
        linear = family.columns(where, place)
        return linear if family.slope is None else np.column_stack([linear, family.slope(where, place, found)])

    jacobian = tangent(temperatures) * weights[:, None]
    covariance = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True) * scatter**2
    quantile = float(norm.ppf(0.5 + _LEVEL / 2) if known else t.ppf(0.5 + _LEVEL / 2, max(n_free, 1)))
    errors = np.sqrt(np.diag(covariance))

    def parameter(index: int, unit: str) -> Parameter:
        value, error = float(found[index]), float(errors[index])
        return Parameter(value, error, value - quantile * error, value + quantile * error, unit)

    parameters = {"a": parameter(0, "")}
    if family.name == ONE:
        parameters["E"] = parameter(1, "eV")
    elif family.name == TWO:
        low, high = _interval(family, temperatures, y, weights, best, n_free, scatter, known=known)
        kelvin = 1.0 / (units.KB * place)
        error = float(errors[3]) * units.KB * kelvin**2
        ends = 1.0 / (units.KB * high), 1.0 / (units.KB * low)  # hotter is smaller
        parameters |= {"E_hot": parameter(1, "eV"), "E_cold": parameter(2, "eV")}
        parameters["T_break"] = Parameter(kelvin, error, *ends, "K")
    else:
        low, high = _interval(family, temperatures, y, weights, best, n_free, scatter, known=known)
        parameters |= {"B": parameter(1, "eV"), "T_0": Parameter(place, float(errors[2]), low, high, "K")}
    return Law(family.name, parameters, square, bic, n_free, quantile, tangent, found, covariance)


def _interval(
    family: _Family, temperatures: np.ndarray, y: np.ndarray, weights: np.ndarray, best: tuple[float, float],
    n_free: int, scatter: float, *, known: bool,
) -> tuple[float, float]:  # fmt: skip
    """Where the profile of χ² in the nonlinear parameter stays below its limit; nan at an end that stays open."""
    assert family.range is not None
    place, least = best
    level = chi2.ppf(_LEVEL, 1) if known else f.ppf(_LEVEL, 1, max(n_free, 1))
    limit = least + level * scatter**2

    def above(where: float) -> float:
        return _square(family, temperatures, y, weights, where) - limit

    ends = []
    places = _places(family)
    for side in (places[places < place][::-1], places[places > place]):
        inner, end = place, math.nan
        for outer in side:
            if above(float(outer)) > 0.0:
                # of points that lie on the law, the limit is a number of rounding
                end = inner if above(inner) >= 0.0 else float(brentq(above, *sorted((inner, float(outer)))))
                break
            inner = float(outer)
        ends.append(end)
    return ends[0], ends[1]
