"""Whether the compiled library can make steps with a potential."""

from __future__ import annotations

import numpy as np

from mlmd.errors import InputError
from mlmd.kernels import describe, library
from mlmd.potentials import Potential
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.fused import fused_of


def check_potential(potential: Potential, name: str, numbers: np.ndarray, pbc: np.ndarray) -> None:
    """Make sure that the library computes a potential, called so, for atomic numbers (n_atoms,) and pbc (3,).

    Raises:
        InputError: when it does not.
    """
    if library() is None:
        raise InputError(f'engine = "native" needs compiled kernels, and they are {describe()}.')
    if not fused_of(evaluator(potential, numbers, pbc)):
        raise InputError(
            f'engine = "native": {name} is not a sum of compiled kernels (moment tensors, NEP, SNAP, symmetry '
            "functions with networks, EAM, Tersoff, Stillinger-Weber, pairs, and sums and committees of them are). "
            "Leave engine out: OpenMM runs any potential."
        )
