"""Residuals of a network on labelled structures, differentiable by its weights.

Descriptors are frozen, so a structure is its features x and their Jacobian J. With E = Σ_i F(x_i) and w = ∂E/∂x, forces
are -Jᵀ·w. This product is linear in w and its transpose is J, so that

    ∂loss/∂w = -J·(∂loss/∂forces),

and nothing is differentiated twice but the network. Features are far from independent of each other, which makes
descent slow. So they enter the network decorrelated: (x - μ)·T, with the mean μ over the atoms of an element and T the
principal axes of their features in standard deviations, each over its own deviation √(λ + ε λ_max). In the end both go
into the first layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.combined import columns_of
from mlmd.descriptors.linearised import Jacobian, jacobian_size, linearised
from mlmd.descriptors.species import species
from mlmd.errors import InputError
from mlmd.fitting.network import Network
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.graph import VOIGT
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph, volume
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.threads import in_threads
from mlmd.train.environments import lone_rows
from mlmd.train.equations import Sigma

JACOBIANS = 2e9
"""Bytes of Jacobians that are kept where there is no kernel. A part of the memory that happens to be free would make
the last digits of a training depend on it."""
_LEAST_SPREAD = 1e-4
"""ε: directions of smaller variance, relative to the greatest, count less and less."""
_ALIKE = 1e-6
"""Standard deviations, by which a feature that does not vary differs from its mean at most."""


@dataclass(frozen=True)
class Sample:
    """A structure as a network sees it, with its labels."""

    work: Jacobian
    features: Tensor
    """(n_atoms, n_features), scaled."""
    kinds: Tensor
    """(n_atoms,)."""
    energy: float | None
    """eV, above the baseline."""
    forces: Tensor | None
    """(n_atoms, 3) eV/Å."""
    stress: Tensor | None
    """(6,) eV/Å³."""
    sigma: tuple[float, float, float]
    """Accuracy aimed at: eV per atom, eV/Å, eV/Å³."""
    volume: float
    """Å³."""

    @property
    def n_rows(self) -> int:
        """Residuals."""
        return (self.energy is not None) + (0 if self.forces is None else self.forces.numel()) + (
            0 if self.stress is None else 6
        )  # fmt: skip


class EnergyOfRows(Protocol):
    """What is asked of a network."""

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,)."""
        ...


@dataclass(frozen=True)
class Scaling:
    """By which features of the atoms of an element are made comparable and independent of each other."""

    shift: Tensor
    """μ, (n_kinds, n_features)."""
    axes: Tensor
    """T, (n_kinds, n_features, n_features); rows of zeros for what does not vary: nothing is known of what it does."""

    def __call__(self, features: Tensor, kinds: Tensor, *, centred: bool = True) -> Tensor:
        """(n_atoms, n_features) of features and kinds of atoms, or, not centred, of changes of features."""
        return self._turned(features - self.shift[kinds] if centred else features, kinds, self.axes)

    def back(self, slopes: Tensor, kinds: Tensor) -> Tensor:
        """Derivatives by features (n_atoms, n_features) from those by what enters the network."""
        return self._turned(slopes, kinds, self.axes.transpose(1, 2))

    def _turned(self, rows: Tensor, kinds: Tensor, by: Tensor) -> Tensor:
        """Rows (n_atoms, n_features) times the matrix of their kind."""
        if len(by) == 1:
            return rows @ by[0]
        found = torch.zeros_like(rows)
        for kind in kinds.unique().tolist():
            own = (kinds == kind).nonzero().squeeze(1)
            found = found.index_put((own,), rows.index_select(0, own) @ by[kind])
        return found


def samples_of(
    potential: LearnedPotential,
    frames: Sequence[LabelledFrame],
    sigma: Sigma,
    baseline: np.ndarray,
    *,
    jacobians: float = JACOBIANS,
) -> tuple[list[Sample], Scaling]:
    """Structures ready for `residuals`, and what scales their features.

    Args:
        potential: with the descriptor; its network is not looked at.
        frames: labelled structures.
        sigma: accuracy aimed at.
        baseline: (n_elements,) eV, in the order of the potential's elements.
        jacobians: bytes of them that may be kept.

    Raises:
        InputError: when all atoms of every element are alike.
    """
    found, n_bytes = [], 0
    for frame in frames:
        graph = build_graph(frame.atoms, potential.design_cutoff)
        size = jacobian_size(potential.descriptor, graph)
        keep = n_bytes + size <= jacobians
        n_bytes += size if keep else 0
        work = linearised(potential.descriptor, graph, keep=keep)
        kinds = species(graph.numbers, potential.species_table)
        found.append(labelled(work, work.values, kinds, frame, sigma, baseline))
    features, kinds = torch.cat([one.features for one in found]), torch.cat([one.kinds for one in found])
    scaling = decorrelating(features, kinds, len(potential.elements), columns_of(potential.descriptor))
    if not bool(scaling.axes.any()):
        raise InputError(
            "all atoms of the training structures have the same surroundings: there is nothing to learn from. Add "
            "structures out of equilibrium."
        )
    return [replace(one, features=scaling(one.features, one.kinds)) for one in found], scaling


def labelled(
    work: Jacobian, features: Tensor, kinds: Tensor, frame: LabelledFrame, sigma: Sigma, baseline: np.ndarray
) -> Sample:
    """A structure with the labels that it has; arguments as those of `Sample` and `samples_of`."""
    return Sample(
        work=work,
        features=features,
        kinds=kinds,
        energy=None if frame.energy is None else frame.energy - float(baseline[kinds.numpy()].sum()),
        forces=None if frame.forces is None else torch.from_numpy(frame.forces).double(),
        stress=None if frame.stress is None else torch.from_numpy(frame.stress[VOIGT]).double(),
        sigma=sigma.of(frame),
        volume=volume(frame.atoms.cell.array, frame.atoms.pbc),
    )


def decorrelating(features: Tensor, kinds: Tensor, n_kinds: int, alike: Sequence[slice] = (slice(None),)) -> Scaling:
    """Of features (n_atoms, n_features), float64, of the atoms of every element, by their principal axes.

    Args:
        features, kinds: of atoms.
        n_kinds: elements.
        alike: columns of each descriptor.
    """
    shifts, axes = [], []
    for kind in range(n_kinds):
        own = features[kinds == kind]
        shift, scale = mean_and_deviation(own, alike)
        scaled = (own - shift) / scale
        varies = scaled.abs().amax(dim=0) > _ALIKE
        spread, directions = torch.linalg.eigh(scaled.T @ scaled / len(own))
        widths = torch.sqrt(spread.clamp(min=0.0) + _LEAST_SPREAD * spread[-1])
        turned = directions / widths / scale[:, None]
        shifts.append(shift)
        axes.append(torch.where(varies[:, None], turned, 0.0) if bool(varies.any()) else torch.zeros_like(turned))
    return Scaling(torch.stack(shifts), torch.stack(axes))


def lonely(potential: LearnedPotential, scaling: Scaling) -> Tensor:
    """Scaled features (n_kinds, n_features) of single atoms of every element."""
    rows = lone_rows(potential.descriptor)
    return scaling(rows, torch.arange(len(rows)))


def residuals(
    network: EnergyOfRows,
    samples: Sequence[Sample],
    scaling: Scaling,
    alone: Tensor | None = None,
    *,
    n_threads: int = 1,
    differentiable: bool = True,
) -> Tensor:
    """(n_rows,) weighted residuals, those of `mlmd.train.equations`, of the labels that structures have.

    Args:
        network: of scaled features; its energies are those above the baseline.
        samples: structures.
        scaling: of their features.
        alone: (n_kinds, n_features) of single atoms, whose energies are subtracted; None where they are not fixed.
        n_threads: to work with, on which the result does not depend.
        differentiable: by the weights of the network.
    """
    energies, slopes = _outputs(network, samples, alone, differentiable)
    with torch.set_grad_enabled(differentiable):
        return _weighted(energies, slopes, samples, scaling, n_threads)


def _outputs(
    network: EnergyOfRows, samples: Sequence[Sample], alone: Tensor | None, differentiable: bool
) -> tuple[Tensor, Tensor]:
    """Energies of atoms (n_atoms,) and their derivatives (n_atoms, n_features) by what enters the network."""
    kinds = torch.cat([one.kinds for one in samples])
    with torch.enable_grad():
        features = torch.cat([one.features for one in samples]).requires_grad_(True)
        energies = network.energies(features, kinds)
        (slopes,) = torch.autograd.grad(energies.sum(), features, create_graph=differentiable)
    with torch.set_grad_enabled(differentiable):
        if alone is not None:
            energies = energies - network.energies(alone, torch.arange(len(alone)))[kinds]
    return energies, slopes


def _weighted(
    energies: Tensor, slopes: Tensor, samples: Sequence[Sample], scaling: Scaling, n_threads: int
) -> Tensor:  # fmt: skip
    """(n_rows,) residuals, linear in what a network says."""
    kinds = torch.cat([one.kinds for one in samples])
    sizes = [len(one.kinds) for one in samples]
    gradients, virials = _Pulled.apply(scaling.back(slopes, kinds), [one.work for one in samples], n_threads)
    rows = []
    parts = zip(samples, energies.split(sizes), gradients.split(sizes), virials, strict=True)
    for sample, energy, gradient, virial in parts:
        for_energy, for_forces, for_stress = sample.sigma
        if sample.energy is not None:
            rows.append((energy.sum() - sample.energy)[None] / (len(energy) * for_energy))
        if sample.forces is not None:
            rows.append((-gradient - sample.forces).flatten() / for_forces)
        if sample.stress is not None:
            rows.append((virial[VOIGT] / sample.volume - sample.stress) / for_stress)
    return torch.cat(rows)


def sensitivities(
    network: Network,
    sample: Sample,
    rows: Sequence[int],
    scaling: Scaling,
    alone: Tensor | None,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """Some residuals (m,) of a structure and their derivatives (m, n_weights).

    Each is linear in energies and slopes, with coefficients that one product with the Jacobian gives; then all of them
    go back through the network together.

    Args:
        network, scaling, alone: as those of `residuals`.
        sample: the structure.
        rows: which of its `n_rows` residuals.
        parameters: of the network, that want derivatives.
    """
    said = _outputs(network, [sample], alone, differentiable=True)
    with torch.no_grad():
        found = _weighted(said[0].detach(), said[1].detach(), [sample], scaling, n_threads=1)[list(rows)]
        of_energies = torch.zeros((len(rows), len(sample.kinds)), dtype=torch.float64)
        moved = torch.stack([_row(sample, row, weight) for row, weight in zip(rows, of_energies, strict=True)])
        of_slopes = scaling(moved.flatten(0, 1), sample.kinds.repeat(len(rows)), centred=False).view_as(moved)
    slopes = torch.autograd.grad(
        said, parameters, [of_energies, of_slopes], is_grads_batched=True, allow_unused=True, materialize_grads=True
    )
    return found, torch.cat([one.reshape(len(rows), -1) for one in slopes], dim=1)


def _row(sample: Sample, row: int, of_energies: Tensor) -> Tensor:
    """What multiplies the slopes by features (n_atoms, n_features) in a residual; of the energies, what is given."""
    for_energy, for_forces, for_stress = sample.sigma
    n_atoms, nowhere = len(sample.kinds), torch.zeros((3, 3), dtype=torch.float64)
    displacements = torch.zeros((n_atoms, 3), dtype=torch.float64)
    if sample.energy is not None:
        if row == 0:
            of_energies.fill_(1 / (n_atoms * for_energy))
            return torch.zeros_like(sample.features)
        row -= 1
    if sample.forces is not None:
        if row < 3 * n_atoms:
            displacements.view(-1)[row] = -1 / for_forces
            return sample.work.push(displacements, nowhere)
        row -= 3 * n_atoms
    strain = nowhere
    strain[VOIGT[0][row], VOIGT[1][row]] = 1 / (sample.volume * for_stress)
    return sample.work.push(displacements, strain)


class _Pulled(torch.autograd.Function):
    """Jᵀ·w of structures one after the other: gradients (n_atoms, 3) and virials (n_structures, 3, 3)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, works: Sequence[Jacobian], n_threads: int) -> tuple[Tensor, Tensor]:
        ctx.works, ctx.n_threads, ctx.sizes = works, n_threads, [len(work.values) for work in works]
        tasks = list(zip(works, weights.detach().split(ctx.sizes), strict=True))
        found = in_threads(lambda task: task[0].pull(task[1]), tasks, n_threads)
        gradients, virials = zip(*found, strict=True)
        return torch.cat(gradients), torch.stack(virials)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor, None, None]:
        displacements, strains = along
        tasks = list(zip(ctx.works, displacements.split(ctx.sizes), strains, strict=True))
        pushed = in_threads(lambda task: task[0].push(task[1].contiguous(), task[2].contiguous()), tasks, ctx.n_threads)
        return torch.cat(pushed), None, None


def absorb(network: Network, scaling: Scaling) -> None:
    """Make a network of scaled features one of features: w·Tᵀ(x - μ) + b = (w Tᵀ) x + (b - w Tᵀ μ)."""
    with torch.no_grad():
        network.weights.copy_(network.weights @ scaling.axes.transpose(1, 2))
        network.biases.sub_(torch.einsum("khf,kf->kh", network.weights, scaling.shift))
