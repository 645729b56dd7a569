"""Radial functions of smeared neighbours: the overlap of a Gaussian, at some distance, with a radial basis.

A neighbour at the distance d is a Gaussian exp(-|r - d|²/2σ²). Its overlap with g_n(r) Y_lm(r̂) is R_nl(d) Y_lm(d̂) with

    R_nl(d) = 4π ∫ r² g_nl(r) exp(-(r² + d²)/2σ²) i_l(rd/σ²) dr,

i_l a modified spherical Bessel function (Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115, 2013). R_nl is as smooth
as a Gaussian, and even or odd as l: a short Chebyshev series in d gives it to the last digits, whatever the basis.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Final, Protocol

import numpy as np
from scipy.special import erf, ive

from mlmd.errors import InputError

THRESHOLD = 1e-3
"""What a Gaussian type orbital has fallen to where it is said to end."""
_ALIKE = 1e12
"""Condition number of Gaussians up to which their coefficients have some digits."""
_SMALLEST = 10.0
"""- log₁₀ of what the Gaussian of an atom at the cutoff has fallen to where QUIP's functions end."""
_DIGITS = 50  # the overlaps of ten polynomials have a condition number of 10¹⁵
_PER_SIGMA = 2.5  # quadrature points; in the middle they are π/2 times as far apart as on average, 0.63 σ


class Basis(Protocol):
    """R_nl at some distances."""

    def __call__(self, distances: np.ndarray, n_max: int, l_max: int, sigma: float, extent: float) -> np.ndarray:
        """(l_max + 1, n_max, n_distances); sigma and extent, up to which the radial basis reaches, in Å."""
        ...


def orbitals(distances: np.ndarray, n_max: int, l_max: int, sigma: float, extent: float) -> np.ndarray:
    """Gaussian type orbitals g_nl(r) = Σ_k β_nkl r^l exp(-α_kl r²), orthonormal for each l; R_nl in closed form.

    R_nl(d) = Σ_k β_nkl π^{3/2} η^l (α_kl + η)^{-l-3/2} d^l exp(-d² α_kl η / (α_kl + η)), η = 1/2σ². α_kl is such that
    r^l exp(-α_kl r²) is 10⁻³ at a_k, evenly from 1 Å to the extent, and β_l = S_l^{-1/2} of the overlaps S_l (DScribe:
    Himanen et al., Comput. Phys. Commun. 247, 106949, 2020).

    Args:
        distances: (n,) Å.
        n_max, l_max: functions, and highest degree.
        sigma, extent: Å.

    Raises:
        InputError: for an extent up to 1 Å.
    """
    if extent <= 1:
        raise InputError(f"Gaussian type orbitals end between 1 Å and {extent:g} Å: more than 1 Å is needed.")
    ends, eta, d = np.linspace(1.0, extent, n_max), 0.5 / sigma**2, distances
    found = []
    for degree in range(l_max + 1):
        alpha = (degree * np.log(ends) - math.log(THRESHOLD)) / ends**2
        with localcontext(prec=_DIGITS):
            power, exact = Decimal(-degree) - Decimal("1.5"), [Decimal(float(one)) for one in alpha]
            half = Decimal(math.gamma(degree + 1.5) / 2)
            overlaps = np.array([[half * (one + other) ** power for other in exact] for one in exact])
            beta = inverse_root(overlaps).astype(float)
        joint = (alpha + eta)[:, None]
        primitive = math.pi**1.5 * eta**degree * joint ** (-degree - 1.5) * d**degree
        found.append(beta @ (primitive * np.exp(-(d**2) * alpha[:, None] * eta / joint)))
    return np.array(found)


def polynomials(distances: np.ndarray, n_max: int, l_max: int, sigma: float, extent: float) -> np.ndarray:
    """g_n(r) = Σ_k β_nk (r_c - r)^{k+2} up to the extent r_c, orthonormal (β = S^{-1/2}); R_nl by quadrature.

    These are the polynomials of DScribe, and orthonormalised as there. The points of Gauss and Legendre are
    so close that what they miss of a Gaussian is below rounding.

    Args:
        distances: (n,) Å, above 0.
        n_max, l_max: functions, and highest degree.
        sigma, extent: Å.
    """
    n_points = math.ceil(_PER_SIGMA * extent / sigma) + n_max + l_max + 16
    nodes, weights = np.polynomial.legendre.leggauss(n_points)
    r = 0.5 * extent * (1 + nodes)
    # differences of large numbers where there are many polynomials: they are summed with more digits
    with localcontext(prec=_DIGITS):
        c, orders = Decimal(extent), range(1, n_max + 1)
        sums = [[i + j for i in orders] for j in orders]
        overlaps = np.array([[2 * c ** (7 + s) / ((5 + s) * (6 + s) * (7 + s)) for s in row] for row in sums])
        powers = np.array([[(c - Decimal(float(one))) ** (k + 2) for one in r] for k in orders])
        basis = (inverse_root(overlaps) @ powers).astype(float)
    measure = 4 * math.pi * 0.5 * extent * weights * r**2 * basis  # (n_max, n_points)
    x = r[:, None] * distances / sigma**2
    # e⁻ˣ i_l(x) never overflows, and completes the square
    smeared = np.exp(-((r[:, None] - distances) ** 2) / (2 * sigma**2)) * np.sqrt(0.5 * math.pi / x)
    return np.array([measure @ (smeared * ive(degree + 0.5, x)) for degree in range(l_max + 1)])


def equispaced(distances: np.ndarray, n_max: int, l_max: int, sigma: float, extent: float) -> np.ndarray:
    """φ_k(r) = exp(-(r - r_k)²/2σ²), r_k from 0 in n steps short of the extent, orthonormal by Cholesky; QUIP's R_nl.

    QUIP does not integrate: f_l(r) = 4π exp(-(r² + d²)/2σ²) i_l(rd/σ²), what is at the distance r of the Gaussian of an
    atom, is interpolated by the φ_k at the r_k. With C_kk' = φ_k(r_k') and overlaps S = L Lᵀ, S_kk' = ∫ r² φ_k φ_k' dr,

        R_nl(d) = Σ_k (C⁻¹ L)_kn f_l(r_k)

    are its coefficients in the orthonormal functions Σ_k (L⁻ᵀ)_kn φ_k (EQUISPACED_GAUSS of GAP's soap; Bartók, Kondor
    and Csányi, Phys. Rev. B 87, 184115, 2013, section IV C).

    Args:
        distances: (n,) Å, above 0.
        n_max, l_max: functions, and highest degree.
        sigma, extent: Å.

    Raises:
        InputError: when the functions are so close to each other that they cannot be told apart.
    """
    alpha, centres = 0.5 / sigma**2, extent / n_max * np.arange(n_max)
    apart, middle = centres[:, None] - centres, 0.5 * (centres[:, None] + centres)
    shapes = np.exp(-alpha * apart**2)
    if np.linalg.cond(shapes) > _ALIKE:
        raise InputError(f"{n_max} Gaussians within {extent:g} Å cannot be told apart; take fewer (n_max).")
    # ∫ r² exp(-2α (r - m)²) dr from 0, m in the middle, times what the product of two Gaussians has there
    half = math.sqrt(0.5 * math.pi / alpha) * (0.25 / alpha + middle**2) * (1 + erf(math.sqrt(2 * alpha) * middle))
    overlaps = np.exp(-0.5 * alpha * apart**2) * 0.5 * (half + middle * np.exp(-2 * alpha * middle**2) / (2 * alpha))
    transform = np.linalg.solve(shapes, np.linalg.cholesky(overlaps))
    found = np.empty((l_max + 1, n_max, len(distances)))
    x = 2 * alpha * centres[1:, None] * distances
    smeared = np.exp(-alpha * (centres[1:, None] - distances) ** 2) * np.sqrt(0.5 * math.pi / x)
    for degree in range(l_max + 1):
        at_origin = np.exp(-alpha * distances**2) * (degree == 0)  # i_l(0)
        values = np.vstack([at_origin, smeared * ive(degree + 0.5, x)])
        found[degree] = 4 * math.pi * transform.T @ values
    return found


BASES: Final[dict[str, Basis]] = {"gto": orbitals, "polynomial": polynomials, "quip": equispaced}
"""Radial bases by the names that an input file may say."""


def reach(basis: str, cutoff: float, sigma: float) -> float:
    """The extent of a basis where none is given, Å: the cutoff, or where QUIP's ends.

    That is where the Gaussian of an atom at the cutoff has fallen to 10⁻¹⁰.
    """
    return cutoff + sigma * math.sqrt(2 * _SMALLEST * math.log(10)) if basis == "quip" else cutoff


def inverse_root(matrix: np.ndarray) -> np.ndarray:
    """S^{-1/2} of a positive matrix of `Decimal`s, with the digits of their context.

    The iteration of Denman and Beavers (Appl. Math. Comput. 2, 63, 1976). In double precision the smallest eigenvalues
    of overlaps drown in rounding, and the functions would depend on the machine.

    Raises:
        InputError: when the matrix is singular.
    """
    n = len(matrix)
    unit = np.array([[Decimal(int(i == j)) for j in range(n)] for i in range(n)])
    scale = sum(matrix.diagonal())
    root, inverse = matrix / scale, unit
    for _ in range(200):
        new = (root + _inverse(inverse)) / 2, (inverse + _inverse(root)) / 2
        change = max(abs(new[1] - inverse).flat) / max(abs(new[1]).flat)
        root, inverse = new
        if change < Decimal("1e-25"):
            return inverse / scale.sqrt()
    raise InputError(f"{n} radial functions cannot be told apart; take fewer (n_max).")


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """By elimination; no pivots, as the matrices are positive."""
    n = len(matrix)
    rows = np.hstack([matrix, np.array([[Decimal(int(i == j)) for j in range(n)] for i in range(n)])])
    for i in range(n):
        rows[i] = rows[i] / rows[i, i]
        for j in range(n):
            if j != i:
                rows[j] = rows[j] - rows[i] * rows[j, i]
    return rows[:, n:]


def chebyshev_series(basis: str, *, n_max: int, l_max: int, sigma: float, extent: float, cutoff: float) -> np.ndarray:
    """R_nl(d) = Σ_k c_lnk T_{2k + (l mod 2)}(d / cutoff) for d up to the cutoff.

    As many terms as there are above rounding.

    Returns:
        (l_max + 1, n_max, n_terms).

    Raises:
        InputError: when rounding is more than 10⁻⁹ of the functions: there are too many to tell them apart.
    """
    # the spectrum of a Gaussian of a width σ is below 10⁻¹⁶ beyond 8.5/σ; what is beyond double that is rounding
    n = math.ceil(8.5 * cutoff / sigma) + l_max + n_max + 16
    angles = 0.5 * math.pi * (np.arange(n) + 0.5) / n  # of the 2n points between -1 and 1 those above 0
    values = BASES[basis](cutoff * np.cos(angles), n_max, l_max, sigma, extent)
    table = np.empty_like(values)
    for parity in (0, 1):
        orders = 2 * np.arange(n) + parity
        table[parity::2] = values[parity::2] @ (2 / n * np.cos(orders * angles[:, None]))
    table[::2, :, 0] *= 0.5
    size = abs(table).max(axis=(0, 1))
    rounding = 4 * size[-(n // 4) :].max()
    if rounding > 1e-9 * size.max():
        raise InputError(f"{n_max} radial functions of {basis!r} cannot be told apart; take fewer (n_max).")
    return np.ascontiguousarray(table[:, :, : int(np.flatnonzero(size > rounding).max()) + 1])
