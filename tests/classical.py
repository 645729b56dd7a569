"""Classical potentials from their published parameters, or made of simple functions, without any file."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from mlmd.potentials import stillinger_weber, tersoff
from mlmd.potentials.eam import EAM
from mlmd.potentials.setfl import Tables

SILICON = (2.1683, 2.0951, 1.80, 21.0, 1.20, -1 / 3, 7.049556277, 0.6022245584, 4.0, 0.0, 0.0)
"""ε σ a λ γ cosθ₀ A B p q tol (Stillinger and Weber, Phys. Rev. B 31, 5262, 1985)."""

_TERSOFF: dict[str, dict[str, float]] = {
    "Si": {
        "A": 1830.8, "B": 471.18, "lambda1": 2.4799, "lambda2": 1.7322, "beta": 1.1e-6, "n": 0.78734,
        "c": 1.0039e5, "d": 16.217, "cos_theta0": -0.59825, "inner": 2.7, "outer": 3.0,
    },
    "C": {
        "A": 1393.6, "B": 346.74, "lambda1": 3.4879, "lambda2": 2.2119, "beta": 1.5724e-7, "n": 0.72751,
        "c": 3.8049e4, "d": 4.3484, "cos_theta0": -0.57058, "inner": 1.8, "outer": 2.1,
    },
}  # fmt: skip
"""Tersoff, Phys. Rev. B 39, 5566, 1989, table I."""
_CHI = 0.9776

_TERSOFF_T2 = (3, 1.0, 1.3258, 4.8381, 2.0417, 0.0, 22.956, 0.33675, 1.3258, 95.373, 3.0, 0.2, 3.2394, 3264.7)
"""m γ λ₃ c d cosθ₀ n β λ₂ B R D λ₁ A of Si(B), Phys. Rev. B 37, 6991, 1988: one with λ₃."""


def _of(precision: str, potential: torch.nn.Module) -> Any:
    return potential.to(getattr(torch, precision))


def embedded(precision: str = "float64", *, elements: tuple[str, ...] = ("Cu", "Ni"), fs: bool = False) -> EAM:
    """A metal with densities and repulsion that end smoothly at 5 Å, a little different for each element."""
    n, cutoff, d_rho, d_r = len(elements), 5.0, 0.01, 0.005
    rho, r = d_rho * np.arange(2001), d_r * np.arange(1001)
    ending = np.clip(1 - r / cutoff, 0, None) ** 4
    embedding = np.stack([-(1.2 + 0.3 * one) * rho / np.sqrt(1 + rho) for one in range(n)])
    receivers = range(n if fs else 1)
    density = np.stack([[(9 + one + 2 * other) * np.exp(-0.5 * r) * ending for other in receivers] for one in range(n)])
    pair = np.stack(
        [[(300 + 40 * (one + other)) * np.exp(-1.9 * r) * r * ending for other in range(n)] for one in range(n)]
    )
    return _of(precision, EAM.from_tables(Tables(elements, cutoff, d_rho, d_r, embedding, density, pair)))


def silicon(precision: str = "float64") -> stillinger_weber.StillingerWeber:
    """The potential of Stillinger and Weber."""
    return _of(precision, stillinger_weber.from_entries(("Si",), np.array(SILICON).reshape(1, 1, 1, -1)))


def tetrahedral(precision: str = "float64") -> stillinger_weber.StillingerWeber:
    """Three elements with different bonds, angles, exponents and cutoffs; one triplet without a penalty."""
    size, entries = {0: 1.0, 1: 0.8, 2: 1.1}, np.empty((3, 3, 3, len(SILICON)))
    for i, j, k in itertools.product(range(3), repeat=3):
        entry = np.array(SILICON)
        entry[1] *= 0.5 * (size[i] + size[j])
        entry[3] = 0.0 if (i, j, k) == (1, 1, 1) else 21.0 + i + 2 * (j + k)
        entry[5] = -0.3 - 0.05 * i
        entry[8] = 4.0 + 0.5 * (i + j)
        entry[9] = float(i == j)
        entries[i, j, k] = entry
    return _of(precision, stillinger_weber.from_entries(("Si", "C", "Ge"), entries))


def carbide(precision: str = "float64") -> tersoff.Tersoff:
    """Silicon carbide, with Tersoff's rules of mixing."""
    elements, entries = ("Si", "C"), np.empty((2, 2, 2, 14))
    for i, j, k in itertools.product(range(2), repeat=3):
        one, other, third = (_TERSOFF[elements[index]] for index in (i, j, k))
        outer, inner = (np.sqrt(one[edge] * third[edge]) for edge in ("outer", "inner"))
        mean = {name: 0.5 * (one[name] + other[name]) for name in ("lambda1", "lambda2")}
        a, b = (np.sqrt(one[name] * other[name]) for name in ("A", "B"))
        entries[i, j, k] = (
            3, 1.0, 0.0, one["c"], one["d"], one["cos_theta0"], one["n"], one["beta"], mean["lambda2"],
            b * (_CHI if i != j else 1.0), 0.5 * (outer + inner), 0.5 * (outer - inner), mean["lambda1"], a,
        )  # fmt: skip
    return _of(precision, tersoff.from_entries(elements, entries))


def silicon_t2(precision: str = "float64") -> tersoff.Tersoff:
    """Tersoff's second silicon, in which longer bonds count less."""
    return _of(precision, tersoff.from_entries(("Si",), np.array(_TERSOFF_T2).reshape(1, 1, 1, -1)))
