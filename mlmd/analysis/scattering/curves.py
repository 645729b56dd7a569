"""Curves with errors, and the words that say how each is defined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlmd.analysis.blocks import mean_and_error


@dataclass(frozen=True)
class Curve:
    """A function of q or r."""

    name: str
    values: np.ndarray
    """(n,)."""
    error: np.ndarray
    """(n,) standard error from blocks of frames; nan for too few of them."""
    unit: str = ""
    spread: np.ndarray | None = None
    """(n,) what the error over blocks does not tell, see `StructureFactor.spread_is`; None where it is not known."""

    @property
    def heading(self) -> str:
        """Name and unit, as in the CSV file."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def curve_of(blocks: np.ndarray, name: str, unit: str = "", spread: np.ndarray | None = None) -> Curve:
    """Mean over blocks of frames and its standard error.

    Args:
        blocks: (n_blocks, n).
        name, unit, spread: of the curve.
    """
    mean, error = mean_and_error(blocks)
    return Curve(name, mean, error, unit, spread)


def find(curves: Sequence[Curve], name: str) -> Curve | None:
    """The curve of this name."""
    return next((one for one in curves if one.name == name), None)


DEFINITIONS = {
    "A": "Faber–Ziman partial, A_ab = 1 + (S_ab - δ_ab)/√(c_a c_b); limit 1",
    "S_ab": "Ashcroft–Langreth partial, S_ab = ⟨ρ_a ρ_b*⟩/√(N_a N_b); limit δ_ab",
    "S_NN, S_NC, S_CC": "Bhatia–Thornton, of N = ρ_1 + ρ_2 and C = c_2 ρ_1 - c_1 ρ_2; limits 1, 0, c_1 c_2",
    "F(q)": "total, Σ_ab c_a c_b b_a b_b (A_ab - 1) (Keen 2001; others call it i(q), distinct scattering); limit 0",
    "S(q)": "total of Faber and Ziman, 1 + F(q)/⟨b⟩²; limit 1",
    "S_self(q)": "total over the self-scattering, ⟨|Σ_j b_j exp(iq·r_j)|²⟩/(N ⟨b²⟩) = 1 + F(q)/⟨b²⟩; limit 1",
    "q[S(q)-1]": "reduced total (PDFgetX's F(Q)); limit 0",
    "g(r)": "total, 1 + G_PDF(r)/(4πρr)",
    "G_PDF(r)": "2/π ∫ q [S(q) - 1] sin(qr) dq = 4πρr [g(r) - 1]",
    "G(r)": "Σ_ab c_a c_b b_a b_b [g_ab(r) - 1] = ⟨b⟩² [g(r) - 1] (Keen 2001)",
    "D(r)": "4πρr G(r) (Keen 2001)",
    "T(r)": "D(r) + 4πρr ⟨b⟩² (Keen 2001)",
}
"""Curve -> its definition; b is a scattering length, or with X-rays a form factor f(q), ⟨⟩ over atoms, ρ = N / V."""
