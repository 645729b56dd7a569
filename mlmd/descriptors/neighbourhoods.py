"""The pairs of consecutive atoms, laid out as a table with one row of neighbours for each atom."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlmd.graph import Graph


@dataclass(frozen=True)
class Neighbourhoods:
    """Neighbours of consecutive atoms, padded to the largest number of neighbours."""

    vectors: Tensor
    """(3, n_atoms, n_neighbours) Å; where there is no neighbour, a vector along x as long as the cutoff."""
    kinds: Tensor
    """(n_atoms, n_neighbours) species of the neighbours; 0 where there is none."""
    centre_kinds: Tensor
    """(n_atoms,) species of the atoms."""
    places: Tensor
    """(n_pairs,) where the pairs stand in the flattened table, in the order of the graph."""


def neighbourhoods(
    graph: Graph, kinds: Tensor, cutoff: float, dtype: torch.dtype, centres: slice | None = None
) -> Neighbourhoods:
    """Arrange the pairs of some consecutive atoms (of all, by default).

    Every function of a padded place must be zero at the cutoff, together with its derivative.

    Args:
        graph: pairs sorted by centre.
        kinds: (n_atoms,) species of all atoms.
        cutoff: Å, the length of padded vectors.
        dtype: of the vectors.
        centres: consecutive atoms.
    """
    first, last, _ = (centres or slice(None)).indices(graph.n_atoms)
    start, end = _own(graph, first, last)
    centre, neighbour = graph.pairs[0, start:end] - first, graph.pairs[1, start:end]
    n_atoms = last - first
    counts = torch.bincount(centre, minlength=n_atoms)
    width = _widest(counts)
    before = torch.cumsum(counts, 0) - counts
    rank = torch.arange(end - start, device=centre.device) - before.index_select(0, centre)
    place = centre * width + rank
    vectors = torch.zeros((3, n_atoms * width), dtype=dtype, device=centre.device)
    vectors[0] = cutoff
    vectors = vectors.index_copy(1, place, graph.vectors[start:end].T.to(dtype))
    of_neighbour = torch.zeros(n_atoms * width, dtype=torch.int64, device=centre.device)
    of_neighbour[place] = kinds.index_select(0, neighbour)
    return Neighbourhoods(
        vectors=vectors.view(3, n_atoms, width),
        kinds=of_neighbour.view(n_atoms, width),
        centre_kinds=kinds[first:last],
        places=place,
    )


def _own(graph: Graph, first: int, last: int) -> tuple[int, int]:
    """Where the pairs of consecutive atoms begin and end."""
    if torch.jit.is_tracing():  # all atoms, and however many pairs there will be
        return 0, graph.pairs.shape[1]
    bounds = torch.tensor([first, last], device=graph.pairs.device)
    start, end = torch.searchsorted(graph.pairs[0].contiguous(), bounds).tolist()
    return start, end


def _widest(counts: Tensor) -> int:
    """The largest number of neighbours, 1 at least."""
    if torch.jit.is_tracing():  # a number that may be another one the next time is a tensor there
        return counts.max().clamp(min=1)  # type: ignore[return-value]
    return max(1, int(counts.max())) if len(counts) else 1
