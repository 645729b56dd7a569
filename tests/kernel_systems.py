"""Systems that a compiled kernel is compared with its torch reference on, and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from mlmd.kernels import library
from mlmd.kernels.kernel import Sums
from mlmd.neighbors import build_graph
from mlmd.potentials.fused import FusedEvaluator, kernel_of

SYSTEMS = (
    "crystal", "liquid", "skewed", "tiny", "one atom", "slab", "wire", "cluster", "sparse", "alone",
    "far from the origin",
)  # fmt: skip

needs_kernels = pytest.mark.skipif(library() is None, reason="the kernels are not compiled, or switched off")


@dataclass(frozen=True)
class Tolerance:
    """Largest differences allowed: of energies relative to the sum of their sizes, else to the largest number."""

    energy: float
    forces: float
    virial: float
    of_terms: bool = False
    """Energies relative to the sizes of all terms, feature times coefficient, that add up to them, too: of one atom in
    surroundings of full symmetry terms of 60 eV cancel to 7, and each is rounded."""


TOLERANCES = {"float64": Tolerance(1e-12, 1e-10, 1e-9), "float32": Tolerance(2e-6, 2e-6, 1e-5)}
STEEP = Tolerance(1e-6, 5e-6, 1e-5, of_terms=True)
"""Of random moment tensors in float32; seen: 3e-7 of the energies, 3e-6 of the forces."""


def system(name: str, elements: Sequence[str], spacing: float, seed: int = 0) -> Atoms:
    """One of `SYSTEMS` made of some elements, nearest atoms about `spacing` Å apart."""
    generator = np.random.default_rng(seed)
    sizes = {"crystal": 3, "liquid": 4, "slab": 3, "wire": 3, "cluster": 3, "far from the origin": 3}
    n = sizes.get(name, 2)
    corners = np.array([[a, b, c] for a in range(n) for b in range(n) for c in range(n)], dtype=float) / n
    cell, pbc = n * spacing * np.eye(3), np.array([True] * 3)
    match name:
        case "skewed":
            cell = n * spacing * np.array([[1.0, 0, 0], [3.7, 1.0, 0], [-2.9, 5.2, 1.0]])
        case "tiny":
            corners, cell = corners[:2], spacing * np.array([[1.0, 0.1, 0], [0, 1.1, 0.2], [0.3, 0, 2.0]])
        case "one atom":
            corners, cell = corners[:1], spacing * np.array([[0, 0.8, 0.8], [0.8, 0, 0.8], [0.8, 0.8, 0]])
        case "slab":
            pbc = np.array([True, False, True])
        case "wire":
            pbc = np.array([False, False, True])
        case "cluster":
            pbc = np.array([False] * 3)
        case "alone":
            corners, cell = corners[:2], 80.0 * np.eye(3)
    positions = corners @ cell
    if name == "sparse":
        cell = 1e4 * np.eye(3)
    if len(positions) > 1:
        amplitude = 0.25 if name == "liquid" else 0.08
        positions += generator.uniform(-amplitude, amplitude, positions.shape) * spacing
    if name == "far from the origin":
        positions += generator.integers(-40, 40, positions.shape) @ cell
    symbols = generator.choice(list(elements), len(positions)) if elements else ["Ar"] * len(positions)
    return Atoms(symbols, positions=positions, cell=cell, pbc=pbc)


def assert_kernel_is_its_reference(
    potential: Any, reference: Any, atoms: Atoms, *, n_threads: int = 1, tolerance: Tolerance | None = None
) -> None:
    """Compare energy, energies of atoms, forces and virial of a potential's kernel with a float64 torch reference.

    Twice: a kernel may go another way where virials of atoms are asked for.
    """
    kernel = kernel_of(potential)
    assert kernel is not None
    tolerance = tolerance or TOLERANCES[kernel.precision]
    torch.set_num_threads(n_threads)
    try:
        evaluator = FusedEvaluator(kernel, potential.elements, atoms.numbers, atoms.pbc, 0.5)
        found = evaluator.sums(atoms.positions, atoms.cell.array, details=True)
        plain = evaluator.sums(atoms.positions, atoms.cell.array)
    finally:
        torch.set_num_threads(1)
    assert found.virials is not None
    assert_sums_are_those_of(reference, atoms, [found, plain], tolerance)


def assert_sums_are_those_of(reference: Any, atoms: Atoms, found: Sequence[Sums], tolerance: Tolerance) -> None:
    """Compare what a kernel gave, once or more, with a float64 torch reference; the first has energies of atoms."""
    expected = reference.predict(build_graph(atoms, reference.cutoff))
    first = found[0].energies
    assert first is not None
    energies, forces, virial = (x.numpy() for x in (expected.energies, expected.forces, expected.virial[0]))
    size = np.abs(energies).sum() + 1e-3
    if tolerance.of_terms:
        features = reference.descriptor.features(build_graph(atoms, reference.cutoff))
        size += float((features * reference.regressor.coefficients).abs().sum())
    assert np.abs(first - energies).max() <= tolerance.energy * size
    for one in found:
        assert one.energy == pytest.approx(float(expected.energy[0]), abs=tolerance.energy * size)
        assert np.abs(one.forces - forces).max() <= tolerance.forces * max(np.abs(forces).max(), 1.0)
        assert np.abs(one.virial - virial).max() <= tolerance.virial * max(np.abs(virial).max(), 1.0)
        if one.virials is not None:
            # the symmetric part: only that of the sum over pairs is the same for every division among atoms
            summed = one.virials.sum(axis=0)
            assert np.abs(0.5 * (summed + summed.T) - virial).max() <= tolerance.virial * max(np.abs(virial).max(), 1.0)
