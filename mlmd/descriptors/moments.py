"""Moment tensor descriptors: rotation-invariant contractions of moments of the neighbour density.

M_{μ,ν}(i) = Σ_j f_μ(r_ij; z_i, z_j) r̂_ij ⊗ ... ⊗ r̂_ij (ν times), and features are full contractions of
products of such tensors (Shapeev, Multiscale Model. Simul. 14, 1153, 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd import units
from mlmd.descriptors.contraction import Contraction
from mlmd.descriptors.cutoffs import quadratic
from mlmd.descriptors.moment_basis import MomentBasis, moment_basis
from mlmd.descriptors.moment_sums import MomentSums
from mlmd.descriptors.neighbourhoods import Neighbourhoods, neighbourhoods
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.precision import dtype_of

_TABLES = ("basic", "products", "scalars")


class Moments(torch.nn.Module):
    """The basis functions B_α of a moment tensor potential.

    The radial functions are f_μ(r; z_i, z_j) = s Σ_β c[z_i, z_j, μ, β] T_β(x) (r_c - r)² below the cutoff
    r_c, with T_β Chebyshev polynomials of x = (2r - r_min - r_c) / (r_c - r_min), and s a scaling (as in
    MLIP; Novikov et al., Mach. Learn. Sci. Technol. 2, 025002, 2021). c is not symmetric in the elements.
    """

    kind = "atom"
    radial: torch.nn.Parameter
    """(n_species, n_species, n_radial_functions, n_chebyshev): the coefficients c."""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: object,
        min_distance: object,
        level: int | None = None,
        basis: MomentBasis | None = None,
        n_chebyshev: int = 8,
        scaling: float = 1.0,
        precision: str = "float64",
    ) -> None:
        """Make a descriptor whose radial functions are plain Chebyshev polynomials, f_μ = s T_μ (r_c - r)².

        Args:
            elements: symbols in the order of the species.
            cutoff: r_c, a length.
            min_distance: r_min, a length: about the shortest distance between atoms that will be met.
            level: the basis is made for this level, unless `basis` is given.
            basis: tables, e.g. those of a file.
            n_chebyshev: number of Chebyshev polynomials.
            scaling: s.
            precision: "float64" or "float32".

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.cutoff = units.parse(cutoff, "length")
        self.min_distance = units.parse(min_distance, "length")
        if not (self.elements and 0 <= self.min_distance < self.cutoff and n_chebyshev > 0):
            raise InputError(
                f"moments need elements ({', '.join(self.elements)}), a min_distance ({self.min_distance:g} Å) below "
                f"the cutoff ({self.cutoff:g} Å) and one Chebyshev polynomial or more ({n_chebyshev})."
            )
        if basis is None:
            if level is None:
                raise InputError("moments need a level, e.g. level = 16.")
            basis = moment_basis(level)
        self.basis, self.scaling, self.n_features = basis, float(scaling), len(basis.scalars)
        n_species, n_radial = len(self.elements), basis.n_radial_functions
        radial = torch.eye(n_radial, n_chebyshev, dtype=torch.float64).expand(n_species, n_species, -1, -1)
        self.radial = torch.nn.Parameter(radial.clone(), requires_grad=False)
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        for name in _TABLES:  # part of the state: a file's basis may differ from ours of the same level
            self.register_buffer(name, torch.tensor(getattr(basis, name), dtype=torch.int64))
        self.sums, self.contraction = MomentSums(basis), Contraction(basis)
        self.to(dtype_of(precision))

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(graph, kinds, self.cutoff, self.radial.dtype, centres)
        distances = torch.linalg.vector_norm(near.vectors, dim=0)
        basic = self.sums(near.vectors / distances, self._radial_functions(distances, near))
        features: Tensor = self.contraction(basic).T
        return features

    def _radial_functions(self, distances: Tensor, near: Neighbourhoods) -> Tensor:
        """f_μ, (n_atoms, n_radial_functions, n_neighbours)."""
        chebyshev = self._chebyshev(distances)  # (n_atoms, β, n_neighbours)
        coefficients = self.radial.index_select(0, near.centre_kinds)  # (n_atoms, species, μ, β)
        if len(self.elements) == 1:
            return torch.bmm(coefficients[:, 0], chebyshev)
        # one block of rows β for each species of neighbour, zero for the others
        others = torch.arange(len(self.elements), device=distances.device)[:, None]
        mask = (near.kinds[:, None, :] == others).to(distances.dtype)  # (n_atoms, species, n_neighbours)
        blocks = (mask[:, :, None, :] * chebyshev[:, None, :, :]).flatten(1, 2)
        return torch.bmm(coefficients.transpose(1, 2).flatten(2), blocks)

    def _chebyshev(self, distances: Tensor) -> Tensor:
        """s T_β(x) (r_c - r)², (n_atoms, n_chebyshev, n_neighbours)."""
        x = (2 * distances - (self.min_distance + self.cutoff)) / (self.cutoff - self.min_distance)
        rows = [self.scaling * quadratic(distances, self.cutoff)]
        if self.radial.shape[3] > 1:
            rows.append(rows[0] * x)
        while len(rows) < self.radial.shape[3]:
            rows.append(2 * x * rows[-1] - rows[-2])
        return torch.stack(rows, dim=1)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Moments:
        """Build again from `spec` and the tensors of `state_dict`, which are not loaded yet.

        Raises:
            ValueError, KeyError, TypeError, RuntimeError: when the two do not fit.
        """
        rows = {name: state[name].tolist() for name in _TABLES}
        basis = MomentBasis(
            basic=tuple((mu, a, b, c) for mu, a, b, c in rows["basic"]),
            products=tuple((first, second, c, target) for first, second, c, target in rows["products"]),
            scalars=tuple(rows["scalars"]),
        )
        basis.check()
        given = {name: value for name, value in spec.items() if name not in ("kind", "level")}
        return cls(**given, basis=basis)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "moments",
            "elements": list(self.elements),
            "cutoff": units.with_unit(self.cutoff, "length"),
            "min_distance": units.with_unit(self.min_distance, "length"),
            "level": self.basis.level,
            "n_chebyshev": self.radial.shape[3],
            "scaling": self.scaling,
        }

    species_table: Tensor
