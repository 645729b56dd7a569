"""Networks of SevenNet on mlmd's pairs."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from mlmd.graph import Graph
from mlmd.potentials import Potential
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native, agree, within

_ENERGIES = "atomic_energy"
"""What the network calls the energies of atoms in its table."""


class SevenNetGraph(Native):
    """A network of SevenNet, asked up to the energies of atoms.

    A network is a row of modules that hand a table of tensors on. The last of them add the energies of atoms up and
    differentiate: here they are added in float64, and differentiated with respect to the vectors of the pairs.
    """

    def __init__(self, external: External) -> None:
        """Take the network of a calculator that is of this process.

        Raises:
            ValueError: when no module of it gives energies of atoms.
        """
        made: Any = external.calculator
        super().__init__(external, made.model.requires_grad_(False), torch.float32)
        self._column: Tensor = made.model.z_to_onehot_tensor
        self._modal = None if made.modal is None else int(made.model.modal_map[made.modal])
        givers = [n for n, module in enumerate(made.model) if getattr(module, "key_output", None) == _ENERGIES]
        if not givers:
            raise ValueError("no module gives energies of atoms")
        self._n_modules = 1 + givers[-1]

    @classmethod
    def of(cls, external: External) -> Potential:
        """The network of an external model; that model itself where it is built or answers differently."""
        try:
            own = cls(external)
        except (AttributeError, KeyError, TypeError, ValueError):
            return external
        return own if agree(own) else external

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV; differentiable with respect to ``graph.vectors``."""
        graph = within(graph, self.cutoff)
        device = graph.positions.device
        table = {
            "x": self._column.to(device)[graph.numbers],
            "edge_index": graph.pairs,
            "edge_vec": graph.vectors.to(self.dtype),
        }
        if self._modal is not None:
            table["modal_type"] = torch.tensor(self._modal, device=device)
        network: Any = self.network(device)
        for module in islice(network, self._n_modules):
            table = module(table)
        return table[_ENERGIES].squeeze(1)
