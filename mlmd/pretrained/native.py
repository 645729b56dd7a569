"""Models of others asked by mlmd's own pairs, without a calculator between: the list is kept from step to step.

They compute what their calculators compute, which is looked at when they are made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.potentials import EnergyModel, Evaluation, Potential
from mlmd.potentials.evaluate import SKIN, GraphEvaluator, evaluation
from mlmd.pretrained.external import External
from mlmd.registry import find

GRAPHS = {
    "mace": "mlmd.pretrained.mace_graph:MaceGraph",
    "nequip": "mlmd.pretrained.nequip_graph:NequipGraph",
    "sevennet": "mlmd.pretrained.sevennet_graph:SevenNetGraph",
    "chgnet": "mlmd.pretrained.chgnet_graph:CHGNetGraph",
    "metatomic": "mlmd.pretrained.metatomic_graph:MetatomicGraph",
    "deepmd": "mlmd.pretrained.deepmd_graph:DeepmdGraph",
}
"""Kinds of models that can be asked by mlmd's own pairs."""
_SPACING = 2.6
"""Å between the atoms of the structure that two ways of asking a model are compared on."""
_AGREE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""By how much they may differ, as parts of the largest number."""


class Native(EnergyModel):
    """A network of a framework behind the energy of each atom.

    Stored, it is the external model it stands for: how it is made, and the digests of its files, never its numbers.
    """

    dtype: torch.dtype
    """In which it computes."""
    local = False
    """Messages pass: the energy of an atom is of the neighbours of its neighbours too."""

    def __init__(self, external: External, network: torch.nn.Module, dtype: torch.dtype) -> None:
        """Take the external model and its network, which torch is not to count among this module's numbers."""
        super().__init__()
        self.elements, self.cutoff, self.dtype = external.elements, external.cutoff, dtype
        self._behind = (external, network)
        self._there = torch.device(external.device)
        self.register_buffer("_where", torch.zeros(0), persistent=False)  # moves with `to`, for whoever looks

    @classmethod
    def of(cls, external: External) -> Potential:
        """The network of an external model; that model itself where it is built or answers differently."""
        make: Callable[[External], Native] = cls  # kinds of networks are made of the external model alone
        try:
            own = make(external)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            return external
        return own if agree(own) else external

    @property
    def external(self) -> External:
        """The same model by its calculator."""
        return self._behind[0]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the calculator tells of itself."""
        return self.external.facts

    def described(self) -> dict[str, Any]:
        """What a person wants to know of the model (JSON-able)."""
        return self.external.described()

    def network(self, device: torch.device) -> torch.nn.Module:
        """The network, on a device."""
        if device != self._there:
            self._behind[1].to(device)
            self._there = device
        return self._behind[1]

    def spec(self) -> dict[str, Any]:
        """How it is made (JSON-able)."""
        return self.external.spec()

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Potential:
        """Make any external model again, as `External.restore`, on mlmd's pairs where that can be."""
        return on_pairs(External.restore(spec, state))

    def evaluator(
        self, numbers: np.ndarray, pbc: np.ndarray, *, skin: float = SKIN, device: torch.device | str = "cpu"
    ) -> NativeEvaluator:
        """What the engine asks."""
        return NativeEvaluator(self, numbers, pbc, skin, device)


def on_pairs(external: External) -> Potential:
    """A model by mlmd's own pairs, where its framework is of this process and one of `GRAPHS`; else by its calculator.

    Args:
        external: by its calculator.
    """
    kind = external.recipe.kind
    if external.recipe.python is not None or kind not in GRAPHS:
        return external
    graph: type[Native] = find("mlmd.graphs", kind, GRAPHS)
    return graph.of(external)


class NativeEvaluator(GraphEvaluator):
    """One system in a run. The operations of such networks are large: torch divides them among its threads."""

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        return evaluation(self.potential.predict(self.pairs.graph(positions, cell)))

    detailed = evaluate


def within(graph: Graph, cutoff: float) -> Graph:
    """The graph without the pairs at the cutoff (Å) and beyond, which a network need not compute to be zero."""
    near = (graph.distances < cutoff).nonzero().squeeze(1)
    if len(near) == graph.pairs.shape[1]:
        return graph
    return replace(
        graph,
        pairs=graph.pairs.index_select(1, near),
        shifts=graph.shifts.index_select(0, near),
        vectors=graph.vectors.index_select(0, near),
    )


def agree(own: Native) -> bool:
    """Whether energy, forces and virial of a small crystal without symmetry are those of the calculator."""
    symbols = [own.elements[number % len(own.elements)] for number in range(4)]
    corner = _SPACING * np.array([[0.0, 0.1, 0.0], [1.1, 0.0, 0.1], [0.1, 0.9, 0.0], [1.0, 1.1, 0.2]])
    cell = _SPACING * np.array([[2.0, 0.0, 0.0], [0.2, 2.0, 0.0], [0.0, 0.1, 1.4]])
    atoms = Atoms(symbols, positions=corner, cell=cell, pbc=True)
    device = own.external.device
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the framework, about a structure that nobody has given
        theirs = own.external.ask(np.array(atoms.numbers), np.array(atoms.pbc), corner, cell, device)
    ours = evaluation(own.predict(build_graph(atoms, own.cutoff, device)))
    part = _AGREE[own.dtype]
    return all(
        bool(np.abs(one - other).max() <= part * max(1.0, np.abs(other).max()))
        for one, other in (
            (np.array(ours.energy), np.array(theirs.energy)),
            (ours.forces, theirs.forces),
            (ours.virial, theirs.virial),
        )
    )
