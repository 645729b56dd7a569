"""The many-body tensor representation: spectra of what is between one, two, three or four atoms of a structure.

f_k(x; z) = Σ_i w_k(i) D(x - g_k(i)), over all sets i of k atoms with the elements z = (z_1, ..., z_k), each set once
(Huo and Rupp, Mach. Learn.: Sci. Technol. 3, 045017, 2022):

- g_1: atomic number; g_2: r or 1/r; g_3: the angle at the atom in the middle, in degrees, or its cosine; g_4: the
  dihedral angle of a path of four atoms, 0 to 180°, or its cosine
- w_k: 1 within a cutoff; exp(-s Σ r) as long as it is not below a threshold, the sum running around a triangle
  (r_12 + r_23 + r_31) and along a path (r_12 + r_23 + r_34); 1/r² within a cutoff for pairs; or the smooth cutoff, the
  product of f = 1 + y (r/r_c)^(y+1) - (y + 1) (r/r_c)^y of the distances from atom to atom along the set
- D: a Gaussian of area 1, as its mean over the bin around each point of the grid: a coarse grid keeps its area
- normalisation: none; l2, to a length of 1; n_atoms, by the number of atoms; or valle_oganov, by V / (4π N_1 N_2) for
  pairs, twice that for pairs of one element, and V / (N_1 N_2 N_3) for triplets (Valle and Oganov, Acta Cryst. A 66,
  507, 2010), for which a structure must be periodic

In a crystal the sets are those of one cell, with images of atoms in others: supercells have n times the same spectrum.
Only the smooth cutoff makes spectra continuous where an atom crosses it; with a threshold they jump by it, with the
other cutoffs by the weight there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.mbtr_terms import Term, channels
from mlmd.descriptors.mbtr_tuples import Tuples, tuples_of
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph


class MBTR(torch.nn.Module):
    """Spectra of structures: terms one after the other, each with a spectrum for every set of elements.

    `columns` says where the spectrum of a set of elements is. Spectra are functions of the vectors of pairs, as the
    features of atoms are; the volume of valle_oganov is of `graph.cells`, and so its part of a stress is not in the
    vectors. Derivatives exist but where an angle is 0 or 180° (cosines have them there) and where terms are cut off.
    """

    kind = "structure"

    def __init__(self, *, elements: Sequence[str], terms: Sequence[Term | Mapping[str, Any]]) -> None:
        """Take terms, or tables of them.

        Raises:
            InputError: for impossible values, and without elements or terms.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.terms = tuple(one if isinstance(one, Term) else Term.read(one) for one in terms)
        if not self.terms or not self.elements:
            raise InputError("MBTR needs elements and terms: give one of each or more.")
        for term in self.terms:
            term.check()
        n = len(self.elements)
        self.channels = tuple(channels(term.n_atoms, n) for term in self.terms)
        """For each term, species of the sets of atoms with a spectrum of their own, in the order of the features."""
        sizes = [len(sets) * term.n_points for sets, term in zip(self.channels, self.terms, strict=True)]
        self.n_features = sum(sizes)
        self.cutoff = max(term.reach for term in self.terms)
        self._begin = [sum(sizes[:number]) for number in range(len(sizes))]
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        for n_atoms in {term.n_atoms for term in self.terms}:
            table = torch.zeros((n,) * n_atoms, dtype=torch.int64)
            for channel, kinds in enumerate(channels(n_atoms, n)):
                table[kinds] = table[kinds[::-1]] = channel
            self.register_buffer(f"_channel_{n_atoms}", table, persistent=False)

    def columns(self, term: int, elements: Sequence[str]) -> slice:
        """Where a set of elements is in the features.

        Args:
            term: its number, from 0.
            elements: symbols along the set, in either direction; the centre of a triplet in the middle.

        Raises:
            InputError: when the term has no such set.
        """
        kinds = tuple(self.elements.index(symbol) if symbol in self.elements else -1 for symbol in elements)
        if -1 in kinds or len(kinds) != self.terms[term].n_atoms:
            raise InputError(
                f"{'-'.join(elements)} is not a set of {self.terms[term].n_atoms} of {', '.join(self.elements)}."
            )
        n_points = self.terms[term].n_points
        begin = self._begin[term] + n_points * self.channels[term].index(min(kinds, kinds[::-1]))
        return slice(begin, begin + n_points)

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_structures, n_features) in the precision of the graph's vectors.

        Raises:
            InputError: for unknown elements, for valle_oganov without full periodicity, and for `centres`, because a
                row is of a whole structure.
        """
        if centres is not None:
            raise InputError("MBTR is of whole structures: there is none of some atoms.")
        kinds = species(graph.numbers, self.species_table)
        both = zip(self.terms, self.channels, strict=True)
        return torch.cat([self._spectra(graph, kinds, term, sets) for term, sets in both], dim=1)

    def _spectra(self, graph: Graph, kinds: Tensor, term: Term, sets: Sequence[tuple[int, ...]]) -> Tensor:
        """(n_structures, n_channels n_points) of one term, normalised."""
        found = tuples_of(graph, term)
        table: Tensor = getattr(self, f"_channel_{term.n_atoms}")
        rows = graph.owner[found.atoms[0]] * len(sets) + table[tuple(kinds[found.atoms])]
        spectra = _spread(found, rows, graph.n_structures * len(sets), term)
        spectra = spectra.view(graph.n_structures, len(sets), term.n_points)
        if term.normalisation == "valle_oganov":
            spectra = spectra * self._valle_oganov(graph, kinds, sets)[:, :, None]
        spectra = spectra.flatten(1)
        if term.normalisation == "n_atoms":
            return spectra / torch.bincount(graph.owner, minlength=graph.n_structures).clamp(min=1)[:, None]
        if term.normalisation == "l2":  # nothing is left as it is
            squares = spectra.square().sum(dim=1, keepdim=True)
            return spectra / torch.where(squares > 0, squares, 1.0).sqrt()
        return spectra

    def _valle_oganov(self, graph: Graph, kinds: Tensor, sets: Sequence[tuple[int, ...]]) -> Tensor:
        """(n_structures, n_channels) volume by numbers of atoms; zero where there are none."""
        if not bool(graph.pbc.all()):
            structure = int((~graph.pbc.all(dim=1)).nonzero()[0])
            raise InputError(
                f"structure {structure} is not periodic in all directions: it has no volume for valle_oganov. "
                "Normalise by n_atoms or l2."
            )
        counts = torch.zeros(graph.n_structures, len(self.elements), dtype=graph.cells.dtype, device=kinds.device)
        counts.index_put_((graph.owner, kinds), torch.ones_like(graph.positions[:, 0]).detach(), accumulate=True)
        products = counts[:, torch.tensor(sets, device=kinds.device)].prod(dim=2)
        if len(sets[0]) == 2:
            same = torch.tensor([0.5 if first == second else 1.0 for first, second in sets], device=kinds.device)
            products = 4 * math.pi * products * same
        volumes = torch.linalg.det(graph.cells).abs()[:, None]
        return torch.where(products > 0, volumes / products.clamp(min=1.0), 0.0)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> MBTR:
        """Build again from `spec`; there is no state."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "mbtr", "elements": list(self.elements), "terms": [term.spec() for term in self.terms]}

    species_table: Tensor


def weights_of(found: Tuples, term: Term) -> Tensor:
    """(n,) how much each set of atoms counts."""
    if term.weighting == "unity":
        weights = torch.ones_like(found.values)
    elif term.weighting == "inverse_square":
        weights = found.legs[0] ** -2
    elif term.weighting == "smooth_cutoff":
        y, x = term.sharpness or 2.0, found.legs / term.reach
        weights = (1 + x**y * (y * x - (y + 1))).prod(dim=0)
    else:
        assert term.scale is not None and term.threshold is not None
        weights = torch.exp(-term.scale * found.around)
        weights = torch.where(weights.detach() >= term.threshold, weights, 0.0)
    return found.share * weights


def _spread(found: Tuples, rows: Tensor, n_rows: int, term: Term) -> Tensor:
    """(n_rows, n_points) sums of Gaussians, as differences of their integral from bound to bound."""
    weights = weights_of(found, term)
    counted = (weights.detach() != 0).nonzero().squeeze(1)
    edges = term.edges(found.values)
    spectra = found.values.new_zeros(n_rows, term.n_points)
    for some in counted.split(max(1, _ENTRIES // term.n_points)):
        below = torch.erf((edges - found.values[some, None]) / (term.width * math.sqrt(2.0)))
        shares = below.diff(dim=1) * (weights[some, None] / (2 * term.step))
        spectra = spectra.index_add(0, rows[some], shares)
    return spectra


_ENTRIES = 1 << 20
"""Points of Gaussians worked through together: memory stays bounded where no derivative is asked for."""
