"""Sets of symmetry functions for all elements: evenly spaced, by the radii of atoms, large ones to choose from; one.

With `weighted` a function of one element of neighbours, or of two, becomes one of all elements, whose terms are
multiplied by the atomic numbers of the neighbours, so that there are as many functions whatever the number of elements
(Gastegger, Schwiedrzik, Bittermann, Berzsenyi and Marquetand, J. Chem. Phys. 148, 241709, 2018).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ase.data import atomic_numbers, covalent_radii, vdw_radii

from mlmd import units
from mlmd.descriptors.symmetry_functions import RADIAL, SymmetryFunction
from mlmd.errors import InputError

RADII = {"covalent": covalent_radii, "van-der-waals": vdw_radii}
"""Radii by atomic number, Å: Cordero et al., Dalton Trans. 2832, 2008; Bondi's and others, as ASE has them."""


def evenly_spaced(
    elements: Sequence[str],
    cutoff: object,
    *,
    n_radial: int = 8,
    n_angular: int = 3,
    zetas: Sequence[float] = (1.0, 4.0),
    angular_cutoff: object = None,
    kind: str = "G4",
    weighted: bool = False,
) -> list[SymmetryFunction]:
    """The same functions for every element and pair of elements, with lengths evenly spaced up to the cutoff.

    Radial: G2 with shifts r_s = m Δ, m = 1 ... n, Δ = r_c / (n + 1), and η = 1 / 2Δ². Angular: no shift,
    η = 1 / 2r_m² for r_m = m r_c / n, with both λ and every ζ (Gastegger et al., J. Chem. Phys. 148, 241709, 2018).

    Args:
        elements: symbols.
        cutoff: of the radial functions, a length.
        n_radial: shifts.
        n_angular: values of η of the angular functions; 0 for none.
        zetas: values of ζ.
        angular_cutoff: of the angular functions; the same by default.
        kind: of the angular functions, "G4" or "G5".
        weighted: of all elements together instead of each.

    Raises:
        InputError: for impossible values.
    """
    outer = units.parse(cutoff, "length")
    inner = outer if angular_cutoff is None else units.parse(angular_cutoff, "length")
    step = outer / (n_radial + 1)
    radial = [(0.5 / step**2, m * step) for m in range(1, n_radial + 1)]
    angular = [0.5 * (n_angular / (m * inner)) ** 2 for m in range(1, n_angular + 1)]
    return _set(elements, outer, radial, inner, angular, zetas=zetas, kind=kind, weighted=weighted)


def pool(
    elements: Sequence[str],
    cutoff: object,
    *,
    n_radial: int = 16,
    n_angular: int = 8,
    zetas: Sequence[float] = (1.0, 4.0, 16.0),
    kind: str = "G4",
    weighted: bool = False,
) -> list[SymmetryFunction]:
    """Many functions of widths and shifts that grow geometrically, of which data choose some.

    Radial: G2 without shift, η_m = (n^(m/n) / r_c)², m = 0 ... n; and with shifts r_m = r_c n^(-m/n), m = 1 ... n, and
    η_m = 1 / (r_(m-1) - r_m)². Angular: η_m without shift for its own n, with both λ and every ζ (Imbalzano, Anelli,
    Giofré, Klees, Behler and Ceriotti, J. Chem. Phys. 148, 241730, 2018, section II).

    Args:
        elements: symbols.
        cutoff: of all functions, a length.
        n_radial: n of the radial functions.
        n_angular: n of the angular ones; 0 for none.
        zetas: values of ζ.
        kind: of the angular functions, "G4" or "G5".
        weighted: of all elements together instead of each.

    Raises:
        InputError: for impossible values.
    """
    outer = units.parse(cutoff, "length")
    if n_radial < 2:
        raise InputError(f"n_radial = {n_radial}: widths and shifts grow in two steps or more.")
    places = [outer * n_radial ** (-m / n_radial) for m in range(n_radial + 1)]
    radial = [(eta, 0.0) for eta in _growing(outer, n_radial)]
    radial += [(1 / (before - place) ** 2, place) for before, place in itertools.pairwise(places)]
    angular = _growing(outer, n_angular) if n_angular else []
    return _set(elements, outer, radial, outer, angular, zetas=zetas, kind=kind, weighted=weighted)


def by_radii(
    elements: Sequence[str],
    cutoff: object,
    radii: Mapping[str, float] | str = "covalent",
    *,
    scales: Sequence[float] = (10.0, 30.0, 100.0, 300.0),
    n_angular: int = 3,
    zetas: Sequence[float] = (1.0, 4.0),
    kind: str = "G4",
) -> list[SymmetryFunction]:
    """Functions without shift whose widths are those of the atoms, for every element and pair of elements.

    With radii R and scales s, G2 has η_ij = ½ s / (R_i² + R_j²) / r_c². G4 has an η for each side of the triplet,
    η_ij = ½ s R_k² / D / r_c² and so on, D = (R_i R_j)² + (R_j R_k)² + (R_i R_k)²; G5 has those of G2 (Zhang, Yin and
    Liu, Comput. Mater. Sci. 186, 110071, 2021, as their program computes them: radii in Å and not squared lengths, in
    units of r_c, are the measure, so that s is Å²).

    Args:
        elements: symbols.
        cutoff: of all functions, a length.
        radii: Å, of each element, or a key of `RADII`.
        scales: values of s, Å².
        n_angular: how many of the smallest scales angular functions have; 0 for none.
        zetas: values of ζ.
        kind: of the angular functions, "G4" or "G5".

    Raises:
        InputError: for impossible values, and elements without a radius.
    """
    outer = units.parse(cutoff, "length")
    of = {symbol: _radius(symbol, radii) for symbol in elements}

    def pair(i: str, j: str) -> float:
        return 0.5 / (of[i] ** 2 + of[j] ** 2) / outer**2

    def triplet(i: str, j: str, k: str) -> tuple[float, float, float]:
        if kind == "G5":
            return pair(i, j), pair(i, k), 0.0
        squares = (of[i] * of[j]) ** 2 + (of[j] * of[k]) ** 2 + (of[i] * of[k]) ** 2
        return tuple(0.5 * of[one] ** 2 / squares / outer**2 for one in (k, j, i))  # type: ignore[return-value]

    found = []
    for centre in elements:
        found += [
            SymmetryFunction("G2", centre, (other,), outer, eta=scale * pair(centre, other))
            for other in elements
            for scale in scales
        ]
        found += [
            SymmetryFunction(
                kind, centre, (j, k), outer, zeta=zeta, sign=sign,
                etas=tuple(scale * eta for eta in triplet(centre, j, k)),  # type: ignore[arg-type]
            )
            for j, k in itertools.combinations_with_replacement(elements, 2)
            for scale in sorted(scales)[:n_angular]
            for zeta in zetas
            for sign in (-1.0, 1.0)
        ]  # fmt: skip
    return _checked(found)


def _growing(cutoff: float, n: int) -> list[float]:
    """η = (n^(m/n) / r_c)², m = 0 ... n."""
    return [(n ** (m / n) / cutoff) ** 2 for m in range(n + 1)]


def everywhere(
    elements: Sequence[str],
    kind: str,
    centres: Sequence[str],
    neighbours: Sequence[str],
    cutoff: float,
    *,
    weighted: bool = False,
    **shape: Any,
) -> list[SymmetryFunction]:
    """One function for some centres and, where no neighbours are named, for every element or every two elements.

    Args:
        elements: symbols, in the order of the species.
        kind: G1 ... G5.
        centres: the functions are of each of them.
        neighbours: of all functions; none for all elements.
        cutoff: Å.
        weighted: of all elements together instead of each.
        shape: parameters, as of `SymmetryFunction`.

    Raises:
        InputError: for impossible values.
    """
    of: list[tuple[str, ...]] = [tuple(neighbours)]
    if not neighbours and not weighted:
        n_neighbours = 1 if kind in RADIAL else 2
        of = list(itertools.combinations_with_replacement(elements, n_neighbours))
    made = [SymmetryFunction(kind, centre, near, cutoff, **shape) for centre in centres for near in of]
    return [one.ordered(elements) for one in _checked(made)]


def _set(
    elements: Sequence[str],
    outer: float,
    radial: Sequence[tuple[float, float]],
    inner: float,
    angular: Sequence[float],
    *,
    zetas: Sequence[float],
    kind: str,
    weighted: bool,
) -> list[SymmetryFunction]:
    """G2 with each (η, r_s) and angular functions with each η, for every element of the centre and of neighbours."""
    singles: list[tuple[str, ...]] = [()] if weighted else [(other,) for other in elements]
    pairs: list[tuple[str, ...]] = [()] if weighted else list(itertools.combinations_with_replacement(elements, 2))
    found = []
    for centre in elements:
        found += [
            SymmetryFunction("G2", centre, other, outer, eta=eta, shift=shift)
            for other in singles
            for eta, shift in radial
        ]
        found += [
            SymmetryFunction(kind, centre, pair, inner, eta=eta, zeta=zeta, sign=sign)
            for pair in pairs
            for eta in angular
            for zeta in zetas
            for sign in (-1.0, 1.0)
        ]
    return _checked(found)


def _checked(found: list[SymmetryFunction]) -> list[SymmetryFunction]:
    for one in found:
        one.check()
    return found


def _radius(symbol: str, radii: Mapping[str, float] | str) -> float:
    """Å, of an element."""
    known = {symbol: float(RADII[radii][atomic_numbers[symbol]])} if isinstance(radii, str) else radii
    radius = known.get(symbol, math.nan)
    if not 0 < radius < math.inf:
        raise InputError(f'radii: {symbol} has none. Give one for every element, as {{ {symbol} = "1.5 Å" }}.')
    return radius
