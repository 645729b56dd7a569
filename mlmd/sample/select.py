"""Which structures of many are worth a label or a place in the training: the most different, or the least certain.

    farthest   each next structure is the one farthest from all chosen so far
    cur        drawn by leverage, how much a structure matters for what spans the features
    maxvol     those that widen the range which a linear potential interpolates in (D-optimality)
    committee  those for which several potentials disagree about the forces

References: `mlmd.fitting.points`; for maxvol Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017); for the
deviation of a committee Zhang, Lin, Wang, Car and E, Phys. Rev. Materials 3, 023804 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors import Descriptor
from mlmd.descriptors.compiled import pair_cutoff
from mlmd.descriptors.linearised import values
from mlmd.errors import InputError
from mlmd.fitting.points import ActiveSet, cur, farthest, leverage, no_active_set
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.train.evaluate import predict

Method = Literal["farthest", "cur", "maxvol"]
_NEW = 1.1
"""Grade of what is not known yet. A set found piece by piece gives what it has seen a little more than one."""
_SPANNED = 1e-6
"""Singular value, relative to the greatest, below which a direction of features is none."""
_TIMES_AS_MANY = 4
"""Rows for each feature that are collected before the active set is looked for again."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Selection:
    """Chosen structures."""

    numbers: tuple[int, ...]
    """Which of the candidates, in the order of choice: the first ones alone are a good choice of fewer."""
    scores: tuple[float, ...]
    """What they were chosen for; see `meaning`."""
    meaning: str
    """Of the scores, with their unit."""
    notes: tuple[str, ...] = ()
    """For a person."""

    def to_json(self, frames: Sequence[LabelledFrame]) -> dict[str, Any]:
        """JSON-able, with the names of the structures; null for a score that is no number, or beyond all bounds."""
        chosen = [
            {"structure": frames[number].source, "score": score if math.isfinite(score) else None}
            for number, score in zip(self.numbers, self.scores, strict=True)
        ]
        return {"chosen": chosen, "score": self.meaning, "notes": list(self.notes)}


def by_features(
    frames: Sequence[LabelledFrame],
    known: Sequence[LabelledFrame],
    descriptor: Descriptor,
    method: Method,
    *,
    n: int | None = None,
    seed: int = 1,
    progress: Progress = lambda done, total: None,
) -> Selection:
    """Choose by what a descriptor of atoms says; nothing is labelled.

    Farthest and cur compare structures by their mean features for each element, (1/N) Σ_i D_i, in units of the standard
    deviation over all structures. Maxvol looks at atoms: it needs memory for n_features² numbers of each element, and
    chooses structures with an atom in the active set of known and candidates together, and a grade above 1.1 against
    the known ones alone.

    Args:
        frames: candidates.
        known: structures that are there already, from which the chosen ones are to differ.
        descriptor: of atoms.
        method: how.
        n: how many; by maxvol at most so many, all by default.
        seed: of draws.
        progress: called with the number of structures described and of all.

    Raises:
        InputError: for more structures than there are (or than differ), elements that the descriptor does not know, and
            a descriptor of whole structures with maxvol, or of directions.
    """
    if n is None and method != "maxvol":
        raise InputError(f"{method} chooses a number of structures: give it.")
    if n is not None and n > len(frames):
        raise InputError(f"{n} structures were asked for; there are {len(frames)}.")
    if descriptor.kind not in ("atom", "structure"):
        raise InputError(
            f"{type(descriptor).__name__} is of {descriptor.kind}s and turns with the structure; take another."
        )
    if method == "maxvol":
        return _by_maxvol(frames, known, descriptor, n, progress)
    assert n is not None
    everything = [*known, *frames]
    rows = torch.stack([_mean(descriptor, frame, own) for frame, own in _described(descriptor, everything, progress)])
    shift, scale = mean_and_deviation(rows)
    rows = (rows - shift) / scale
    old, new = rows[: len(known)], rows[len(known) :]
    if method == "cur":
        return _by_leverage(new, old, n, seed)
    try:
        chosen = farthest(new, n, known=old)
    except InputError as error:
        raise InputError(f"{error} Ask for fewer structures.") from None
    distances = []
    for place, number in enumerate(chosen.tolist()):
        before = torch.cat([old, new[chosen[:place]]])
        distances.append(float((before - new[number]).square().sum(dim=1).min().sqrt()) if len(before) else math.nan)
    return Selection(
        tuple(chosen.tolist()), tuple(distances), "distance to the nearest one before, standard deviations"
    )


def by_committee(
    frames: Sequence[LabelledFrame],
    potentials: Sequence[Potential],
    *,
    n: int | None = None,
    least: float = 0.0,
    most: float = math.inf,
    progress: Progress = lambda done, total: None,
) -> Selection:
    """Choose the structures with the largest disagreement of several potentials about the force on an atom.

    The deviation of a structure is max_i (mean over potentials of |F_i - ⟨F_i⟩|²)^½ (Zhang et al. 2019, eq. 2).

    Args:
        frames: candidates.
        potentials: two or more, trained on the same data from other seeds, or on parts of the data.
        n: how many at most; all between the bounds by default.
        least: eV/Å; below, the potentials are certain enough.
        most: eV/Å; above, the structure is likely to be out of this world.
        progress: called with the number of predictions done and of all.

    Raises:
        InputError: for fewer than two potentials, and elements that one does not know.
    """
    if len(potentials) < 2:
        raise InputError("a committee needs at least two potentials.")
    forces = []
    for index, potential in enumerate(potentials):
        labels = predict(
            potential, frames, progress=lambda done, total, index=index: progress(  # type: ignore[misc]
                index * total + done, len(potentials) * total
            )
        )  # fmt: skip
        forces.append([one.forces for one in labels])
    deviations = np.array([_deviation(np.stack(own)) for own in zip(*forces, strict=True)])
    order = np.argsort(-deviations, kind="stable")
    inside = [int(one) for one in order if least <= deviations[one] <= most]
    above, below = int((deviations > most).sum()), int((deviations < least).sum())
    notes = []
    if above:
        notes.append(f"{above:,} of {len(frames):,} structures are above {most:g} eV/Å")
    if below:
        notes.append(f"{below:,} of {len(frames):,} structures are below {least:g} eV/Å")
    chosen = inside[:n]
    scores = tuple(float(deviations[one]) for one in chosen)
    return Selection(tuple(chosen), scores, "largest deviation of a force, eV/Å", tuple(notes))


def _deviation(forces: np.ndarray) -> float:
    """Of forces (n_potentials, n_atoms, 3)."""
    return float(np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)).max())


def _described(
    descriptor: Descriptor, frames: Sequence[LabelledFrame], progress: Progress
) -> Iterator[tuple[LabelledFrame, Tensor]]:
    """Frames with their features, one after the other."""
    cutoff = pair_cutoff(descriptor)
    for done, frame in enumerate(frames, 1):
        if unknown := sorted(set(frame.atoms.symbols) - set(descriptor.elements)):
            raise InputError(
                f"{frame.source} has {', '.join(unknown)}; the descriptor knows {', '.join(descriptor.elements)}."
            )
        yield frame, values(descriptor, build_graph(frame.atoms, cutoff))
        progress(done, len(frames))


def _mean(descriptor: Descriptor, frame: LabelledFrame, features: Tensor) -> Tensor:
    """One row for a structure: for each element Σ_i D_i / N over its atoms, and so how much of it there is."""
    if descriptor.kind != "atom":
        return features[0]
    of = _places(descriptor, frame)
    rows = features.new_zeros((len(descriptor.elements), features.shape[1] + 1))
    rows.index_add_(0, of, torch.cat([features, features.new_ones((len(features), 1))], dim=1))
    return (rows / len(features)).flatten()


def _places(descriptor: Descriptor, frame: LabelledFrame) -> Tensor:
    """(n_atoms,) number of each atom's element among those of the descriptor."""
    return torch.tensor([descriptor.elements.index(symbol) for symbol in frame.atoms.symbols])


def _by_leverage(new: Tensor, old: Tensor, n: int, seed: int) -> Selection:
    """Draws; what known structures span already is taken off the candidates first."""
    size = float(torch.linalg.matrix_norm(new, 2))
    if len(old):
        _, sizes, span = torch.linalg.svd(old, full_matrices=False)
        span = span[sizes > _SPANNED * sizes[0]]
        new = new - (new @ span.T) @ span
    rank = min(n, int((torch.linalg.svdvals(new) > _SPANNED * size).sum()))  # what is left may be rounding
    if not rank:
        raise InputError(
            "the known structures span all features of the candidates: nothing is left to choose by (cur)."
        )
    chosen = cur(new, n, rank, torch.Generator().manual_seed(seed))
    weights = leverage(new, rank)
    return Selection(tuple(chosen.tolist()), tuple(weights[chosen].tolist()), "leverage, of a sum of 1")


class _Growing:
    """The active set of one element's atoms, which come structure by structure."""

    def __init__(self) -> None:
        self._set: ActiveSet | None = None
        self._waiting: list[Tensor] = []
        self._owners: list[int] = []
        self._n_done = 0

    def add(self, rows: Tensor, owner: int) -> None:
        """Take atoms (n, n_features) of a structure."""
        self._waiting.append(rows)
        self._owners += [owner] * len(rows)
        if len(self._owners) - self._n_done >= _TIMES_AS_MANY * rows.shape[1]:
            self.settled()

    def settled(self) -> ActiveSet | None:
        """The active set of all atoms so far; None without any."""
        if self._waiting:
            rows = torch.cat(self._waiting)
            self._set = (self._set or no_active_set(rows)).extended(rows, self._n_done)
            self._waiting, self._n_done = [], len(self._owners)
        return self._set

    def structures(self) -> set[int]:
        """Those with an atom in the active set."""
        found = self.settled()
        return set() if found is None else {self._owners[number] for number in found.numbers.tolist() if number >= 0}


def _by_maxvol(
    frames: Sequence[LabelledFrame],
    known: Sequence[LabelledFrame],
    descriptor: Descriptor,
    n: int | None,
    progress: Progress,
) -> Selection:
    """The active set of each element, of known structures and then the candidates; by grade against the known ones."""
    if descriptor.kind != "atom":
        raise InputError("maxvol looks at atoms; this descriptor is of whole structures. Take farthest or cur.")
    growing = [_Growing() for _ in descriptor.elements]
    seen: list[ActiveSet | None] = [None] * len(growing)
    highest = [0.0 if known else math.nan] * len(frames)
    for index, (frame, features) in enumerate(_described(descriptor, [*known, *frames], progress)):
        if index == len(known):
            seen = [one.settled() for one in growing]
        of = _places(descriptor, frame)
        rows = torch.cat([features, features.new_ones((len(features), 1))], dim=1)
        for element in of.unique().tolist():
            own, before = rows[of == element], seen[element]
            if index >= len(known) and known:  # of an element that the known structures have not: beyond all bounds
                grade = math.inf if before is None else float(before.grades(own).max())
                highest[index - len(known)] = max(grade, highest[index - len(known)])
            growing[element].add(own, index)
    found = {index - len(known) for one in growing for index in one.structures() if index >= len(known)}
    found = {index for index in found if not known or highest[index] > _NEW}
    order = sorted(found, key=lambda index: (-highest[index] if known else 0.0, index))[:n]
    meaning = "extrapolation grade against the known structures" if known else "in the active set"
    return Selection(tuple(order), tuple(highest[index] for index in order), meaning)
