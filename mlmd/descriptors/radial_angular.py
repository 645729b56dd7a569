"""Radial-angular descriptors: Chebyshev functions of the distance times spherical harmonics, made invariant.

With g_n(r_ij) = Σ_k c[z_i, z_j, n, k] f_k(r_ij), the features of an atom are

- radial: q_n = Σ_j g_n(r_ij),
- angular: with a_nlm = Σ_j g_n(r_ij) Y_lm(r̂_ij), for orthonormal real harmonics,
  three-body q_nl = Σ_m a_nlm², l = 1 ... l_max,
  four-body q_n222 = Σ (2 2 2; m₁ m₂ m₃) a_n2m₁ a_n2m₂ a_n2m₃ (a Wigner 3j symbol), and five-body
  q_n1111 = 7/15 (Σ_m a_n1m²)²,

radial and angular functions having numbers, bases and cutoffs of their own. These are the descriptors of
neuroevolution potentials (Fan et al., Phys. Rev. B 104, 104309, 2021; J. Chem. Phys. 157, 114801, 2022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mlmd import units
from mlmd.descriptors.harmonics import harmonics
from mlmd.descriptors.neighbourhoods import Neighbourhoods, neighbourhoods
from mlmd.descriptors.radial import RadialFunctions
from mlmd.descriptors.radial_angular_kernel import radial_angular_kernel
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.precision import dtype_of

L_MAX = 8
"""Highest degree of the harmonics."""


@dataclass(frozen=True)
class Shape:
    """How many functions, polynomials and degrees."""

    n_radial: int
    """Functions g_n of the radial features."""
    n_radial_basis: int
    """Polynomials that each is made of."""
    n_angular: int
    """Functions g_n of the angular features; 0 for none."""
    n_angular_basis: int
    l_max: int
    """Highest degree of the three-body features."""
    four_body: bool = False
    """Whether q_n222 are features."""
    five_body: bool = False
    """Whether q_n1111 are features."""

    @property
    def n_invariants(self) -> int:
        """Angular features of each function."""
        return self.l_max + self.four_body + self.five_body

    @property
    def n_features(self) -> int:
        """Columns of the features: radial ones, then for each invariant those of all functions."""
        return self.n_radial + self.n_angular * self.n_invariants

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: for sizes that are not positive, a degree above 8, invariants without their harmonics.
        """
        sizes = (self.n_radial, self.n_radial_basis, self.n_angular, self.n_angular_basis)
        if min(sizes) < 1:
            raise InputError(f"a radial-angular descriptor needs one function and polynomial or more, not {sizes}.")
        least = 2 if self.four_body else 1 if self.five_body else 0
        if not least <= self.l_max <= L_MAX:
            raise InputError(f"l_max = {self.l_max} is not between {least} and {L_MAX}.")


class SquaredChebyshev(RadialFunctions):
    """g_n(x) = Σ_k c[z_i, z_j, n, k] f_k(x) of x = r / r_c, f_k = ½ (T_k(2(x - 1)² - 1) + 1) · ½ (1 + cos πx).

    As T_k(2y² - 1) = 2 T_k(y)² - 1 and ½ (1 + cos πx) = sin²(πy / 2) for y = 1 - x, each f_k is a square,
    (T_k(y) sin(πy / 2))², and zero with its slope at the cutoff.
    """

    def __init__(self, *, n_species: int, n_functions: int, n_chebyshev: int) -> None:
        """Begin with the plain functions, g_n = f_n."""
        super().__init__(
            n_species=n_species, n_functions=n_functions, n_chebyshev=n_chebyshev, min_distance=0.0, cutoff=1.0
        )

    def polynomials(self, distances: Tensor) -> list[Tensor]:
        """f_k for each k, of the shape of the distances, which are in units of the cutoff."""
        return [root * root for root in self._roots(distances)[0]]

    def slopes(self, distances: Tensor, rows: list[Tensor]) -> list[Tensor]:
        """df_k/dx."""
        roots, rates = self._roots(distances)
        return [-2 * root * rate for root, rate in zip(roots, rates, strict=True)]

    def _roots(self, distances: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """h_k = T_k(y) sin(πy / 2) and dh_k/dy."""
        y = (1.0 - distances).clamp(min=0.0)
        wave, slope = torch.sin(0.5 * math.pi * y), 0.5 * math.pi * torch.cos(0.5 * math.pi * y)
        roots, rates = [wave, y * wave], [slope, wave + y * slope]
        n = self.coefficients.shape[3]
        for k in range(2, n):
            roots.append(2 * y * roots[k - 1] - roots[k - 2])
            rates.append(2 * (roots[k - 1] + y * rates[k - 1]) - rates[k - 2])
        return roots[:n], rates[:n]


def invariants(moments: Tensor, shape: Shape) -> Tensor:
    """Rotation invariants (n_atoms, n_invariants, n_angular) of a_nlm (n_atoms, n_angular, l_max² + 2 l_max)."""
    squares = moments * moments
    found = [squares[:, :, degree**2 - 1 : (degree + 1) ** 2 - 1].sum(dim=2) for degree in range(1, shape.l_max + 1)]
    power_of_one = found[0] if found else None
    if shape.four_body:
        # up to a factor, the harmonics of degree 2 are the components of a traceless symmetric tensor Q, and the
        # sum over 3j symbols is its determinant
        axial, xz, yz, difference, xy = moments[:, :, 3:8].unbind(dim=2)
        third = axial / math.sqrt(3)
        xx, yy, zz = difference - third, -difference - third, 2 * third
        determinant = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
        found.append(-math.sqrt(27 / 70) * determinant)
    if shape.five_body and power_of_one is not None:
        found.append(7 / 15 * power_of_one * power_of_one)
    return torch.stack(found, dim=1)


class RadialAngular(torch.nn.Module):
    """Features q of atoms, each multiplied by its scaling."""

    kind = "atom"
    scaling: Tensor
    """(n_features,)."""
    radial_cutoffs: Tensor
    """(n_species,) Å; of a pair, the mean of its two elements'."""
    angular_cutoffs: Tensor
    """(n_species,) Å, the same."""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: object,
        angular_cutoff: object = None,
        n_radial: int = 9,
        n_radial_basis: int = 9,
        n_angular: int = 7,
        n_angular_basis: int = 9,
        l_max: int = 4,
        four_body: bool = False,
        five_body: bool = False,
        precision: str = "float64",
    ) -> None:
        """Make a descriptor with plain radial functions, to be fitted or loaded.

        Args:
            elements: symbols in the order of the species.
            cutoff: of the radial features, a length, or one for each element.
            angular_cutoff: of the angular ones; the same by default.
            n_radial, n_radial_basis, n_angular, n_angular_basis, l_max, four_body, five_body: see `Shape`.
            precision: "float64" or "float32".

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.shape = Shape(n_radial, n_radial_basis, n_angular, n_angular_basis, l_max, four_body, five_body)
        self.shape.check()
        self.n_features = self.shape.n_features
        radial = _lengths(cutoff, self.elements)
        angular = radial if angular_cutoff is None else _lengths(angular_cutoff, self.elements)
        if any(inner > outer for inner, outer in zip(angular, radial, strict=True)):
            raise InputError(f"angular cutoffs ({angular} Å) must not be larger than the radial ones ({radial} Å).")
        self._lengths = (radial, angular)
        self.cutoff, self.angular_cutoff = max(radial), max(angular)
        n_species = len(self.elements)
        self.radial = SquaredChebyshev(n_species=n_species, n_functions=n_radial, n_chebyshev=n_radial_basis)
        self.angular = SquaredChebyshev(n_species=n_species, n_functions=n_angular, n_chebyshev=n_angular_basis)
        self.register_buffer("scaling", torch.ones(self.n_features, dtype=torch.float64))
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        for name, values in (("radial_cutoffs", radial), ("angular_cutoffs", angular)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        self.to(dtype_of(precision))

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds, dtype = species(graph.numbers, self.species_table), self.scaling.dtype
        near = neighbourhoods(graph, kinds, self.cutoff, dtype, centres)
        reduced, _ = _reduced(near, self.radial_cutoffs)
        features = [self.radial(reduced, near).sum(dim=2)]
        if self.shape.n_invariants:
            if self.angular_cutoff < self.cutoff:
                near = neighbourhoods(within(graph, self.angular_cutoff), kinds, self.angular_cutoff, dtype, centres)
            reduced, directions = _reduced(near, self.angular_cutoffs)
            basis = harmonics(directions, self.shape.l_max).permute(1, 2, 0)
            moments = torch.bmm(self.angular(reduced, near), basis)
            features.append(invariants(moments, self.shape).flatten(1))
        return torch.cat(features, dim=1) * self.scaling

    def kernel(self) -> Kernel:
        """The compiled form."""
        return radial_angular_kernel(self)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> RadialAngular:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        written = [[units.with_unit(value, "length") for value in lengths] for lengths in self._lengths]
        radial, angular = (values[0] if len({*values}) == 1 else values for values in written)
        sizes = {name: getattr(self.shape, name) for name in Shape.__dataclass_fields__}
        return {
            "kind": "radial-angular",
            "elements": list(self.elements),
            "cutoff": radial,
            "angular_cutoff": angular,
            **sizes,
        }

    species_table: Tensor


def _lengths(given: object, elements: Sequence[str]) -> list[float]:
    """A length for each element, from one or several."""
    values = given if isinstance(given, Sequence) and not isinstance(given, str) else [given] * len(elements)
    lengths = [units.parse(value, "length") for value in values]
    if len(lengths) != len(elements) or not elements or min(lengths) <= 0:
        raise InputError(f"{lengths} Å: one positive cutoff is needed, or one for each of {', '.join(elements)}.")
    return lengths


def _reduced(near: Neighbourhoods, cutoffs: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (n_atoms, n_neighbours) in units of the pairs' cutoffs, and unit vectors (3, ...)."""
    distances = (near.vectors * near.vectors).sum(dim=0).sqrt()
    of_pair = 0.5 * (cutoffs[near.centre_kinds][:, None] + cutoffs[near.kinds])
    return distances / of_pair, near.vectors / distances


def within(graph: Graph, cutoff: float) -> Graph:
    """The graph with the pairs below a smaller cutoff only."""
    kept = (graph.distances.detach() < cutoff).nonzero().squeeze(1)
    return replace(
        graph,
        pairs=graph.pairs.index_select(1, kept),
        shifts=graph.shifts.index_select(0, kept),
        vectors=graph.vectors.index_select(0, kept),
    )
