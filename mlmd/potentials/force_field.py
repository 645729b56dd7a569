"""Force fields without an energy: AGNI, force components by likeness to reference fingerprints.

They conserve no energy: nothing says that the forces are a gradient, nor that those of all atoms add up to zero. A
structure that is turned by a quarter about an axis, or mirrored, has forces that are turned or mirrored exactly; for
other angles they follow as well as the data taught it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.directional import Directional
from mlmd.descriptors.moment_design import Design
from mlmd.descriptors.species import species
from mlmd.errors import InputError
from mlmd.fitting.odd_gaussian import OddGaussian
from mlmd.graph import Graph
from mlmd.potentials import Prediction
from mlmd.potentials.learned import LearnedPotential


class ForceField(LearnedPotential):
    """Forces from directional fingerprints; energy and stress are nan."""

    has_energy = False

    def predict(self, graph: Graph) -> Prediction:
        """Forces; what is of energies is nan."""
        with torch.no_grad():
            rows, kinds = self._rows(graph)
            forces = self._components().components(rows, kinds).view(-1, 3)
        unknown = torch.full((graph.n_structures, 3, 3), torch.nan, dtype=torch.float64, device=forces.device)
        return Prediction(energy=unknown[:, 0, 0], forces=forces, stress=unknown, virial=unknown)

    def design(self, graph: Graph, *, nonlinear: bool = False) -> Design:
        """Rows of the least-squares problem of the forces; those of energies and stresses are zero."""
        rows, kinds = self._rows(graph)
        basis = self._components().basis(rows, kinds)
        width = self.expansion.n_kinds  # columns of constants, which forces do not have
        forces = torch.nn.functional.pad(basis, (0, width)).view(graph.n_atoms, 3, -1)
        return Design(
            energy=forces.new_zeros((graph.n_structures, forces.shape[2])),
            forces=forces,
            virial=forces.new_zeros((graph.n_structures, 6, forces.shape[2])),
        )

    def atomic_energies(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """There are none.

        Raises:
            InputError: always.
        """
        raise InputError("a force field of AGNI has no energies.")

    def _rows(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Fingerprints (3 n_atoms, n_features) and the kinds of their atoms."""
        dtype = self.expansion.coefficients.dtype
        kinds = species(graph.numbers, self.species_table).repeat_interleave(3)
        return self.descriptor.features(graph).to(dtype), kinds

    def _components(self) -> OddGaussian:
        assert isinstance(self.descriptor, Directional) and isinstance(self.regressor, OddGaussian)
        return self.regressor

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {**super().spec(), "kind": "force-field"}
