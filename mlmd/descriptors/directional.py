"""Directional fingerprints: for each atom three rows, one for each axis, of the neighbours' directions.

    V_iα = Σ_j (r_ijα / r_ij) exp(-(r_ij / η_k)²) f_c(r_ij),    α = x, y, z, a column for each η_k and element of j

(Botu and Ramprasad, Phys. Rev. B 92, 094306, 2015; AGNI: Botu, Batra, Chapman and Ramprasad, J. Phys. Chem. C 121, 511,
2017), f_c the cosine that takes pairs to zero at the cutoff. The three numbers of a column are a vector, which turns
with the structure and is zero at a centre of inversion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.species import species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph


class Directional(torch.nn.Module):
    """See the module. Rows are those of atom 0 along x, y and z, then those of atom 1."""

    kind = "direction"
    species_table: Tensor

    def __init__(self, *, elements: Sequence[str], cutoff: float, widths: Sequence[float]) -> None:
        """Without numbers to be fitted.

        Args:
            elements: chemical symbols, in the order of the species.
            cutoff: Å.
            widths: η, Å.

        Raises:
            InputError: for a cutoff or widths that are not positive.
        """
        super().__init__()
        if not widths or not all(0 < width < math.inf for width in (cutoff, *widths)):
            raise InputError(f"a cutoff of {cutoff} Å and widths {list(widths)} Å are impossible; they are positive.")
        self.elements, self.cutoff = tuple(elements), float(cutoff)
        self.widths = tuple(map(float, widths))
        self.n_features = len(self.elements) * len(self.widths)
        self.register_buffer("species_table", species_table(self.elements), persistent=False)

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(3 n_atoms, n_features), or the rows of some consecutive atoms; columns by element, then by width."""
        first, last, _ = (centres or slice(None)).indices(graph.n_atoms)
        kinds = species(graph.numbers, self.species_table)
        distances = graph.distances
        own = (distances < self.cutoff) & (graph.pairs[0] >= first) & (graph.pairs[0] < last)
        (centre, neighbour), r = graph.pairs[:, own], distances[own]
        widths = torch.tensor(self.widths, dtype=r.dtype, device=r.device)
        radial = torch.exp(-((r[:, None] / widths) ** 2)) * 0.5 * (1 + torch.cos(torch.pi * r / self.cutoff))[:, None]
        terms = (graph.vectors[own] / r[:, None])[..., None] * radial[:, None]  # (n_pairs, 3, n_widths)
        n = len(self.elements)
        sums = terms.new_zeros(((last - first) * n, 3, len(self.widths)))
        sums = sums.index_add(0, (centre - first) * n + kinds[neighbour], terms)
        return sums.view(last - first, n, 3, -1).transpose(1, 2).reshape(3 * (last - first), self.n_features)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Directional:
        """Build again from `spec`; there are no tensors."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "directional",
            "elements": list(self.elements),
            "cutoff": self.cutoff,
            "widths": list(self.widths),
        }
