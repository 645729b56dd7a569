"""Angular momenta that couple: which do, in which order, and their Clebsch-Gordan coefficients."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import torch
from torch import Tensor

HIGHEST = 16
"""2J; published potentials have 4 to 8, some 10 or 12."""


def coupled(j1: int, j2: int, twojmax: int) -> range:
    """The j that j1 and j2 ≤ j1 couple to."""
    return range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)


@cache
def components(twojmax: int) -> tuple[tuple[int, int, int], ...]:
    """The triples (j1, j2, j) with j2 ≤ j1 ≤ j in the order of LAMMPS; those in other orders follow from them."""
    pairs = ((j1, j2) for j1 in range(twojmax + 1) for j2 in range(j1 + 1))
    return tuple((j1, j2, j) for j1, j2 in pairs for j in coupled(j1, j2, twojmax) if j >= j1)


@cache
def clebsch_gordan(j1: int, j2: int, j: int) -> Tensor:
    """⟨j1 m1 j2 m2 | j m⟩ as (j1 + 1, j2 + 1, j + 1) float64, m = index - j/2; all j are twice the momenta.

    Racah's sum (Varshalovich et al., Quantum Theory of Angular Momentum, 1988, 8.2.1), in integers up to a root.
    """
    table = torch.zeros((j1 + 1, j2 + 1, j + 1), dtype=torch.float64)
    top = (j1 + j2 - j) // 2
    triangle = [top, (j1 - j2 + j) // 2, (j2 - j1 + j) // 2]
    for a, b in product(range(j1 + 1), range(j2 + 1)):
        c = a + b - top
        if not 0 <= c <= j:
            continue
        squared = math.prod(map(math.factorial, (*triangle, a, j1 - a, b, j2 - b, c, j - c))) * (j + 1)
        total = 0.0
        for z in range(max(0, top - a, top + b - j2), min(top, j1 - a, b) + 1):
            parts = (z, top - z, j1 - a - z, b - z, a - top + z, j2 - b - top + z)
            total += (-1) ** z / math.prod(map(math.factorial, parts))
        table[a, b, c] = total * math.sqrt(squared / math.factorial((j1 + j2 + j) // 2 + 1))
    return table
