"""Features of the atoms of one structure with their Jacobian J: compiled where there is a kernel, else by autograd.

J·v is how features change when atoms move by v, Jᵀ·w the gradient of Σ w_iα B_iα by the positions. Fits of forces need
nothing else: the forces of any energy E(B) are -Jᵀ·(∂E/∂B), and the gradient of a loss by ∂E/∂B is -J·(∂loss/∂F).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors import Descriptor
from mlmd.descriptors.combined import Combined, within
from mlmd.descriptors.compiled import KernelFeatures, features_of, kernels_of
from mlmd.graph import VOIGT, Graph

_SKIN = 0.01
"""Å: the list of neighbours is kept for all products at the same positions."""
_CENTRES = 32
"""Atoms whose features are differentiated together where there is no kernel: memory stays bounded."""

Slopes = Callable[[Tensor], Tensor]
"""Derivatives (n_atoms, n_functions, n) of functions of the features of each atom along directions (n_atoms,
n_features, n)."""


class Jacobian(Protocol):
    """Features, or moments that they are made of, of a structure at its positions, and products with their Jacobian."""

    @property
    def values(self) -> Tensor:
        """B, (n_atoms, n_features)."""
        ...

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Jᵀ·w: gradient (n_atoms, 3) of Σ w_iα B_iα for w (n_atoms, n_features), and its virial (3, 3)."""
        ...

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        """J·v: (n_atoms, n_features), for displacements (n_atoms, 3) and a strain (3, 3) that makes r·(1 + ε) of r."""
        ...


class Linearised(Jacobian, Protocol):
    """Features of a structure at its positions, float64, with products and rows of their Jacobian."""

    def rows(self, slopes: Slopes, n_functions: int) -> tuple[Tensor, Tensor]:
        """Gradients (n_atoms, 3, n_functions) and virials (6, n_functions) of sums over atoms of functions of features.

        Args:
            slopes: of the functions, at `values`.
            n_functions: how many there are.
        """
        ...


def linearised(descriptor: Descriptor, graph: Graph, *, keep: bool = True) -> Linearised:
    """Features and Jacobian of one structure.

    Args:
        descriptor: of atoms, in float64.
        graph: one structure, with pairs up to `mlmd.descriptors.compiled.pair_cutoff`.
        keep: without a compiled form, the Jacobian, of `jacobian_size`; else every product takes it anew, in memory
            that is given back.
    """
    if (kernels := kernels_of(descriptor)) is not None:
        numbers, pbc = graph.numbers.numpy(), graph.pbc[0].numpy()
        return _ByKernel(features_of(kernels, descriptor.elements, numbers, pbc, skin=_SKIN), graph)
    if isinstance(descriptor, Combined):
        parts = [linearised(part, within(graph, part.cutoff), keep=keep) for part in descriptor.parts]
        return _Joined(parts, descriptor.columns)
    return _ByAutograd(descriptor, graph) if keep else _Anew(descriptor, graph)


def jacobian_size(descriptor: Descriptor, graph: Graph) -> int:
    """Bytes that `linearised` keeps of a Jacobian, with derivatives by the vectors of all pairs; 0 with a kernel."""
    if kernels_of(descriptor) is not None:
        return 0
    if isinstance(descriptor, Combined):
        return sum(jacobian_size(part, within(graph, part.cutoff)) for part in descriptor.parts)
    return 8 * 3 * graph.pairs.shape[1] * descriptor.n_features


def values(descriptor: Descriptor, graph: Graph) -> Tensor:
    """Features (n_atoms, n_features) of one structure, float64; arguments as those of `linearised`."""
    if (kernels := kernels_of(descriptor)) is not None:
        features = features_of(kernels, descriptor.elements, graph.numbers.numpy(), graph.pbc[0].numpy())
        return torch.from_numpy(features.values(graph.positions.numpy(), graph.cells[0].numpy()))
    if isinstance(descriptor, Combined):
        return torch.cat([values(part, within(graph, part.cutoff)) for part in descriptor.parts], dim=1)
    with torch.no_grad():
        return descriptor.features(graph).double()


class _ByKernel:
    """One product a call; nothing of a pair is kept.

    Kernels have one place for their neighbours and sums. A structure may be at work in several threads at once, such as
    one that was drawn twice into a batch, so that they take turns.
    """

    def __init__(self, features: KernelFeatures, graph: Graph) -> None:
        self._features, self._turn = features, Lock()
        self._where = np.ascontiguousarray(graph.positions.numpy()), np.ascontiguousarray(graph.cells[0].numpy())
        self.values = torch.from_numpy(self._features.values(*self._where))

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        with self._turn:
            gradient, virial = self._features.pull(*self._where, weights.numpy())
        return torch.from_numpy(gradient), torch.from_numpy(virial)

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        with self._turn:
            return torch.from_numpy(self._features.push(*self._where, displacements.numpy(), strain.numpy()))

    def rows(self, slopes: Slopes, n_functions: int) -> tuple[Tensor, Tensor]:
        n_atoms, n_features = self.values.shape
        along_all = torch.eye(n_features, dtype=torch.float64).expand(n_atoms, -1, -1)
        weights = slopes(along_all).transpose(1, 2).contiguous().numpy()
        with self._turn:
            gradients, virials = self._features.pull_many(*self._where, weights)
        return torch.from_numpy(gradients), torch.from_numpy(virials[VOIGT])


class _ByAutograd:
    """The derivatives of all features by the vectors of all pairs, kept."""

    def __init__(self, descriptor: Descriptor, graph: Graph) -> None:
        vectors = graph.vectors.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            values = descriptor.features(graph.with_vectors(vectors))
        self.values = values.detach().double()
        n_features = values.shape[1]
        # features of an atom depend on its own pairs only, so the derivatives of their sum over atoms are all there are
        columns = []
        for feature in range(n_features):
            with torch.enable_grad():
                total = values[:, feature].sum()
            (column,) = torch.autograd.grad(total, vectors, retain_graph=feature + 1 < n_features)
            columns.append(column)
        self._slopes = torch.stack(columns, dim=1).double()  # (n_pairs, n_features, 3)
        self._pairs, self._vectors = graph.pairs, graph.vectors

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        slopes = torch.einsum("pf,pfc->pc", weights[self._pairs[0]], self._slopes)
        return _scattered(slopes, self._pairs, len(self.values)), self._vectors.T @ slopes

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        moved = displacements[self._pairs[1]] - displacements[self._pairs[0]] + self._vectors @ strain
        change = torch.einsum("pc,pfc->pf", moved, self._slopes)
        return torch.zeros_like(self.values).index_add_(0, self._pairs[0], change)

    def rows(self, slopes: Slopes, n_functions: int) -> tuple[Tensor, Tensor]:
        n_atoms, n_features = self.values.shape
        centres = self._pairs[0]
        counts = torch.bincount(centres, minlength=n_atoms)
        width = int(counts.max()) if len(centres) else 0
        rank = torch.arange(len(centres)) - (torch.cumsum(counts, 0) - counts)[centres]
        directions = self.values.new_zeros((n_atoms, width, n_features, 3))
        directions[centres, rank] = self._slopes
        along = slopes(directions.permute(0, 2, 1, 3).reshape(n_atoms, n_features, 3 * width))
        of_pairs = along.view(n_atoms, n_functions, width, 3).permute(0, 2, 3, 1)[centres, rank]
        gradients = _scattered(of_pairs, self._pairs, n_atoms)
        virials = torch.einsum("pa,pbk->abk", self._vectors, of_pairs)[VOIGT]
        return gradients, virials


class _Anew:
    """Every product by autograd through the features; nothing of a pair is kept but its vector."""

    def __init__(self, descriptor: Descriptor, graph: Graph) -> None:
        self._descriptor, self._graph = descriptor, graph
        self.values = values(descriptor, graph)

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        vectors, features = self._features()
        (slopes,) = torch.autograd.grad(features, vectors, weights)
        return _scattered(slopes, self._graph.pairs, len(weights)), self._graph.vectors.T @ slopes

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        centres, neighbours = self._graph.pairs
        moved = displacements[neighbours] - displacements[centres] + self._graph.vectors @ strain
        vectors, features = self._features()
        # Jᵀ·u is linear in u, and the derivative of (Jᵀ·u)·v by u is J·v
        with torch.enable_grad():
            along = torch.zeros_like(features, requires_grad=True)
            (slopes,) = torch.autograd.grad(features, vectors, along, create_graph=True)
            (change,) = torch.autograd.grad(slopes, along, moved)
        return change

    def rows(self, slopes: Slopes, n_functions: int) -> tuple[Tensor, Tensor]:
        """Of few functions, one after the other; of more functions than features these are what is differentiated."""
        graph, n_features = self._graph, self.values.shape[1]
        if n_functions > n_features:
            return _ByAutograd(self._descriptor, graph).rows(slopes, n_functions)
        along_all = torch.eye(n_features, dtype=torch.float64).expand(graph.n_atoms, -1, -1)
        weights = slopes(along_all)
        gradients = weights.new_zeros((n_functions, graph.n_atoms, 3))
        virials = weights.new_zeros((n_functions, 3, 3))
        for first in range(0, graph.n_atoms, _CENTRES):
            centres = slice(first, min(first + _CENTRES, graph.n_atoms))
            own = (graph.pairs[0] >= centres.start) & (graph.pairs[0] < centres.stop)
            pairs, vectors = graph.pairs[:, own], graph.vectors[own].detach().clone().requires_grad_(True)
            part = replace(graph, pairs=pairs, shifts=graph.shifts[own], vectors=vectors)
            with torch.enable_grad():
                features = self._descriptor.features(part, centres).double()
            for function, weight in enumerate(weights[centres].unbind(dim=1)):
                (slope,) = torch.autograd.grad(features, vectors, weight, retain_graph=function + 1 < n_functions)
                gradients[function] += _scattered(slope, pairs, graph.n_atoms)
                virials[function] += vectors.detach().T @ slope
        return gradients.permute(1, 2, 0), virials.permute(1, 2, 0)[VOIGT]

    def _features(self) -> tuple[Tensor, Tensor]:
        """Vectors of pairs, and features that can be differentiated by them."""
        vectors = self._graph.vectors.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            return vectors, self._descriptor.features(self._graph.with_vectors(vectors)).double()


def _scattered(slopes: Tensor, pairs: Tensor, n_atoms: int) -> Tensor:
    """Derivatives (n_atoms, ...) by positions from those by vectors (n_pairs, ...)."""
    gradient = slopes.new_zeros((n_atoms, *slopes.shape[1:]))
    return gradient.index_add_(0, pairs[1], slopes).index_add_(0, pairs[0], slopes, alpha=-1.0)


class _Joined:
    """The features of several descriptors side by side, of which only some have kernels."""

    def __init__(self, parts: Sequence[Linearised], columns: Sequence[slice]) -> None:
        self._parts, self._columns = parts, columns
        self.values = torch.cat([part.values for part in parts], dim=1)

    def pull(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self._parts, self._columns, strict=True)
        return _sums([part.pull(weights[:, own]) for part, own in parts])

    def push(self, displacements: Tensor, strain: Tensor) -> Tensor:
        return torch.cat([part.push(displacements, strain) for part in self._parts], dim=1)

    def rows(self, slopes: Slopes, n_functions: int) -> tuple[Tensor, Tensor]:
        def of_part(own: slice) -> Slopes:
            def along(directions: Tensor) -> Tensor:  # which only features of this part have
                everywhere = directions.new_zeros((len(directions), self.values.shape[1], directions.shape[2]))
                everywhere[:, own] = directions
                return slopes(everywhere)

            return along

        parts = zip(self._parts, self._columns, strict=True)
        return _sums([part.rows(of_part(own), n_functions) for part, own in parts])


def _sums(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Gradients and virials of all parts together."""
    gradients, virials = zip(*parts, strict=True)
    return torch.stack(gradients).sum(dim=0), torch.stack(virials).sum(dim=0)


def each_structure(graph: Graph) -> list[Graph]:
    """The structures of a graph one by one; pairs must be sorted by centre."""
    found = []
    for one in range(graph.n_structures):
        atoms = (graph.owner == one).nonzero().squeeze(1)
        first = int(atoms[0]) if len(atoms) else 0
        of_pairs = graph.owner[graph.pairs[0]] == one
        found.append(
            Graph(
                numbers=graph.numbers[atoms],
                positions=graph.positions[atoms],
                cells=graph.cells[one : one + 1],
                pbc=graph.pbc[one : one + 1],
                pairs=graph.pairs[:, of_pairs] - first,
                shifts=graph.shifts[of_pairs],
                vectors=graph.vectors[of_pairs],
                owner=torch.zeros_like(atoms),
                volumes=graph.volumes[one : one + 1],
            )
        )
    return found
