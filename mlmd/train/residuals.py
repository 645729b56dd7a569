"""Training structures that a fitted potential is far from, when it is near all others: labels that may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlmd.errors import some_of
from mlmd.io.labelled import LabelledFrame
from mlmd.train.dataset import isolated_element
from mlmd.train.evaluate import Labels, compared
from mlmd.train.examine import Finding
from mlmd.train.outliers import ENOUGH

BY_RMS = 15.0
"""How many times the rms residual of the better structures a residual must be to stand out; sound sets reach 13."""
BY_MEDIAN = 10.0
"""How many times the usual residual, the median in units of a normal distribution's deviation, it must be."""
BY_GROUP = 5.0
"""How many times the rms residual of the better structures of its own group, where there are enough of them."""
BETTER = 0.9
"""The part of the structures that are the better ones: what stands out is not among them."""
LEAST_ENERGY, LEAST_FORCE = 10e-3, 0.5
"""eV/atom and eV/Å: what is less is never said to stand out, however well the others are reproduced."""


def residual_outliers(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> list[Finding]:
    """A finding that names the training structures whose residuals stand out of those of all; empty without any.

    An energy's residual is that per atom, (E_label - E_predicted) / n_atoms, less the median of all; a structure's of
    the forces is the largest |F_label - F_predicted| of its atoms. It stands out when it is larger than all of
    `BY_RMS` × the rms of the smallest nine tenths, `BY_MEDIAN` × 1.4826 × the median, the same kind of rms of its own
    group times `BY_GROUP`, and the least that counts. A few wild ones pull none of these.

    Args:
        frames: (n,) that were trained on, with their labels; single atoms are passed over.
        predictions: (n,) what the potential says of them.
    """
    alone = np.array([isolated_element(frame) is not None for frame in frames], dtype=bool)
    reference, predicted = (column[:, 0] for column in compared(frames, predictions, "energy"))
    energy = np.where(alone, np.nan, reference - predicted)
    if np.isfinite(energy).any():
        energy -= np.nanmedian(energy)
    force = np.array([_largest(frame, one) for frame, one in zip(frames, predictions, strict=True)])
    force[alone] = np.nan
    groups = np.array([frame.group for frame in frames], dtype=object)
    found: dict[int, list[str]] = {}
    usual: list[str] = []
    far = _standing_out(np.abs(energy), groups, LEAST_ENERGY)
    if len(far):
        usual.append(f"{1e3 * float(np.nanmedian(np.abs(energy))):.2g} meV/atom")
    for index in far:
        found.setdefault(int(index), []).append(f"energy {1e3 * energy[index]:+,.4g} meV/atom")
    far = _standing_out(force, groups, LEAST_FORCE)
    if len(far):
        usual.append(f"{float(np.nanmedian(force)):.2g} eV/Å")
    for index in far:
        found.setdefault(int(index), []).append(f"a force {force[index]:.3g} eV/Å")
    if not found:
        return []
    worst = sorted(found, key=lambda index: -_far(float(energy[index]), float(force[index])))
    listed = [f"{frames[index].source} ({', '.join(found[index])})" for index in worst]
    one = len(worst) == 1
    said = (
        f"the labels of {len(worst)} training structure{'' if one else 's'} are far from the fitted potential, "
        f"half of all within {' and '.join(usual)}: {some_of(listed)}. A calculation that did not converge, "
        f"another method, or another unit? Look at {'it, or leave it' if one else 'them, or leave them'} out: "
        f"{'it pulls' if one else 'they pull'} the whole fit."
    )
    return [Finding("warning", said)]


def _standing_out(size: np.ndarray, groups: np.ndarray, least: float) -> np.ndarray:
    """Indices of sizes of residuals (n,), nan where there is none, that stand out of all and of their group."""
    known = np.isfinite(size)
    if known.sum() < ENOUGH:
        return np.zeros(0, dtype=int)
    usual = BY_MEDIAN * 1.4826 * float(np.median(size[known]))
    bound = np.full(len(size), max(least, BY_RMS * _rms_of_better(size[known]), usual))
    for group in set(groups):
        own = known & (groups == group)
        if own.sum() >= ENOUGH:
            bound[own] = np.maximum(bound[own], BY_GROUP * _rms_of_better(size[own]))
    return np.flatnonzero(known & (np.where(known, size, 0.0) > bound))


def _rms_of_better(size: np.ndarray) -> float:
    """Root mean square of the smallest nine tenths."""
    return float(np.sqrt(np.mean(np.sort(size)[: int(np.ceil(BETTER * len(size)))] ** 2)))


def _largest(frame: LabelledFrame, predicted: Labels) -> float:
    """Largest |F_label - F_predicted| of an atom in eV/Å; nan without labels."""
    if frame.forces is None:
        return np.nan
    return float(np.linalg.norm(frame.forces - predicted.forces, axis=1).max())


def _far(energy: float, force: float) -> float:
    """How far residuals (eV/atom, eV/Å) are from the least that counts, the worse of both."""
    return float(np.nanmax([abs(energy) / LEAST_ENERGY, force / LEAST_FORCE]))
