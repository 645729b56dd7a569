"""What training keeps of a structure: the pairs within the cutoff, of which moments are made when they are asked for.

Moments and their Jacobian need many times the memory of the pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmd.descriptors.linearised import Jacobian
from mlmd.descriptors.species import species
from mlmd.graph import Graph


class MomentsAnew(ABC):
    """A `Jacobian` that makes moments whenever it is asked."""

    @abstractmethod
    def moments(self) -> Jacobian:
        """With their Jacobian, as long as they are needed."""

    @property
    def values(self) -> Tensor:
        """Moments; this and the next two make them for themselves."""
        return self.moments().values

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """As `Jacobian.pull`."""
        return self.moments().pull(weights)

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        """As `Jacobian.push`."""
        return self.moments().push(displacements, strain)


@dataclass(frozen=True)
class NearPairs(MomentsAnew):
    """The pairs of a structure within the cutoff: what its moments are made of, and little memory."""

    pairs: Tensor
    """(2, n_pairs) int32."""
    vectors: Tensor
    """(n_pairs, 3) Å, in the precision of the work."""
    kinds: Tensor
    """(n_atoms,) species."""


def near_pairs(graph: Graph, cutoff: float, species_table: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs, vectors and kinds of one structure, as `NearPairs` holds them, for work in a precision."""
    near = (graph.distances < cutoff).nonzero().squeeze(1)
    return graph.pairs[:, near].int(), graph.vectors[near].to(dtype), species(graph.numbers, species_table)
