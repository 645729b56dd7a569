"""AdamW: steps along the mean gradient, in units of its fluctuations (Loshchilov and Hutter, ICLR 2019).

Gradients that are far longer than those before are shortened (clipped: Pascanu, Mikolov and Bengio, ICML 2013).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

_WARM_UP = 0.02
"""Part of the steps in which the learning rate rises."""
_LAST_RATE = 1e-2
"""Of the learning rate, what is left of it in the end."""
_MOMENTS = (0.9, 0.999)
"""Decay of the means of gradients and of their squares at each step."""
_SMALL = 1e-8
_LONGEST = 3.0
"""Length of a gradient, at most, in root mean squares of those before. A longer one, of a structure unlike the others,
is shortened: it would carry the weights away for many steps, and in the mean of squares make those after it so small
that they do not come back."""


def begin(weights: np.ndarray) -> dict[str, np.ndarray]:
    """What is remembered before the first step: the means of the gradients and of their squares."""
    return {"first": np.zeros_like(weights), "second": np.zeros_like(weights)}


def step(
    weights: np.ndarray,
    memory: Mapping[str, np.ndarray],
    gradient: np.ndarray,
    *,
    n_done: int,
    rate: float,
    decay: np.ndarray,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Weights after a step, and what is to be remembered.

    Args:
        weights: (n,).
        memory: of `begin` or of the last step.
        gradient: (n,), of the loss by the weights.
        n_done: steps before this one.
        rate: learning rate.
        decay: (n,), part of a weight by which a step with a rate of one makes it smaller.
    """
    n_steps, (one, two) = n_done + 1, _MOMENTS
    if n_done:
        longest = _LONGEST * math.sqrt(float(memory["second"].sum()) / (1 - two**n_done))
        length = float(np.linalg.norm(gradient))
        if length > longest > 0:
            gradient = gradient * (longest / length)
    first = one * memory["first"] + (1 - one) * gradient
    second = two * memory["second"] + (1 - two) * gradient**2
    direction = (first / (1 - one**n_steps)) / (np.sqrt(second / (1 - two**n_steps)) + _SMALL)
    return weights - rate * (direction + decay * weights), {"first": first, "second": second}


def schedule(step: int, n_steps: int) -> float:
    """Part of the learning rate at a step of so many: it rises in a line, then falls along a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, _WARM_UP * n_steps))
    return rise * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / n_steps)))
