"""Models of metatomic on mlmd's pairs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from metatensor.torch import Labels, TensorBlock
from metatomic.torch import ModelEvaluationOptions, ModelOutput, System
from torch import Tensor

from mlmd.graph import Graph
from mlmd.potentials import Prediction
from mlmd.pretrained.external import External
from mlmd.pretrained.native import Native

_PAIR = ["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"]


class MetatomicGraph(Native):
    """A model of metatomic, asked with systems whose neighbours are the pairs of mlmd.

    Its energy may depend on positions and cells besides the vectors of pairs, as where it sums over the far. So it has
    no energies of atoms here: it is differentiated with respect to the positions, and a strain of each structure.
    """

    def __init__(self, external: External) -> None:
        """Take the model of a calculator that is of this process.

        Raises:
            ValueError: when it asks for more than atoms and their neighbours, or has none of these.
        """
        made: Any = external.calculator
        model = made.model()
        if model.requested_inputs(use_new_names=True) or not model.requested_neighbor_lists():
            raise ValueError("the model wants something else than neighbours")
        can = model.capabilities()
        super().__init__(external, model, getattr(torch, can.dtype))
        self._there = torch.device(made._device)
        self._key = str(made._energy_key)
        self._devices = tuple(can.supported_devices)
        self._lists = tuple(model.requested_neighbor_lists())
        output = ModelOutput(unit="eV", sample_kind="system")
        self._options = ModelEvaluationOptions(length_unit="angstrom", outputs={self._key: output})

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress of every structure of a graph, on the CPU where the model knows no other device."""
        given = graph.positions.device
        device = given if given.type in self._devices else torch.device("cpu")
        with torch.enable_grad():
            positions = graph.positions.detach().to(device).requires_grad_(True)
            strains = torch.zeros((graph.n_structures, 3, 3), dtype=positions.dtype, device=device).requires_grad_(True)
            systems = [self._system(*one) for one in _structures(graph, positions, strains)]
            answer = self.network(device)(systems, self._options, check_consistency=False)
            energies = answer[self._key].block().values.reshape(-1).double()
            gradient, virial = None, None
            if energies.requires_grad:  # not where there are no pairs
                gradient, virial = torch.autograd.grad(energies.sum(), (positions, strains), allow_unused=True)
        forces = torch.zeros_like(positions) if gradient is None else -gradient
        virial = torch.zeros_like(strains) if virial is None else 0.5 * (virial + virial.transpose(1, 2))
        virial = virial.detach().to(given)
        return Prediction(
            energy=energies.detach().to(given),
            forces=forces.detach().contiguous().to(given),
            stress=virial / graph.volumes[:, None, None],
            virial=virial,
        )

    def _system(
        self, numbers: Tensor, positions: Tensor, cell: Tensor, pbc: Tensor, pairs: Tensor, shifts: Tensor
    ) -> Any:
        """A system of metatomic with its lists of neighbours."""
        system = System(numbers.to(torch.int32), positions.to(self.dtype), cell.to(self.dtype), pbc)
        vectors = positions[pairs[1]] - positions[pairs[0]] + shifts @ cell
        squares = vectors.detach().square().sum(dim=1)
        for wanted in self._lists:
            near = squares < wanted.engine_cutoff("angstrom") ** 2
            if not wanted.full_list:
                near &= _first_of_two(pairs, shifts)
            system.add_neighbor_list(wanted, self._list(near.nonzero().squeeze(1), vectors, pairs, shifts))
        return system

    def _list(self, near: Tensor, vectors: Tensor, pairs: Tensor, shifts: Tensor) -> Any:
        """Some of the pairs."""
        device = pairs.device
        samples = torch.cat([pairs.T, shifts.to(torch.int64)], dim=1).index_select(0, near).to(torch.int32)
        return TensorBlock(
            vectors.index_select(0, near).to(self.dtype).reshape(-1, 3, 1),
            Labels(_PAIR, samples, assume_unique=True),
            [Labels("xyz", torch.arange(3, dtype=torch.int32, device=device).reshape(3, 1))],
            Labels("distance", torch.zeros((1, 1), dtype=torch.int32, device=device)),
        )


def _structures(graph: Graph, positions: Tensor, strains: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Of every structure numbers, strained positions and cell, periodicity, and its pairs and shifts.

    Cells have no vectors in directions that are not periodic: metatomic asks for that.
    """
    device = positions.device
    owner, centres = graph.owner, graph.pairs[0].contiguous()
    atoms = torch.searchsorted(owner, torch.arange(graph.n_structures + 1, device=owner.device)).tolist()
    ends = torch.searchsorted(centres, torch.tensor(atoms, device=owner.device)).tolist()
    for n, ((begin, end), (first, last)) in enumerate(zip(pairwise(atoms), pairwise(ends), strict=True)):
        pbc = graph.pbc[n].to(device)
        cell = graph.cells[n].to(device) * pbc[:, None]
        own = positions[begin:end]
        yield (
            graph.numbers[begin:end].to(device),
            own + own @ strains[n],
            cell + cell @ strains[n],
            pbc,
            graph.pairs[:, first:last].to(device) - begin,
            graph.shifts[first:last].to(device),
        )


def _first_of_two(pairs: Tensor, shifts: Tensor) -> Tensor:
    """(n_pairs,) whether a pair is the one of its two directions that lists with each pair once have."""
    low, high = pairs
    sign = shifts.sign() @ shifts.new_tensor([9.0, 3.0, 1.0])  # of the first that is not zero
    return (low < high) | ((low == high) & (sign > 0))
