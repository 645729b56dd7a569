"""Potentials that are made of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors import Descriptor
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.kernels import Fused, Kernel
from mlmd.potentials import Evaluation, Evaluator, Potential, Prediction, has_energy, has_stress
from mlmd.potentials.by_features import has_kernel_features
from mlmd.potentials.evaluate import SKIN, GraphEvaluator, evaluator
from mlmd.potentials.fused import added, fused_of, kernel_of, kernels_of
from mlmd.registry import below


class Sum(torch.nn.Module):
    """The sum of several potentials, e.g. a learned one and ZBL at short distance.

    Its cutoff is the largest of its parts, each of which is zero beyond its own; its elements are those
    that all parts know.
    """

    def __init__(self, parts: Sequence[Potential], what: str = "a sum") -> None:
        """Add potentials up.

        Args:
            parts: one or more.
            what: they are parts of, in messages.

        Raises:
            InputError: when there is none, or when they have no element in common.
        """
        super().__init__()
        if not parts:
            raise InputError("a sum of potentials needs at least one.")
        self.parts = tuple(parts)
        for index, part in enumerate(parts):  # so that `to` and `state_dict` reach them
            if isinstance(part, torch.nn.Module):
                self.add_module(f"part{index}", part)
        self.cutoff = max(part.cutoff for part in parts)
        self.elements = _common_elements(self.parts, what)
        self.has_energy = all(has_energy(part) for part in parts)
        self.has_stress = all(has_stress(part) for part in parts)

    def predict(self, graph: Graph) -> Prediction:
        """The sum of the predictions; energies of atoms where all parts have them."""
        return _added([part.predict(graph) for part in self.parts])

    def detailed(self, graph: Graph) -> Prediction:
        """The same with the virials of atoms, where all parts know them."""
        return _added([getattr(part, "detailed", part.predict)(graph) for part in self.parts])

    def evaluator(
        self, numbers: np.ndarray, pbc: np.ndarray, *, skin: float = SKIN, device: torch.device | str = "cpu"
    ) -> Evaluator:
        """Parts with an evaluator or a compiled kernel, of features too, use it; others share one list of pairs."""
        bring = [
            part
            for part in self.parts
            if hasattr(part, "evaluator") or kernel_of(part) is not None or has_kernel_features(part)
        ]
        share = [part for part in self.parts if part not in bring]
        if not bring:
            return GraphEvaluator(self, numbers, pbc, skin, device)
        evaluators = [evaluator(part, numbers, pbc, skin=skin, device=device) for part in bring]
        if share:
            evaluators.append(GraphEvaluator(Sum(share), numbers, pbc, skin, device))
        return SumEvaluator(evaluators)

    def kernels(self) -> list[tuple[Kernel, tuple[str, ...]]]:
        """The kernels of all parts with their elements; none where a part has none."""
        found = [kernels_of(part) for part in self.parts]
        return [one for part in found for one in part] if all(found) else []

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Sum:
        """Build again from `spec`, with parts that the tensors of `state_dict` fit; they are not loaded yet."""
        from mlmd.potentials.modelfile import restore

        parts = []
        for index, part in enumerate(spec["parts"]):
            parts.append(restore(part, below(f"part{index}.", state)))
        return cls(parts)

    def spec(self) -> dict[str, Any]:
        """The specs of all parts."""
        return {"kind": "sum", "parts": [part.spec() for part in self.parts]}


def descriptors_of(potential: Potential) -> list[Descriptor]:
    """The descriptors of a potential: its own, or those of the parts of a sum, in their order."""
    if isinstance(potential, Sum):
        return [one for part in potential.parts for one in descriptors_of(part)]
    own: Descriptor | None = getattr(potential, "descriptor", None)
    return [] if own is None else [own]


def told_apart(descriptors: Sequence[Descriptor]) -> str:
    """Several descriptors in words."""
    each = (f"{one.spec()['kind']} ({one.n_features:,} features)" for one in descriptors)
    return f"{len(descriptors)} descriptors, {' and '.join(each)}"


class SumEvaluator:
    """Several evaluators of one system, added up."""

    def __init__(self, parts: Sequence[Evaluator]) -> None:
        """Take the evaluators of the parts."""
        self.parts = tuple(parts)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The sum of energies (eV), forces (eV/Å) and virials (eV)."""
        return added([part.evaluate(positions, cell) for part in self.parts])

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms, where all parts know them."""
        return added([getattr(part, "detailed", part.evaluate)(positions, cell) for part in self.parts])

    def fused(self) -> list[tuple[Fused, float]]:
        """The kernels of all parts with their factors; none where a part is no sum of kernels."""
        found = [fused_of(part) for part in self.parts]
        return [one for part in found for one in part] if all(found) else []

    def state(self) -> dict[str, np.ndarray]:
        """The states of the parts, each name preceded by the number of its part."""
        return {f"{n}.{name}": value for n, part in enumerate(self.parts) for name, value in part.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        for n, part in enumerate(self.parts):
            part.restore(below(f"{n}.", state))


def _common_elements(parts: Sequence[Potential], what: str) -> tuple[str, ...]:
    """Elements that every part knows; a part without elements knows all."""
    choosy = [part.elements for part in parts if part.elements]
    if not choosy:
        return ()
    common = tuple(symbol for symbol in choosy[0] if all(symbol in elements for elements in choosy))
    if not common:
        lists = " and ".join("(" + ", ".join(elements) + ")" for elements in choosy)
        raise InputError(f"the potentials of {what} have no element in common: {lists}.")
    return common


def _total(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _added(predictions: Sequence[Prediction]) -> Prediction:
    energies = [one.energies for one in predictions if one.energies is not None]
    virials = [one.virials for one in predictions if one.virials is not None]
    return Prediction(
        energy=_total([one.energy for one in predictions]),
        forces=_total([one.forces for one in predictions]),
        stress=_total([one.stress for one in predictions]),
        virial=_total([one.virial for one in predictions]),
        energies=_total(energies) if len(energies) == len(predictions) else None,
        virials=_total(virials) if len(virials) == len(predictions) else None,
    )
