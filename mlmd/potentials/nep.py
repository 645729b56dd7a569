"""Neuroevolution potentials: radial-angular descriptors, a network for each element, ZBL at short distance.

Fan et al., Phys. Rev. B 104, 104309 (2021); version 3 of the files: J. Chem. Phys. 157, 114801 (2022); version 4,
with networks of the elements' own: Song et al., Nat. Commun. 15, 10208 (2024). The sizes of all parts are free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.neighbourhoods import neighbourhoods
from mlmd.descriptors.radial_angular import RadialAngular, within
from mlmd.descriptors.radial_angular_kernel import radial_angular_kernel
from mlmd.descriptors.species import species, species_table
from mlmd.errors import InputError
from mlmd.fitting.network import Network
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials.learned import LearnedPotential

N_TERMS = 4
"""Exponentials of a screening function."""


class Repulsion(torch.nn.Module):
    """Screened repulsion of nuclei, taken to zero between two distances of each pair of elements.

    φ(r) = A/r Σ_k c_k exp(-d_k r) s(r), where s goes from 1 at the inner to 0 at the outer distance as
    ½ (1 + cos π (r - inner) / (outer - inner)). Prefactors and decays of the universal function of Ziegler,
    Biersack and Littmark, or fitted ones, are made from a file by `mlmd.potentials.nep_file`.
    """

    table: Tensor
    """(n_species, n_species, 2 + 2 * 4): inner and outer distance in Å, then A c_k in eV Å and d_k in 1/Å."""

    def __init__(self, elements: Sequence[str]) -> None:
        """All zeros, to be loaded."""
        super().__init__()
        n = len(elements)
        self.register_buffer("table", torch.zeros((n, n, 2 + 2 * N_TERMS), dtype=torch.float64))
        self.register_buffer("species_table", species_table(elements), persistent=False)

    def atomic_energies(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms,) eV, float64: half of every pair's energy."""
        cutoff = float(self.table[..., 1].max())
        kinds = species(graph.numbers, self.species_table)
        near = neighbourhoods(within(graph, cutoff), kinds, cutoff, self.table.dtype, centres)
        distances = (near.vectors * near.vectors).sum(dim=0).sqrt()
        of_pair = self.table[near.centre_kinds[:, None], near.kinds]
        inner, outer = of_pair[..., 0], of_pair[..., 1]
        terms = of_pair[..., 2::2] * torch.exp(-of_pair[..., 3::2] * distances[..., None])
        way = ((distances - inner) / (outer - inner)).clamp(0.0, 1.0)
        step = 0.5 * (1 + torch.cos(torch.pi * way))
        return (0.5 * terms.sum(dim=-1) / distances * step).sum(dim=1).double()

    species_table: Tensor


class NEP(LearnedPotential):
    """E_i = network of the features of i, and half of the repulsion of its pairs."""

    descriptor: RadialAngular
    regressor: Network

    def __init__(self, descriptor: RadialAngular, regressor: Network, *, repulsive: bool = False) -> None:
        """Join the parts.

        Args:
            descriptor, regressor: as many kinds as elements.
            repulsive: with a `Repulsion`, to be loaded.

        Raises:
            InputError: when they do not fit.
        """
        super().__init__(descriptor, regressor)
        if regressor.n_kinds != len(self.elements):
            raise InputError(f"a network of {regressor.n_kinds} kinds was given for {len(self.elements)} elements.")
        if regressor.activations != ("tanh",):
            raise InputError(f"a NEP has one hidden layer with tanh, not {', '.join(regressor.activations)}.")
        self.repulsion = Repulsion(self.elements) if repulsive else None

    def atomic_energies(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms,) eV, float64, or those of some consecutive atoms."""
        energies = super().atomic_energies(graph, centres)
        if self.repulsion is not None:
            energies = energies + self.repulsion.atomic_energies(graph, centres)
        return energies

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> NEP:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        descriptor = RadialAngular.restore(spec["descriptor"], {})
        return cls(descriptor, Network.restore(spec["regressor"], {}), repulsive=bool(spec["repulsive"]))

    def kernel(self) -> Kernel:
        """The parameters as the fused kernel `src/radial_angular.hpp` reads them."""
        table = None if self.repulsion is None else self.repulsion.table
        return radial_angular_kernel(self.descriptor, self.regressor.tensors(), table)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        parts = {"descriptor": self.descriptor.spec(), "regressor": self.regressor.spec()}
        return {"kind": "nep", **parts, "repulsive": self.repulsion is not None}
