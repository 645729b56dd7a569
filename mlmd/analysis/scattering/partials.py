"""Partial structure factors in the three ways they are defined, and the totals that are measured.

With ρ_a(q) = Σ_{j of a} exp(i q · r_j), concentrations c_a = N_a / N and all averages over directions and time:

    Ashcroft–Langreth (Phys. Rev. 156, 685 (1967))   S_ab = ⟨ρ_a ρ_b*⟩ / √(N_a N_b)                    → δ_ab
    Faber–Ziman (Phil. Mag. 11, 153 (1965))          A_ab = 1 + (S_ab - δ_ab) / √(c_a c_b)             → 1
    Bhatia–Thornton (Phys. Rev. B 2, 3004 (1970))    S_NN, S_NC, S_CC of number and concentration      → 1, 0, c₁ c₂

Totals after Keen (J. Appl. Cryst. 34, 172 (2001)): F(q) = Σ_ab c_a c_b b_a b_b (A_ab - 1), whose limit is 0.
Every one of them is linear in the others, so that what is done to averages is done to blocks of them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np


def pairs_of(elements: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (a, b) with a ≤ b, by number, in the order of all arrays here."""
    return list(combinations_with_replacement(range(len(elements)), 2))


def faber_ziman(ashcroft_langreth: np.ndarray, concentrations: np.ndarray) -> np.ndarray:
    """A_ab = 1 + (S_ab - δ_ab) / √(c_a c_b), (..., n_pairs, n_q)."""
    roots, same = _roots(concentrations)
    return np.asarray(1.0 + (ashcroft_langreth - same) / roots)


def ashcroft_langreth(faber_ziman: np.ndarray, concentrations: np.ndarray) -> np.ndarray:
    """S_ab = δ_ab + √(c_a c_b) (A_ab - 1), (..., n_pairs, n_q)."""
    roots, same = _roots(concentrations)
    return np.asarray(same + roots * (faber_ziman - 1.0))


def bhatia_thornton(ashcroft_langreth: np.ndarray, concentrations: np.ndarray) -> np.ndarray:
    """S_NN, S_NC and S_CC of two elements, (..., 3, n_q).

    With N = ρ₁ + ρ₂ and C = c₂ ρ₁ - c₁ ρ₂: S_NN = ⟨N N*⟩ / N, S_NC = Re ⟨N C*⟩ / N, S_CC = ⟨C C*⟩ / N.

    Args:
        ashcroft_langreth: (..., 3, n_q) of pairs 11, 12, 22.
        concentrations: (2,).
    """
    s11, s12, s22 = np.moveaxis(ashcroft_langreth, -2, 0)
    c1, c2 = concentrations
    root = np.sqrt(c1 * c2)
    number = c1 * s11 + c2 * s22 + 2.0 * root * s12
    mixed = c1 * c2 * (s11 - s22) + root * (c2 - c1) * s12
    concentration = c1 * c2 * (c2 * s11 + c1 * s22 - 2.0 * root * s12)
    return np.stack([number, mixed, concentration], axis=-2)


def distinct(faber_ziman: np.ndarray, concentrations: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """F(q) = Σ_ab c_a c_b b_a b_b (A_ab - 1) over ordered pairs, (..., n_q).

    Args:
        faber_ziman: (..., n_pairs, n_q).
        concentrations: (n_elements,).
        amplitudes: (n_elements, n_q).
    """
    factors = np.array(
        [
            (1.0 if a == b else 2.0) * concentrations[a] * concentrations[b] * amplitudes[a] * amplitudes[b]
            for a, b in combinations_with_replacement(range(len(concentrations)), 2)
        ]
    )
    return np.asarray(((faber_ziman - 1.0) * factors).sum(axis=-2))


def _roots(concentrations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.array(list(combinations_with_replacement(range(len(concentrations)), 2))).T
    return np.sqrt(concentrations[a] * concentrations[b])[:, None], (a == b).astype(float)[:, None]
