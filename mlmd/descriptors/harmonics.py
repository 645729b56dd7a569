"""Real spherical harmonics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor


def harmonics(directions: Tensor, l_max: int) -> Tensor:
    """Orthonormal real spherical harmonics Y_lm, l = 1 ... l_max, as polynomials of the direction.

    Y_lm = √((2l+1)/4π · (2 - δ_m0) (l-m)!/(l+m)!) · P_l⁽ᵐ⁾(z) · (Re, Im) (x + iy)ᵐ with the m-th derivative of the
    Legendre polynomial P_l: the addition theorem then reads Σ_m Y_lm(u) Y_lm(v) = (2l+1)/4π P_l(u · v).

    Args:
        directions: (3, ...) unit vectors.
        l_max: the highest degree.

    Returns:
        (l_max² + 2 l_max, ...), by l, within it m = 0, Re 1, Im 1, Re 2, ...
    """
    x, y, z = directions
    powers = [(torch.ones_like(x), torch.zeros_like(x))]
    for _ in range(l_max):
        real, imaginary = powers[-1]
        powers.append((x * real - y * imaginary, x * imaginary + y * real))
    legendre: dict[tuple[int, int], Tensor] = {(0, 0): powers[0][0]}
    found = []
    for degree in range(1, l_max + 1):
        for m in range(degree + 1):
            legendre[degree, m] = _legendre(legendre, degree, m, z)
            norm = _norm(degree, m)
            parts = powers[m] if m else powers[m][:1]
            found += [norm * legendre[degree, m] * part for part in parts]
    return torch.stack(found)


def harmonics_and_slopes(directions: Tensor, l_max: int) -> tuple[Tensor, Tensor]:
    """`harmonics` of directions (3, n), and their derivatives by the components of these: (l_max² + 2 l_max, 3, n).

    The components count as independent: ∂ Re (x + iy)ᵐ / ∂x = m Re (x + iy)ᵐ⁻¹, and P_l⁽ᵐ⁾' = P_l⁽ᵐ⁺¹⁾.
    """
    x, y, z = directions
    powers = [(torch.ones_like(x), torch.zeros_like(x))]
    for _ in range(l_max):
        real, imaginary = powers[-1]
        powers.append((x * real - y * imaginary, x * imaginary + y * real))
    legendre: dict[tuple[int, int], Tensor] = {(0, 0): powers[0][0]}
    values, slopes = [], []
    for degree in range(1, l_max + 1):
        for m in range(degree + 1):
            legendre[degree, m] = _legendre(legendre, degree, m, z)
        legendre[degree, degree + 1] = torch.zeros_like(x)
        for m in range(degree + 1):
            norm, of_z = _norm(degree, m), legendre[degree, m]
            real, imaginary = (m * part for part in powers[m - 1]) if m else (torch.zeros_like(x),) * 2
            across = [(real, -imaginary), (imaginary, real)] if m else [(real, real)]
            for part, (by_x, by_y) in zip(powers[m], across, strict=False):
                values.append(norm * of_z * part)
                slopes.append(norm * torch.stack([of_z * by_x, of_z * by_y, legendre[degree, m + 1] * part]))
    return torch.stack(values), torch.stack(slopes)


def _legendre(known: Mapping[tuple[int, int], Tensor], degree: int, m: int, z: Tensor) -> Tensor:
    """P_l⁽ᵐ⁾ = (2l - 1) P_{l-1}⁽ᵐ⁻¹⁾ + P_{l-2}⁽ᵐ⁾, and Bonnet's recursion for m = 0."""
    before = known.get((degree - 2, m), torch.zeros_like(z))
    if m:
        return (2 * degree - 1) * known[degree - 1, m - 1] + before
    return ((2 * degree - 1) * z * known[degree - 1, 0] - (degree - 1) * before) / degree


@cache
def _norm(degree: int, m: int) -> float:
    ratio = math.factorial(degree - m) / math.factorial(degree + m)
    return math.sqrt((2 * degree + 1) / (4 * math.pi) * (2 if m else 1) * ratio)
