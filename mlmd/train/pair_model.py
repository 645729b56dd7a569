"""Whether energies and stresses belong to the forces, seen from any frames: a pair potential learned from forces knows.

A pair potential with a free shape for every two elements, fitted to forces only, cannot give the energies of a metal or
a liquid well, but it gives the size of their variation, and of the stress the part that is no pressure (which a pair
potential lacks in metals). In data sets of metals, silicon, water, sulfides and molecules energies vary 0.4 to 2.7
times as much as it says, deviatoric stresses 0.9 to 2.2 times, and mostly in step; a wrong unit makes it 20 times or
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.polynomial import chebyshev

from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import find_pairs
from mlmd.train.dataset import composition, elements_of, isolated_element

CUTOFF = 5.0
"""Å."""
N_FUNCTIONS = 12
"""Chebyshev polynomials per two elements."""
ENOUGH = 10
"""Frames needed to compare."""
N_COLUMNS = 700
"""At most so many functions in all (ten elements): the matrix of the fit stays small."""
N_FRAMES, N_ATOMS = 40, 8000
"""At most so many frames, with so many atoms in all."""


@dataclass(frozen=True)
class Agreement:
    """A label against that of a pair potential that was fitted to the forces."""

    correlation: float
    """Rank correlation."""
    size: float
    """How many times more the label varies (ratio of median absolute deviations)."""


@dataclass(frozen=True)
class Likeness:
    """Energies and stresses against a pair potential; None where the frames do not have enough of them."""

    explained: float
    """Share of the squared forces that the pair potential gives (R²)."""
    energy: Agreement | None
    """Of energies per atom, beyond what the composition says."""
    stress: Agreement | None
    """Of the six components of the deviatoric stress."""


def compare(frames: Sequence[LabelledFrame]) -> Likeness | None:
    """Fit a pair potential to the forces and compare what else it says with the labels.

    Returns:
        None when there are too few forces for that.
    """
    used = [frame for frame in frames if frame.forces is not None and isolated_element(frame) is None]
    if len(used) < ENOUGH:
        return None
    n_frames = min(len(used), N_FRAMES, max(ENOUGH, int(N_ATOMS / np.mean([len(frame.atoms) for frame in used]))))
    used = [used[index] for index in np.unique(np.linspace(0, len(used) - 1, n_frames).astype(int))]
    elements = elements_of(used)
    n_columns = N_FUNCTIONS * len(elements) * (len(elements) + 1) // 2
    forces = np.concatenate([frame.forces.reshape(-1) for frame in used if frame.forces is not None])
    if forces.size < 5 * n_columns or n_columns > N_COLUMNS or not forces.any():
        return None
    rows = _rows(used, elements)
    scale = 1 / np.maximum(np.linalg.norm(rows.forces, axis=0), 1e-12)
    normal = (rows.forces * scale).T @ (rows.forces * scale) + 1e-8 * np.eye(n_columns)
    coefficients = scale * np.linalg.solve(normal, scale * (rows.forces.T @ forces))
    explained = 1 - float(np.sum((forces - rows.forces @ coefficients) ** 2) / np.sum(forces**2))
    return Likeness(
        explained,
        _energies(used, elements, rows.energies @ coefficients),
        _stresses(used, rows.stresses @ coefficients),
    )


@dataclass(frozen=True)
class _Rows:
    """What every function of the pair potential contributes."""

    energies: np.ndarray
    """(n_frames, n_columns)."""
    forces: np.ndarray
    """(3 n_atoms of all frames, n_columns)."""
    stresses: np.ndarray
    """(n_frames, 3, 3, n_columns), zero for frames without a stress."""


def _rows(frames: Sequence[LabelledFrame], elements: Sequence[str]) -> _Rows:
    pairs_of = [(frame, *_pairs(frame)) for frame in frames]
    nearest = min((float(distances.min()) for *_, distances in pairs_of if distances.size), default=1.0)
    kinds = {pair: kind for kind, pair in enumerate(combinations_with_replacement(elements, 2))}
    kind_of = np.array([[kinds.get((a, b), kinds.get((b, a), 0)) for b in elements] for a in elements])
    shape = (len(kinds), N_FUNCTIONS)
    energies, forces, stresses = [], [], []
    for frame, pairs, vectors, distances in pairs_of:
        index = np.array([elements.index(symbol) for symbol in frame.atoms.get_chemical_symbols()])
        kind = kind_of[index[pairs[0]], index[pairs[1]]]
        values, slopes = _functions(distances, nearest)
        pulls = slopes[:, None, :] * (vectors / distances[:, None])[:, :, None]
        energy, force, stress = np.zeros(shape), np.zeros((len(frame.atoms), 3, *shape)), np.zeros((3, 3, *shape))
        np.add.at(energy, kind, values / 2)
        np.add.at(force, (pairs[0][:, None], np.arange(3), kind[:, None]), pulls)
        if frame.stress is not None:
            for one in range(len(kinds)):
                here = kind == one
                stress[:, :, one] = np.einsum("pi,pjk->ijk", vectors[here], pulls[here]) / 2 / frame.atoms.get_volume()
        energies.append(energy.reshape(-1))
        forces.append(force.reshape(3 * len(frame.atoms), -1))
        stresses.append(stress.reshape(3, 3, -1))
    return _Rows(np.array(energies), np.concatenate(forces), np.array(stresses))


def _energies(frames: Sequence[LabelledFrame], elements: Sequence[str], model: np.ndarray) -> Agreement | None:
    """Agreement of the energies per atom."""
    known = [index for index, frame in enumerate(frames) if frame.energy is not None]
    if len(known) < ENOUGH:
        return None
    labelled = [frames[index] for index in known]
    given = np.array([frame.energy for frame in labelled], dtype=float)
    rest = [_beyond_composition(labelled, elements, energies) for energies in (given, model[known])]
    return _agreement(rest[0], rest[1])


def _stresses(frames: Sequence[LabelledFrame], model: np.ndarray) -> Agreement | None:
    """Agreement of the stresses without their pressure."""
    known = [index for index, frame in enumerate(frames) if frame.stress is not None]
    if len(known) < ENOUGH:
        return None
    given = np.array([frame.stress for frame in frames if frame.stress is not None])
    upper = np.triu_indices(3)
    parts = [
        (stress - np.trace(stress, axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3))[:, *upper].reshape(-1)
        for stress in (given, model[known])
    ]
    return _agreement(parts[0], parts[1])


def _agreement(given: np.ndarray, model: np.ndarray) -> Agreement | None:
    """How two lists of numbers vary together; None when one does not vary."""
    deviations = [float(np.median(np.abs(values - np.median(values)))) for values in (given, model)]
    if min(deviations) <= 0:
        return None
    # Spearman's correlation; scipy.stats takes longer to import than the data to read
    correlation = np.corrcoef(_ranks(given), _ranks(model))[0, 1]
    return Agreement(float(correlation), deviations[0] / deviations[1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in the order of size, from 1; equal values share the mean of theirs."""
    _, kinds, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: np.ndarray = np.cumsum(counts) - (counts - 1) / 2
    return mean[kinds]


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
