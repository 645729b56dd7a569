"""Training of a descriptor with learned parts together with its network, by the same steps as a network alone.

Residuals and steps are those of `network_loss` and `network_fit`; in the place of frozen features stand the moments of
DeepPot-SE (`mlmd.descriptors.embedding_table`) or of radial-angular functions (`mlmd.descriptors.radial_moments`), in
which forces are linear. They are computed again for every step: all that is kept of a structure is its pairs.
Structures of a batch are worked on independently, one in each thread, in single precision; their gradients are added in
order and in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlmd.descriptors import embedding_table, radial_moments
from mlmd.descriptors.embedding import DeepPotSE
from mlmd.descriptors.embedding_table import Knots, knots_for, spline_coefficients
from mlmd.descriptors.near_pairs import NearPairs
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.descriptors.species import species
from mlmd.fitting.network import Network
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.potentials.threads import in_threads
from mlmd.train import network_fit
from mlmd.train.figures import Fitted
from mlmd.train.job import Job
from mlmd.train.network_fit import Training
from mlmd.train.network_loss import Sample, Scaling, absorb, labelled, residuals
from mlmd.train.network_state import NetworkState
from mlmd.train.run import Progress

_DTYPE = torch.float32
_CLOSER = 0.9
"""Splines reach to this part of the shortest distance."""


@dataclass(frozen=True)
class Embedded:
    """A descriptor and its network, as one function of moments."""

    descriptor: DeepPotSE | RadialAngular
    network: Network
    knots: Knots | None
    """Of splines in the place of embedding networks."""
    scaling: Scaling | None = None
    """Of the features, before they enter the network."""

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of moments of atoms and their kinds."""
        found = self.features(features, kinds)
        return self.network.energies(found if self.scaling is None else self.scaling(found, kinds), kinds)

    def features(self, moments: Tensor, kinds: Tensor) -> Tensor:
        """(n, n_features) of moments of atoms and their kinds."""
        if isinstance(self.descriptor, RadialAngular):
            return radial_moments.features_of(self.descriptor, moments, kinds)
        assert self.knots is not None
        coefficients = spline_coefficients(self.descriptor, self.knots, moments.dtype)
        return embedding_table.features_of(self.descriptor, moments, kinds, coefficients)


def working_copy(embedded: Embedded) -> Embedded:
    """A copy in the precision of the work, but for the constants and for what moments are made with."""
    descriptor, network = deepcopy(embedded.descriptor).to(_DTYPE), deepcopy(embedded.network).to(_DTYPE)
    if isinstance(descriptor, DeepPotSE) and isinstance(embedded.descriptor, DeepPotSE):
        descriptor.mean, descriptor.deviation = embedded.descriptor.mean, embedded.descriptor.deviation
    network.constants = deepcopy(embedded.network.constants)
    for one in (*descriptor.parameters(), *network.parameters()):
        one.requires_grad_(True)
    scaling = embedded.scaling
    if scaling is not None:
        scaling = Scaling(scaling.shift.to(_DTYPE), scaling.axes.to(_DTYPE))
    return Embedded(descriptor, network, embedded.knots, scaling)


class Plain(Scaling):
    """No scaling: what the network sees is its own descriptor's."""

    def __call__(self, features: Tensor, kinds: Tensor, *, centred: bool = True) -> Tensor:
        """The features."""
        return features

    def back(self, slopes: Tensor, kinds: Tensor) -> Tensor:
        """The slopes."""
        return slopes


class EmbeddedTraining(Training):
    """Structures, a descriptor with its network, and the steps of their training."""

    def _prepared(self, job: Job, jacobians: float) -> list[Sample]:
        """Structures of which the pairs are kept."""
        descriptor, problem = job.potential.descriptor, job.problem
        assert isinstance(descriptor, DeepPotSE | RadialAngular)
        graphs = [build_graph(frame.atoms, descriptor.cutoff) for frame in problem.frames]
        shortest = min(float(graph.distances.min()) for graph in graphs if len(graph.vectors))
        self.descriptor = descriptor
        self.knots = knots_for(descriptor, _CLOSER * shortest) if isinstance(descriptor, DeepPotSE) else None
        # embedding networks begin with moments that are standardised, radial functions with features of any size
        self.entering = None if self.knots else self._standardised(graphs)
        self.working = working_copy(Embedded(descriptor, self.network, self.knots, self.entering))
        working = [*self.working.network.parameters(), *self.working.descriptor.parameters()]
        self._copies = [(one, other) for (_, one), other in zip(self._named(), working, strict=True)]
        self.scaling = Plain(torch.empty(0), torch.empty(0))
        self.alone = None
        self._atoms = [build_graph(Atoms(symbol), descriptor.cutoff) for symbol in descriptor.elements]
        if not job.free_constants:
            self.alone = torch.cat([self._neighbours(atom).values for atom in self._atoms])
        samples = []
        for frame, graph in zip(problem.frames, graphs, strict=True):
            near = self._neighbours(graph)
            samples.append(labelled(near, torch.empty(0), near.kinds, frame, problem.sigma, problem.baseline))
        return samples

    def _neighbours(self, graph: Graph) -> NearPairs:
        if isinstance(self.descriptor, RadialAngular):
            return radial_moments.neighbours_of(self.descriptor, graph, _DTYPE)
        assert self.knots is not None
        return embedding_table.neighbours_of(self.descriptor, self.knots, graph, _DTYPE)

    def _standardised(self, graphs: Sequence[Graph]) -> Scaling:
        """Of the features that the descriptor has in the beginning, by their mean and deviation in each element."""
        features = torch.cat([self.descriptor.features(graph).double() for graph in graphs])
        kinds = torch.cat([species(graph.numbers, self.descriptor.species_table) for graph in graphs])
        found = [mean_and_deviation(features[kinds == kind]) for kind in range(len(self.descriptor.elements))]
        return Scaling(
            torch.stack([mean for mean, _ in found]), torch.stack([torch.diag(1 / width) for _, width in found])
        )

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Those of the network, then those of the descriptor."""
        return [*self.network.named_parameters(), *self.descriptor.named_parameters()]

    def _put(self, weights: np.ndarray) -> None:
        """Give descriptor, network and what computes in their place the numbers."""
        super()._put(weights)
        with torch.no_grad():
            for one, working in self._copies:
                working.copy_(one)

    def _slopes(self, samples: Sequence[Sample]) -> tuple[float, Sequence[Tensor]]:
        """Structures are independent of each other but for the sums."""
        trained = {id(one) for one in self.parameters}
        leaves = [working for one, working in self._copies if id(one) in trained]

        def of_one(sample: Sample) -> tuple[float, Sequence[Tensor]]:
            squares = self._of_one(sample, differentiable=True).square().sum()
            return float(squares.detach()), torch.autograd.grad(squares / self.mean_rows, leaves)

        squares, slopes = zip(*in_threads(of_one, samples, self.n_threads), strict=True)
        total = [one.double().contiguous() for one in slopes[0]]
        for more in slopes[1:]:
            for one, part in zip(total, more, strict=True):
                one.add_(part)
        return sum(squares), total

    def _residuals(self, samples: Sequence[Sample]) -> Tensor:
        return torch.cat(in_threads(lambda one: self._of_one(one, differentiable=False), samples, self.n_threads))

    def _of_one(self, sample: Sample, *, differentiable: bool) -> Tensor:
        """(n_rows,) residuals of a structure, whose moments are there only as long."""
        assert isinstance(sample.work, NearPairs)
        moments = sample.work.moments()
        seen = replace(sample, work=moments, features=moments.values)
        return residuals(self.working, [seen], self.scaling, self.alone, differentiable=differentiable)

    def finish(self, state: NetworkState) -> float:
        """Give descriptor and network the best numbers, and whole energies; the loss for all training structures."""
        loss = self.loss(state.best, self.all)
        if self.entering is not None:
            absorb(self.network, self.entering)
        with torch.no_grad():
            if self.alone is not None:
                features = torch.cat([self.descriptor.features(atom) for atom in self._atoms])  # not splines
                self.network.constants.sub_(self.network.energies(features, torch.arange(len(features))))
            self.network.constants.add_(self._baseline)
        return loss


def fit(job: Job, folder: Path, n_threads: int, progress: Progress) -> Fitted:
    """Train descriptor and network of the potential of a job; arguments and errors as those of `network_fit.fit`."""
    return network_fit.fit(job, folder, n_threads, progress, EmbeddedTraining)
