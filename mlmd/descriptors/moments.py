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
from mlmd.descriptors.moment_basis import MomentBasis, moment_basis
from mlmd.descriptors.moment_design import Design, MomentDesign
from mlmd.descriptors.moment_kernel import CompiledDesign, has_compiled_design, moment_kernel
from mlmd.descriptors.moment_sums import MomentSums
from mlmd.descriptors.neighbourhoods import neighbourhoods
from mlmd.descriptors.radial import RadialFunctions
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.precision import dtype_of

_TABLES = ("basic", "products", "scalars")


class Moments(torch.nn.Module):
    """The basis functions B_α of a moment tensor potential, with the radial functions of `RadialFunctions`."""

    kind = "atom"

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
        """Make a descriptor with plain radial functions, to be fitted or loaded.

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
        self.basis, self.n_features = basis, len(basis.scalars)
        self.radial = RadialFunctions(
            n_species=len(self.elements),
            n_functions=basis.n_radial_functions,
            n_chebyshev=n_chebyshev,
            min_distance=self.min_distance,
            cutoff=self.cutoff,
            scaling=float(scaling),
        )
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        for name in _TABLES:  # part of the state: a file's basis may differ from ours of the same level
            self.register_buffer(name, torch.tensor(getattr(basis, name), dtype=torch.int64))
        self.sums, self.contraction = MomentSums(basis), Contraction(basis)
        self._design: MomentDesign | None = None
        self._compiled: CompiledDesign | None = None
        self.to(dtype_of(precision))

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(graph, kinds, self.cutoff, self.radial.coefficients.dtype, centres)
        distances = (near.vectors * near.vectors).sum(dim=0).sqrt()  # vector_norm is slow along the first axis
        basic = self.sums(near.vectors / distances, self.radial(distances, near))
        features: Tensor = self.contraction(basic).T
        return features

    def design(self, graph: Graph, weights: Tensor | None = None) -> Design:
        """Derivatives of energies, forces and virials by the weights of the features and the radial coefficients.

        Args:
            graph: structures, preferably of some hundred atoms together.
            weights: (n_features,) eV; the radial coefficients are left out without them.
        """
        if has_compiled_design(self):
            self._compiled = self._compiled or CompiledDesign(self)
            return self._compiled(self, graph, weights)
        if self._design is None:  # tables that only training needs
            self._design = MomentDesign(self.basis)
        return self._design(self, graph, weights)

    @property
    def design_cutoff(self) -> float:
        """Å, up to which `design` needs the pairs of a graph: 0 where the compiled kernels find their own."""
        return 0.0 if has_compiled_design(self) else self.cutoff

    def kernel(self) -> Kernel:
        """The compiled form."""
        return moment_kernel(self)

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
            "n_chebyshev": self.radial.coefficients.shape[3],
            "scaling": self.radial.scaling,
        }

    species_table: Tensor
