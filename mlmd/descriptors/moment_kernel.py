"""Moment tensors in the compiled kernels: their parameters, and the derivatives that training needs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.moment_design import Design
from mlmd.descriptors.species import species
from mlmd.graph import Graph
from mlmd.kernels import Kernel, library
from mlmd.kernels.design import MomentRows

if TYPE_CHECKING:
    from mlmd.descriptors.moments import Moments


def moment_kernel(moments: Moments, weights: Tensor | None = None, constants: Tensor | None = None) -> Kernel:
    """Tables and coefficients in the order that `src/moments.hpp` reads.

    Args:
        moments: the descriptor.
        weights: (n_features,) eV of the B_α, by default zero.
        constants: (n_species,) eV, by default zero.
    """
    basis, radial = moments.basis, moments.radial.coefficients
    n_species, _, n_functions, n_chebyshev = radial.shape
    sizes = (n_species, n_functions, n_chebyshev, len(basis.basic), len(basis.products), len(basis.scalars))
    tables = itertools.chain(sizes, *basis.basic, *basis.products, basis.scalars)
    lengths = torch.tensor([moments.cutoff, moments.min_distance, moments.radial.scaling], dtype=torch.float64)
    weights = torch.zeros(moments.n_features) if weights is None else weights
    constants = torch.zeros(n_species) if constants is None else constants
    numbers = (lengths, radial, weights, constants)
    return Kernel(
        family="moments",
        cutoff=moments.cutoff,
        integers=np.fromiter(tables, dtype=np.int64),
        numbers=torch.cat([one.detach().double().cpu().flatten() for one in numbers]).numpy(),
        precision=str(radial.dtype).removeprefix("torch."),
    )


def has_compiled_design(moments: Moments) -> bool:
    """Whether `CompiledDesign` can take the place of `MomentDesign`: float64 on the CPU, with compiled kernels."""
    radial = moments.radial.coefficients
    return radial.dtype == torch.float64 and radial.device.type == "cpu" and library() is not None


class CompiledDesign:
    """The same derivatives as those of `MomentDesign`, more than ten times faster, with pairs that the kernels find."""

    def __init__(self, moments: Moments) -> None:
        """Lay out the tables of a descriptor; its coefficients are those of each call."""
        self._rows = MomentRows(moment_kernel(moments))

    def __call__(self, moments: Moments, graph: Graph, weights: Tensor | None = None) -> Design:
        """As `MomentDesign.__call__`; pairs of the graph are not looked at.

        Raises:
            InputError: when a position is not finite or a periodic cell has no volume.
        """
        kinds = species(graph.numbers, moments.species_table).numpy()
        radial = moments.radial.coefficients.detach().numpy()
        given = None if weights is None else weights.detach().numpy()
        ends = torch.bincount(graph.owner, minlength=graph.n_structures).cumsum(0).tolist()
        found = []
        for structure, (start, end) in enumerate(itertools.pairwise([0, *ends])):
            found.append(
                self._rows.rows(
                    kinds[start:end],
                    graph.pbc[structure].numpy(),
                    graph.positions[start:end].numpy(),
                    graph.cells[structure].numpy(),
                    radial,
                    given,
                )
            )
        energy, forces, virial = zip(*found, strict=True)
        return Design(
            energy=torch.from_numpy(np.stack(energy)),
            forces=torch.from_numpy(np.concatenate(forces) if len(forces) > 1 else forces[0]),
            virial=torch.from_numpy(np.stack(virial)),
        )
