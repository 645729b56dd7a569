"""Features of a structure from those of its atoms: their mean, or their sum.

Structures are told apart as well as by the average kernel of their atoms (De, Bartók, Csányi and Ceriotti, Phys. Chem.
Chem. Phys. 18, 13754, 2016): which features belong to one atom is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.errors import InputError, did_you_mean
from mlmd.graph import Graph
from mlmd.registry import below, find

POOLING = ("mean", "sum")


class Average(torch.nn.Module):
    """x̄ = 1/N Σ_i x_i of the features x_i of N atoms, or the sum without 1/N.

    Features of atoms of different elements are averaged together. Power spectra of SOAP do not know the element of the
    centre; moments and symmetry functions do.
    """

    kind = "structure"

    def __init__(self, local: Descriptor, pooling: str = "mean") -> None:
        """Take a descriptor of atoms.

        Raises:
            InputError: when it is not one, and for an unknown way of pooling.
        """
        super().__init__()
        if local.kind != "atom":
            raise InputError(f"only descriptors of atoms can be averaged, {type(local).__name__} is of {local.kind}s.")
        if pooling not in POOLING:
            raise InputError(f"{pooling!r} is not a way of pooling. {did_you_mean(pooling, POOLING)}")
        self.local, self.pooling = local, pooling
        self.cutoff, self.elements, self.n_features = local.cutoff, local.elements, local.n_features

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_structures, n_features).

        Raises:
            InputError: for `centres`, because a row is of a whole structure, and as the descriptor of atoms.
        """
        if centres is not None:
            raise InputError("averages are of whole structures: there are none of some atoms.")
        return self.pooled(self.local.features(graph), graph)

    def pooled(self, rows: Tensor, graph: Graph) -> Tensor:
        """(n_structures, n_features) from the rows (n_atoms, n_features) of the atoms of a graph."""
        sums = rows.new_zeros((graph.n_structures, rows.shape[1])).index_add(0, graph.owner, rows)
        if self.pooling == "sum":
            return sums
        return sums / torch.bincount(graph.owner, minlength=graph.n_structures)[:, None]

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Average:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        own = below("local.", state)
        return cls(find("mlmd.descriptors", spec["of"]["kind"], DESCRIPTORS).restore(spec["of"], own), spec["pooling"])

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "average", "of": self.local.spec(), "pooling": self.pooling}
