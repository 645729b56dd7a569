"""Whether energies belong to the forces, seen from any frames: a pair potential learned from the forces alone knows.

A pair potential with a free shape for every two elements, fitted to forces only, cannot give the energies of a metal or
a liquid well, but it gives the size of their variation. In data sets of metals, silicon, water, sulfides and molecules
the energies vary 0.4 to 2.7 times as much as it says, and mostly in step; a wrong unit makes it 20 times and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.polynomial import chebyshev
from scipy.stats import spearmanr

from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import find_pairs
from mlmd.train.dataset import composition, elements_of, isolated_element

CUTOFF = 5.0
"""Å."""
N_FUNCTIONS = 12
"""Chebyshev polynomials per two elements."""
N_FRAMES, N_ATOMS = 40, 8000
"""At most so many frames, with so many atoms in all."""


@dataclass(frozen=True)
class Likeness:
    """Energies as labelled against energies of a pair potential that was fitted to the forces."""

    explained: float
    """Share of the squared forces that the pair potential gives (R²)."""
    correlation: float
    """Rank correlation of the energies per atom, beyond what the composition says."""
    size: float
    """How many times more the labelled energies vary (median absolute deviations)."""


def energies_like_forces(frames: Sequence[LabelledFrame]) -> Likeness | None:
    """Fit a pair potential to the forces and compare its energies with those of the labels.

    Returns:
        None when there are too few frames with both, or all energies are alike.
    """
    used = [
        frame
        for frame in frames
        if frame.energy is not None and frame.forces is not None and isolated_element(frame) is None
    ]
    if len(used) < 10:
        return None
    n_frames = min(len(used), N_FRAMES, max(10, int(N_ATOMS / np.mean([len(frame.atoms) for frame in used]))))
    used = [used[index] for index in np.unique(np.linspace(0, len(used) - 1, n_frames).astype(int))]
    elements = elements_of(used)
    n_columns = N_FUNCTIONS * len(elements) * (len(elements) + 1) // 2
    forces = np.concatenate([frame.forces.reshape(-1) for frame in used if frame.forces is not None])
    if forces.size < 5 * n_columns or not forces.any():
        return None
    energy_rows, force_rows = _rows(used, elements)
    scale = 1 / np.maximum(np.linalg.norm(force_rows, axis=0), 1e-12)
    normal = (force_rows * scale).T @ (force_rows * scale) + 1e-8 * np.eye(n_columns)
    coefficients = scale * np.linalg.solve(normal, scale * (force_rows.T @ forces))
    explained = 1 - float(np.sum((forces - force_rows @ coefficients) ** 2) / np.sum(forces**2))
    given = _beyond_composition(used, elements, np.array([frame.energy for frame in used]))
    model = _beyond_composition(used, elements, energy_rows @ coefficients)
    deviations = [float(np.median(np.abs(values - np.median(values)))) for values in (given, model)]
    if min(deviations) <= 0:
        return None
    return Likeness(explained, float(spearmanr(given, model).statistic), deviations[0] / deviations[1])


def _rows(frames: Sequence[LabelledFrame], elements: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Energies (n_frames, n_columns) and forces (3 n_atoms of all frames, n_columns) of every function."""
    pairs_of = [(frame, *_pairs(frame)) for frame in frames]
    nearest = min((float(distances.min()) for *_, distances in pairs_of if distances.size), default=1.0)
    kinds = {pair: kind for kind, pair in enumerate(combinations_with_replacement(elements, 2))}
    kind_of = np.array([[kinds.get((a, b), kinds.get((b, a), 0)) for b in elements] for a in elements])
    energies, forces = [], []
    for frame, pairs, vectors, distances in pairs_of:
        index = np.array([elements.index(symbol) for symbol in frame.atoms.get_chemical_symbols()])
        kind = kind_of[index[pairs[0]], index[pairs[1]]]
        values, slopes = _functions(distances, nearest)
        pulls = slopes[:, None, :] * (vectors / distances[:, None])[:, :, None]
        energy = np.zeros((len(kinds), N_FUNCTIONS))
        force = np.zeros((len(frame.atoms), 3, len(kinds), N_FUNCTIONS))
        np.add.at(energy, kind, values / 2)
        np.add.at(force, (pairs[0][:, None], np.arange(3), kind[:, None]), pulls)
        energies.append(energy.reshape(-1))
        forces.append(force.reshape(3 * len(frame.atoms), -1))
    return np.array(energies), np.concatenate(forces)


def _pairs(frame: LabelledFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (2, n), vectors from i to j (n, 3) and distances (n,) within the cutoff, every pair in both directions."""
    positions, cell = frame.atoms.positions, frame.atoms.cell.array
    pairs, shifts = find_pairs(positions, cell, frame.atoms.pbc, CUTOFF)
    vectors = positions[pairs[1]] + shifts @ cell - positions[pairs[0]]
    distances = np.linalg.norm(vectors, axis=1)
    near = distances < CUTOFF
    return pairs[:, near], vectors[near], distances[near]


def _functions(distances: np.ndarray, nearest: float) -> tuple[np.ndarray, np.ndarray]:
    """(cutoff - r)² T_k(x) with x from -1 at the nearest distance to 1 at the cutoff, and derivatives by r."""
    x = 2 * (distances - nearest) / (CUTOFF - nearest) - 1
    polynomials = chebyshev.chebvander(x, N_FUNCTIONS - 1)
    derivatives = chebyshev.chebval(x, chebyshev.chebder(np.eye(N_FUNCTIONS), axis=0)).T * 2 / (CUTOFF - nearest)
    rest = (CUTOFF - distances)[:, None]
    return rest**2 * polynomials, rest**2 * derivatives - 2 * rest * polynomials


def _beyond_composition(
    frames: Sequence[LabelledFrame], elements: Sequence[str], energies: np.ndarray
) -> np.ndarray:  # fmt: skip
    """Energies per atom without the least-squares share of every element."""
    counts = composition(frames, elements)
    shares = counts / counts.sum(axis=1, keepdims=True)
    per_atom = energies / counts.sum(axis=1)
    rest: np.ndarray = per_atom - shares @ np.linalg.lstsq(shares, per_atom, rcond=1e-8)[0]
    return rest
