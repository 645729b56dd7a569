"""The least-squares problem of a training set: one weighted row for every energy, force and stress component.

    energy of a frame:   (E - E_ref) / (N σ_E)
    force component:     (F - F_ref) / σ_F
    stress component:    (S - S_ref) / σ_S

σ is the accuracy that is aimed at, times a factor of the frame's group. What is subtracted is the baseline: a constant
energy for each atom of an element, and what a potential says to which the fitted one is added. Frames come without the
latter (`mlmd.train.delta`). Where the constants are the energies of single atoms, those are exact: with the basis
φ(B_i) of atom i and φ(B_k) of a single atom of its element k

    E = Σ_i [E_k + (φ(B_i) - φ(B_k)) · α],

so that constants are E_k - φ(B_k) · α, and rows of energies have the difference of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlmd.fitting.least_squares import Triangle
from mlmd.graph import VOIGT, Graph
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials.learned import LearnedPotential

ATOMS_AT_ONCE = 128
"""Small frames are put together until they have so many atoms; a larger frame is on its own."""


@dataclass(frozen=True)
class Sigma:
    """Accuracy aimed at; equations are divided by it, so that smaller counts more."""

    energy: float = 1e-3
    """eV per atom."""
    forces: float = 0.05
    """eV/Å."""
    stress: float = 6e-4
    """eV/Å³."""
    groups: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Factors for the three in the frames of some groups."""

    def of(self, frame: LabelledFrame) -> tuple[float, float, float]:
        """σ of energy per atom, forces and stress for one frame."""
        for_energy, for_forces, for_stress = self.groups.get(frame.group, (1.0, 1.0, 1.0))
        return self.energy * for_energy, self.forces * for_forces, self.stress * for_stress


def triangle(
    potential: LearnedPotential,
    frames: Sequence[LabelledFrame],
    sigma: Sigma,
    baseline: np.ndarray,
    *,
    nonlinear: bool,
    lone: np.ndarray | None = None,
) -> tuple[Tensor, int]:
    """R of the equations of some frames, and how many equations there are.

    Args:
        potential: at whose parameters the derivatives are taken, in the columns of `LearnedPotential.design`.
        frames: labelled structures.
        sigma: accuracy aimed at.
        baseline: (n_elements,) eV, in the order of the potential's elements.
        nonlinear: whether the descriptor's parameters have columns.
        lone: φ(B_k), (n_elements, n_basis), where the baseline is exact for single atoms.
    """
    collected: Triangle | None = None
    for some in batches(frames):
        rows = equations(potential, some, sigma, baseline, nonlinear=nonlinear, lone=lone)
        collected = collected or Triangle(rows.shape[1])
        collected.add(rows)
    if collected is None:
        raise ValueError("no frames")
    return collected.factor, collected.n_rows


def batches(frames: Sequence[LabelledFrame], n_atoms: int = ATOMS_AT_ONCE) -> Iterator[list[LabelledFrame]]:
    """Consecutive frames, as many together as have so many atoms; a larger one stands alone."""
    some: list[LabelledFrame] = []
    size = 0
    for frame in frames:
        if some and size + len(frame.atoms) > n_atoms:
            yield some
            some, size = [], 0
        some.append(frame)
        size += len(frame.atoms)
    if some:
        yield some


def equations(
    potential: LearnedPotential,
    frames: Sequence[LabelledFrame],
    sigma: Sigma,
    baseline: np.ndarray,
    *,
    nonlinear: bool,
    lone: np.ndarray | None = None,
) -> Tensor:
    """(n_equations, n_parameters + 1) weighted rows [A | y] of some frames, of the labels that they have.

    Arguments are those of `triangle`.
    """
    graph: Graph = build_graph([frame.atoms for frame in frames], potential.design_cutoff)
    design = potential.design(graph, nonlinear=nonlinear)
    if lone is not None:
        n_elements, n_basis = lone.shape
        counts = design.energy[:, n_basis : n_basis + n_elements]  # columns of the constants
        design.energy[:, :n_basis] -= counts @ torch.from_numpy(lone)
    rows = []
    start = 0
    for index, frame in enumerate(frames):
        n_atoms = len(frame.atoms)
        for_energy, for_forces, for_stress = sigma.of(frame)
        if frame.energy is not None:
            constant = sum(baseline[potential.elements.index(symbol)] for symbol in frame.atoms.symbols)
            target = torch.tensor([frame.energy - constant], dtype=torch.float64)
            rows.append(torch.cat([design.energy[index], target])[None] / (n_atoms * for_energy))
        if frame.forces is not None:
            of_frame = design.forces[start : start + n_atoms].flatten(0, 1)
            rows.append(torch.cat([of_frame, torch.from_numpy(frame.forces).reshape(-1, 1)], dim=1) / for_forces)
        if frame.stress is not None:
            stress = torch.from_numpy(frame.stress[VOIGT])[:, None]
            rows.append(torch.cat([design.virial[index] / graph.volumes[index], stress], dim=1) / for_stress)
        start += n_atoms
    if not rows:
        return graph.positions.new_zeros((0, design.energy.shape[1] + 1))
    return torch.cat(rows)
