"""Atom-centred symmetry functions: sums of Gaussians of distances and powers of cosines of angles.

With f the cutoff function, r_ij the distance of a neighbour j of i, θ_jik the angle at i, each for neighbours of one
element, or of one pair of elements:

- G1 = Σ_j f(r_ij)
- G2 = Σ_j exp(-η (r_ij - r_s)²) f(r_ij)
- G3 = Σ_j cos(κ r_ij) f(r_ij)
- G4 = 2^(1-ζ) Σ_{j<k} (1 + λ cos θ_jik)^ζ exp(-η [(r_ij - r_s)² + (r_ik - r_s)² + (r_jk - r_s)²])
  f(r_ij) f(r_ik) f(r_jk)
- G5 = the same without r_jk in the exponent and without f(r_jk)

(Behler, J. Chem. Phys. 134, 074106, 2011). The sides of G4 and G5 may have an η each. **Every pair of neighbours counts
once**, as in n2p2 (types 2, 3 and 9) and DScribe. Behler's sums run over all ordered j, k: his G4 and G5 are twice
these. A function of all elements multiplies terms by the atomic numbers of the neighbours (Gastegger et al., J. Chem.
Phys. 148, 241709, 2018; n2p2's 12 and 13).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.cutoffs import check_taper, taper
from mlmd.descriptors.neighbourhoods import Neighbourhoods, neighbourhoods
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.descriptors.symmetry_functions import SymmetryFunction, weights_of
from mlmd.descriptors.symmetry_kernel import symmetry_kernel
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.precision import dtype_of


@dataclass(frozen=True)
class Term:
    """What neighbours of certain species add to a feature."""

    function: SymmetryFunction
    column: int
    """Of the feature."""
    weight: float


class Symmetry(torch.nn.Module):
    """Symmetry functions of atoms, centred and scaled: x = (G - offset) · factor.

    Every element has functions of its own, in their order the columns of the features of its atoms; where an
    element has fewer functions than another, the last columns are zero.
    """

    kind = "atom"
    atoms_at_once = 64
    """Worked through together: triplets take more memory than pairs."""
    offset: Tensor
    """(n_species, n_features)."""
    factor: Tensor
    """(n_species, n_features)."""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        functions: Sequence[SymmetryFunction | Mapping[str, Any]],
        taper: str = "cosine",
        onset: float = 0.0,
        precision: str = "float64",
    ) -> None:
        """Take functions, without offset and with factors of 1.

        Args:
            elements: symbols in the order of the species.
            functions: `SymmetryFunction`s or tables of them; those of one centre keep their order.
            taper: the cutoff function, a name of `mlmd.descriptors.cutoffs.TAPERS`.
            onset: where it begins to fall, as a fraction of the cutoff.
            precision: "float64" or "float32".

        Raises:
            InputError: for impossible values, elements without a function, functions of unknown elements.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.functions = tuple(
            one if isinstance(one, SymmetryFunction) else SymmetryFunction.read(one) for one in functions
        )
        self.taper, self.onset = taper, float(onset)
        check_taper(taper, self.onset)
        counts = dict.fromkeys(self.elements, 0)
        terms: dict[tuple[int, tuple[int, ...]], list[Term]] = defaultdict(list)
        for function in self.functions:
            function.check()
            for symbol in {function.centre, *function.neighbours} - counts.keys():
                raise InputError(f"a symmetry function is of {symbol}; the elements are {', '.join(self.elements)}.")
            ordered = function.ordered(self.elements)
            for kinds, weight in weights_of(ordered, self.elements).items():
                key = (self.elements.index(function.centre), kinds)
                terms[key].append(Term(ordered, counts[function.centre], weight))
            counts[function.centre] += 1
        if without := [symbol for symbol, count in counts.items() if not count]:
            raise InputError(f"{', '.join(without) or 'no element'}: every element needs a symmetry function.")
        self.terms = dict(terms)
        """Species of the centre, and those of one or two neighbours, ascending -> what they add."""
        self.n_features = max(counts.values(), default=0)
        self.cutoff = max(function.cutoff for function in self.functions)
        shape = (len(self.elements), self.n_features)
        self.register_buffer("offset", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("factor", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        self.to(dtype_of(precision))

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(graph, kinds, self.cutoff, self.factor.dtype, centres)
        distances = (near.vectors * near.vectors).sum(dim=0).sqrt()
        real = torch.zeros(distances.numel(), dtype=torch.bool, device=distances.device)
        real[near.places] = True
        values = distances.new_zeros((len(near.centre_kinds), self.n_features))
        for (centre, neighbours), terms in self.terms.items():
            inside = real.view(distances.shape) & (distances.detach() < max(term.function.cutoff for term in terms))
            inside = inside & (near.centre_kinds == centre)[:, None]
            of = {kind: inside & (near.kinds == kind) for kind in neighbours}
            summed = self._radial if len(neighbours) == 1 else self._angular
            sums = summed(near, distances, [of[kind] for kind in neighbours], [term.function for term in terms])
            weights = sums.new_tensor([term.weight for term in terms])
            columns = torch.tensor([term.column for term in terms], device=sums.device)
            values = values.index_add(1, columns, (weights[:, None] * sums).T)
        own = near.centre_kinds
        return (values - self.offset.index_select(0, own)) * self.factor.index_select(0, own)

    def _radial(
        self, near: Neighbourhoods, distances: Tensor, of: Sequence[Tensor], functions: Sequence[SymmetryFunction]
    ) -> Tensor:
        """(n_functions, n_atoms) sums over the neighbours of a mask."""
        atoms, place = of[0].nonzero(as_tuple=True)
        r = distances[atoms, place]
        tapers = {cutoff: self._taper(r, cutoff) for cutoff in {one.cutoff for one in functions}}
        values = torch.stack([_of_distance(one, r) * tapers[one.cutoff] for one in functions])
        return values.new_zeros((len(functions), len(distances))).index_add(1, atoms, values)

    def _angular(
        self, near: Neighbourhoods, distances: Tensor, of: Sequence[Tensor], functions: Sequence[SymmetryFunction]
    ) -> Tensor:
        """(n_functions, n_atoms) sums over pairs of neighbours, one of each mask."""
        both = of[0][:, :, None] & of[1][:, None, :]
        if of[0] is of[1]:
            both = both.triu(1)
        atoms, j, k = both.nonzero(as_tuple=True)
        first, second = near.vectors[:, atoms, j], near.vectors[:, atoms, k]
        if all(one.narrow for one in functions):
            apart = (second - first).detach().square().sum(dim=0)
            kept = (apart < max(one.cutoff for one in functions) ** 2).nonzero().squeeze(1)
            atoms, j, k, first, second = atoms[kept], j[kept], k[kept], first[:, kept], second[:, kept]
        r_ij, r_ik, between = distances[atoms, j], distances[atoms, k], second - first
        r_jk = (between * between).sum(dim=0).sqrt()
        cosine = (first * second).sum(dim=0) / (r_ij * r_ik)
        angles = {(one.sign, one.zeta) for one in functions}
        by_angle = {(sign, zeta): 2 * (0.5 * (1 + sign * cosine)).clamp(min=0.0) ** zeta for sign, zeta in angles}
        shared: dict[tuple[object, ...], Tensor] = {}
        values = []
        for one in functions:
            key = (one.narrow, one.cutoff, one.sides, one.shift)
            if key not in shared:
                sides = (r_ij, r_ik, r_jk) if one.narrow else (r_ij, r_ik)
                exponents = [eta * (side - one.shift) ** 2 for eta, side in zip(one.sides, sides, strict=False)]
                shared[key] = torch.exp(-torch.stack(exponents).sum(dim=0))
                for side in sides:
                    shared[key] = shared[key] * self._taper(side, one.cutoff)
            values.append(shared[key] * by_angle[one.sign, one.zeta])
        return distances.new_zeros((len(functions), len(distances))).index_add(1, atoms, torch.stack(values))

    def _taper(self, distances: Tensor, cutoff: float) -> Tensor:
        return taper(self.taper, distances, cutoff, self.onset * cutoff)

    def kernel(self) -> Kernel:
        """The descriptor as the compiled kernels read it."""
        return symmetry_kernel(self)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Symmetry:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "symmetry",
            "elements": list(self.elements),
            "taper": self.taper,
            "onset": self.onset,
            "functions": [function.spec() for function in self.functions],
        }

    species_table: Tensor


def _of_distance(function: SymmetryFunction, r: Tensor) -> Tensor:
    """A radial function without its cutoff function."""
    if function.kind == "G2":
        return torch.exp(-function.eta * (r - function.shift) ** 2)
    return torch.cos(function.kappa * r) if function.kind == "G3" else torch.ones_like(r)
