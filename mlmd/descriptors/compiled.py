"""Features by the compiled kernels, for a descriptor alone: their values, and products with their Jacobian."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch

from mlmd.descriptors import Descriptor
from mlmd.descriptors.species import species, species_table
from mlmd.errors import InputError
from mlmd.kernels import Kernel
from mlmd.kernels.design import Features


@runtime_checkable
class Compiled(Protocol):
    """What a descriptor with a compiled form has besides."""

    def kernel(self) -> Kernel | None:
        """The descriptor as the compiled kernels read it; None where its settings have no compiled form."""
        ...


def compiled_features(
    descriptor: Descriptor, numbers: np.ndarray, pbc: np.ndarray, *, skin: float = 0.0, n_threads: int = 1
) -> Features:
    """`descriptor.features` for a system of atoms, in float64 and without a graph, and its Jacobian products.

    Args:
        descriptor: moments, radial-angular or symmetry functions, power spectra, or a bispectrum without `chemflag`.
        numbers: (n_atoms,) atomic numbers.
        pbc: (3,) bool.
        skin: Å, by which pairs are searched further than needed so that the search lasts for more positions.
        n_threads: to work with.

    Raises:
        InputError: when the descriptor has no compiled form, or an atom is of an element that it does not know.
        MlmdError: when nothing is compiled.
    """
    kernel = descriptor.kernel() if isinstance(descriptor, Compiled) else None
    if kernel is None:
        raise InputError(f"{type(descriptor).__name__} with these settings has no compiled form; use its `features`.")
    kinds = species(torch.tensor(np.asarray(numbers)), species_table(descriptor.elements)).numpy()
    return Features(kernel, kinds, len(descriptor.elements), pbc, skin=skin, n_threads=n_threads)
