"""Surroundings of atoms in the training structures, by their features: what descriptors and kernels are chosen by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlmd.config import AGNIFit, Train
from mlmd.descriptors import Descriptor
from mlmd.descriptors.compiled import pair_cutoff
from mlmd.descriptors.linearised import values
from mlmd.descriptors.species import species, species_table
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph

MOST = 20_000
"""Atoms, at most, whose features tell how much features vary."""


def features_of(
    descriptor: Descriptor, frames: Sequence[LabelledFrame], seed: int, most: int = MOST
) -> tuple[Tensor, Tensor]:
    """Features (n, n_features) and kinds (n,) of atoms of training structures, all of them or random structures.

    Args:
        descriptor: of atoms.
        frames: training structures.
        seed: of the choice of structures.
        most: atoms, after which no more structures are looked at.
    """
    order = np.random.default_rng(seed).permutation(len(frames))
    table, cutoff = species_table(descriptor.elements), pair_cutoff(descriptor)
    rows, kinds, n_atoms = [], [], 0
    for index in order:
        graph = build_graph(frames[index].atoms, cutoff)
        rows.append(values(descriptor, graph))
        kinds.append(species(graph.numbers, table))
        n_atoms += graph.n_atoms
        if n_atoms >= most:
            break
    return torch.cat(rows), torch.cat(kinds)


def pins(config: Train) -> bool:
    """Whether an input says what the energy of a single atom is: by itself, or by single atoms in the data."""
    energies = config.baseline.energies
    return (isinstance(energies, dict) or energies == "isolated") and not isinstance(config.fit, AGNIFit)


def lone_rows(descriptor: Descriptor) -> Tensor:
    """Features (n_elements, n_features) of an atom of each element that has no neighbours."""
    cutoff = pair_cutoff(descriptor)
    return torch.cat([values(descriptor, build_graph(Atoms(one), cutoff)) for one in descriptor.elements])
