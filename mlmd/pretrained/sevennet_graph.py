"""Networks of SevenNet on mlmd's pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlmd.graph import Graph
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native, within

_ENERGIES = "atomic_energy"
"""What the network calls the energies of atoms in its table."""
_PLACES = "places"
"""What is added to the table: (n_atoms * n_places, 1), 1 where there is a neighbour, 0 at places that are left over."""


class SevenNetGraph(Native):
    """A network of SevenNet, asked up to the energies of atoms.

    A network is a row of modules that hand a table of tensors on. The last of them add the energies of atoms up and
    differentiate: here they are added in float64, and differentiated with respect to the vectors of the pairs. Its
    convolutions are computed by `Convolution`, several times faster than by the framework on a processor.
    """

    def __init__(self, external: External) -> None:
        """Take the network of a calculator that is of this process.

        Raises:
            ValueError: when no module of it gives energies of atoms.
        """
        made: Any = external.calculator
        network = made.model.requires_grad_(False)
        super().__init__(external, network, next(network.parameters()).dtype)
        self._column: Tensor = made.model.z_to_onehot_tensor
        self._modal = None if made.modal is None else int(made.model.modal_map[made.modal])
        givers = [n for n, module in enumerate(made.model) if getattr(module, "key_output", None) == _ENERGIES]
        if not givers:
            raise ValueError("no module gives energies of atoms")
        self._n_modules = 1 + givers[-1]
        slow = {n: module for n, module in enumerate(made.model) if hasattr(module, "convolution")}
        fits = all(Convolution.fits(module) for module in slow.values())
        self._convolutions = {n: Convolution(module) for n, module in slow.items()} if fits else {}

    def network(self, device: torch.device) -> torch.nn.Module:
        """The network, on a device; what belongs to it here goes there too."""
        if device != self._there:
            for one in self._convolutions.values():
                one.to(device)
        return super().network(device)

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV; differentiable with respect to ``graph.vectors``."""
        graph = within(graph, self.cutoff)
        device = graph.positions.device
        network: Any = self.network(device)
        vectors = graph.vectors.to(self.dtype)
        table = in_places(graph, vectors, self.cutoff) if self._convolutions else plain(graph, vectors)
        table["x"] = self._column.to(device)[graph.numbers]
        if self._modal is not None:
            table["modal_type"] = torch.tensor(self._modal, device=device)
        for n, module in enumerate(islice(network, self._n_modules)):
            table = self._convolutions.get(n, module)(table)
        return table[_ENERGIES].squeeze(1)


def plain(graph: Graph, vectors: Tensor) -> dict[str, Tensor]:
    """Pairs as the framework lists them."""
    return {"edge_index": graph.pairs, "edge_vec": vectors}


def in_places(graph: Graph, vectors: Tensor, away: float) -> dict[str, Tensor]:
    """Pairs with as many places for each atom as the one with most neighbours needs.

    Those that are left over hold neighbours at a distance `away` (Å), who are not there (see `_PLACES`).
    """
    centre, neighbour = graph.pairs
    n_of = torch.bincount(centre, minlength=graph.n_atoms)
    n_places = max(1, int(n_of.max()))
    total = graph.n_atoms * n_places
    begin = n_of.cumsum(0) - n_of
    place = torch.arange(len(centre), device=centre.device) - begin[centre] + n_places * centre
    who = torch.zeros(total, dtype=torch.int64, device=centre.device)
    who[place] = neighbour
    there = vectors.new_zeros((total, 1))
    there[place] = 1.0
    nowhere = torch.full((total, 3), away / 3**0.5, dtype=vectors.dtype, device=vectors.device)
    owner = torch.arange(graph.n_atoms, device=centre.device).repeat_interleave(n_places)
    return {
        "edge_index": torch.stack([owner, who]), "edge_vec": nowhere.index_copy(0, place, vectors), _PLACES: there,
    }  # fmt: skip


class Path(NamedTuple):
    """A product of the features of neighbours and the harmonics of the vectors to them."""

    features: int
    """Which of the features."""
    harmonics: int
    """Which of the harmonics."""
    width: int
    """2 l + 1 of the features."""
    becomes: int
    """2 l + 1 of what comes out."""


class Convolution:
    """What every atom receives: Σ over neighbours and components of weight · feature · harmonic · coefficient.

    With the neighbours of an atom side by side the sum over them is a product of matrices for each atom and path, with
    neighbours and components as the inner index: what a pair contributes is never written down. The framework writes it
    down, and once more for every slice that it differentiates.
    """

    def __init__(self, module: Any) -> None:
        """Take a convolution of the network that `fits`."""
        from e3nn.o3 import wigner_3j

        product, dtype = module.convolution, next(module.weight_nn.parameters()).dtype
        self._weights, self._denominator = module.weight_nn, module.denominator
        self._shapes = [(n, irrep.dim) for n, irrep in product.irreps_in1]
        self._harmonics = [irrep.dim for _, irrep in product.irreps_in2]
        self._paths, self._coefficients = [], []
        for one in product.instructions:
            ends = product.irreps_in1[one.i_in1].ir, product.irreps_in2[one.i_in2].ir, product.irreps_out[one.i_out].ir
            coupling = one.path_weight * wigner_3j(*(irrep.l for irrep in ends)).to(dtype)
            self._paths.append(Path(one.i_in1, one.i_in2, ends[0].dim, ends[2].dim))
            self._coefficients.append(coupling.transpose(0, 1).reshape(ends[1].dim, -1))
        self._n_weights = [self._shapes[path.features][0] for path in self._paths]

    @staticmethod
    def fits(module: Any) -> bool:
        """Whether it is one of e3nn, with a weight for each channel and path, and the paths in the order of outputs."""
        product = module.convolution
        return type(module).__name__ == "IrrepsConvolution" and not module.is_parallel and all(
            one.connection_mode == "uvu" and one.has_weight and one.path_shape[1] == 1 and one.i_out == n
            for n, one in enumerate(product.instructions)
        )  # fmt: skip

    def to(self, device: torch.device) -> None:
        """Move its coefficients; the weights are of the network."""
        self._coefficients = [one.to(device) for one in self._coefficients]

    def __call__(self, table: dict[str, Tensor]) -> dict[str, Tensor]:
        """The table with other features of atoms."""
        weights = self._weights(table["edge_embedding"]).split(self._n_weights, dim=1)
        harmonics = (table["edge_attr"] * table[_PLACES]).split(self._harmonics, dim=1)
        features = self._of_neighbours(table["x"], table["edge_index"][1])
        n_atoms = len(table["x"])
        received = []
        for path, weight, coefficients in zip(self._paths, weights, self._coefficients, strict=True):
            turned = (harmonics[path.harmonics] @ coefficients).view(n_atoms, -1, path.becomes)
            weighted = (features[path.features] * weight.unsqueeze(1)).view(n_atoms, turned.shape[1], -1)
            received.append((turned.transpose(1, 2) @ weighted).transpose(1, 2).reshape(n_atoms, -1))
        table["x"] = torch.cat(received, dim=1) / self._denominator
        return table

    def _of_neighbours(self, features: Tensor, who: Tensor) -> Sequence[Tensor]:
        """(n_atoms * n_places, 2 l + 1, n) for each of the features, components before channels."""
        parts = features.split([n * width for n, width in self._shapes], dim=1)
        return [
            part.view(-1, n, width).transpose(1, 2).contiguous().index_select(0, who)
            for part, (n, width) in zip(parts, self._shapes, strict=True)
        ]
