"""Training of a descriptor with learned parts together with its network, by the same steps as a network alone.

Residuals and steps are those of `network_loss` and `network_fit`; in the place of frozen features stand the moments of
`mlmd.train.learned_parts`, in which forces are linear. Those of learned parts are computed again for every step: all
that is kept of a structure is its pairs. Of descriptors beside them that are not learned the features are kept.
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

from mlmd.config import learned_parts, parts_of
from mlmd.fitting.network import Network
from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.potentials.threads import in_threads
from mlmd.train import network_fit
from mlmd.train.figures import Fitted
from mlmd.train.job import Job
from mlmd.train.learned_parts import Embeddings, Functions, Part, SideBySide, fixed_size, parts_in, whole
from mlmd.train.network_fit import Training
from mlmd.train.network_loss import Sample, Scaling, absorb, labelled, residuals
from mlmd.train.network_state import NetworkState
from mlmd.train.run import Progress

_DTYPE = torch.float32


@dataclass(frozen=True)
class Embedded:
    """A descriptor and its network, as one function of moments."""

    parts: Sequence[Part]
    network: Network
    sizes: Sequence[int]
    """Moments of each part."""

    def energies(self, moments: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of moments of atoms and their kinds."""
        of_parts = zip(self.parts, moments.split([*self.sizes], dim=1), strict=True)
        features = [part.features(own, kinds) for part, own in of_parts]
        return self.network.energies(torch.cat(features, dim=1), kinds)


def working_copy(embedded: Embedded) -> Embedded:
    """A copy in the precision of the work, but for the constants and for what moments are made with."""
    network = deepcopy(embedded.network).to(_DTYPE)
    network.constants = deepcopy(embedded.network.constants)
    for one in network.parameters():
        one.requires_grad_(True)
    return replace(embedded, parts=[part.working(_DTYPE) for part in embedded.parts], network=network)


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
        """Structures of which the pairs are kept, and the features that are not learned."""
        self.descriptor, problem = job.potential.descriptor, job.problem
        learned = [bool(learned_parts(one)) for one in parts_of(job.config.descriptor)]
        graphs = [build_graph(frame.atoms, self.descriptor.cutoff) for frame in problem.frames]
        self.parts = parts_in(self.descriptor, learned, graphs)
        self._atoms = [build_graph(Atoms(symbol), self.descriptor.cutoff) for symbol in self.descriptor.elements]
        lone = [self._near(atom, keep=True) for atom in self._atoms]
        sizes = [part.moments().values.shape[1] for part in lone[0].parts]
        self.working = working_copy(Embedded(self.parts, self.network, sizes))
        working = [*self.working.network.parameters(), *(one for _, one in _trained(self.working.parts))]
        self._copies = [(one, other) for (_, one), other in zip(self._named(), working, strict=True)]
        self.scaling = Plain(torch.empty(0), torch.empty(0))
        self.alone = None if job.free_constants else torch.cat([one.moments().values for one in lone])
        samples, n_bytes = [], 0
        for frame, graph in zip(problem.frames, graphs, strict=True):
            size = fixed_size(self.parts, graph)
            keep = n_bytes + size <= jacobians
            n_bytes += size if keep else 0
            near = self._near(graph, keep=keep)
            samples.append(labelled(near, torch.empty(0), near.kinds, frame, problem.sigma, problem.baseline))
        return samples

    def _near(self, graph: Graph, *, keep: bool) -> SideBySide:
        return SideBySide([part.near(graph, _DTYPE, keep=keep) for part in self.parts])

    def _named(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Those of the network, then those of what is learned of the descriptor."""
        return [*self.network.named_parameters(), *_trained(self.parts)]

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
        assert isinstance(sample.work, SideBySide)
        moments = sample.work.moments()
        seen = replace(sample, work=moments, features=moments.values)
        return residuals(self.working, [seen], self.scaling, self.alone, differentiable=differentiable)

    def finish(self, state: NetworkState) -> float:
        """Give descriptor and network the best numbers, and whole energies; the loss for all training structures."""
        loss = self.loss(state.best, self.all)
        if (scaling := whole(self.parts)) is not None:
            absorb(self.network, scaling)
        with torch.no_grad():
            if self.alone is not None:
                features = torch.cat([self.descriptor.features(atom) for atom in self._atoms])  # not splines
                self.network.constants.sub_(self.network.energies(features, torch.arange(len(features))))
            self.network.constants.add_(self._baseline)
        return loss


def _trained(parts: Sequence[Part]) -> list[tuple[str, torch.nn.Parameter]]:
    """Names and values of the parameters of the parts that are learned."""
    learned = [part.descriptor for part in parts if isinstance(part, Embeddings | Functions)]
    return [(name, one) for descriptor in learned for name, one in descriptor.named_parameters()]


def fit(job: Job, folder: Path, n_threads: int, progress: Progress) -> Fitted:
    """Train descriptor and network of the potential of a job; arguments and errors as those of `network_fit.fit`."""
    return network_fit.fit(job, folder, n_threads, progress, EmbeddedTraining)
