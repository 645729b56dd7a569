"""Bispectrum components of the density of neighbours on the three-sphere: the descriptor of SNAP.

A neighbour at distance r is put on the unit sphere of four dimensions, at the polar angle

    θ = rfac0 π (r - rmin0) / (r_cut - rmin0),

where it is the rotation with the Cayley-Klein parameters a = cos θ - i sin θ z/r, b = sin θ (y - i x)/r.
The density, with the centre at the pole, has the coefficients

    U_j = 1 + Σ_k f_c(r_k) w_k u_j(a_k, b_k),            j = 0, 1, ..., 2J,

where u_j is Wigner's matrix of the representation of dimension j + 1 (j is twice the angular momentum), and

    B_{j1 j2 j} = Σ conj(U_j) · (U_j1 ⊗ U_j2, coupled to j by Clebsch-Gordan coefficients on both sides)

does not change under rotations (Bartók et al., Phys. Rev. Lett. 104, 136403, 2010; Thompson et al.,
J. Comput. Phys. 285, 316, 2015). With `chemflag` every element has a density of its own, and triples of
densities are coupled (Cusentino et al., J. Phys. Chem. A 124, 5456, 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.bispectrum_kernel import bispectrum_kernel
from mlmd.descriptors.coupling import HIGHEST, clebsch_gordan, components
from mlmd.descriptors.neighbourhoods import Neighbourhoods, neighbourhoods
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Kernel


@dataclass(frozen=True)
class Expansion:
    """The settings of a bispectrum, with the names and defaults of LAMMPS' parameter files."""

    rcutfac: float
    """r_cut = rcutfac (R_i + R_j)."""
    twojmax: int
    """2J, the highest j."""
    rfac0: float = 0.99363
    """Part of the sphere that is used; below 1, so that the cutoff is not the other pole."""
    rmin0: float = 0.0
    """Å, where the polar angle is zero; atoms should not come closer. There it is negative here and smooth, while
    LAMMPS has u_j of odd j with the other sign, and energies that jump."""
    switchflag: bool = True
    """f_c = (1 + cos(π (r - rmin0) / (r_cut - rmin0))) / 2; else 1, with a jump at the cutoff."""
    bzeroflag: bool = True
    """Subtract the components of an atom on its own."""
    bnormflag: bool = False
    """Divide B_{j1 j2 j} by j + 1."""
    chemflag: bool = False
    """A density for every element."""
    wselfallflag: bool = False
    """With chemflag, the centre is part of the densities of all elements, not only of its own."""
    sinner: tuple[float, ...] = ()
    """Å, by element: f_c also vanishes inside; the middle of that step for a pair is the mean of two."""
    dinner: tuple[float, ...] = ()
    """Å, by element: half the width of that step."""

    def check(self, n_elements: int) -> None:
        """Refuse what is not possible.

        Raises:
            InputError: naming the setting.
        """
        inner = len(self.sinner) == len(self.dinner) and len(self.sinner) in (0, n_elements)
        possible = {
            f"twojmax = {self.twojmax} is not between 0 and {HIGHEST}": 0 <= self.twojmax <= HIGHEST,
            f"rcutfac = {self.rcutfac:g} is not positive": self.rcutfac > 0,
            f"rfac0 = {self.rfac0:g} is not above 0 and at most 1": 0 < self.rfac0 <= 1,
            f"rmin0 = {self.rmin0:g} Å is negative": self.rmin0 >= 0,
            f"sinner and dinner need {n_elements} numbers each, one for each element": inner,
            "dinner has a number that is not positive": all(width > 0 for width in self.dinner),
        }
        for message, fulfilled in possible.items():
            if not fulfilled:
                raise InputError(f"{message}.")


def wigner(a: Tensor, b: Tensor, twojmax: int) -> Iterator[Tensor]:
    """The upper halves u_j[0 ... j // 2, 0 ... j] of Wigner's matrices for j = 0 ... 2J, one after the other.

    u_j[m', m] = √((j - m) / (j - m')) conj(a) u_{j-1}[m', m] - √(m / (j - m')) conj(b) u_{j-1}[m', m - 1]
    (Varshalovich et al., 4.8.2); the lower half is `mirrored`.

    Args:
        a, b: Cayley-Klein parameters of any shape, complex.
        twojmax: 2J.
    """
    u = torch.ones_like(a)[None, None]
    yield u
    for j in range(1, twojmax + 1):
        rows = j // 2 + 1
        if u.shape[0] < rows:  # the row below the middle of the matrix before
            u = torch.cat([u, mirrored(u)[:1]])
        m = torch.arange(j + 1, dtype=a.real.dtype, device=a.device)
        left = ((j - m[None, :j]) / (j - m[:rows, None])).sqrt()
        right = (m[None, 1:] / (j - m[:rows, None])).sqrt()
        shape = (rows, j, *(1 for _ in a.shape))
        stay, move = times(left.view(shape) * a.conj(), u), times(right.view(shape) * b.conj(), u)
        edge = torch.zeros_like(stay[:, :1])
        u = torch.cat([stay, edge], dim=1) - torch.cat([edge, move], dim=1)
        yield u


def times(one: Tensor, other: Tensor) -> Tensor:
    """The product of complex numbers with complex or real ones.

    What is exported multiplies real numbers: where TorchScript differentiates a product itself, it takes no conjugate.
    """
    if not torch.jit.is_tracing():
        return one * other
    if not other.is_complex():
        return torch.complex(one.real * other, one.imag * other)
    return torch.complex(one.real * other.real - one.imag * other.imag, one.real * other.imag + one.imag * other.real)


def mirrored(half: Tensor) -> Tensor:
    """The lower half of matrices (j // 2 + 1, j + 1, ...): u[j - m', j - m] = (-1)^(m - m') conj(u[m', m]).

    Without the middle row, where there is one.
    """
    columns = half.shape[1]
    upper = half[: columns // 2]
    signs = (-1.0) ** (torch.arange(columns)[None] - torch.arange(columns // 2)[:, None])
    signs = signs.to(upper.real).view(columns // 2, columns, *(1 for _ in half.shape[2:]))
    return (upper.conj() * signs).flip(0, 1)


class Bispectrum(torch.nn.Module):
    """Bispectrum components; see the module. With `chemflag`, all of them for each triple of elements."""

    kind = "atom"

    def __init__(
        self, *, elements: Sequence[str], radii: Sequence[float], weights: Sequence[float], expansion: Expansion
    ) -> None:
        """Make the descriptor.

        Args:
            elements: symbols in the order of the species.
            radii: R in Å, by element.
            weights: w, by element.
            expansion: the other settings.

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements, self.expansion = check_symbols(elements), expansion
        n_elements = len(self.elements)
        expansion.check(n_elements)
        if not n_elements or len(radii) != n_elements or len(weights) != n_elements or min(radii) <= 0:
            raise InputError(
                f"a bispectrum needs elements ({', '.join(self.elements)}) with a positive radius "
                f"({', '.join(f'{radius:g}' for radius in radii)}) and a weight ({len(weights)} given) each."
            )
        self.radii, self.weights = tuple(map(float, radii)), tuple(map(float, weights))
        self.cutoff = 2 * expansion.rcutfac * max(self.radii)
        if expansion.rmin0 >= 2 * expansion.rcutfac * min(self.radii):
            raise InputError(f"rmin0 = {expansion.rmin0:g} Å is not below the smallest cutoff.")
        self.n_densities = n_elements if expansion.chemflag else 1
        self.n_features = len(components(expansion.twojmax)) * self.n_densities**3
        radius = torch.tensor(self.radii, dtype=torch.float64)
        inner = {name: torch.tensor(getattr(expansion, name), dtype=torch.float64) for name in ("sinner", "dinner")}
        buffers = {
            "species_table": species_table(self.elements),
            "weight": torch.tensor(self.weights, dtype=torch.float64),
            "pair_cutoff": expansion.rcutfac * (radius[:, None] + radius),
            **{name: (values[:, None] + values) / 2 for name, values in inner.items()},
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or the rows of some consecutive atoms; in the descriptor's precision.

        In the order of LAMMPS: triples of elements, and for each of them `components`.
        """
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(graph, kinds, self.cutoff, self.weight.dtype, centres)
        densities = self._densities(near)
        triples = product(range(self.n_densities), repeat=3)
        columns = [self._coupled(*(densities[one] for one in triple)) for triple in triples]
        return torch.cat(columns, dim=1) - self._alone(near.centre_kinds)

    def _densities(self, near: Neighbourhoods) -> list[list[Tensor]]:
        """U_j of each density, (n_atoms, j + 1, j + 1) complex, for j = 0 ... 2J."""
        a, b, weights = self._placed(near)
        shares, selves = [weights], [torch.ones_like(weights[:, 0])]
        if self.expansion.chemflag:
            shares = [weights * (near.kinds == one) for one in range(self.n_densities)]
            own = [near.centre_kinds == one for one in range(self.n_densities)]
            selves = [(torch.ones_like(one) if self.expansion.wselfallflag else one).to(weights) for one in own]
        densities: list[list[Tensor]] = [[] for _ in shares]
        for j, u in enumerate(wigner(a, b, self.expansion.twojmax)):
            pole = torch.eye(j + 1, dtype=weights.dtype, device=weights.device)
            for density, share, own_share in zip(densities, shares, selves, strict=True):
                half = times(u, share).sum(dim=-1)
                full = torch.cat([half, mirrored(half)]).permute(2, 0, 1)
                density.append(full + own_share[:, None, None] * pole)
        return densities

    def _placed(self, near: Neighbourhoods) -> tuple[Tensor, Tensor, Tensor]:
        """Cayley-Klein parameters a, b and weights f_c w of all neighbours, (n_atoms, n_neighbours)."""
        x, y, z = near.vectors
        r = (near.vectors * near.vectors).sum(dim=0).sqrt()
        pair = near.centre_kinds[:, None] * len(self.elements) + near.kinds
        r_cut, rmin0 = self.pair_cutoff.flatten()[pair], self.expansion.rmin0
        angle = math.pi * (r - rmin0) / (r_cut - rmin0)
        theta = self.expansion.rfac0 * angle
        sine = theta.sin() / r
        switch = torch.where(r < r_cut, self._switch(r, angle, pair), 0.0)
        a, b = torch.complex(theta.cos(), -sine * z), torch.complex(sine * y, -sine * x)
        return a, b, switch * self.weight[near.kinds]

    def _switch(self, r: Tensor, angle: Tensor, pair: Tensor) -> Tensor:
        """f_c inside the cutoff."""
        switch = torch.ones_like(r)
        if self.expansion.switchflag:
            switch = 0.5 * (1 + angle.clamp(min=0.0).cos())
        if self.expansion.sinner:
            middle, width = (one.flatten()[pair] for one in (self.sinner, self.dinner))
            switch = switch * 0.5 * (1 + (0.5 * math.pi * ((r - middle) / width).clamp(-1, 1)).sin())
        return switch

    def _coupled(self, first: list[Tensor], second: list[Tensor], third: list[Tensor]) -> Tensor:
        """(n_atoms, n_components) real: B of three densities, in the order of `components`."""
        columns = []
        for j1, j2, j in components(self.expansion.twojmax):
            table = clebsch_gordan(j1, j2, j).to(first[j1])
            # n: atoms; a, b: columns and rows of U_j1; c, d: those of U_j2; m, k: those of the result
            right = torch.einsum("ndc,acm->ndam", second[j2], table)
            both = torch.einsum("nba,ndam->nbdm", first[j1], right)
            z = torch.einsum("nbdm,bdk->nkm", both, table)
            norm = j + 1 if self.expansion.bnormflag else 1
            columns.append(times(third[j].conj(), z).real.sum(dim=(1, 2)) / norm)
        return torch.stack(columns, dim=1)

    def _alone(self, kinds: Tensor) -> Tensor:
        """(n_atoms, n_features) that are subtracted: what an atom on its own has, or zeros."""
        settings, dtype = self.expansion, self.weight.dtype
        zero = [1.0 if settings.bnormflag else j + 1.0 for _, _, j in components(settings.twojmax)]
        block = torch.tensor(zero, dtype=dtype, device=kinds.device) * float(settings.bzeroflag)
        if not settings.chemflag:
            return block.expand(len(kinds), -1)
        triples = list(product(range(self.n_densities), repeat=3))
        # the product of three densities of one atom is zero unless it is part of all of them
        alone = [(kinds == t[0]) * int(len(set(t)) == 1) for t in triples]
        parts = [torch.ones_like(kinds) if settings.wselfallflag else one for one in alone]
        return (torch.stack(parts, dim=1)[:, :, None] * block).flatten(1)

    def kernel(self) -> Kernel | None:
        """The compiled form; None with `chemflag`."""
        return bispectrum_kernel(self)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Bispectrum:
        """Build again from `spec`; there is no state.

        Raises:
            KeyError, TypeError, InputError: when something is missing or impossible.
        """
        given = {name: value for name, value in spec.items() if name != "kind"}
        own = {name: given.pop(name) for name in ("elements", "radii", "weights")}
        given |= {name: tuple(given[name]) for name in ("sinner", "dinner")}
        return cls(**own, expansion=Expansion(**given))

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        settings = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(self.expansion).items()}
        own = {"elements": list(self.elements), "radii": list(self.radii), "weights": list(self.weights)}
        return {"kind": "bispectrum", **own, **settings}

    species_table: Tensor
    weight: Tensor
    pair_cutoff: Tensor
    sinner: Tensor
    dinner: Tensor
