"""Wigner's matrices as sums of products of a radial function and a spherical harmonic.

On the three-sphere, with the polar angle ψ and the direction (x, y, z) / r,

    R_jl = sin^l ψ G_{j-l}^{(l+1)}(cos ψ),      Y_lm = G_{l-m}^{(m+1/2)}(z/r) ((x + iy) / r)^m,

with Gegenbauer's polynomials G whose highest power has the coefficient one, are the hyperspherical harmonics up to
their norm. Wigner's matrices u_j are combinations of those with the same j (Varshalovich et al., Quantum Theory of
Angular Momentum, 1988, 4.7); with a = cos ψ - i sin ψ z/r and b = sin ψ (y - ix)/r,

    u_j[m', m] = Σ_l (-i)^l w_l R_jl Y_{l,m'-m},      Y_{l,-m} = conj(Y_lm).
"""

from __future__ import annotations

import math

from mlmd.descriptors.coupling import clebsch_gordan


def wigner_weights(j: int, row: int, column: int) -> list[float]:
    """w_l of u_j[row, column] for l = |row - column| ... j.

    Both sides are orthogonal on the sphere: w is a Clebsch-Gordan coefficient times the ratio of the norms, with the
    phase of Condon and Shortley.
    """
    m = abs(row - column)
    sign = (-1) ** (j - column + max(0, row - column))
    weights = []
    for l in range(m, j + 1):  # noqa: E741
        coefficient = float(clebsch_gordan(j, j, 2 * l)[row, j - column, row - column + l])
        norm = gegenbauer_norm(j - l, l + 1) * 2 * math.pi * gegenbauer_norm(l - m, m + 0.5)
        weights.append(sign * coefficient * math.sqrt(2 * math.pi**2 / (j + 1) / norm))
    return weights


def gegenbauer_norm(n: int, a: float) -> float:
    """∫ (1 - x²)^(a - 1/2) G_n^{(a)}(x)² dx from -1 to 1, where the coefficient of xⁿ is one.

    π 2^(1 - 2a - 2n) n! Γ(n + 2a) / ((n + a) Γ(n + a)²) (Abramowitz and Stegun, 22.2.3 and 22.3.4).
    """
    gamma = math.gamma
    return math.pi * 2 ** (1 - 2 * a - 2 * n) * math.factorial(n) * gamma(n + 2 * a) / ((n + a) * gamma(n + a) ** 2)
