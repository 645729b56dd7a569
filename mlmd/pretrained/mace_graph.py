"""Networks of MACE on mlmd's pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlmd.graph import Graph
from mlmd.potentials import Potential
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native, within

_KNOWN = ("MACE", "ScaleShiftMACE")
"""Networks whose energy is a sum over pairs and atoms: no charges, no fields, no long range."""


class MaceGraph(Native):
    """A network of MACE, asked with vectors of pairs in the place of the crossings of the cell.

    With all positions zero, what the network takes for the vector of a pair is its crossing, so that its energies are
    differentiated with respect to the vectors themselves.
    """

    def __init__(self, external: External) -> None:
        """Take the network of a calculator that is of this process."""
        made: Any = external.calculator
        network = made.models[0]
        super().__init__(external, network, next(network.parameters()).dtype)
        numbers = torch.tensor([int(number) for number in network.atomic_numbers])
        self._column = torch.full((int(numbers.max()) + 1,), -1)
        self._column[numbers] = torch.arange(len(numbers))
        self._n_elements = len(numbers)
        self._head = list(made.available_heads).index(made.head)

    @classmethod
    def of(cls, external: External) -> Potential:
        """The network of an external model; that model itself where it is of another kind, or answers differently."""
        network = external.calculator.models[0]
        if type(network).__name__ not in _KNOWN or hasattr(network, "joint_embedding"):
            return external
        return super().of(external)

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV; differentiable with respect to ``graph.vectors``."""
        graph = within(graph, self.cutoff)
        device = graph.positions.device
        column = self._column.to(device)[graph.numbers]
        counts = torch.bincount(graph.owner, minlength=graph.n_structures)
        nothing = torch.zeros((graph.n_atoms, 3), dtype=self.dtype, device=device)
        answer = self.network(device)(
            {
                "node_attrs": torch.nn.functional.one_hot(column, self._n_elements).to(self.dtype),
                "positions": nothing,
                "edge_index": graph.pairs,
                "shifts": graph.vectors.to(self.dtype),
                "unit_shifts": graph.shifts.to(self.dtype),
                "cell": graph.cells.reshape(-1, 3).to(self.dtype),
                "batch": graph.owner,
                "ptr": torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
                "head": torch.full((graph.n_structures,), self._head, device=device),
            },
            compute_force=False,
        )
        energies: Tensor = answer["node_energy"]
        return energies
