"""Events of rotation: bonds that leave their direction, and stay away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turns:
    """Events, in the order of their time."""

    bond: np.ndarray
    """(n_events,) number of the bond."""
    frame: np.ndarray
    """(n_events,) at which it left."""
    angle: np.ndarray
    """(n_events,) degrees between the directions before and after."""


def find_turns(directions: np.ndarray, angle: float, patience: int) -> Turns:
    """Events of bonds that stay away from their direction for longer than some frames.

    The direction that a bond has at the beginning is its mean over the first frames, `patience` of them; after an event
    it is the mean over the frames that the bond has been away. A bond that comes back before has only looked elsewhere.
    One that turns within the first frames is away from their mean from the beginning: that is an event where it is
    then seen to be elsewhere.

    Args:
        directions: (n_frames, n_bonds, 3) unit vectors.
        angle: radians.
        patience: frames.
    """
    start = _unit(directions[:patience].sum(axis=0))
    least = np.cos(angle)
    away = np.zeros(len(start), dtype=int)  # frames since it left
    sums = np.zeros_like(start)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for frame, now in enumerate(directions):
        gone = np.einsum("bi,bi->b", now, start) < least
        away = np.where(gone, away + 1, 0)
        sums = np.where(gone[:, None], sums + now, 0.0)
        turned = np.flatnonzero(away > patience)
        if len(turned):
            after = _unit(sums[turned])
            cosines = np.clip(np.einsum("bi,bi->b", start[turned], after), -1.0, 1.0)
            left = frame + 1 - away[turned]
            known = (left >= patience) | (cosines < least)
            found.append((turned[known], left[known], np.degrees(np.arccos(cosines[known]))))
            start[turned], away[turned], sums[turned] = after, 0, 0.0
    if not found:
        return Turns(np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0))
    bond, when, by = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Turns(bond, when, by)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: np.ndarray = vectors.astype(float) / np.maximum(lengths, 1e-12)
    return unit
