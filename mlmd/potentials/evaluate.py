"""A potential made ready for one system in a run, or for any structures one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from mlmd.neighbors import SkinList, build_graph
from mlmd.potentials import Evaluation, Evaluator, Potential, Prediction
from mlmd.potentials.by_features import FeatureEvaluator, FeaturePotential, has_kernel_features
from mlmd.potentials.compared import ComparedEvaluator
from mlmd.potentials.fused import FusedEvaluator, FusedPotential, added, divided, kernel_of, kernels_of
from mlmd.potentials.memory import keep_freed_memory
from mlmd.potentials.on_gpu import gpu_evaluator, gpu_kernel_of
from mlmd.potentials.threads import undivided

if TYPE_CHECKING:
    from ase import Atoms

SKIN = 0.8
"""Å searched beyond the cutoff by default. The optimum is flat: from 0.6 to 1.4 Å a step costs the same within a
few per cent, for argon at 100 K as for a superionic conductor at 1500 K."""


class CompiledPredictor(Protocol):
    """Answers about one structure after the other without a graph of ours."""

    def evaluate(self, atoms: Atoms) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV)."""
        ...


class SumPredictor:
    """Several that answer about one structure after the other, added up, or their mean."""

    def __init__(self, makes: Sequence[Callable[[], CompiledPredictor]], *, mean: bool = False) -> None:
        """Take what makes the parts."""
        self._parts, self._mean = [make() for make in makes], mean

    def evaluate(self, atoms: Atoms) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV); raises what the parts raise."""
        total = added([part.evaluate(atoms) for part in self._parts])
        return divided(total, len(self._parts)) if self._mean else total


class GraphEvaluator:
    """Any potential, evaluated on the graph of a skin list."""

    def __init__(
        self,
        potential: Potential,
        numbers: np.ndarray,
        pbc: np.ndarray,
        skin: float = SKIN,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take atomic numbers (n_atoms,), pbc (3,) bool and the skin in Å."""
        self.potential = potential
        self.pairs = SkinList(numbers, pbc, potential.cutoff, skin, device)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        with undivided():  # operations on one system are too small to be divided among threads
            return evaluation(self.potential.predict(self.pairs.graph(positions, cell)))

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms, where the potential knows them."""
        ask = getattr(self.potential, "detailed", self.potential.predict)
        with undivided():
            return evaluation(ask(self.pairs.graph(positions, cell)))

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last pair search."""
        return self.pairs.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.pairs.restore(state)


def predictor(potential: Potential, device: torch.device | str = "cpu") -> Callable[[Atoms], Evaluation]:
    """What answers about structures that have nothing to do with each other: the compiled kernels, or the graph.

    The answer to the same structure is the same to the last bit, whatever was asked before and however many threads
    there are.

    Args:
        potential: moved to the device when it is a torch module.
        device: where tensors live.

    Returns:
        A function of one structure. It raises InputError for an element that is not known, for positions that are not
        finite and for a flat periodic cell.
    """
    keep_freed_memory()
    if isinstance(potential, torch.nn.Module):
        potential.to(device)
    makes = compiled_predictor(potential, device)
    if makes is not None:
        return makes().evaluate

    def by_graph(atoms: Atoms) -> Evaluation:
        graph = build_graph(atoms, potential.cutoff, device)
        with undivided():
            return evaluation(potential.predict(graph))

    return by_graph


def evaluator(
    potential: Potential,
    numbers: np.ndarray,
    pbc: np.ndarray,
    *,
    skin: float = SKIN,
    device: torch.device | str = "cpu",
) -> Evaluator:
    """What the engine calls every step: the potential's own evaluator, its compiled kernel, or its graph's evaluator.

    On a GPU that is the graph's, or, where `MLMD_GPU_KERNELS` is "on", kernels that are compiled now.

    Args:
        potential: moved to the device when it is a torch module.
        numbers: (n_atoms,) atomic numbers.
        pbc: (3,) bool.
        skin: Å searched beyond the cutoff.
        device: where tensors live.
    """
    keep_freed_memory()
    if isinstance(potential, torch.nn.Module):
        potential.to(device)
    own = getattr(potential, "evaluator", None)
    if own is not None:
        brought: Evaluator = own(numbers, pbc, skin=skin, device=device)
        return brought
    by_graph = partial(GraphEvaluator, potential, numbers, pbc, skin, device)
    on_gpu = gpu_kernel_of(potential, device)
    if on_gpu is not None:
        make = partial(gpu_evaluator, on_gpu, potential.elements, numbers, pbc, skin, device)
        return ComparedEvaluator("kernels for a GPU", make, by_graph(), on_gpu.precision)
    kernel = kernel_of(potential) if torch.device(device).type == "cpu" else None
    if kernel is not None:
        return FusedEvaluator(kernel, potential.elements, numbers, pbc, skin)
    if torch.device(device).type == "cpu" and has_kernel_features(potential):
        return FeatureEvaluator(potential, numbers, pbc, skin)
    return by_graph()


def is_compiled(potential: Potential) -> bool:
    """Whether the CPU computes a potential, or all parts of it, by compiled kernels."""
    if kernels_of(potential) or has_kernel_features(potential):
        return True
    parts = [getattr(potential, name, ()) for name in ("parts", "members")]
    return any(parts) and all(is_compiled(one) for several in parts for one in several)


def compiled_predictor(
    potential: Potential, device: torch.device | str = "cpu"
) -> Callable[[], CompiledPredictor] | None:
    """What makes a predictor of structures with compiled kernels, one for each thread; None where there are none.

    What the potential brings is taken, else the kernel of the whole potential, else that of its descriptor, else those
    of the parts of a sum or of the members of a committee.
    """
    if torch.device(device).type != "cpu":
        return None
    own: Callable[[], CompiledPredictor] | None = getattr(potential, "predictor", None)
    if own is not None:
        return own
    kernels = kernels_of(potential)
    if kernels:
        return partial(FusedPotential, kernels)
    if has_kernel_features(potential):
        return partial(FeaturePotential, potential)
    for name in ("parts", "members"):
        found = [compiled_predictor(part, device) for part in getattr(potential, name, ())]
        makes = [one for one in found if one is not None]
        if makes and len(makes) == len(found):
            return partial(SumPredictor, makes, mean=name == "members")
    return None


def evaluation(prediction: Prediction) -> Evaluation:
    """What is predicted for a graph of one structure."""
    return Evaluation(
        energy=float(prediction.energy[0]),
        forces=np.ascontiguousarray(prediction.forces.cpu().numpy()),
        virial=prediction.virial[0].cpu().numpy(),
        energies=None if prediction.energies is None else prediction.energies.cpu().numpy(),
        virials=None if prediction.virials is None else prediction.virials.cpu().numpy(),
    )
