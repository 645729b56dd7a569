"""Several descriptors side by side: the features of an atom, or of a structure, are those of all, one after another.

Two-body and many-body terms (Bartók and Csányi, Int. J. Quantum Chem. 115, 1051, 2015), or functions of different reach
and resolution, are made so; of structures also what differs in kind, such as charges and angles.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.registry import below, find


class Combined(torch.nn.Module):
    """x = (x_1, x_2, ...); every part keeps its own cutoff."""

    kind: str
    """What all parts describe: ``"atom"`` or ``"structure"``."""
    parts: Sequence[Descriptor]

    def __init__(self, parts: Sequence[Descriptor]) -> None:
        """Join descriptors.

        Args:
            parts: all of atoms or all of structures, of the same elements in the same order.

        Raises:
            InputError: without parts, and when they do not go together.
        """
        super().__init__()
        if not parts:
            raise InputError("a combination of no descriptors describes nothing.")
        for part in parts:
            if part.kind not in ("atom", "structure"):
                raise InputError(f"{type(part).__name__} describes a {part.kind}; such descriptors do not combine.")
            if part.kind != parts[0].kind:
                whole, other = (part, parts[0]) if part.kind == "structure" else (parts[0], part)
                raise InputError(
                    f"{type(whole).__name__} describes a structure and {type(other).__name__} an atom; only "
                    "descriptors of atoms combine with those of atoms. Average the latter over each structure."
                )
            if part.elements != parts[0].elements:
                shown = " and of ".join(", ".join(one.elements) for one in (parts[0], part))
                raise InputError(f"descriptors of {shown} do not combine; elements and their order must be the same.")
        self.parts = torch.nn.ModuleList(parts)  # type: ignore[assignment,arg-type]
        self.kind, self.elements = parts[0].kind, parts[0].elements
        self.cutoff = max(part.cutoff for part in parts)
        ends = [0, *itertools.accumulate(part.n_features for part in parts)]
        self.columns = tuple(slice(first, last) for first, last in itertools.pairwise(ends))
        """Of each part, among the features."""
        self.n_features = ends[-1]
        at_once = [one for part in parts if (one := getattr(part, "atoms_at_once", None)) is not None]
        self.atoms_at_once = min(at_once, default=None)
        """Of the part that needs the most memory for an atom."""

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms, n_features), or only the rows of some consecutive atoms; (n_structures, n_features)."""
        rows = [part.features(within(graph, part.cutoff), centres) for part in self.parts]
        return torch.cat(rows, dim=1)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Combined:
        """Build again from `spec`, with parts that the tensors of `state_dict` fit; they are not loaded yet.

        Raises:
            KeyError, TypeError, InputError: when spec and state do not fit.
        """
        parts = []
        for number, one in enumerate(spec["parts"]):
            own = below(f"parts.{number}.", state)
            parts.append(find("mlmd.descriptors", one["kind"], DESCRIPTORS).restore(one, own))
        return cls(parts)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "combined", "parts": [part.spec() for part in self.parts]}


def columns_of(descriptor: Descriptor) -> tuple[slice, ...]:
    """Those of each descriptor that is combined, or of the only one."""
    return descriptor.columns if isinstance(descriptor, Combined) else (slice(0, descriptor.n_features),)


def within(graph: Graph, cutoff: float) -> Graph:
    """The same atoms with the pairs up to a cutoff in Å, in the same order."""
    kept = graph.vectors.detach().square().sum(dim=1) < cutoff**2
    if not torch.jit.is_tracing() and bool(kept.all()):
        return graph
    return replace(graph, pairs=graph.pairs[:, kept], shifts=graph.shifts[kept], vectors=graph.vectors[kept])
