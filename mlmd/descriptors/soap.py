"""Smooth overlap of atomic positions: the power spectrum of the density of the neighbours.

Every atom of an element Z around the atom i is a Gaussian; in a radial basis g_nl and real spherical harmonics Y_lm,

    ρ_i^Z(r) = Σ_{j∈Z} f(r_ij) exp(-|r - r_ij|²/2σ²) = Σ_nlm c^Z_nlm g_nl(r) Y_lm(r̂),
    p^{ZZ'}_{nn'l} = w π √(8/(2l + 1)) Σ_m c^Z_nlm c^{Z'}_{n'lm}

with a cutoff function f (Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115, 2013). **The product of (Z, n) and
(Z', n') is stored once, with w = √2 where these differ**, so that the dot product of two rows is the sum over all
products, the kernel of the densities. QUIP does the same; DScribe has w = 1, and its dot products are others. DScribe
has no f by default either: ``taper = "none"`` equals it, with neighbours up to 3.717σ beyond the extent of the basis
(``extent`` = r_cut, ``cutoff`` = r_cut + 3.717σ). Then every feature jumps when an atom crosses the cutoff.

The power spectrum knows distances and angles of pairs of neighbours, and no more: there are different environments
with the same spectrum (Pozdnyakov et al., Phys. Rev. Lett. 125, 166001, 2020), which no function of it can tell apart.
Moment tensors and the bispectrum, products of three or more, do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mlmd import units
from mlmd.descriptors.cutoffs import check_taper, taper
from mlmd.descriptors.harmonics import harmonics
from mlmd.descriptors.neighbourhoods import Neighbourhoods, neighbourhoods
from mlmd.descriptors.parity_series import parity_series
from mlmd.descriptors.soap_basis import BASES, chebyshev_series, reach
from mlmd.descriptors.soap_kernel import soap_kernel
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError, did_you_mean
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.precision import dtype_of

LARGEST = 20
"""Of n_max and l_max: what takes seconds to prepare."""

PRODUCTS: Final[dict[str, str]] = {
    "all": "(Z, n) with (Z', n'): with N elements (N n_max)(N n_max + 1)/2 for each l",
    "same-element": "(Z, n) with (Z, n'): N n_max (n_max + 1)/2",
    "with-sum": "(Z, n) with n' of the density of all elements together: N n_max²",
}
"""Products of coefficients that may be features; the last two are DScribe's crossover and mu1nu1 (Darby, Kermode and
Csányi, npj Comput. Mater. 8, 166, 2022)."""


class Soap(torch.nn.Module):
    """Power spectra of atoms, by l, then (Z, n) and (Z', n') in the order of the elements."""

    kind = "atom"
    atoms_at_once = 128
    """Worked through together: radial functions of every degree, and products of elements, take memory."""
    table: Tensor
    """(l_max + 1, n_max, n_terms) of the radial functions, see `mlmd.descriptors.soap_basis.chebyshev_series`."""
    own: Tensor
    """(n_max,) what the Gaussian of the centre adds to c_n00; zeros where it is not included."""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: object,
        n_max: int = 8,
        l_max: int = 6,
        sigma: object = "0.5 Å",
        basis: str = "gto",
        extent: object = None,
        taper: str = "quintic",
        onset: float = 0.5,
        include_centre: bool = True,
        central_weight: float = 1.0,
        normalised: bool = True,
        products: str = "all",
        precision: str = "float64",
    ) -> None:
        """Prepare the radial functions.

        Args:
            elements: symbols in the order of the species.
            cutoff: a length; neighbours beyond do not count.
            n_max: radial functions of each degree.
            l_max: highest degree.
            sigma: a length, the width of the Gaussians.
            basis: of the radial functions, a name of `mlmd.descriptors.soap_basis.BASES`.
            extent: a length, up to which the radial basis reaches; by default the cutoff, or as far as QUIP's does.
            taper: the cutoff function, a name of `mlmd.descriptors.cutoffs.TAPERS` or "none". QUIP's is "cosine" with
                an onset of 1 - cutoff_transition_width / cutoff.
            onset: where it begins to fall, as a fraction of the cutoff.
            include_centre: whether the centre, a Gaussian at the origin, is part of the density of its element.
            central_weight: by which the centre's Gaussian is multiplied.
            normalised: rows of length 1.
            products: a name of `PRODUCTS`.
            precision: "float64" or "float32".

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.n_max, self.l_max, self.basis, self.products = n_max, l_max, basis, products
        self.taper, self.onset = taper, float(onset)
        self.include_centre, self.central_weight, self.normalised = include_centre, float(central_weight), normalised
        self.cutoff, self.sigma = units.parse(cutoff, "length"), units.parse(sigma, "length")
        for name, value, known in (("radial basis", basis, BASES), ("set of products", products, PRODUCTS)):
            if value not in known:
                raise InputError(f"{value!r} is not a {name} of SOAP. {did_you_mean(str(value), known)}")
        if taper != "none":
            check_taper(taper, self.onset)
        if not (1 <= n_max <= LARGEST and 0 <= l_max <= LARGEST and self.elements):
            raise InputError(
                f"n_max = {n_max}, l_max = {l_max} and {len(self.elements)} elements; n_max is 1 to {LARGEST}, l_max 0 "
                f"to {LARGEST}, and one element or more is needed."
            )
        self.extent = reach(basis, self.cutoff, self.sigma) if extent is None else units.parse(extent, "length")
        if min(self.cutoff, self.sigma, self.extent) <= 0:
            raise InputError("cutoff, sigma and extent must be positive lengths.")
        if not 0 < self.central_weight < math.inf:
            raise InputError(f"a centre's Gaussian of weight {central_weight} is impossible; it must be positive.")
        if normalised and not include_centre:
            raise InputError(
                "without the centre's Gaussian the row of a lone atom is zero, and a row of length 1 would jump when a "
                "neighbour comes: set include_centre, or leave the rows as they are (normalised = false)."
            )
        series = chebyshev_series(
            basis, n_max=n_max, l_max=l_max, sigma=self.sigma, extent=self.extent, cutoff=self.cutoff
        )
        self.register_buffer("table", torch.from_numpy(series))
        signs = (-1.0) ** np.arange(series.shape[2])  # T_2k(0)
        at_centre = series[0] @ signs / math.sqrt(4 * math.pi) * include_centre * self.central_weight
        self.register_buffer("own", torch.from_numpy(at_centre))
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        self._columns()
        self.n_features = (l_max + 1) * len(self.columns) * (1 if products == "all" else len(self.elements))
        self.to(dtype_of(precision))

    def _columns(self) -> None:
        """Places in a flattened matrix of products of those that are stored, and their weights."""
        n = self.n_max * (len(self.elements) if self.products == "all" else 1)
        first, second = torch.triu_indices(n, n) if self.products != "with-sum" else torch.ones(n, n).nonzero().T
        weights = torch.full((len(first),), math.sqrt(2.0) if self.products != "with-sum" else 1.0, dtype=torch.float64)
        weights[first == second] = 1.0
        self.register_buffer("columns", first * n + second, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(graph, kinds, self.cutoff, self.table.dtype, centres)
        found = []
        for degree, coefficients in enumerate(self._coefficients(near)):
            norm = math.pi * math.sqrt(8 / (2 * degree + 1))
            found.append(self._power(coefficients) * norm)
        rows = torch.stack(found, dim=1).flatten(1)
        return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True) if self.normalised else rows

    def _coefficients(self, near: Neighbourhoods) -> list[Tensor]:
        """c of each l, (n_atoms, n_species, n_max, 2l + 1)."""
        distances = (near.vectors * near.vectors).sum(dim=0).sqrt()
        n_atoms, n_species = len(distances), len(self.elements)
        real = torch.zeros(distances.numel(), dtype=torch.bool, device=distances.device)
        real[near.places] = True
        inside = real.view(distances.shape) & (distances.detach() < self.cutoff)
        weights = inside.to(distances.dtype)
        if self.taper != "none":
            weights = weights * taper(self.taper, distances, self.cutoff, self.onset * self.cutoff)
        # beyond the cutoff the series grows without bounds: those neighbours count as at the cutoff, with a weight of 0
        x = torch.where(inside, distances, self.cutoff) / self.cutoff
        radial = [one.unbind() for one in parity_series(x.flatten(), self.table)]
        waves = [torch.full_like(distances, math.sqrt(0.25 / math.pi))[None]]
        if self.l_max:
            degrees = [2 * degree + 1 for degree in range(1, self.l_max + 1)]
            waves += harmonics(near.vectors / distances, self.l_max).split(degrees)
        of_kind = torch.stack([weights * (near.kinds == kind) for kind in range(n_species)])
        found = []
        for degree in range(self.l_max + 1):
            functions = radial[degree % 2][degree // 2].view(self.n_max, *distances.shape)
            weighted = (of_kind[:, None] * functions).flatten(0, 1).permute(1, 0, 2)
            sums = torch.bmm(weighted, waves[degree].permute(1, 2, 0))
            found.append(sums.view(n_atoms, n_species, self.n_max, -1))
        if self.include_centre:
            owners = torch.nn.functional.one_hot(near.centre_kinds, n_species).to(distances.dtype)
            found[0] = found[0] + (owners[:, :, None] * self.own)[..., None]
        return found

    def _power(self, c: Tensor) -> Tensor:
        """(n_atoms, n_columns): products of one degree, summed over m."""
        n_atoms, n_species = c.shape[:2]
        if self.products == "all":
            c = c.flatten(1, 2)
            matrices = torch.bmm(c, c.mT)
        elif self.products == "same-element":
            c = c.flatten(0, 1)
            matrices = torch.bmm(c, c.mT)
        else:
            matrices = torch.bmm(c.flatten(1, 2), c.sum(dim=1).mT).view(n_atoms * n_species, self.n_max, self.n_max)
        return (matrices.flatten(1).index_select(1, self.columns) * self.weights).view(n_atoms, -1)

    def kernel(self) -> Kernel:
        """The descriptor as the compiled kernels read it."""
        return soap_kernel(self)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Soap:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        made = cls(**{name: value for name, value in spec.items() if name != "kind"})
        made.table = torch.empty_like(state["table"])  # another machine may need another number of terms
        return made

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "soap",
            "elements": list(self.elements),
            **{name: units.with_unit(getattr(self, name), "length") for name in ("cutoff", "sigma", "extent")},
            **{name: getattr(self, name) for name in _SETTINGS},
        }

    species_table: Tensor
    columns: Tensor
    weights: Tensor


_SETTINGS = ("n_max", "l_max", "basis", "taper", "onset", "include_centre", "central_weight", "normalised", "products")
