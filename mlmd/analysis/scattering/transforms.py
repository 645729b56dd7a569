"""From g(r) to S(q) and back, with a window at the end of what is known."""

from __future__ import annotations

import numpy as np

from mlmd.errors import InputError

WINDOWS = ("lorch", "none")
"""How a transform ends: Lorch's sin(πx)/(πx) with x = r / r_max or q / q_max (J. Phys. C 2, 229 (1969)), or a step."""


def window(x: np.ndarray, kind: str) -> np.ndarray:
    """The factor at x = r / r_max or q / q_max.

    Raises:
        InputError: for a window that is not one of `WINDOWS`.
    """
    if kind not in WINDOWS:
        raise InputError(f"window {kind!r} is not known. Needed is one of: {', '.join(WINDOWS)}.")
    return np.where(x <= 1.0, np.sinc(x) if kind == "lorch" else 1.0, 0.0)


def to_structure_factor(
    g: np.ndarray, edges: np.ndarray, q: np.ndarray, density: float, kind: str = "lorch"
) -> np.ndarray:
    """A(q) = 1 + 4πρ ∫ r² (g - 1) sin(qr)/(qr) W(r) dr, with g constant in each bin and the integral of a bin exact.

    Args:
        g: (..., n_bins), 1 without correlation.
        edges: (n_bins + 1,) Å.
        q: (n_q,) 1/Å, above 0.
        density: atoms/Å³, of all elements together for a Faber–Ziman partial.
        kind: of the window.

    Returns:
        (..., n_q).
    """
    products = np.outer(edges, q)
    integrals = np.diff(np.sin(products) / q**3 - edges[:, None] * np.cos(products) / q**2, axis=0)
    middles = 0.5 * (edges[1:] + edges[:-1])
    factors = window(middles / edges[-1], kind)
    return np.asarray(1.0 + 4.0 * np.pi * density * (((g - 1.0) * factors) @ integrals))


def to_pair_function(
    structure_factor: np.ndarray, q: np.ndarray, r: np.ndarray, q_max: float, kind: str = "lorch"
) -> np.ndarray:
    """G(r) = 4πrρ (g - 1) = 2/π ∫ q (S - 1) sin(qr) W(q) dq from 0 to q_max, 1/Å².

    q (S - 1) goes linearly to 0 below the first q, and is linear between points.

    Args:
        structure_factor: (..., n_q), 1 at large q.
        q: (n_q,) 1/Å, increasing, above 0.
        r: (n_r,) Å.
        q_max: 1/Å.
        kind: of the window.

    Returns:
        (..., n_r).
    """
    reduced = q * (structure_factor - 1.0) * window(q / q_max, kind)
    steps = np.diff(q, prepend=0.0)
    lengths = np.append(0.5 * (steps[:-1] + steps[1:]), 0.5 * steps[-1])  # of the trapezoidal rule; 0 at q = 0
    return np.asarray(2.0 / np.pi * ((reduced * lengths) @ np.sin(np.outer(q, r))))
