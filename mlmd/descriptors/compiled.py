"""Features by the compiled kernels, for a descriptor alone: their values, and products with their Jacobian."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from mlmd.descriptors import Descriptor
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.species import species, species_table
from mlmd.errors import InputError
from mlmd.kernels import Kernel, library
from mlmd.kernels.design import Features
from mlmd.registry import below


@runtime_checkable
class Compiled(Protocol):
    """What a descriptor with a compiled form has besides."""

    def kernel(self) -> Kernel | None:
        """The descriptor as the compiled kernels read it; None where its settings have no compiled form."""
        ...


class KernelFeatures(Protocol):
    """Features of the atoms of a system and products with their Jacobian; see `mlmd.kernels.design.Features`."""

    def values(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """(n_atoms, n_features)."""
        ...

    def push(
        self, positions: np.ndarray, cell: np.ndarray, displacements: np.ndarray, strain: np.ndarray | None = None
    ) -> np.ndarray:
        """J·v, (n_atoms, n_features)."""
        ...

    def pull(self, positions: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jᵀ·w, (n_atoms, 3), and its virial (3, 3)."""
        ...

    def pull_many(self, positions: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of (n_atoms, n_features, n_sums): (n_atoms, 3, n_sums) and (3, 3, n_sums)."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Of the last search of neighbours."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Search again where `state` was searched."""
        ...


def kernels_of(descriptor: Descriptor) -> tuple[Kernel, ...] | None:
    """What stands for a descriptor among the kernels, one for each of its parts.

    Returns:
        None where nothing is compiled, or one of the parts has no compiled form.
    """
    return None if library() is None else _packed(descriptor)


def _packed(descriptor: Descriptor) -> tuple[Kernel, ...] | None:
    if isinstance(descriptor, Combined):
        parts = [_packed(part) for part in descriptor.parts]
        return None if None in parts else tuple(kernel for part in parts if part for kernel in part)
    kernel = descriptor.kernel() if isinstance(descriptor, Compiled) else None
    return None if kernel is None else (kernel,)


def pair_cutoff(descriptor: Descriptor) -> float:
    """Å, up to which a graph must have pairs for `mlmd.descriptors.linearised`; 0 where kernels find them."""
    return descriptor.cutoff if kernels_of(descriptor) is None else 0.0


def compiled_features(
    descriptor: Descriptor, numbers: np.ndarray, pbc: np.ndarray, *, skin: float = 0.0, n_threads: int = 1
) -> KernelFeatures:
    """`descriptor.features` for a system of atoms, in float64 and without a graph, and its Jacobian products.

    Args:
        descriptor: moments, radial-angular or symmetry functions, power spectra, a bispectrum without `chemflag`, or
            several of these combined.
        numbers: (n_atoms,) atomic numbers.
        pbc: (3,) bool.
        skin: Å, by which pairs are searched further than needed so that the search lasts for more positions.
        n_threads: to work with.

    Raises:
        InputError: when the descriptor has no compiled form, or an atom is of an element that it does not know.
        MlmdError: when nothing is compiled.
    """
    kernels = _packed(descriptor)
    if kernels is None:
        raise InputError(f"{type(descriptor).__name__} with these settings has no compiled form; use its `features`.")
    return features_of(kernels, descriptor.elements, numbers, pbc, skin=skin, n_threads=n_threads)


def features_of(
    kernels: Sequence[Kernel],
    elements: Sequence[str],
    numbers: np.ndarray,
    pbc: np.ndarray,
    *,
    skin: float = 0.0,
    n_threads: int = 1,
    n_ghosts: int = 0,
) -> KernelFeatures:
    """The features of `kernels_of` a descriptor with these elements; arguments and errors of `compiled_features`.

    The last `n_ghosts` atoms are neighbours of the others and have no features.
    """
    kinds = species(torch.tensor(np.asarray(numbers)), species_table(elements)).numpy()
    parts = [
        Features(kernel, kinds, len(elements), pbc, skin=skin, n_threads=n_threads, n_ghosts=n_ghosts)
        for kernel in kernels
    ]
    return parts[0] if len(parts) == 1 else _Joined(parts)


class _Joined:
    """The features of several kernels side by side; each has its own list of neighbours."""

    def __init__(self, parts: Sequence[Features]) -> None:
        self._parts = parts
        ends = np.cumsum([0, *(part.n_features for part in parts)])
        self._columns = [slice(first, last) for first, last in itertools.pairwise(ends)]

    def values(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return np.concatenate([part.values(positions, cell) for part in self._parts], axis=1)

    def push(
        self, positions: np.ndarray, cell: np.ndarray, displacements: np.ndarray, strain: np.ndarray | None = None
    ) -> np.ndarray:
        return np.concatenate([part.push(positions, cell, displacements, strain) for part in self._parts], axis=1)

    def pull(self, positions: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = zip(self._parts, self._columns, strict=True)
        gradients, virials = zip(*(one.pull(positions, cell, weights[:, own]) for one, own in parts), strict=True)
        return sum(gradients[1:], gradients[0]), sum(virials[1:], virials[0])

    def pull_many(self, positions: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = zip(self._parts, self._columns, strict=True)
        gradients, virials = zip(*(one.pull_many(positions, cell, weights[:, own]) for one, own in parts), strict=True)
        return sum(gradients[1:], gradients[0]), sum(virials[1:], virials[0])

    def state(self) -> dict[str, np.ndarray]:
        return {f"{n}.{name}": one for n, part in enumerate(self._parts) for name, one in part.state().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        for n, part in enumerate(self._parts):
            part.restore(below(f"{n}.", state))
