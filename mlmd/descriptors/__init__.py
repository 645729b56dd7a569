"""Descriptors (the D of P = F[D(S)]): numbers that describe the surroundings of an atom, or a structure.

A descriptor is differentiable with respect to the vectors of its pairs (Coulomb matrices, which know no pairs, with
respect to positions and cells), does not change when a structure is moved, rotated or its equal atoms are renumbered,
and does not know what is fitted to it.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from mlmd.graph import Graph

DESCRIPTORS: dict[str, str] = {
    "average": "mlmd.descriptors.average:Average",
    "bispectrum": "mlmd.descriptors.bispectrum:Bispectrum",
    "combined": "mlmd.descriptors.combined:Combined",
    "directional": "mlmd.descriptors.directional:Directional",
    "coulomb": "mlmd.descriptors.coulomb:Coulomb",
    "deeppot-se": "mlmd.descriptors.embedding:DeepPotSE",
    "likeness": "mlmd.descriptors.likeness:Likeness",
    "mbtr": "mlmd.descriptors.mbtr:MBTR",
    "moments": "mlmd.descriptors.moments:Moments",
    "radial-angular": "mlmd.descriptors.radial_angular:RadialAngular",
    "soap": "mlmd.descriptors.soap:Soap",
    "symmetry": "mlmd.descriptors.symmetry:Symmetry",
}
"""Kinds an input file may name, and the classes behind them."""


class Descriptor(Protocol):
    """Features of the atoms of a graph; a `torch.nn.Module` whose parameters and buffers are its state."""

    kind: str
    """What a row of features belongs to: ``"atom"``, ``"structure"`` or ``"direction"``."""
    cutoff: float
    """Å."""
    elements: tuple[str, ...]
    """Chemical symbols it knows, in the order of its species."""
    n_features: int
    """Columns of `features`."""

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or only the rows of some consecutive atoms; (n_structures, n_features).

        Features of an atom depend on the pairs of which it is the centre only, so that large systems can be
        worked through piece by piece. Descriptors of whole structures have one row for each and refuse `centres`.
        """
        ...

    def spec(self) -> dict[str, Any]:
        """What an input file would say to build it again (JSON-able), without its fitted numbers."""
        ...
