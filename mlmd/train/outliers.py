"""Frames that stand apart: energies and forces far from all others, and forces that do not sum to zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlmd.errors import some_of
from mlmd.io.labelled import LabelledFrame
from mlmd.train.dataset import baseline, composition, elements_of, isolated_element

GAP = 3.0
"""How many times farther from the middle than all others a frame must be to stand apart."""
FEW = 0.02
"""Share of frames that can stand apart; more are another kind of structure."""
ENOUGH = 10
"""Frames needed to say what is usual."""
ALIKE = 7
"""Frames of nearly the same density and forces with which an energy is compared."""


def stragglers(values: np.ndarray, floor: float) -> np.ndarray:
    """Indices of the few values that are more than `GAP` times larger than all others.

    A continuous tail (a compressed crystal, a breaking bond) has no such gap, however long it is.

    Args:
        values: (n,) not negative.
        floor: values are compared with this where all others are smaller.
    """
    n = len(values)
    if n < ENOUGH:
        return np.zeros(0, dtype=int)
    order = np.argsort(values)
    usual = max(floor, 5 * 1.4826 * float(np.median(values)))
    for first in range(n - max(1, int(FEW * n)), n):
        if values[order[first]] > GAP * max(float(values[order[first - 1]]), usual):
            return np.sort(order[first:])
    return np.zeros(0, dtype=int)


def energy_outliers(frames: Sequence[LabelledFrame]) -> list[str]:
    """Energies per atom that stand apart from those of the same group of the same file, beyond 0.1 eV/atom.

    Each is compared with the median of all, and with the frames that are most like it in density and in the size of
    their forces: strained and hot crystals differ by more than a wrong energy does, but not from all of their like.
    """
    used = [frame for frame in frames if frame.energy is not None and isolated_element(frame) is None]
    if len(used) < ENOUGH:
        return []
    elements = elements_of(used)
    counts = composition(used, elements)
    n_atoms = counts.sum(axis=1)
    shares, energies = counts / n_atoms[:, None], np.array([frame.energy for frame in used]) / n_atoms
    rest = energies - shares @ _robust(shares, energies, baseline(used, elements, "fit"))
    found: dict[int, float] = {}
    for members in _kinds(used):
        deviation = np.abs(rest[members] - np.median(rest[members]))
        found |= {int(members[index]): rest[members[index]] for index in stragglers(deviation, 0.1)}
        from_alike = _from_alike([used[index] for index in members], shares[members], rest[members])
        for index in stragglers(np.abs(from_alike), 0.1):
            found.setdefault(int(members[index]), from_alike[index])
    if not found:
        return []
    listed = [f"{used[index].source} ({rest:+.3g} eV/atom)" for index, rest in sorted(found.items())]
    return [
        f"{_number(len(found), 'energy', 'energies')} far from all others of the same kind: {some_of(listed, 5)}. A "
        "calculation that did not converge, another method, or another unit? Look at them, repeat or remove them."
    ]


def force_outliers(frames: Sequence[LabelledFrame]) -> list[str]:
    """Frames whose largest force stands apart from those of all others, beyond 15 eV/Å."""
    used = [frame for frame in frames if frame.forces is not None and len(frame.atoms) > 1]
    largest = np.array([np.linalg.norm(frame.forces, axis=1).max() for frame in used if frame.forces is not None])
    found = stragglers(largest, 5.0)
    if not found.size:
        return []
    listed = [f"{used[index].source} ({largest[index]:.3g} eV/Å)" for index in found]
    return [
        f"{_number(len(found), 'frame has', 'frames have')} forces far larger than all others: {some_of(listed, 5)}. "
        "Atoms on top of each other, or a calculation that did not converge? Look at them, and remove them if so."
    ]


def net_forces(frames: Sequence[LabelledFrame]) -> list[str]:
    """Frames whose forces do not sum to zero, though nothing outside acts on the atoms.

    The sum counts when it exceeds 0.02 eV/Å per atom and 0.2 of the root of the sum of squares, which independent
    errors of every force would give.
    """
    odd: list[tuple[LabelledFrame, float, bool]] = []
    n_labelled = 0
    for frame in frames:
        if frame.forces is None or len(frame.atoms) < 2:
            continue
        n_labelled += 1
        total = float(np.linalg.norm(frame.forces.sum(axis=0)))
        if total > 0.02 * len(frame.forces) and total > 0.2 * float(np.linalg.norm(frame.forces)):
            held = (frame.forces == 0).all(axis=1)
            odd.append((frame, total / len(frame.forces), bool(held.any() and not held.all())))
    if not odd:
        return []
    listed = [f"{frame.source} ({mean:.2g} eV/Å per atom)" for frame, mean, _ in odd]
    fixed = sum(held for _, _, held in odd)
    hint = (
        f"In {fixed} of them some atoms have exactly no force: forces on fixed atoms were set to zero. Take the "
        "forces from before the constraint."
        if fixed > len(odd) / 2
        else "Was there an external field, were atoms left out, or are the columns something else than forces?"
    )
    return [f"in {len(odd)} of {n_labelled} frames the forces do not sum to zero: {some_of(listed, 5)}. {hint}"]


def _kinds(frames: Sequence[LabelledFrame]) -> list[np.ndarray]:
    """Indices of the frames of each group of each file."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for index, frame in enumerate(frames):
        kinds.setdefault((frame.source.rpartition("@")[0], frame.group), []).append(index)
    return [np.array(members) for members in kinds.values()]


def _from_alike(frames: Sequence[LabelledFrame], shares: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(n,) eV/atom: energies less the nearest energy of the `ALIKE` frames that are most like each.

    Frames are alike that have the same composition and about the same volume per atom and root mean square of the
    forces, in units of the range of the middle four fifths of each.

    Args:
        frames: (n,) with energies, of one kind.
        shares: (n, n_elements) of the elements.
        rest: (n,) eV/atom, energies beyond what the composition says.
    """
    if len(frames) < ENOUGH:
        return np.zeros(len(frames))
    from scipy.spatial import cKDTree  # not at every start of a command

    places = np.array([(_log_volume(frame), _rms_force(frame)) for frame in frames])
    low, high = np.quantile(places, (0.1, 0.9), axis=0)
    places = np.hstack([places / np.maximum(high - low, 1e-9), 30.0 * shares])
    _, near = cKDTree(places).query(places, k=ALIKE + 1)
    deviation = np.empty(len(frames))
    for index, alike in enumerate(near):
        differences = rest[index] - rest[alike[alike != index][:ALIKE]]
        deviation[index] = differences[np.argmin(np.abs(differences))]
    return deviation


def _log_volume(frame: LabelledFrame) -> float:
    """Logarithm of the volume per atom in Å³; 0 where there is none."""
    return float(np.log(frame.atoms.get_volume() / len(frame.atoms))) if frame.atoms.pbc.all() else 0.0


def _rms_force(frame: LabelledFrame) -> float:
    """Root mean square of the components in eV/Å; 0 without forces."""
    return 0.0 if frame.forces is None else float(np.sqrt(np.mean(frame.forces**2)))


def _robust(shares: np.ndarray, energies: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Energies per element that a few wild frames do not pull: least squares without the worst, twice."""
    solution = start
    for _ in range(2):
        rest = np.abs(energies - shares @ solution)
        kept = rest <= np.quantile(rest, 1 - 2 * FEW)
        solution = np.linalg.lstsq(shares[kept], energies[kept], rcond=1e-8)[0]
    return solution


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
