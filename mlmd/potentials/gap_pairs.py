"""The two-body terms of Gaussian approximation potentials.

    E = Σ_i [c_i + Σ_j Σ_t φ_t(r_ij)],   φ_t(r) = f(r) [μ + δ² Σ_s w_s exp(-(r - r_s)²/2θ²)]

over both directions of a pair, t the terms of its two elements, f the cosine from 1 at the cutoff less a width to 0 at
the cutoff; w_s = α_s f_s and μ = f0² Σ_s w_s (distance_2b of QUIP with a Gaussian kernel: Bartók and Csányi, Int. J.
Quantum Chem. 115, 1051, 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.cutoffs import taper
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials import EnergyModel

KNOTS = 2.5e-4
"""Å between the knots of the compiled form: its cubics miss 10⁻¹¹ of a force."""
_ROUNDING = 1e-6  # of a knot, up to which a cutoff is at it


@dataclass(frozen=True)
class PairTerm:
    """One kernel."""

    pair: tuple[str, str]
    """Elements; an empty string is any."""
    cutoff: float
    """Å."""
    width: float
    """Å, in which the cutoff function falls."""
    length: float
    """θ, Å."""
    amplitude: float
    """δ, eV."""
    mean: float
    """f0, eV."""
    points: np.ndarray
    """r_s, (n,) Å."""
    weights: np.ndarray
    """w_s, (n,) eV⁻¹."""


class GaussianPairs(EnergyModel):
    """See the module; points, weights and constants are its state."""

    kind = "gap-pairs"
    points: Tensor
    """(n_terms, n) r_s in Å; places that a term does not need have no weight."""
    weights: Tensor
    """(n_terms, n) δ² w_s in eV."""
    shifts: Tensor
    """(n_terms,) μ in eV."""
    constants: Tensor
    """(n_elements,) c in eV."""
    ranges: Tensor
    """(n_terms, 3) cutoff, width and θ in Å."""
    members: Tensor
    """(n_terms, 2) places of the two elements, -1 for any."""

    def __init__(self, *, elements: Sequence[str], cutoff: float, n_terms: int, n_points: int) -> None:
        """All zeros, to be filled or loaded; the cutoff in Å is the longest of all terms.

        Raises:
            InputError: for a word that is no element, or one given twice.
        """
        super().__init__()
        self.elements, self.cutoff = check_symbols(elements), float(cutoff)
        shapes = {"points": (n_terms, n_points), "weights": (n_terms, n_points), "shifts": (n_terms,)}
        for name, shape in {**shapes, "constants": (len(self.elements),), "ranges": (n_terms, 3)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("members", torch.zeros((n_terms, 2), dtype=torch.int64))
        self.register_buffer("species_table", species_table(self.elements), persistent=False)

    @classmethod
    def of(cls, terms: Sequence[PairTerm], elements: Sequence[str]) -> GaussianPairs:
        """The sum of some terms.

        Raises:
            InputError: for widths and lengths that are impossible.
        """
        longest, most = max(term.cutoff for term in terms), max(len(term.points) for term in terms)
        made = cls(elements=elements, cutoff=longest, n_terms=len(terms), n_points=most)
        for row, term in enumerate(terms):
            if not (0 <= term.width <= term.cutoff and term.cutoff > 0 and term.length > 0):
                raise InputError(
                    f"a cutoff of {term.cutoff:g} Å, reached within {term.width:g} Å, with Gaussians of a width of "
                    f"{term.length:g} Å is impossible."
                )
            n = len(term.points)
            made.points[row, :n] = torch.as_tensor(term.points)
            made.weights[row, :n] = torch.as_tensor(term.amplitude**2 * term.weights)
            made.shifts[row] = term.mean**2 * float(term.weights.sum())
            made.ranges[row] = torch.tensor([term.cutoff, term.width, term.length])
            made.members[row] = torch.tensor([made.elements.index(one) if one else -1 for one in term.pair])
        return made

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers it computes with."""
        return self.points.dtype

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV: the constant of an element, and half of what both directions of its pairs give."""
        kinds = species(graph.numbers, self.species_table)
        centre, neighbour = (kinds.index_select(0, atoms) for atoms in graph.pairs)
        distances = graph.distances.to(self.dtype)
        total = self.constants.double().index_select(0, kinds)
        for term in range(len(self.points)):
            own = (self._belongs(term, centre, neighbour) & (distances < self.ranges[term, 0])).nonzero()[:, 0]
            values = self._values(term, distances.index_select(0, own))
            total = total.index_add(0, graph.pairs[0].index_select(0, own), values.double())
        return total

    def _belongs(self, term: int, first: Tensor, second: Tensor) -> Tensor:
        """Whether a term counts for pairs of some species, in either order."""
        one, other = self.members[term].tolist()
        either = [
            ((a == one) if one >= 0 else torch.ones_like(a, dtype=torch.bool))
            & ((b == other) if other >= 0 else torch.ones_like(b, dtype=torch.bool))
            for a, b in ((first, second), (second, first))
        ]
        return either[0] | either[1]

    def _values(self, term: int, r: Tensor) -> Tensor:
        """φ in eV, (n,), at distances below the cutoff, (n,)."""
        cutoff, width, length = self.ranges[term].tolist()
        exponents = -0.5 * ((r[:, None] - self.points[term]) / length) ** 2
        values = torch.exp(exponents) @ self.weights[term] + self.shifts[term]
        return values * taper("cosine", r, cutoff, cutoff - width) if width else values

    def _tabulated(self, term: int, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """φ and its slope in the precision of the distances, (n,) each."""
        cutoff, width, length = self.ranges[term].tolist()
        points, weights = (one[term].double().cpu().numpy().astype(r.dtype) for one in (self.points, self.weights))
        apart = (r[:, None] - points) / length
        gaussians = np.exp(-0.5 * apart**2)
        value, slope = gaussians @ weights + float(self.shifts[term]), (gaussians * -apart / length) @ weights
        y = np.clip((cutoff - r) / width, 0, 1)
        fall, by_r = np.sin(0.5 * np.pi * y) ** 2, -0.5 * np.pi / width * np.sin(np.pi * y)
        return value * fall, slope * fall + value * by_r

    def kernel(self) -> Kernel | None:
        """The fused form, that of atoms embedded in nothing: r φ as cubics with φ and its slope at the knots.

        None where a cutoff function has a kink between knots, or a term ends with a jump.
        """
        places = torch.stack([self.ranges[:, 0], self.ranges[:, 0] - self.ranges[:, 1]]).double() / KNOTS
        if bool(((places - places.round()).abs() > _ROUNDING).any()) or bool((self.ranges[:, 1] == 0).any()):
            return None
        n, n_knots = len(self.elements), round(self.cutoff / KNOTS)
        # sums of great numbers that cancel: in double precision the cubics would join their rounding
        r = KNOTS * np.arange(n_knots + 1, dtype=np.longdouble)
        found = [np.stack(self._tabulated(term, r)) for term in range(len(self.points))]
        tables = np.zeros((n, n, n_knots, 8))
        for one in range(n):
            for other in range(n):
                pair = [torch.tensor([kind]) for kind in (one, other)]
                own = [values for term, values in enumerate(found) if bool(self._belongs(term, *pair))]
                if own:
                    value, slope = 2 * sum(own[1:], own[0])  # half of what both directions give
                    tables[one, other, :, 4:] = _cubics(r * value, KNOTS * (value + r * slope))
        embedding = np.zeros((n, 1, 4))
        embedding[:, 0, 0] = self.constants.double().cpu().numpy()
        return Kernel(
            family="eam",
            cutoff=self.cutoff,
            integers=np.array([n, 1, n_knots]),
            numbers=np.concatenate([[self.cutoff, 1.0, KNOTS], embedding.ravel(), tables.ravel()]),
            precision=str(self.dtype).removeprefix("torch."),
        )

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> GaussianPairs:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        n_terms, n_points = state["points"].shape
        return cls(elements=spec["elements"], cutoff=spec["cutoff"], n_terms=n_terms, n_points=n_points)

    def spec(self) -> dict[str, Any]:
        """What an input file would say; the numbers are in the state."""
        return {"kind": self.kind, "elements": list(self.elements), "cutoff": self.cutoff}

    species_table: Tensor


def _cubics(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """(n - 1, 4) coefficients in each interval of the cubics with these values and slopes (per interval) at n knots."""
    rise, first, second = values[1:] - values[:-1], slopes[:-1], slopes[1:]
    return np.stack((values[:-1], first, 3 * rise - 2 * first - second, first + second - 2 * rise), axis=-1)
