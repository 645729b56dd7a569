"""The energy of some atoms among others: what one of many processes computes that has a part of space.

A process knows the atoms of its part, the *centres*, and as *ghosts* copies of those around them that are near enough
to be neighbours. With E_c the sum of the energies of the centres, forces are -dE_c/dr of all atoms, ghosts too: the
force on an atom is the sum of what all processes find for it and its copies, and energy and virial are sums over
processes. Every atom is a centre once, so that nothing is computed twice. This takes a potential that is a sum of
energies of atoms, each of the vectors to its own neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from mlmd.descriptors.compiled import features_of
from mlmd.descriptors.compiled import kernels_of as kernels_of_descriptor
from mlmd.descriptors.species import species
from mlmd.errors import InputError
from mlmd.kernels import Fused, Kernel, KernelHandle
from mlmd.neighbors import SkinList
from mlmd.potentials import EnergyModel, Evaluation, Evaluator, Potential, assemble, has_energy
from mlmd.potentials.by_features import has_kernel_features
from mlmd.potentials.combine import Sum, SumEvaluator
from mlmd.potentials.committee import Committee
from mlmd.potentials.fused import kernel_of, kinds_of, symmetric
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.scaled import ScaledEvaluator
from mlmd.potentials.threads import undivided

OPEN = np.zeros(3, dtype=bool)
"""No direction is periodic: ghosts stand for periodic images."""

Make = Callable[[np.ndarray, int, float], Evaluator]
"""Of atomic numbers (n_atoms,), how many of the last atoms are ghosts, and the skin in Å: what evaluates these atoms.
Its cell does not matter."""


def centres_of(potential: Potential) -> Make:
    """What makes evaluators of a potential for centres and ghosts; its parameters are read once.

    Raises:
        InputError: when the energy is no sum over atoms of functions of the vectors to neighbours within the cutoff.
    """
    parts = [(factor, _make(part)) for factor, part in parts_of(potential)]
    return partial(_together, parts)


def parts_of(potential: Potential, factor: float = 1.0) -> list[tuple[float, Potential]]:
    """Potentials, and factors by which they add up to one."""
    if isinstance(potential, Committee):
        shares = [parts_of(one, factor / len(potential.members)) for one in potential.members]
    elif isinstance(potential, Sum):
        shares = [parts_of(one, factor) for one in potential.parts]
    else:
        return [(factor, potential)]
    return [one for share in shares for one in share]


def _together(parts: Sequence[tuple[float, Make]], numbers: np.ndarray, n_ghosts: int, skin: float) -> Evaluator:
    made = [(factor, make(numbers, n_ghosts, skin)) for factor, make in parts]
    scaled = [one if factor == 1.0 else ScaledEvaluator(one, factor) for factor, one in made]
    return scaled[0] if len(scaled) == 1 else SumEvaluator(scaled)


def _make(potential: Potential) -> Make:
    kernel = kernel_of(potential) if has_energy(potential) else None
    if kernel is not None:
        return partial(FusedCentres, KernelHandle(kernel), potential.elements)
    if has_kernel_features(potential):
        return partial(FeatureCentres, potential, kernels_of_descriptor(potential.descriptor) or ())
    if isinstance(potential, EnergyModel) and potential.local and has_energy(potential):
        return partial(GraphCentres, potential)
    name = getattr(potential, "source", type(potential).__name__)
    raise InputError(
        f"{name} cannot be divided among processes: that takes an energy that is a sum over atoms, each of its own "
        "neighbours within the cutoff. Long-range terms, messages that pass from atom to atom, forces without an "
        'energy and models behind another program need all atoms in one process: leave engine = "lammps" out.'
    )


class FusedCentres:
    """By a compiled kernel."""

    def __init__(
        self, kernel: KernelHandle, elements: Sequence[str], numbers: np.ndarray, n_ghosts: int, skin: float
    ) -> None:
        """Take a kernel whose species are `elements`, atomic numbers (n_atoms,), the number of ghosts and the skin."""
        kinds = kinds_of(elements, numbers)
        self._fused = Fused(kernel, kinds, max(1, len(elements)), OPEN, skin, n_ghosts)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV) and virial (eV) of the centres, and forces (n_atoms, 3) eV/Å that come from it."""
        return symmetric(self._fused.compute(positions, cell, torch.get_num_threads()))

    def state(self) -> dict[str, np.ndarray]:
        """Positions of the last pair search."""
        return self._fused.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._fused.restore(state, torch.get_num_threads())


class FeatureCentres:
    """By the compiled features of a descriptor, and any regressor of theirs."""

    def __init__(
        self, potential: LearnedPotential, kernels: Sequence[Kernel], numbers: np.ndarray, n_ghosts: int, skin: float
    ) -> None:
        """Take a potential, kernels of its descriptor, atomic numbers (n_atoms,), the number of ghosts and a skin."""
        self._potential, self._n_centres = potential, len(numbers) - n_ghosts
        self._features = features_of(
            kernels, potential.elements, numbers, OPEN, skin=skin, n_threads=torch.get_num_threads(), n_ghosts=n_ghosts
        )
        self._kinds = species(torch.tensor(np.asarray(numbers[: self._n_centres])), potential.species_table)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV) and virial (eV) of the centres, and forces (n_atoms, 3) eV/Å that come from it."""
        values = self._features.values(positions, cell)
        weights, energy = np.zeros_like(values), 0.0
        if self._n_centres:
            energy, weights[: self._n_centres] = self._slopes(values[: self._n_centres])
        gradient, virial = self._features.pull(positions, cell, weights)
        return Evaluation(energy, -gradient, 0.5 * (virial + virial.T))

    def _slopes(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """The energy, and its derivatives by features (n_centres, n_features)."""
        dtype = next(self._potential.parameters()).dtype
        with undivided(), torch.enable_grad():
            features = torch.from_numpy(values).to(dtype).requires_grad_(True)
            energy = self._potential.regressor.energies(features, self._kinds).sum()
            (found,) = torch.autograd.grad(energy, features)
        return float(energy.detach()), found.double().numpy()

    def state(self) -> dict[str, np.ndarray]:
        """Positions of the last pair search."""
        return self._features.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._features.restore(state)


class GraphCentres:
    """By torch, on the graph of the pairs whose first atom is a centre."""

    def __init__(self, potential: EnergyModel, numbers: np.ndarray, n_ghosts: int, skin: float) -> None:
        """Take a potential that is `local`, atomic numbers (n_atoms,), the number of ghosts and the skin in Å."""
        self._potential, self._n_centres = potential, len(numbers) - n_ghosts
        self._pairs = SkinList(numbers, OPEN, potential.cutoff, skin, n_ghosts=n_ghosts)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV) and virial (eV) of the centres, and forces (n_atoms, 3) eV/Å that come from it."""
        graph = self._pairs.graph(positions, cell)
        with undivided():
            energies, gradient = self._potential.slopes(graph)  # without pairs of theirs, ghosts change no vector
            found = assemble(graph, energies, gradient)
        energy = float(energies[: self._n_centres].double().sum())
        return Evaluation(energy, found.forces.numpy(), found.virial[0].numpy())

    def state(self) -> dict[str, np.ndarray]:
        """Positions of the last pair search."""
        return self._pairs.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._pairs.restore(state)
