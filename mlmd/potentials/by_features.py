"""Learned potentials whose descriptor has a compiled form while the whole has none: kernel features, any regressor.

Forces are -Jᵀ·(∂E/∂B): features B by the kernel, ∂E/∂B by the regressor, the product with the Jacobian by the kernel
again. No graph is built and nothing of a pair is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch

from mlmd.descriptors.compiled import KernelFeatures, compiled_features, features_of, kernels_of
from mlmd.descriptors.species import species
from mlmd.errors import InputError, SimulationError
from mlmd.neighbors import SkinList, check_skin, geometry
from mlmd.potentials import Evaluation
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.threads import undivided

if TYPE_CHECKING:
    from ase import Atoms


def has_kernel_features(potential: object) -> TypeGuard[LearnedPotential]:
    """Whether a potential can be evaluated so."""
    return isinstance(potential, LearnedPotential) and kernels_of(potential.descriptor) is not None


class FeatureEvaluator:
    """For one system in a run, with as many threads as torch is allowed to use."""

    def __init__(self, potential: LearnedPotential, numbers: np.ndarray, pbc: np.ndarray, skin: float) -> None:
        """Take a potential that `has_kernel_features`, atomic numbers (n_atoms,), pbc (3,) and the skin in Å.

        Raises:
            InputError: when an atom is of another element, or the skin is negative or not finite.
        """
        self._potential = potential
        self._features = compiled_features(
            potential.descriptor, numbers, pbc, skin=check_skin(skin), n_threads=torch.get_num_threads()
        )
        self._kinds = species(torch.tensor(np.asarray(numbers)), potential.species_table)
        self._pairs = SkinList(numbers, pbc, potential.cutoff, skin)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å), virial (eV) and energies of atoms at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Raises:
            SimulationError: when a position is not finite, or the cell has no volume.
        """
        try:
            return _evaluate(self._potential, self._features, self._kinds, positions, cell)
        except InputError as error:  # of the system in a run
            raise SimulationError(f"{error} Try a smaller timestep.") from None

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with the virials of atoms, for which the graph is asked: the kernels add pairs up before."""
        found = self.evaluate(positions, cell)
        with undivided():
            graph = self._pairs.graph(positions, cell)
            virials = self._potential.detailed(graph).virials
        return found if virials is None else replace(found, virials=virials.cpu().numpy())

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last pair search."""
        return self._features.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._features.restore(state)


class FeaturePotential:
    """Asked about one structure after the other; one thread computes, as in `FusedPotential`."""

    def __init__(self, potential: LearnedPotential) -> None:
        """Take a potential that `has_kernel_features`."""
        self._potential, self._kernels = potential, kernels_of(potential.descriptor) or ()

    def evaluate(self, atoms: Atoms) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) of a structure.

        Raises:
            InputError: for an element that is not known, positions that are not finite and a flat periodic cell.
        """
        positions, cell, pbc = geometry(atoms)
        features = features_of(self._kernels, self._potential.elements, atoms.numbers, pbc)
        kinds = species(torch.tensor(atoms.numbers), self._potential.species_table)
        return _evaluate(self._potential, features, kinds, positions, cell)


def _evaluate(
    potential: LearnedPotential, features: KernelFeatures, kinds: torch.Tensor, positions: np.ndarray, cell: np.ndarray
) -> Evaluation:
    values = torch.from_numpy(features.values(positions, cell))
    dtype = next(potential.parameters()).dtype
    with undivided(), torch.enable_grad():
        values = values.to(dtype).requires_grad_(True)
        energies = potential.regressor.energies(values, kinds)
        (weights,) = torch.autograd.grad(energies.sum(), values)
    energies = energies.detach()
    gradient, virial = features.pull(positions, cell, weights.double().numpy())
    return Evaluation(
        energy=float(energies.sum()),
        forces=-gradient,
        virial=0.5 * (virial + virial.T),
        energies=energies.numpy(),
    )
