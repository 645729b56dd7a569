"""The potential of Stillinger and Weber: bonds, and a penalty for angles that are not tetrahedral.

E = ½ Σ_i Σ_j φ₂(r_ij) + Σ_i Σ_{j<k} φ₃(r_ij, r_ik, θ_jik)

φ₂(r) = A ε [B (σ/r)^p - (σ/r)^q] exp(σ / (r - aσ))
φ₃ = λ ε (cos θ - cos θ₀)² exp(γ_ij σ_ij / (r_ij - a_ij σ_ij)) exp(γ_ik σ_ik / (r_ik - a_ik σ_ik))

zero beyond aσ, with all derivatives continuous (Phys. Rev. B 31, 5262, 1985). With several elements λ ε and cos θ₀
are those of the triplet, the others those of the pairs ("i j j"), as in LAMMPS.
"""

from __future__ import annotations

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
from mlmd.potentials.triplets import mean_of_equals, read_entries, with_each_other
from mlmd.precision import dtype_of

_ENTRY = ("epsilon", "sigma", "a", "lambda", "gamma", "cos_theta0", "A", "B", "p", "q", "tol")
PAIR = ("strength", "B", "p", "q", "sigma", "decay", "cutoff", "reach")
"""Of an ordered pair: A ε in eV, B, p, q, σ, γσ, aσ, and the distance from which all is left out, in Å."""
_LARGEST_TOL = 0.01  # of LAMMPS


class StillingerWeber(EnergyModel):
    """See the module; its parameters are its state."""

    kind = "stillinger-weber"

    def __init__(
        self, elements: Sequence[str], cutoff: float, pairs: Tensor, strengths: Tensor, cosines: Tensor
    ) -> None:
        """Take parameters by species.

        Args:
            elements: symbols.
            cutoff: Å, the largest reach of a pair.
            pairs: (n, n, 8) see `PAIR`; those of φ₂ are symmetric.
            strengths: (n, n, n) λ ε in eV of centre, neighbour, neighbour.
            cosines: (n, n, n) cos θ₀.

        Raises:
            InputError: for a word that is no element, or one given twice.
            ValueError: when the shapes do not fit.
        """
        super().__init__()
        self.elements, self.cutoff = check_symbols(elements), float(cutoff)
        n = len(self.elements)
        if pairs.shape != (n, n, len(PAIR)) or strengths.shape != (n, n, n) or cosines.shape != (n, n, n):
            raise ValueError(f"parameters do not fit {n} elements")
        for name, values in (("pairs", pairs), ("strengths", strengths), ("cosines", cosines)):
            self.register_buffer(name, values.clone())
        self.register_buffer("species_table", species_table(self.elements), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers it computes with."""
        return self.pairs.dtype

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV: half of an atom's bonds, and the angles it is the corner of."""
        kinds, n = species(graph.numbers, self.species_table), len(self.elements)
        centre, neighbour = graph.pairs
        of_centre, of_neighbour = kinds.index_select(0, centre), kinds.index_select(0, neighbour)
        of_pair = self.pairs.flatten(0, 1).index_select(0, of_centre * n + of_neighbour)
        distances = graph.distances
        near = torch.nonzero(distances < of_pair[:, -1])[:, 0]
        centre, of_neighbour, of_pair = (one.index_select(0, near) for one in (centre, of_neighbour, of_pair))
        vectors, r = graph.vectors.index_select(0, near).to(self.dtype), distances.index_select(0, near).to(self.dtype)
        strength, b, p, q, sigma, decay, cutoff, _ = of_pair.unbind(1)
        x = sigma / r
        # so near to the cutoff both exponentials are zero, and no division is
        inside = torch.maximum(cutoff - r, 1e-3 * sigma)
        bonds = strength * (b * x**p - x**q) * torch.exp(-sigma / inside)
        total = torch.zeros(graph.n_atoms, dtype=torch.float64, device=r.device)
        total = total.index_add(0, centre, 0.5 * bonds.double())
        j, k = with_each_other(centre)
        j, k = j[j < k], k[j < k]
        weight, towards = torch.exp(-decay / inside), vectors / r[:, None]
        cosine = (towards.index_select(0, j) * towards.index_select(0, k)).sum(dim=1)
        corner = centre.index_select(0, j)
        triplet = (kinds.index_select(0, corner) * n + of_neighbour[j]) * n + of_neighbour[k]
        deviation = cosine - self.cosines.flatten().index_select(0, triplet)
        angles = self.strengths.flatten().index_select(0, triplet) * deviation**2
        angles = angles * weight.index_select(0, j) * weight.index_select(0, k)
        return total.index_add(0, corner, angles.double())

    def kernel(self) -> Kernel:
        """The fused form."""
        tables = [table.double().cpu().numpy().ravel() for table in (self.pairs, self.strengths, self.cosines)]
        return Kernel(
            family="stillinger-weber",
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
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> StillingerWeber:
        """Build again from `spec` and `state_dict`.

        Raises:
            ValueError, KeyError, InputError: when they do not fit.
        """
        cutoff = units.parse(spec["cutoff"], "length")
        return cls(spec["elements"], cutoff, *(state[name] for name in ("pairs", "strengths", "cosines")))

    pairs: Tensor
    strengths: Tensor
    cosines: Tensor
    species_table: Tensor


def load(path: Path | str, precision: str = "float64") -> StillingerWeber:
    """A Stillinger-Weber potential from a `.sw` file in metal units.

    Args:
        path: the file.
        precision: "float64" or "float32".

    Raises:
        InputError: when the file does not exist, or for an unknown precision.
        ModelError: when it is damaged or of another kind, or its parameters depend on the order of atoms.
    """
    elements, entries = read_entries(path, _ENTRY, "Stillinger-Weber")
    try:
        potential = from_entries(elements, entries)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return potential.to(dtype_of(precision))


def from_entries(elements: Sequence[str], entries: np.ndarray) -> StillingerWeber:
    """The potential of entries (n, n, n, 11): ε σ a λ γ cosθ₀ A B p q tol of each triplet (eV, Å).

    Raises:
        ModelError: for impossible parameters, and where they depend on the order of atoms.
    """
    by_name = dict(zip(_ENTRY, np.moveaxis(entries, -1, 0), strict=True))
    for name, values in by_name.items():
        if name != "cos_theta0" and (values < 0).any():
            raise ModelError(f"{name} = {values.min():g} must not be negative.")
    own = np.arange(len(elements))
    pair = {name: values[:, own, own] for name, values in by_name.items()}
    pair["strength"] = pair["A"] * pair["epsilon"]
    pair["cutoff"], pair["decay"] = pair["a"] * pair["sigma"], pair["gamma"] * pair["sigma"]
    # from where an exponential is below the tolerance LAMMPS leaves everything out
    tol = np.clip(pair["tol"], 1e-300, _LARGEST_TOL)
    shift = np.where(pair["tol"] > 0, np.minimum(pair["gamma"], 1.0) * pair["sigma"] / np.log(tol), 0.0)
    pair["reach"] = np.maximum(pair["cutoff"] + shift, 0.0)
    if (pair["sigma"] <= 0).any() or (pair["cutoff"] <= 0).any():
        raise ModelError("sigma and a of every pair must be positive.")
    for name in ("strength", "B", "p", "q", "sigma", "cutoff"):
        pair[name] = mean_of_equals(pair[name], pair[name].T, elements, name)
    swapped = {name: np.swapaxes(values, 1, 2) for name, values in by_name.items()}
    strengths = mean_of_equals(
        by_name["lambda"] * by_name["epsilon"], swapped["lambda"] * swapped["epsilon"], elements, "lambda epsilon"
    )
    cosines = mean_of_equals(by_name["cos_theta0"], swapped["cos_theta0"], elements, "cos_theta0")
    pairs = np.stack([pair[name] for name in PAIR], axis=-1)
    tables = (torch.from_numpy(values.copy()) for values in (pairs, strengths, cosines))
    return StillingerWeber(elements, pair["reach"].max(), *tables)
