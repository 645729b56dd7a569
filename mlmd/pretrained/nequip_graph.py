"""Networks of NequIP and Allegro on mlmd's pairs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from ase.geometry import complete_cell
from torch import Tensor

from mlmd.graph import Graph
from mlmd.potentials import Prediction
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native, within
from mlmd.pretrained.nequip import default_numbers, precision_of


class NequipGraph(Native):
    """A network of NequIP or Allegro, asked about one structure after the other, as its calculator asks it."""

    def __init__(self, external: External) -> None:
        """Take the network of a calculator that is of this process."""
        made: Any = external.calculator
        dtype = torch.float64 if precision_of(made.model) == "float64" else torch.float32
        super().__init__(external, made.model, dtype)

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress of every structure; see `Prediction`."""
        made = self.external.calculator_on(graph.positions.device)
        near = within(graph, self.cutoff)
        atoms = torch.searchsorted(near.owner, torch.arange(near.n_structures + 1, device=near.owner.device)).tolist()
        edges = torch.searchsorted(near.pairs[0].contiguous(), torch.tensor(atoms, device=near.owner.device)).tolist()
        with default_numbers(torch.float64), torch.enable_grad():
            found = [
                _ask(made, near, n, slice(*of_atoms), slice(*of_pairs))
                for n, (of_atoms, of_pairs) in enumerate(zip(pairwise(atoms), pairwise(edges), strict=True))
            ]
        energies, forces, virials = (torch.cat(one).to(graph.positions) for one in zip(*found, strict=True))
        energy = torch.zeros(graph.n_structures, dtype=torch.float64, device=graph.positions.device)
        return Prediction(
            energy=energy.index_add_(0, graph.owner, energies),
            forces=forces,
            stress=virials / graph.volumes[:, None, None],
            virial=virials,
            energies=energies,
        )


def _ask(made: Any, graph: Graph, structure: int, atoms: slice, edges: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Energies of atoms (n_atoms,) eV, forces (n_atoms, 3) eV/Å and the virial (1, 3, 3) eV of one structure.

    The network gives a stress; where a direction is not periodic it is of a cell that is completed by any vector, which
    no pair crosses.
    """
    cell, pbc = graph.cells[structure].cpu().numpy(), graph.pbc[structure].cpu().numpy()
    if not pbc.all():
        cell = np.asarray(complete_cell(np.where(pbc[:, None], cell, 0.0)))
    types, neighbours = made.transforms
    device = made.device
    data = {
        "pos": graph.positions[atoms].to(device),
        "cell": torch.from_numpy(np.ascontiguousarray(cell))[None].to(device),
        "atom_types": types.lookup_table.to(device)[graph.numbers[atoms].to(device)],
        "edge_index": (graph.pairs[:, edges] - atoms.start).to(device),
        "edge_cell_shift": graph.shifts[edges].to(device),
    }
    if neighbours._pruner is not None:
        data = neighbours._pruner.to(device)(data)
    answer = made.call_model(data)
    virial = answer["stress"].detach().reshape(1, 3, 3).double() * abs(np.linalg.det(cell))
    energies = answer["atomic_energy"].detach().reshape(-1).double()
    return energies, answer["forces"].detach().double(), 0.5 * (virial + virial.transpose(1, 2))
