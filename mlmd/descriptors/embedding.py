"""The smooth edition of Deep Potential (DeepPot-SE): what neighbours look like is learned, and so are the descriptors.

With s(r) = w(r) / r, w a smooth step from 1 at an inner distance to 0 at the cutoff, a neighbour at x is the row

    R = ((s - μ) / σ₁, s x/r / σ₂),

and a network G of one number, (s - μ) / σ₁, says how much it counts in each of M₁ channels. The descriptor of an atom
is

    D = T·Tᵀ₂,   T = (1/N) Σ_j G_j ⊗ R_j  (M₁ rows of 4),   T₂ the first M₂ rows of T,

M₁·M₂ numbers that do not change in rotations. μ, σ₁ and σ₂ are of the element of the centre, N is the number of
places for neighbours; those without a neighbour hold R and G of s = 0, so that nothing jumps when a place is taken
(Zhang, Han, Wang, Saidi, Car and E, NeurIPS 2018; `se_e2_a` of DeePMD-kit: Wang, Zhang, Han and E, Comput. Phys.
Commun. 228, 178, 2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.cutoffs import quintic
from mlmd.descriptors.neighbourhoods import neighbourhoods
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.precision import dtype_of


@dataclass(frozen=True)
class Inverse:
    """s(r) = w(r) / r of distances, and its derivative."""

    value: Tensor
    slope: Tensor


def inverse(distances: Tensor, cutoff: float, onset: float) -> Inverse:
    """1/r that goes to zero smoothly, with two continuous derivatives, between the onset and the cutoff.

    Args:
        distances: any shape, Å.
        cutoff, onset: Å, onset < cutoff.
    """
    x = ((distances - onset) / (cutoff - onset)).clamp(0.0, 1.0)
    step, steepness = quintic(distances, cutoff, onset), -30 * x**2 * (1 - x) ** 2 / (cutoff - onset)
    value = step / distances
    return Inverse(value, (steepness - value) / distances)


class DeepPotSE(torch.nn.Module):
    """D, from embedding networks of each element of the neighbours, or of each pair of elements.

    The networks are layers y = tanh(w x + b), to which x is added where they are as wide as x, and (x, x) where they
    are twice as wide. Their numbers are `weights_n`, (n_networks, n_out, n_in), and `biases_n`, (n_networks, n_out).
    """

    kind = "atom"
    trained_with_network = True
    atoms_at_once = 64
    """Worked through together: every pair has values of all neurons."""
    mean: Tensor
    """μ, (n_species,) of the centre, 1/Å."""
    deviation: Tensor
    """σ₁ and σ₂, (n_species, 2), 1/Å."""

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float,
        onset: float,
        n_places: Sequence[int],
        n_neurons: Sequence[int] = (25, 50, 100),
        n_axes: int = 16,
        type_one_side: bool = True,
        precision: str = "float64",
    ) -> None:
        """All networks zero, μ = 0 and σ = 1, to be loaded, or randomised and trained.

        Args:
            elements: symbols in the order of the species.
            cutoff: Å.
            onset: Å, where s begins to differ from 1/r.
            n_places: for neighbours of each element; there may be more of them than places.
            n_neurons: of the layers of the embedding networks; M₁ is the last one.
            n_axes: M₂.
            type_one_side: networks do not depend on the element of the centre.
            precision: "float64" or "float32".

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.cutoff, self.onset = float(cutoff), float(onset)
        self.n_places, self.n_neurons, self.n_axes = tuple(n_places), tuple(n_neurons), n_axes
        self.type_one_side = type_one_side
        quintic(torch.zeros(1), self.cutoff, self.onset)
        n_species = len(self.elements)
        if len(self.n_places) != n_species or not self.elements or min(self.n_places) < 0 or not any(self.n_places):
            raise InputError(f"places for neighbours {self.n_places} do not fit the elements {', '.join(elements)}.")
        if not self.n_neurons or min(self.n_neurons) < 1 or not 1 <= n_axes <= self.n_neurons[-1]:
            raise InputError(f"embedding networks of {self.n_neurons} neurons with {n_axes} axes are impossible.")
        self.n_features = self.n_neurons[-1] * n_axes
        n_networks = n_species if type_one_side else n_species**2
        for number, (inputs, outputs) in enumerate(itertools.pairwise((1, *self.n_neurons)), 1):
            for name, shape in (("weights", (n_networks, outputs, inputs)), ("biases", (n_networks, outputs))):
                zeros = torch.zeros(shape, dtype=torch.float64)
                self.register_parameter(f"{name}_{number}", torch.nn.Parameter(zeros, requires_grad=False))
        self.register_buffer("mean", torch.zeros(n_species, dtype=torch.float64))
        self.register_buffer("deviation", torch.ones((n_species, 2), dtype=torch.float64))
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        self.to(dtype_of(precision))

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of the embedding networks."""
        numbers = range(1, len(self.n_neurons) + 1)
        return [(getattr(self, f"weights_{number}"), getattr(self, f"biases_{number}")) for number in numbers]

    def randomise(self, generator: torch.Generator) -> None:
        """Weights of variance 1 / (inputs + outputs) and biases of variance 1, as DeePMD-kit begins."""
        with torch.no_grad():
            for weights, biases in self.layers:
                drawn = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
                weights.copy_(drawn / sum(weights.shape[1:]) ** 0.5)
                biases.copy_(torch.randn(biases.shape, generator=generator, dtype=torch.float64))

    def standardise(self, graphs: Sequence[Graph]) -> None:
        """Take μ and σ from the places of the atoms of some structures: as many as there are, empty ones too."""
        n_species, n_places = len(self.elements), sum(self.n_places)
        sums, counts = torch.zeros((n_species, 3), dtype=torch.float64), torch.zeros(n_species, dtype=torch.float64)
        for graph in graphs:
            kinds = species(graph.numbers, self.species_table)
            s = inverse(graph.distances, self.cutoff, self.onset).value
            rows = torch.stack([s, s**2, s**2 / 3], dim=1)  # a component of s·x/r is s/√3 in the mean square
            sums.index_add_(0, kinds[graph.pairs[0]], rows)
            counts += n_places * torch.bincount(kinds, minlength=n_species)
        means = sums / counts.clamp(min=1)[:, None]
        variances = torch.stack([means[:, 1] - means[:, 0] ** 2, means[:, 2]], dim=1)
        self.mean.copy_(means[:, 0])
        self.deviation.copy_(torch.where(variances > 1e-4, variances, 1e-4).sqrt())  # no division by nothing

    def embed(self, values: Tensor) -> Tensor:
        """G, (n_networks, n, M₁), of what enters each network, (n_networks, n)."""
        layer = values[..., None]
        for weights, biases in self.layers:
            layer = grown(
                layer, torch.tanh(torch.baddbmm(biases.to(layer.dtype)[:, None], layer, weights.to(layer.dtype).mT))
            )
        return layer

    def networks_of(self, centre: int) -> list[int]:
        """The network of each element of the neighbours."""
        n_species = len(self.elements)
        return (
            list(range(n_species)) if self.type_one_side else [centre * n_species + kind for kind in range(n_species)]
        )

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, M₁·M₂), or the rows of some consecutive atoms; in the descriptor's precision."""
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(graph, kinds, self.cutoff, self.mean.dtype, centres)
        n_atoms, width = near.kinds.shape
        real = torch.zeros(n_atoms * width, dtype=torch.bool, device=kinds.device)
        real[near.places] = True
        squares = (near.vectors * near.vectors).sum(dim=0)
        real = real.view(n_atoms, width) & (squares.detach() < self.cutoff**2)
        distances = squares.sqrt()
        s = inverse(distances, self.cutoff, self.onset).value
        mean, deviation = self.mean[near.centre_kinds, None], self.deviation[near.centre_kinds]
        entering = (s - mean) / deviation[:, :1]
        toward = near.vectors * (s / distances / deviation[:, 1:])
        rows = torch.cat([entering[None], toward]) * real  # (4, n_atoms, width)
        channels = entering.new_zeros((n_atoms * width, self.n_neurons[-1]))
        totals = entering.new_zeros((n_atoms, 4, self.n_neurons[-1]))
        for centre in near.centre_kinds.unique().tolist():
            of_centre = near.centre_kinds == centre
            empty = -self.mean[centre] / self.deviation[centre, 0]
            for kind, network in enumerate(self.networks_of(centre)):
                inside = real & (of_centre[:, None] & (near.kinds == kind))
                places = inside.flatten().nonzero().squeeze(1)
                found = self._embed_one(torch.cat([entering.flatten()[places], empty[None]]), network)
                channels = channels.index_copy(0, places, found[:-1])
                left = of_centre * (self.n_places[kind] - inside.sum(dim=1))
                totals[:, 0] = totals[:, 0] + left[:, None] * (empty * found[-1])
        totals = totals + torch.bmm(rows.permute(1, 0, 2), channels.view(n_atoms, width, -1))
        return self.products(totals)

    def products(self, totals: Tensor) -> Tensor:
        """D, (n_atoms, M₁·M₂), of N·Tᵀ (n_atoms, 4, M₁)."""
        totals = totals / sum(self.n_places)
        return (totals.mT @ totals[:, :, : self.n_axes]).flatten(1)

    def _embed_one(self, values: Tensor, network: int) -> Tensor:
        """G, (n, M₁), of what enters one network, (n,)."""
        layer = values[:, None]
        for weights, biases in self.layers:
            layer = grown(layer, torch.tanh(torch.addmm(biases[network], layer, weights[network].mT)))
        return layer

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> DeepPotSE:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "deeppot-se",
            "elements": list(self.elements),
            "cutoff": self.cutoff,
            "onset": self.onset,
            "n_places": list(self.n_places),
            "n_neurons": list(self.n_neurons),
            "n_axes": self.n_axes,
            "type_one_side": self.type_one_side,
        }

    species_table: Tensor


def grown(before: Tensor, after: Tensor) -> Tensor:
    """The values of a layer with those of the layer before it added: once, twice side by side, or not at all."""
    match after.shape[-1] / before.shape[-1]:
        case 1:
            return after + before
        case 2:
            return after + torch.cat([before, before], dim=-1)
    return after
