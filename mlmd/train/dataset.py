"""The data set of a training: frames of several files, split into training and test, and where their energies begin."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import minkowski_reduce

from mlmd.errors import InputError, did_you_mean
from mlmd.io.labelled import LabelledFrame, other_names, read_labelled
from mlmd.io.validity import closest_neighbour

ISOLATED = 8.0
"""Å: an atom whose own images are all farther away than this has no neighbours."""
SAME = 1e-6
"""Å: positions and cells that differ by less are the same structure."""


class DataTable(Protocol):
    """A file of the input's ``data``, and how its labels are called."""

    @property
    def path(self) -> Path:
        """File or folder."""

    @property
    def keys(self) -> Mapping[str, str]:
        """Label -> name in the file, only those that were given."""

    @property
    def group(self) -> str | None:
        """Group of all frames of the file, instead of their own."""

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Only frames of these groups; all without."""


def load_frames(
    sources: Sequence[DataTable], labels: Mapping[str, str] = MappingProxyType({})
) -> tuple[LabelledFrame, ...]:
    """All frames of all files, in their order.

    Args:
        sources: the files.
        labels: label -> name in every file, where the source gives none.

    Raises:
        InputError: as `read_labelled`; for a group that is asked for and not there.
    """
    frames: list[LabelledFrame] = []
    for source in sources:
        found = _of_groups(read_labelled(source.path, keys={**labels, **source.keys}), source)
        frames += found if source.group is None else [_in_group(frame, source.group) for frame in found]
    return tuple(frames)


def split(
    frames: Sequence[LabelledFrame], fraction: float, seed: int
) -> tuple[tuple[LabelledFrame, ...], tuple[LabelledFrame, ...]]:
    """Put a random fraction of every group aside for testing.

    Copies of one structure go to the same side and isolated atoms to training. The share of each group is rounded
    so that the total is right (largest remainders); with several structures and a fraction above 0 at least one is
    tested on. Neighbouring frames of one MD trajectory are still nearly copies: errors on such a test set are those
    of interpolation within the trajectory.

    Args:
        frames: all of them.
        fraction: of the structures, 0 to below 1.
        seed: the same seed gives the same split, whatever else is drawn.

    Returns:
        Training and test frames, each in the order of `frames`.

    Raises:
        InputError: for a fraction outside its range.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"the fraction of test frames must be at least 0 and below 1, not {fraction}.")
    copies: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        if isolated_element(frame) is None:
            copies.setdefault(structure_hash(frame.atoms), []).append(index)
    groups: dict[str, list[list[int]]] = {}
    for indices in copies.values():
        groups.setdefault(frames[indices[0]].group, []).append(indices)
    generator = np.random.default_rng(seed)
    tested: set[int] = set()
    for name, share in _shares({name: len(group) for name, group in groups.items()}, fraction).items():
        for chosen in generator.permutation(len(groups[name]))[:share]:
            tested.update(groups[name][chosen])
    train = tuple(frame for index, frame in enumerate(frames) if index not in tested)
    return train, tuple(frames[index] for index in sorted(tested))


def digest(frames: Iterable[LabelledFrame]) -> str:
    """SHA-256 over elements, positions, cells, labels and groups in their order; names of files do not matter."""
    hashed = hashlib.sha256()
    for frame in frames:
        for part in (frame.atoms.numbers, frame.atoms.pbc):
            hashed.update(np.asarray(part, dtype="<i8").tobytes() + b"|")
        for array in (frame.atoms.positions, frame.atoms.cell.array, frame.energy, frame.forces, frame.stress):
            hashed.update(b"-" if array is None else np.asarray(array, dtype="<f8").tobytes())
            hashed.update(b"|")
        hashed.update(f"{frame.group}\0".encode())
        if frame.value is not None:
            hashed.update(np.asarray(frame.value, dtype="<f8").tobytes() + b"|")
    return hashed.hexdigest()


def structure_hash(atoms: Atoms) -> str:
    """The same for structures whose elements, periodicity, positions and cells agree to about `SAME`."""
    hashed = hashlib.sha256(np.asarray(atoms.numbers, dtype="<i8").tobytes() + atoms.pbc.tobytes())
    for array in (atoms.positions, atoms.cell.array):
        hashed.update(np.round(array / SAME).astype("<i8").tobytes())
    return hashed.hexdigest()


def elements_of(frames: Iterable[LabelledFrame]) -> tuple[str, ...]:
    """The elements that occur, by atomic number."""
    numbers: set[int] = set()
    for frame in frames:
        numbers.update(frame.atoms.numbers.tolist())
    return tuple(chemical_symbols[number] for number in sorted(numbers))


def composition(frames: Sequence[LabelledFrame], elements: Sequence[str]) -> np.ndarray:
    """How many atoms of each element every frame has, (n_frames, n_elements).

    Raises:
        InputError: when a frame has an element that is not among these.
    """
    numbers = np.array([atomic_numbers[element] for element in elements])
    counts = np.zeros((len(frames), len(elements)))
    for row, frame in zip(counts, frames, strict=True):
        row[:] = (frame.atoms.numbers[:, None] == numbers).sum(axis=0)
        if row.sum() != len(frame.atoms):
            other = next(symbol for symbol in frame.atoms.get_chemical_symbols() if symbol not in elements)
            raise InputError(
                f"{frame.source} has {other}; the elements are {', '.join(elements)}. Add it, or the frame."
            )
    return counts


def baseline(
    frames: Sequence[LabelledFrame],
    elements: Sequence[str],
    given: Mapping[str, float] | Literal["isolated", "fit", "average"],
) -> np.ndarray:
    """Energy per atom of each element that is subtracted before anything is learned, (n_elements,) eV.

    Args:
        frames: of the training.
        elements: in the order of the result.
        given: the energies themselves (eV); ``"isolated"``: those of the isolated atoms among the frames;
            ``"average"``: the mean of E/n over the other frames, the same for every element; ``"fit"``: the
            least-squares solution of E/n = Σ_e c_e/n · E_e over them, of smallest norm where the composition leaves it
            open (as it does when only one composition occurs).

    Raises:
        InputError: naming the elements that have no energy.
    """
    if isinstance(given, Mapping):
        for symbol in given:
            if symbol not in elements:
                raise InputError(f"baseline: {symbol!r} is not among the elements. {did_you_mean(symbol, elements)}")
        missing = [element for element in elements if element not in given]
        if missing:
            raise InputError(f'baseline: an energy is missing for {", ".join(missing)}. Give all, or write "fit".')
        return np.array([float(given[element]) for element in elements])
    if given == "isolated":
        return _of_isolated_atoms(frames, elements)
    counts, energies = _per_atom(frames, elements)
    if given == "average":
        return np.full(len(elements), energies.mean())
    solution: np.ndarray = np.linalg.lstsq(counts, energies, rcond=1e-8)[0]
    return solution


def smallest_distance(frames: Iterable[LabelledFrame]) -> float:
    """Distance of the closest two atoms (or images) of all frames, Å.

    Raises:
        InputError: when no two atoms are within 2 × `ISOLATED` of each other.
    """
    smallest = math.inf
    for frame in frames:
        cutoffs = [smallest] if math.isfinite(smallest) else [3.0, 6.0, 2 * ISOLATED]
        pair = next((found for cutoff in cutoffs if (found := closest_neighbour(frame.atoms, cutoff))), None)
        smallest = min(smallest, pair[2] if pair else smallest)
    if not math.isfinite(smallest):
        raise InputError(
            f"no two atoms of the data are within {2 * ISOLATED:g} Å of each other: nothing can be learned."
        )
    return smallest


def isolated_element(frame: LabelledFrame) -> str | None:
    """The element of a frame that is one atom without neighbours, otherwise None."""
    atoms = frame.atoms
    if len(atoms) != 1:
        return None
    symbol = str(chemical_symbols[int(atoms.numbers[0])])
    if not atoms.pbc.any() or frame.group.lower().replace("_", "").replace("-", "").startswith("isolatedatom"):
        return symbol
    reduced = minkowski_reduce(atoms.cell.complete().array, atoms.pbc)[0]
    return symbol if np.linalg.norm(reduced[atoms.pbc], axis=1).min() >= ISOLATED else None


def _of_groups(frames: Sequence[LabelledFrame], source: DataTable) -> list[LabelledFrame]:
    """The frames of the groups that are asked for."""
    if source.groups is None:
        return list(frames)
    known = {frame.group for frame in frames}
    for group in source.groups:
        if group not in known:
            raise InputError(
                f"{source.path.name}: no structure is of group {group!r}. {did_you_mean(group, known - {''})}"
            )
    return [frame for frame in frames if frame.group in source.groups]


def _in_group(frame: LabelledFrame, group: str) -> LabelledFrame:
    return replace(frame, group=group)


def _shares(sizes: Mapping[str, int], fraction: float) -> dict[str, int]:
    """Whole numbers near fraction · size that add up to fraction · total; no group is taken whole."""
    total = sum(sizes.values())
    wanted = max(1, round(fraction * total)) if fraction > 0 and total > 1 else 0
    shares = {name: min(math.floor(fraction * size), size - 1) for name, size in sizes.items()}
    # largest remainder first; of equal ones the larger group, then the name, so that the order of files is irrelevant
    order = sorted(sizes, key=lambda name: (shares[name] - fraction * sizes[name], -sizes[name], name))
    for name in order:
        if sum(shares.values()) < wanted and shares[name] < sizes[name] - 1:
            shares[name] += 1
    return shares


def _of_isolated_atoms(frames: Sequence[LabelledFrame], elements: Sequence[str]) -> np.ndarray:
    """Energies of the atoms that stand alone, eV."""
    found: dict[str, list[tuple[float, str]]] = {element: [] for element in elements}
    for frame in frames:
        symbol = isolated_element(frame)
        if symbol in found and frame.energy is not None:
            found[symbol].append((frame.energy, frame.source))
    missing = [element for element in elements if not found[element]]
    if missing:
        raise InputError(
            f'baseline = "isolated": the data have no single atom of {", ".join(missing)} with an energy (one atom, '
            f'not periodic or with images beyond {ISOLATED:g} Å). Add it, give the energies, or write "fit".'
        )
    for element, energies in found.items():
        low, high = min(energies), max(energies)
        if high[0] - low[0] > 1e-3:
            raise InputError(
                f"the data have single {element} atoms of different energy: {low[0]:.6g} eV ({low[1]}) and "
                f"{high[0]:.6g} eV ({high[1]}). Keep the one that belongs to the other frames (same method, same spin)."
            )
    return np.array([found[element][0][0] for element in elements])


def _per_atom(frames: Sequence[LabelledFrame], elements: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Part of each element in frames, (n, n_elements), and energies per atom, (n,) eV."""
    used = [frame for frame in frames if frame.energy is not None]
    # bonded atoms are what is learned; single ones, some eV higher, only help where an element occurs nowhere else
    bonded = [frame for frame in used if isolated_element(frame) is None]
    if elements_of(bonded) == elements_of(used):
        used = bonded
    if not used:
        raise InputError(
            "no frame has an energy, so the baseline cannot be found. Give it, or label the frames."
            + other_names(frames, "energy")
        )
    counts = composition(used, elements)
    n_atoms = counts.sum(axis=1)
    return counts / n_atoms[:, None], np.array([frame.energy for frame in used]) / n_atoms
