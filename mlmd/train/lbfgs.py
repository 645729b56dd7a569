"""L-BFGS: steps by the curvature that the last gradients tell, with a line search.

The direction is -H·g, H the inverse Hessian that the last steps s and changes of the gradient y give by the two-loop
recursion (Nocedal and Wright, Numerical Optimization, 2006, alg. 7.4), its length the first one found that satisfies
the strong Wolfe conditions (ibid., alg. 3.5 and 3.6),

    f(α) ≤ f(0) + c₁ α f'(0) and |f'(α)| ≤ c₂ |f'(0)|.

What it remembers is all that its next step depends on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

N_PAIRS = 30
"""Steps that are remembered."""
_DECREASE, _CURVATURE = 1e-4, 0.9
"""c₁ and c₂."""
_FIRST = 0.1
"""Length of the first step: nothing is known of the curvature yet."""
_MOST = 25
"""Evaluations along a line, at most."""
_CURVED = 1e-10
"""Of |s||y|, what s·y must be for a pair to be kept."""
_LEAST = 1e-12
"""Relative decrease of the value below which it is rounding."""

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Value and gradient (n,) at x (n,)."""


def step(
    x: np.ndarray, memory: Mapping[str, np.ndarray], function: Function
) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Where the value is lower, and what is to be remembered; None at a minimum, up to rounding.

    Args:
        x: (n,).
        memory: of the last step, or empty before the first one: value, gradient, and pairs of s and y by row.
        function: to be minimised.
    """
    if memory:
        value, gradient = float(memory["value"][0]), memory["gradient"]
        steps, changes = memory["steps"], memory["changes"]
    else:
        value, gradient = function(x)
        steps = changes = np.empty((0, len(x)))
    while True:
        direction = _direction(gradient, steps, changes)
        slope = _dot(direction, gradient)
        first = 1.0 if len(steps) else _FIRST / max(math.sqrt(_dot(gradient, gradient)), 1e-300)
        found = _along(function, x, direction, value, slope, first) if slope < 0 else None
        if found is not None:
            break
        if not len(steps):
            return None
        steps = changes = steps[:0]  # the curvature is not what it was thought to be: begin again downhill
    at, new_value, new_gradient = found
    s, y = at - x, new_gradient - gradient
    if _dot(s, y) > _CURVED * math.sqrt(_dot(s, s) * _dot(y, y)):
        steps, changes = np.vstack([steps, s])[-N_PAIRS:], np.vstack([changes, y])[-N_PAIRS:]
    told = {"value": np.array([new_value]), "gradient": new_gradient, "steps": steps, "changes": changes}
    return at, told


def _direction(gradient: np.ndarray, steps: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """-H·g by the two-loop recursion."""
    found = gradient.copy()
    pairs = [(s, y, 1 / _dot(s, y)) for s, y in zip(steps, changes, strict=True)]
    parts = []
    for s, y, rho in reversed(pairs):
        parts.append(rho * _dot(s, found))
        found = found - parts[-1] * y
    if pairs:
        s, y, _ = pairs[-1]
        found = found * (_dot(s, y) / _dot(y, y))
    for (s, y, rho), part in zip(pairs, reversed(parts), strict=True):
        found = found + (part - rho * _dot(y, found)) * s
    return -found


def _along(
    function: Function, x: np.ndarray, direction: np.ndarray, value: float, slope: float, first: float
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """x, value and gradient at a length that satisfies the strong Wolfe conditions; else the lowest that was seen.

    None where no length makes the value lower by more than rounding.
    """
    best: tuple[np.ndarray, float, np.ndarray] | None = None
    low, high = (0.0, value, slope), None
    length = first
    for _ in range(_MOST):
        at = x + length * direction
        f, gradient = function(at)
        d = _dot(gradient, direction) if math.isfinite(f) else math.nan
        lower = math.isfinite(d) and f < value - _LEAST * abs(value)
        if lower and (best is None or f < best[1]):
            best = at, f, gradient
        if not math.isfinite(d) or f > value + _DECREASE * length * slope or (f >= low[1] and low[0] > 0):
            high = length, f, d
        elif abs(d) <= -_CURVATURE * slope:
            return (at, f, gradient) if lower else best
        elif d * ((high[0] if high else math.inf) - low[0]) >= 0:
            high, low = low, (length, f, d)
        else:
            low = length, f, d
        length = 4 * length if high is None else _between(low, high)
        if high is not None and abs(high[0] - low[0]) < 1e-12 * max(high[0], low[0]):
            break
    return best


def _between(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """The minimum of the cubic through two lengths, away from both; the middle where there is none."""
    (a, f, d), (b, g, e) = low, high
    middle, width = (a + b) / 2, abs(b - a)
    if not (math.isfinite(g) and math.isfinite(e)):
        return a + 0.1 * (b - a)
    one = d + e - 3 * (f - g) / (a - b)
    square = one * one - d * e
    if square < 0:
        return middle
    two = math.copysign(math.sqrt(square), b - a)
    bottom = e - d + 2 * two
    found = b - (b - a) * (e + two - one) / bottom if bottom else middle
    return found if math.isfinite(found) and abs(found - middle) < 0.4 * width else middle


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """In an order that does not depend on the number of threads that NumPy has."""
    one, two = _tensor(a), _tensor(b)
    return float((one * two).sum())


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)
