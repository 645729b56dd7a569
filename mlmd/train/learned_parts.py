"""The parts of a descriptor that is trained with its network: moments, and the features that are made of these.

A learned part enters by moments that hold no trained number: those of DeepPot-SE (`mlmd.descriptors.embedding_table`)
or of radial-angular functions (`mlmd.descriptors.radial_moments`). Of one that stays as it is the features themselves
are the moments, decorrelated as those of frozen descriptors are. Forces are linear in all of them, so that parts stand
side by side: moments one after another, Jacobians as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from mlmd.descriptors import Descriptor, embedding_table, radial_moments
from mlmd.descriptors.combined import Combined, columns_of, within
from mlmd.descriptors.embedding import DeepPotSE
from mlmd.descriptors.embedding_table import Knots, knots_for, spline_coefficients
from mlmd.descriptors.linearised import Jacobian, jacobian_size, linearised, values
from mlmd.descriptors.near_pairs import MomentsAnew
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.descriptors.species import species, species_table
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.graph import Graph
from mlmd.train.network_loss import Scaling, decorrelating

Learned = TypeVar("Learned", DeepPotSE, RadialAngular)
"""What is trained together with a network."""
_CLOSER = 0.9
"""Splines reach to this part of the shortest distance."""


class Near(Protocol):
    """What is kept of a structure."""

    @property
    def kinds(self) -> Tensor:
        """(n_atoms,) species."""
        ...

    def moments(self) -> Jacobian:
        """With their Jacobian, as long as they are needed."""
        ...


class Part(Protocol):
    """One of several descriptors, or the only one."""

    @property
    def descriptor(self) -> Descriptor:
        """What it is a part of a training of."""
        ...

    @property
    def scaling(self) -> Scaling | None:
        """Of its features before they enter the network; None for none."""
        ...

    def near(self, graph: Graph, dtype: torch.dtype, *, keep: bool) -> Near:
        """Of a structure with all pairs, for work in a precision; whether a Jacobian without a kernel is kept."""
        ...

    def working(self, dtype: torch.dtype) -> Part:
        """A copy for work in a precision, differentiable by what is trained."""
        ...

    def features(self, moments: Tensor, kinds: Tensor) -> Tensor:
        """(n_atoms, n_features), as they enter the network."""
        ...


@dataclass(frozen=True)
class Embeddings:
    """DeepPot-SE, with splines in the place of its networks; its moments are standardised already."""

    descriptor: DeepPotSE
    knots: Knots
    scaling: None = None

    def near(self, graph: Graph, dtype: torch.dtype, *, keep: bool) -> Near:
        """The pairs, of which moments are made anew for every step."""
        return embedding_table.neighbours_of(self.descriptor, self.knots, graph, dtype)

    def working(self, dtype: torch.dtype) -> Embeddings:
        """But for the numbers that moments are made with."""
        descriptor = _trainable(self.descriptor, dtype)
        descriptor.mean, descriptor.deviation = self.descriptor.mean, self.descriptor.deviation
        return replace(self, descriptor=descriptor)

    def features(self, moments: Tensor, kinds: Tensor) -> Tensor:
        """By splines through the values of the networks as they are."""
        coefficients = spline_coefficients(self.descriptor, self.knots, moments.dtype)
        return embedding_table.features_of(self.descriptor, moments, kinds, coefficients)


@dataclass(frozen=True)
class Functions:
    """Radial-angular functions, whose features, of any size, are standardised as they are in the beginning."""

    descriptor: RadialAngular
    scaling: Scaling

    def near(self, graph: Graph, dtype: torch.dtype, *, keep: bool) -> Near:
        """The pairs, of which moments are made anew for every step."""
        return radial_moments.neighbours_of(self.descriptor, graph, dtype)

    def working(self, dtype: torch.dtype) -> Functions:
        """A copy, with what is added to and multiplied with."""
        scaling = Scaling(self.scaling.shift.to(dtype), self.scaling.axes.to(dtype))
        return Functions(_trainable(self.descriptor, dtype), scaling)

    def features(self, moments: Tensor, kinds: Tensor) -> Tensor:
        """By the coefficients as they are."""
        return self.scaling(radial_moments.features_of(self.descriptor, moments, kinds), kinds)


@dataclass(frozen=True)
class Fixed:
    """A descriptor without anything to learn; its moments are its features, scaled in float64."""

    descriptor: Descriptor
    scaling: Scaling

    def near(self, graph: Graph, dtype: torch.dtype, *, keep: bool) -> Near:
        """Features, and products with the Jacobian, by a kernel where there is one."""
        graph = within(graph, self.descriptor.cutoff)
        kinds = species(graph.numbers, species_table(self.descriptor.elements))
        return _Scaled(linearised(self.descriptor, graph, keep=keep), self.scaling, kinds, dtype)

    def working(self, dtype: torch.dtype) -> Fixed:
        """The same."""
        return self

    def features(self, moments: Tensor, kinds: Tensor) -> Tensor:
        """The moments."""
        return moments


class _Scaled:
    """Features of a structure, and their Jacobian, scaled and in the precision of the work."""

    def __init__(self, work: Jacobian, scaling: Scaling, kinds: Tensor, dtype: torch.dtype) -> None:
        self._work, self._scaling, self.kinds, self._dtype = work, scaling, kinds, dtype
        self.values = scaling(work.values, kinds).to(dtype)

    def moments(self) -> Jacobian:
        return self

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        gradient, virial = self._work.pull(self._scaling.back(weights.double(), self.kinds).contiguous())
        return gradient.to(self._dtype), virial.to(self._dtype)

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        changes = self._work.push(displacements.double(), strain.double())
        return self._scaling(changes, self.kinds, centred=False).to(self._dtype)


@dataclass(frozen=True)
class SideBySide(MomentsAnew):
    """What is kept of a structure for several parts."""

    parts: Sequence[Near]

    @property
    def kinds(self) -> Tensor:
        """(n_atoms,) species."""
        return self.parts[0].kinds

    def moments(self) -> Jacobian:
        """Those of all parts, one after another."""
        return _Joined([part.moments() for part in self.parts])


class _Joined:
    """Moments of several parts and their Jacobian."""

    def __init__(self, parts: Sequence[Jacobian]) -> None:
        self._parts, self._sizes = parts, [part.values.shape[1] for part in parts]
        self.values = torch.cat([part.values for part in parts], dim=1)

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self._parts, weights.split(self._sizes, dim=1), strict=True)
        gradients, virials = zip(*(part.pull(own.contiguous()) for part, own in parts), strict=True)
        return torch.stack(gradients).sum(dim=0), torch.stack(virials).sum(dim=0)

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        return torch.cat([part.push(displacements, strain) for part in self._parts], dim=1)


def parts_in(descriptor: Descriptor, learned: Sequence[bool], graphs: Sequence[Graph]) -> list[Part]:
    """The parts of a descriptor that training begins with.

    Args:
        descriptor: one that is learned, or a combination of such and of others.
        learned: of each part, in order: that of a trained potential may be of a kind that could be.
        graphs: the structures, with pairs up to its cutoff.
    """
    found = descriptor.parts if isinstance(descriptor, Combined) else (descriptor,)
    return [_part(one, is_learned, graphs) for one, is_learned in zip(found, learned, strict=True)]


def _part(descriptor: Descriptor, learned: bool, graphs: Sequence[Graph]) -> Part:
    if not learned:
        features, kinds = _rows(descriptor, graphs, compiled=True)
        n_kinds, alike = len(descriptor.elements), columns_of(descriptor)
        return Fixed(descriptor, decorrelating(features, kinds, n_kinds, alike))
    if isinstance(descriptor, DeepPotSE):
        shortest = min(float(graph.distances.min()) for graph in graphs if len(graph.vectors))
        return Embeddings(descriptor, knots_for(descriptor, _CLOSER * shortest))
    assert isinstance(descriptor, RadialAngular)
    return Functions(descriptor, _standardising(*_rows(descriptor, graphs), len(descriptor.elements)))


def fixed_size(parts: Sequence[Part], graph: Graph) -> int:
    """Bytes of the Jacobians of a structure with all pairs, where they are kept."""
    fixed = [part.descriptor for part in parts if isinstance(part, Fixed)]
    return sum(jacobian_size(one, within(graph, one.cutoff)) for one in fixed)


def whole(parts: Sequence[Part]) -> Scaling | None:
    """The scaling of the features of all parts together; None where there is none."""
    known = [(part.scaling, part.descriptor.n_features) for part in parts]
    n_kinds = len(parts[0].descriptor.elements)
    if all(scaling is None for scaling, _ in known):
        return None
    shift = [torch.zeros(n_kinds, n).double() if one is None else one.shift for one, n in known]
    axes = [torch.eye(n).double().expand(n_kinds, -1, -1) if one is None else one.axes for one, n in known]
    blocks = [torch.block_diag(*(part[kind] for part in axes)) for kind in range(n_kinds)]
    return Scaling(torch.cat(shift, dim=1), torch.stack(blocks))


def _rows(descriptor: Descriptor, graphs: Sequence[Graph], *, compiled: bool = False) -> tuple[Tensor, Tensor]:
    """Features of all atoms, in float64, and their kinds."""
    table = species_table(descriptor.elements)
    near = [within(graph, descriptor.cutoff) for graph in graphs]
    features = [values(descriptor, one) if compiled else descriptor.features(one).double() for one in near]
    return torch.cat(features), torch.cat([species(graph.numbers, table) for graph in graphs])


def _standardising(features: Tensor, kinds: Tensor, n_kinds: int) -> Scaling:
    """Of the features that a descriptor has in the beginning, by their mean and deviation in each element."""
    found = [mean_and_deviation(features[kinds == kind], (slice(None),)) for kind in range(n_kinds)]
    return Scaling(torch.stack([mean for mean, _ in found]), torch.stack([torch.diag(1 / width) for _, width in found]))


def _trainable(descriptor: Learned, dtype: torch.dtype) -> Learned:
    """A copy in a precision, differentiable."""
    copy = deepcopy(descriptor).to(dtype)
    for one in copy.parameters():
        one.requires_grad_(True)
    return copy
