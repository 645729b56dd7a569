"""Columns of a linear fit that are nearly zero in the data, and hold what is far from it elsewhere.

A penalty relative to the norm of its column says nothing of them: where two atoms have just come within the cutoff of
a third, a coefficient of 10²⁰ eV fits noise, and where they come nearer forces are as large. So that of a column which
is faint beside the others of its descriptor (`mlmd.fitting.scaling.emphasis`) is stronger.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlmd.descriptors.combined import columns_of
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.scaling import emphasis
from mlmd.potentials.learned import LearnedPotential

_STRONGER = 1e6
"""By which the penalty of a column is stronger where it begins to be faint: 10⁻⁶ is usual."""
_MOST = 1e60
"""Of what is stronger: nothing is left of a coefficient, and its square is still a number."""


def stronger(potential: LearnedPotential, factor: Tensor) -> Tensor:
    """(n_basis,) by how much penalties of coefficients are stronger than those of others, 1 of most.

    Products of two features are held back for each of them.

    Args:
        potential: whose coefficients they are; those with a prior are all alike.
        factor: of its least-squares problem, with the columns of the coefficients first.
    """
    sizes = torch.linalg.vector_norm(factor[:, : potential.expansion.n_basis], dim=0)
    if not potential.expansion.relative:
        return torch.ones_like(sizes)
    found, start = [], 0
    for part, term, _ in potential.terms():
        alike = columns_of(part)
        n_blocks = term.n_kinds if isinstance(term, Polynomial) else 1
        for block in sizes[start : start + term.n_basis].chunk(n_blocks):
            of_features = emphasis(block[: part.n_features], alike)
            found.append(of_features[: len(block)])
            if len(block) > part.n_features:
                first, second = torch.triu_indices(part.n_features, part.n_features)
                found.append((of_features[first] * of_features[second])[: len(block) - part.n_features])
        start += term.n_basis
    held = torch.cat(found)
    return torch.where(held > 1, _STRONGER * held, held).clamp(max=_MOST)
