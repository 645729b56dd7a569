"""Potentials evaluated by compiled kernels, without a graph: what runs and predictions on a processor use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlmd.descriptors.species import species, species_table
from mlmd.kernels import Fused, Kernel, KernelHandle, describe, library, shortcoming
from mlmd.kernels.kernel import Sums
from mlmd.neighbors import check_skin, geometry
from mlmd.potentials import Evaluation, Evaluator, Potential

if TYPE_CHECKING:
    from ase import Atoms


class FusedEvaluator:
    """A potential with a compiled kernel; as many threads as torch is allowed to use."""

    def __init__(
        self, kernel: Kernel, elements: Sequence[str], numbers: np.ndarray, pbc: np.ndarray, skin: float
    ) -> None:
        """Take a kernel whose species are `elements` (any atom when empty), atomic numbers, pbc (3,) and skin in Å.

        Raises:
            InputError: when an atom is of another element, or the skin is negative or not finite.
        """
        self._fused = Fused(kernel, kinds_of(elements, numbers), max(1, len(elements)), pbc, check_skin(skin))
        self.seconds = (0.0, 0.0)
        """Spent on the neighbour list and on the potential since the evaluator was made."""

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Sums are in the order of the last search: at the same positions they agree to rounding, and to the last bit
        where the search was the same.

        Raises:
            SimulationError: when a position is not finite.
        """
        return symmetric(self.sums(positions, cell))

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms (`Sums` says how they are divided)."""
        return symmetric(self.sums(positions, cell, details=True))

    def sums(self, positions: np.ndarray, cell: np.ndarray, *, details: bool = False) -> Sums:
        """What the kernel gives, with energies and virials of atoms where asked for."""
        found = self._fused.compute(positions, cell, torch.get_num_threads(), details=details)
        self.seconds = (self.seconds[0] + found.seconds[0], self.seconds[1] + found.seconds[1])
        return found

    def fused(self) -> list[tuple[Fused, float]]:
        """The kernel, ready for the system, with the factor 1."""
        return [(self._fused, 1.0)]

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last pair search."""
        return self._fused.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self._fused.restore(state, torch.get_num_threads())


class FusedPotential:
    """Compiled kernels that are asked about one structure after the other; their sum where there are several.

    The parameters are read once. One thread computes, so that the same structure gives the same bits wherever it stands
    among others and whatever works beside it.
    """

    def __init__(self, parts: Sequence[tuple[Kernel, Sequence[str]]]) -> None:
        """Take kernels, each with the elements that its species are (any atom when empty)."""
        self._parts = [(KernelHandle(kernel), tuple(elements)) for kernel, elements in parts]

    def evaluate(self, atoms: Atoms) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) of a structure.

        Raises:
            InputError: for an element that is not known, positions that are not finite and a flat periodic cell.
        """
        positions, cell, pbc = geometry(atoms)
        return added([self._part(*part, atoms.numbers, pbc, positions, cell) for part in self._parts])

    @staticmethod
    def _part(
        kernel: KernelHandle, elements: Sequence[str], numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray,
        cell: np.ndarray,
    ) -> Evaluation:  # fmt: skip
        system = Fused(kernel, kinds_of(elements, numbers), max(1, len(elements)), pbc, skin=0.0)
        return symmetric(system.compute(positions, cell, n_threads=1))


def added(results: Sequence[Evaluation]) -> Evaluation:
    """The sum of what several potentials say about one configuration."""
    if len(results) == 1:
        return results[0]
    energies = [one.energies for one in results if one.energies is not None]
    virials = [one.virials for one in results if one.virials is not None]
    return Evaluation(
        energy=sum(one.energy for one in results),
        forces=np.sum([one.forces for one in results], axis=0),
        virial=np.sum([one.virial for one in results], axis=0),
        energies=np.sum(energies, axis=0) if len(energies) == len(results) else None,
        virials=np.sum(virials, axis=0) if len(virials) == len(results) else None,
    )


def divided(total: Evaluation, n: int) -> Evaluation:
    """A sum over n potentials as their mean."""
    return Evaluation(
        energy=total.energy / n,
        forces=total.forces / n,
        virial=total.virial / n,
        energies=None if total.energies is None else total.energies / n,
        virials=None if total.virials is None else total.virials / n,
    )


def fused_of(evaluator: Evaluator) -> list[tuple[Fused, float]]:
    """The kernels, ready for a system, whose sum with factors an evaluator gives; none where it is no such sum."""
    own = getattr(evaluator, "fused", None)
    if own is None:
        return []
    found: list[tuple[Fused, float]] = own()
    return found


def why_slow(potential: Potential) -> str | None:
    """A sentence for a person, where a potential has a kernel that this machine could run faster than mlmd can."""
    if (library() is not None and shortcoming() is None) or not _has_kernel(potential):
        return None
    return f"kernels are {describe()}."


def _has_kernel(potential: Potential) -> bool:
    """Whether it, or a part of it, or what describes its atoms, has a compiled form with the settings it has."""
    for one in (potential, getattr(potential, "descriptor", None)):
        own = getattr(one, "kernel", None)
        if own is not None and own() is not None:
            return True
    return any(_has_kernel(part) for name in ("parts", "members") for part in getattr(potential, name, ()))


def kernel_of(potential: Potential) -> Kernel | None:
    """The kernel of a potential; None where it has none or nothing is compiled."""
    own = getattr(potential, "kernel", None)
    if own is None or library() is None:
        return None
    found: Kernel | None = own()
    return found


def kernels_of(potential: Potential) -> list[tuple[Kernel, tuple[str, ...]]]:
    """The kernels whose sum a potential is, each with its elements; none where it, or a part of it, has no kernel."""
    several = getattr(potential, "kernels", None)
    if several is not None:
        found: list[tuple[Kernel, tuple[str, ...]]] = several()
        return found
    kernel = kernel_of(potential)
    return [] if kernel is None else [(kernel, potential.elements)]


def kinds_of(elements: Sequence[str], numbers: np.ndarray) -> np.ndarray:
    """(n_atoms,) int32, the species of atoms by their atomic numbers; all zero without elements."""
    if not elements:
        return np.zeros(len(numbers), dtype=np.int32)
    return species(torch.tensor(np.asarray(numbers)), species_table(elements)).numpy().astype(np.int32)


def symmetric(sums: Sums) -> Evaluation:
    """Sums with the symmetric part of the virial, which is all of it but rounding."""
    return Evaluation(sums.energy, sums.forces, 0.5 * (sums.virial + sums.virial.T), sums.energies, sums.virials)
