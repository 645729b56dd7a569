"""Atom-centred symmetry functions: radial and angular sums over Gaussians (Behler, J. Chem. Phys. 134, 074106, 2011).

With a weight f that goes to zero at a cutoff,

- radial, G2 of element a: G = Σ_j exp(-η (r_ij - r_s)²) f(r_ij), over neighbours of element a; G1 is that for η = 0;
- angular, of elements a and b: G = 2^(1-ζ) Σ_{j<k} (1 + λ cos θ_jik)^ζ exp(-η (r_ij² + r_ik²)) f(r_ij) f(r_ik): G5,
  "wide"; G4 multiplies each term by exp(-η r_jk²) f(r_jk) besides.

Sums are over pairs j < k of neighbours, as in n2p2 and dscribe; Behler's are over j ≠ k, which is twice that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

from mlmd import units
from mlmd.descriptors.cutoffs import cosine, quintic
from mlmd.descriptors.neighbourhoods import neighbourhoods
from mlmd.descriptors.radial_angular import within
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.descriptors.symmetry_kernel import symmetry_kernel
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.precision import dtype_of

WEIGHTS = ("cosine", "quintic")
"""Weights f: ½ (1 + cos πr/r_c), once continuously differentiable, and the quintic step from r = 0, twice."""
_CLOSE = 1e-12  # Å²: padded places lie upon each other, and the slope of a square root at zero is not finite


@dataclass(frozen=True)
class Radial:
    """A function G2, taken of every element."""

    eta: float
    """1/Å²."""
    shift: float = 0.0
    """r_s in Å."""


@dataclass(frozen=True)
class Angular:
    """A function G4 or G5, taken of every pair of elements."""

    eta: float
    """1/Å²."""
    zeta: float
    """One or more."""
    sign: int
    """λ, 1 or -1."""


def evenly_spaced(cutoff: float, n_radial: int, zetas: Sequence[float] = (1, 4)) -> tuple[list[Radial], list[Angular]]:
    """A plain set: Gaussians along the distance, as wide as their spacing, and each ζ with both signs.

    Args:
        cutoff: Å.
        n_radial: functions G2; their centres go from a quarter of the cutoff to the cutoff, η = 1/(2 spacing²).
        zetas: of the angular functions, all with η = 1/(2 r_c²), which hardly falls within the cutoff.

    Raises:
        InputError: when there are fewer than two radial functions.
    """
    if n_radial < 2:
        raise InputError(f"{n_radial} radial functions cannot be spaced evenly: two or more are needed.")
    spacing = 0.75 * cutoff / (n_radial - 1)
    radial = [Radial(0.5 / spacing**2, 0.25 * cutoff + spacing * n) for n in range(n_radial)]
    return radial, [Angular(0.5 / cutoff**2, zeta, sign) for zeta in zetas for sign in (1, -1)]


class SymmetryFunctions(torch.nn.Module):
    """Features of atoms: by element all radial functions, by pair of elements all angular ones, times a scaling."""

    kind = "atom"
    scaling: Tensor
    """(n_features,)."""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: object,
        radial: Sequence[Radial | tuple[float, float]],
        angular: Sequence[Angular | tuple[float, float, int]] = (),
        angular_cutoff: object = None,
        wide: bool = True,
        weight: str = "cosine",
        precision: str = "float64",
    ) -> None:
        """Make a descriptor whose scaling is one.

        Args:
            elements: symbols in the order of the species.
            cutoff: of the radial functions, a length.
            radial: (η, r_s) of each function G2.
            angular: (η, ζ, λ) of each angular function.
            angular_cutoff: of the angular functions, not larger; the same by default.
            wide: G5, without the distance of the two neighbours, else G4.
            weight: "cosine" or "quintic".
            precision: "float64" or "float32".

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.radial = [one if isinstance(one, Radial) else Radial(*one) for one in radial]
        self.angular = [one if isinstance(one, Angular) else Angular(*one) for one in angular]
        self.cutoff = units.parse(cutoff, "length")
        self.angular_cutoff = self.cutoff if angular_cutoff is None else units.parse(angular_cutoff, "length")
        self.wide, self.weight = wide, weight
        self._check()
        n_species = len(self.elements)
        self.pairs = tuple(combinations_with_replacement(range(n_species), 2))
        """Of species, in the order of the features."""
        self.n_features = n_species * len(self.radial) + len(self.pairs) * len(self.angular)
        self.register_buffer("scaling", torch.ones(self.n_features, dtype=torch.float64))
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        self.to(dtype_of(precision))

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds, dtype = species(graph.numbers, self.species_table), self.scaling.dtype
        near = neighbourhoods(graph, kinds, self.cutoff, dtype, centres)
        distances = (near.vectors * near.vectors).sum(dim=0).sqrt()
        found = [self._radial(distances, near.kinds)]
        if self.angular:
            if self.angular_cutoff < self.cutoff:
                near = neighbourhoods(within(graph, self.angular_cutoff), kinds, self.angular_cutoff, dtype, centres)
            found.append(self._angular(near.vectors, near.kinds))
        return torch.cat(found, dim=1) * self.scaling

    def _radial(self, distances: Tensor, kinds: Tensor) -> Tensor:
        """(n_atoms, n_species n_radial) of distances and kinds (n_atoms, n_neighbours)."""
        weights = self._weight(distances, self.cutoff)
        of_kind = torch.stack([weights * (kinds == kind) for kind in range(len(self.elements))])
        gaussians = torch.stack([torch.exp(-one.eta * (distances - one.shift) ** 2) for one in self.radial])
        return torch.einsum("zij,nij->izn", of_kind, gaussians).flatten(1)

    def _angular(self, vectors: Tensor, kinds: Tensor) -> Tensor:
        """(n_atoms, n_pairs n_angular) of vectors (3, n_atoms, n_neighbours) and kinds (n_atoms, n_neighbours)."""
        n_neighbours = kinds.shape[1]
        j, k = torch.triu_indices(n_neighbours, n_neighbours, 1, device=kinds.device)
        squares = (vectors * vectors).sum(dim=0)
        distances = squares.sqrt()
        weights = self._weight(distances, self.angular_cutoff)
        dot = (vectors[:, :, j] * vectors[:, :, k]).sum(dim=0)
        cosines = dot / (distances[:, j] * distances[:, k])
        weight, extent = weights[:, j] * weights[:, k], squares[:, j] + squares[:, k]
        if not self.wide:
            between = vectors[:, :, k] - vectors[:, :, j]
            third = (between * between).sum(dim=0).clamp(min=_CLOSE)
            weight, extent = weight * self._weight(third.sqrt(), self.angular_cutoff), extent + third
        first, second = torch.minimum(kinds[:, j], kinds[:, k]), torch.maximum(kinds[:, j], kinds[:, k])
        of_pair = torch.stack([weight * ((first == a) & (second == b)) for a, b in self.pairs])
        terms = []
        for one in self.angular:
            powers = 2 ** (1 - one.zeta) * (1 + one.sign * cosines).clamp(min=0.0) ** one.zeta
            terms.append(powers * torch.exp(-one.eta * extent))
        return torch.einsum("pit,nit->ipn", of_pair, torch.stack(terms)).flatten(1)

    def _weight(self, distances: Tensor, cutoff: float) -> Tensor:
        return cosine(distances, cutoff) if self.weight == "cosine" else quintic(distances, cutoff, 0.0)

    def _check(self) -> None:
        if not self.radial:
            raise InputError("symmetry functions need one radial function or more.")
        if not 0 < self.angular_cutoff <= self.cutoff:
            raise InputError(
                f"the angular cutoff, {self.angular_cutoff:g} Å, must lie between 0 and {self.cutoff:g} Å."
            )
        if self.weight not in WEIGHTS:
            raise InputError(f"weight = {self.weight!r} is not one of {', '.join(WEIGHTS)}.")
        for eta in [one.eta for one in self.radial] + [one.eta for one in self.angular]:
            if not eta >= 0:
                raise InputError(f"η = {eta} of a symmetry function is not a number of zero or more.")
        for angle in self.angular:
            if not angle.zeta >= 1 or angle.sign not in (1, -1):
                raise InputError(f"ζ = {angle.zeta}, λ = {angle.sign}: ζ must be one or more, λ 1 or -1.")

    def kernel(self) -> Kernel | None:
        """The descriptor as the compiled kernels read it; None where a ζ is no whole number."""
        return symmetry_kernel(self)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> SymmetryFunctions:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "symmetry-functions",
            "elements": list(self.elements),
            "cutoff": units.with_unit(self.cutoff, "length"),
            "angular_cutoff": units.with_unit(self.angular_cutoff, "length"),
            "radial": [[one.eta, one.shift] for one in self.radial],
            "angular": [[one.eta, one.zeta, one.sign] for one in self.angular],
            "wide": self.wide,
            "weight": self.weight,
        }

    species_table: Tensor
