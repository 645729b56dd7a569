"""Frozen models of DeePMD-kit on mlmd's pairs."""

from __future__ import annotations

from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlmd.graph import Graph
from mlmd.potentials.trust import unchanged
from mlmd.pretrained.deepmd import opened
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native, within


class DeepmdGraph(Native):
    """A frozen model, asked up to the energies of atoms.

    Its own `forward` lists neighbours anew at every step, by the distances of all atoms to all images. Below that it
    takes any list of neighbours among atoms and images; here every atom stands in the origin, and every pair is an
    image of its own in the place that the vector of the pair leads to: without messages there is no difference.
    """

    local = True
    _kinds: Tensor
    """By atomic number, those of the model; -1 for elements that it does not know."""

    def __init__(self, external: External) -> None:
        """Take the network of a calculator that is of this process.

        Raises:
            AttributeError: for one that DeePMD-kit asks.
            ValueError: for a model that passes messages.
        """
        made: Any = external.calculator
        if made.module.has_message_passing():
            raise ValueError("messages pass")
        self._path = made.path
        single = external.facts.get("precision") == "float32"
        super().__init__(external, made.module, torch.float32 if single else torch.float64)
        kinds = torch.full((120,), -1)
        kinds[[atomic_numbers[one] for one in made.elements]] = torch.arange(len(made.elements))
        self.register_buffer("_kinds", kinds, persistent=False)

    def network(self, device: torch.device) -> torch.nn.Module:
        """The network, on a device: opened again, as its program names devices.

        Raises:
            ModelError: when the file is not the one any more that was trusted.
        """
        if device != self._there:
            with unchanged(self.external.digests):
                self._behind = (self.external, opened(self._path, str(device)))
            self._there = device
        return self._behind[1]

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV; differentiable with respect to ``graph.vectors``."""
        graph = within(graph, self.cutoff)
        network: Any = self.network(graph.positions.device)
        centre, neighbour = graph.pairs
        n_atoms, n_pairs = graph.n_atoms, len(centre)
        types = self._kinds[graph.numbers]
        places = torch.cat([graph.vectors.new_zeros((n_atoms, 3)), graph.vectors])[None]
        kinds = torch.cat([types, types[neighbour]])[None]
        n_of = torch.bincount(centre, minlength=n_atoms)
        images = centre.new_full((n_atoms, max(1, int(n_of.max()))), -1)
        order = centre.argsort(stable=True)
        first = n_of.cumsum(0) - n_of
        row = centre[order]
        images[row, torch.arange(n_pairs, device=centre.device) - first[row]] = n_atoms + order
        listed = network.format_nlist(
            places.detach(), kinds, images[None], True
        )  # the nearest, where they are too many
        places, *_ = network.input_type_cast(places, None, None, None)
        owner = torch.cat([torch.arange(n_atoms, device=centre.device), neighbour])[None]
        found = network.atomic_model.forward_common_atomic(places, kinds, listed, owner, None, None, None)
        energies: Tensor = found["energy"]
        return energies.reshape(-1)
