"""Least-squares rows of any descriptor of atoms with any regressor that is linear in its parameters.

E = Σ_i Σ_b α_b φ_b(D_i): energies are rows of Σ_i φ_b, forces rows of -Σ_i (∂φ_b/∂D_i)·(∂D_i/∂r). One structure is
worked through at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mlmd.descriptors import Descriptor
from mlmd.descriptors.linearised import each_structure, linearised
from mlmd.descriptors.moment_design import Design
from mlmd.fitting.expansion import Expansion
from mlmd.graph import Graph


def rows_of(descriptor: Descriptor, regressor: Expansion, graph: Graph, kinds: Tensor) -> Design:
    """Derivatives of energies, forces and virials by the coefficients.

    Args:
        descriptor: of atoms.
        regressor: whose basis it is.
        graph: structures one after the other, with pairs where the descriptor needs them.
        kinds: (n_atoms,) of the atoms.
    """
    energies, forces, virials = [], [], []
    start = 0
    for one in each_structure(graph):
        own = kinds[start : start + one.n_atoms]
        start += one.n_atoms
        work = linearised(descriptor, one, keep=descriptor.n_features < regressor.n_basis)
        energies.append(regressor.basis(work.values, own).sum(dim=0))
        gradients, virial = work.rows(partial(regressor.slopes, work.values, own), regressor.n_basis)
        forces.append(-gradients)
        virials.append(virial)
    return Design(energy=torch.stack(energies), forces=torch.cat(forces), virial=torch.stack(virials))
