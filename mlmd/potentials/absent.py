"""What stands in a potential for a model of others that is not built, because nothing is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmd.graph import Graph
from mlmd.potentials import Prediction


class Absent(torch.nn.Module):
    """A model of others that runs no code and has no answers."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        """Take how it would be built."""
        super().__init__()
        self._spec = dict(spec)
        self.cutoff = 0.0
        self.elements = tuple(spec.get("elements") or ())

    def predict(self, graph: Graph) -> Prediction:
        """Nothing is known.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("this part of the potential was left out when its file was read")

    def spec(self) -> dict[str, Any]:
        """How it would be built (JSON-able)."""
        return dict(self._spec)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Absent:
        """Leave it out; such models have no tensors."""
        return cls(spec)
