"""Tersoff's potential: a bond is the weaker, the more other bonds its atoms have.

E = ½ Σ_i Σ_j f_C(r_ij) [A exp(-λ₁ r_ij) - b_ij B exp(-λ₂ r_ij)]

b_ij = [1 + (β ζ_ij)ⁿ]^(-1/2n)
ζ_ij = Σ_{k≠j} f_C(r_ik) g(θ_jik) exp[λ₃ᵐ (r_ij - r_ik)ᵐ],   g = γ [1 + c²/d² - c²/(d² + (cos θ - cos θ₀)²)]

f_C is 1 below R - D, ½ - ½ sin(π (r - R) / 2D) up to R + D and 0 beyond (Phys. Rev. B 37, 6991, 1988; several
elements 39, 5566, 1989). As in LAMMPS, A, B, λ₁, λ₂, β, n and f_C of a bond are those of the entry "i j j", the
others, and R and D of f_C(r_ik), those of "i j k".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd import units
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import ModelError
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials import EnergyModel
from mlmd.potentials.triplets import read_entries, with_each_other
from mlmd.precision import dtype_of

_ENTRY = ("m", "gamma", "lambda3", "c", "d", "cos_theta0", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")
PAIR = ("A", "lambda1", "B", "lambda2", "n", "beta", "R", "D")
"""Of an ordered pair of species, from its entry "i j j"."""
TRIPLET = ("gamma", "lambda3", "c", "d", "cos_theta0", "m", "R", "D")
"""Of centre, neighbour and third atom."""
_LARGEST_EXPONENT = 69.0776
"""ln 10³⁰, where LAMMPS stops the exponential of ζ."""


class Tersoff(EnergyModel):
    """See the module; its parameters are its state."""

    kind = "tersoff"

    def __init__(self, elements: Sequence[str], cutoff: float, pairs: Tensor, triplets: Tensor) -> None:
        """Take parameters by species.

        Args:
            elements: symbols.
            cutoff: Å, the largest R + D.
            pairs: (n, n, 8), see `PAIR`.
            triplets: (n, n, n, 8), see `TRIPLET`.

        Raises:
            InputError: for a word that is no element, or one given twice.
            ValueError: when the shapes do not fit.
        """
        super().__init__()
        self.elements, self.cutoff = check_symbols(elements), float(cutoff)
        n = len(self.elements)
        if pairs.shape != (n, n, len(PAIR)) or triplets.shape != (n, n, n, len(TRIPLET)):
            raise ValueError(f"parameters do not fit {n} elements")
        self.register_buffer("pairs", pairs.clone())
        self.register_buffer("triplets", triplets.clone())
        self.register_buffer("species_table", species_table(self.elements), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers it computes with."""
        return self.pairs.dtype

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV: half of an atom's bonds."""
        kinds, n = species(graph.numbers, self.species_table), len(self.elements)
        distances = graph.distances
        near = torch.nonzero(distances < self.cutoff)[:, 0]
        centre, neighbour = graph.pairs.index_select(1, near)
        vectors, r = graph.vectors.index_select(0, near).to(self.dtype), distances.index_select(0, near).to(self.dtype)
        of_neighbour = kinds.index_select(0, neighbour)
        pair = kinds.index_select(0, centre) * n + of_neighbour
        a, lambda1, b, lambda2, power, beta, middle, half_width = self.pairs.flatten(0, 1).index_select(0, pair).T
        bonded = r < middle + half_width
        j, k = with_each_other(centre)
        j, k = (one[bonded.index_select(0, j)] for one in (j, k))
        terms = self._bond_terms(vectors, r, j, k, pair.index_select(0, j) * n + of_neighbour.index_select(0, k))
        zeta = torch.zeros_like(r).index_add(0, j, terms)
        order = _bond_order(beta * zeta, power)
        bonds = a * torch.exp(-lambda1 * r) - order * b * torch.exp(-lambda2 * r)
        bonds = torch.where(bonded, _taper(r, middle, half_width) * bonds, 0.0)
        total = torch.zeros(graph.n_atoms, dtype=torch.float64, device=r.device)
        return total.index_add(0, centre, 0.5 * bonds.double())

    def kernel(self) -> Kernel:
        """The fused form."""
        tables = [table.double().cpu().numpy().ravel() for table in (self.pairs, self.triplets)]
        return Kernel(
            family="tersoff",
            cutoff=self.cutoff,
            integers=np.array([len(self.elements)]),
            numbers=np.concatenate([[self.cutoff], *tables]),
            precision=str(self.dtype).removeprefix("torch."),
        )

    def spec(self) -> dict[str, Any]:
        """What an input file would say; the parameters are in the state."""
        cutoff = units.with_unit(self.cutoff, "length")
        return {"kind": self.kind, "elements": list(self.elements), "cutoff": cutoff}

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Tersoff:
        """Build again from `spec` and `state_dict`.

        Raises:
            ValueError, KeyError, InputError: when they do not fit.
        """
        return cls(spec["elements"], units.parse(spec["cutoff"], "length"), state["pairs"], state["triplets"])

    def _bond_terms(self, vectors: Tensor, r: Tensor, j: Tensor, k: Tensor, triplet: Tensor) -> Tensor:
        """What the pair k adds to ζ of the pair j, (n_triplets,)."""
        parameters = self.triplets.flatten(0, 2).index_select(0, triplet)
        gamma, lambda3, c, d, cos_theta0, m, middle, half_width = parameters.T
        r_j, r_k = r.index_select(0, j), r.index_select(0, k)
        cosine = (vectors.index_select(0, j) * vectors.index_select(0, k)).sum(dim=1) / (r_j * r_k)
        square = (cosine - cos_theta0) ** 2
        # the same as the difference of large numbers in the formula
        angular = gamma * (1 + torch.where(c > 0, (c / d) ** 2, 0.0) * square / (d**2 + square).clamp(min=1e-30))
        way = lambda3 * (r_j - r_k)
        exponent = torch.where(m == 3, way**3, way).clamp(max=_LARGEST_EXPONENT)
        return _taper(r_k, middle, half_width) * angular * torch.exp(exponent)

    pairs: Tensor
    triplets: Tensor
    species_table: Tensor


def _taper(r: Tensor, middle: Tensor, half_width: Tensor) -> Tensor:
    """f_C(r), written as sin² of the way from the outer end: no cancellation where it is small."""
    way = ((middle + half_width - r) / half_width.clamp(min=1e-6)).clamp(0.0, 2.0)
    return torch.sin(0.25 * math.pi * way) ** 2


def _bond_order(x: Tensor, n: Tensor) -> Tensor:
    """(1 + xⁿ)^(-1/2n), 1 for x = 0, where the derivative of a power would not be finite."""
    alone = x < torch.finfo(x.dtype).tiny
    y = n * torch.log(torch.where(alone, 1.0, x))
    order = torch.exp(-torch.nn.functional.softplus(y, threshold=40.0) / (2 * torch.where(alone, 1.0, n)))
    return torch.where(alone, 1.0, order)


def load(path: Path | str, precision: str = "float64") -> Tersoff:
    """A Tersoff potential from a `.tersoff` file in metal units.

    Args:
        path: the file.
        precision: "float64" or "float32".

    Raises:
        InputError: when the file does not exist, or for an unknown precision.
        ModelError: when it is damaged, of another kind (tersoff/zbl, tersoff/mod), or has impossible parameters.
    """
    elements, entries = read_entries(path, _ENTRY, "Tersoff")
    try:
        potential = from_entries(elements, entries)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return potential.to(dtype_of(precision))


def from_entries(elements: Sequence[str], entries: np.ndarray) -> Tersoff:
    """The potential of entries (n, n, n, 14): m γ λ₃ c d cosθ₀ n β λ₂ B R D λ₁ A of each triplet (eV, Å).

    Raises:
        ModelError: for impossible parameters.
    """
    by_name = dict(zip(_ENTRY, np.moveaxis(entries, -1, 0), strict=True))
    if not np.isin(by_name["m"], (1, 3)).all():
        raise ModelError("m must be 1 or 3: not the parameters of a Tersoff potential.")
    for name, values in by_name.items():
        if name != "cos_theta0" and (values < 0).any():
            raise ModelError(f"{name} = {values.min():g} must not be negative.")
    if ((by_name["D"] > by_name["R"]) | ((by_name["R"] > 0) & (by_name["D"] == 0))).any():
        raise ModelError("D must be positive and not above R.")
    if ((by_name["c"] > 0) & (by_name["d"] == 0)).any():
        raise ModelError("d must be positive where c is.")
    own = np.arange(len(elements))
    if (by_name["n"][:, own, own] == 0)[by_name["B"][:, own, own] > 0].any():
        raise ModelError("n of a bond must be positive.")
    pairs = np.stack([by_name[name][:, own, own] for name in PAIR], axis=-1)
    triplets = np.stack([by_name[name] for name in TRIPLET], axis=-1)
    cutoff = (by_name["R"] + by_name["D"]).max()
    return Tersoff(elements, cutoff, torch.from_numpy(pairs), torch.from_numpy(triplets))
