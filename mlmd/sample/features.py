"""Features of structures by a descriptor alone, for whatever is learned from them elsewhere: maps, other models."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mlmd.config import of_structures
from mlmd.config.explain import explain
from mlmd.config.pairs import ANY_USE, DESCRIPTORS_IN_FILES, WHOLE
from mlmd.config.read import read_toml
from mlmd.config.structures import only_structures
from mlmd.config.train import Train
from mlmd.descriptors import Descriptor
from mlmd.descriptors.compiled import pair_cutoff
from mlmd.descriptors.linearised import values
from mlmd.errors import InputError, StorageError
from mlmd.io.labelled import LabelledFrame
from mlmd.io.validity import closest_neighbour
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.potentials.combine import descriptors_of, told_apart
from mlmd.potentials.property import PropertyModel
from mlmd.train.atom_descriptor import make_descriptor, reach
from mlmd.train.dataset import elements_of
from mlmd.train.describer import structure_descriptor

_OF_FILES = ("radial-angular", "nep", "deeppot-se")  # with numbers that are fitted with the rest: of a potential only


@dataclass(frozen=True)
class Features:
    """Rows of features, of atoms, of the forces on them along x, y and z, or of structures."""

    values: np.ndarray
    """(n_rows, n_features) float64."""
    kind: str
    """What a row is of: "atom", "direction" (an atom and an axis: atom 0 along x, y and z, then atom 1) or
    "structure"."""
    spec: Mapping[str, Any]
    """Of the descriptor, JSON-able."""
    sources: tuple[str, ...]
    """Of each structure, the file and the number in it."""
    structures: np.ndarray
    """(n_rows,) number of the structure, from 0."""
    numbers: np.ndarray | None
    """(n_rows,) atomic numbers; None for rows of structures."""
    axes: np.ndarray | None = None
    """(n_rows,) 0, 1 and 2 for x, y and z; None without directions."""

    @property
    def rows(self) -> str:
        """How many there are, and of what."""
        n = len(self.values)
        if self.axes is not None:
            return f"{n // 3:,} atom{'s' * (n != 3)} along x, y and z"
        return f"{n:,} {self.kind}{'s' * (n != 1)}"


def check_output(path: Path) -> None:
    """Refuse a name that cannot be written to, before anything is computed.

    Raises:
        InputError: when the name has another ending than .npz.
        StorageError: when it exists, or its folder does not.
    """
    if path.suffix != ".npz":
        raise InputError(f"{path}: features are written as NumPy's .npz. Give a name with this ending.")
    if path.exists():
        raise StorageError(f"{path} exists already; nothing was written. Give another name.")
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no folder {path.parent}.")


def descriptor_of(potential: Potential | PropertyModel, name: str) -> Descriptor:
    """The descriptor of a learned potential, also where a sum has one such part, or of a model of structures.

    Raises:
        InputError: when it has none, or several.
    """
    found = [potential.descriptor] if isinstance(potential, PropertyModel) else descriptors_of(potential)
    if not found:
        raise InputError(
            f"{name} is a potential of kind {potential.spec()['kind']!r}, which has no descriptor. "
            "Give a learned one, or --descriptor FILE."
        )
    if len(found) > 1:
        raise InputError(f"{name} is a sum with {told_apart(found)}. Give a file with one of them.")
    return found[0]


def read_descriptor(
    path: Path, frames: Sequence[LabelledFrame], elements: Sequence[str] | None = None
) -> Descriptor:  # fmt: skip
    """The descriptor of a TOML file: its table, or the table [descriptor] of an input of a training.

    The options are those of a training; elements and the number of atoms of the largest structure are filled in.

    Args:
        path: the file.
        frames: structures that it will describe.
        elements: symbols, in the order of the species; those of the structures when not given.

    Raises:
        InputError: with what is wrong in the file, or does not go together with the structures.
    """
    if not path.exists():
        raise InputError(f'{path}: no such file. It holds the options of a descriptor, e.g. kind = "snap".')
    data = read_toml(path)
    given = data.get("descriptor", data)
    symbols = elements_of(frames) if elements is None else tuple(elements)
    try:
        return of_training(given, frames, symbols, path.absolute().parent)
    except InputError as error:
        raise InputError("\n".join(f"{path.name}: {line}" for line in str(error).splitlines())) from None


def of_training(
    given: object,
    frames: Sequence[LabelledFrame],
    elements: Sequence[str] | None = None,
    folder: Path | None = None,
) -> Descriptor:
    """The one that a training would begin with; radial functions are plain polynomials.

    Args:
        given: kind and options, or a list of descriptors, as in the input of a training.
        frames: structures that it will describe; their closest atoms are where radial functions begin.
        elements: chemical symbols, in the order of the species; those of the structures by default.
        folder: from which paths count; the current one by default.

    Raises:
        InputError: with what is wrong.
    """
    elements = elements_of(frames) if elements is None else elements
    kind = given.get("kind", "mtp") if isinstance(given, Mapping) else given if isinstance(given, str) else "combined"
    if kind in DESCRIPTORS_IN_FILES:
        raise InputError(f"kind: {kind!r} is called {DESCRIPTORS_IN_FILES[kind]!r} here.")
    several = _listed(given)
    parts = several if isinstance(several, list | tuple) else ()
    kinds = [kind, *(one.get("kind", "mtp") if isinstance(one, Mapping) else one for one in parts)]
    if learned := next((one for one in kinds if one in _OF_FILES), None):
        raise InputError(f"kind: {learned!r} has numbers that are fitted: give the potential, --model FILE.")
    data: dict[str, Any] = {"data": "structures", "descriptor": given}
    if kind == "agni":
        data["fit"] = {"kind": "agni"}  # which goes with no other
    elif kind not in WHOLE and not only_structures(_listed(given)):
        data["fit"] = {"kind": "linear", "radial": "plain"}
    try:
        config = Train.model_validate(data, context={"folder": folder or Path.cwd(), ANY_USE: True})
    except ValidationError as error:
        raise InputError("\n".join(explain(error, Train, data))) from None
    if of_structures(config.descriptor):
        return structure_descriptor(config, frames, elements)
    cutoff = reach(config, elements)
    pairs = (closest_neighbour(frame.atoms, cutoff) for frame in frames)
    shortest = min((float(pair[2]) for pair in pairs if pair is not None), default=float("inf"))
    return make_descriptor(config, frames, shortest, elements)


def _listed(given: object) -> object:
    """Several descriptors, as a list; what else is given as it is."""
    return given.get("parts") if isinstance(given, Mapping) and given.get("kind") == "combined" else given


def describe(descriptor: Descriptor, frames: Sequence[LabelledFrame]) -> Features:
    """Features of structures, one after the other, by the compiled kernel where the descriptor has one.

    Raises:
        InputError: for elements that the descriptor does not know, and as the descriptor.
    """
    for frame in frames:
        unknown = sorted(set(frame.atoms.symbols) - set(descriptor.elements)) if descriptor.elements else []
        if unknown:
            raise InputError(
                f"{frame.source} has {', '.join(unknown)}; the descriptor knows {', '.join(descriptor.elements)}."
            )
    cutoff = pair_cutoff(descriptor)
    rows = []
    for frame in frames:
        try:
            rows.append(values(descriptor, build_graph(frame.atoms, cutoff)).numpy())
        except InputError as error:
            raise InputError(f"{frame.source}: {error}") from None
    counts = [len(one) for one in rows]
    n_each = {"atom": 1, "direction": 3}.get(descriptor.kind, 0)
    numbers = np.concatenate([frame.atoms.numbers for frame in frames]).astype(np.int64)
    return Features(
        values=np.concatenate(rows),
        kind=descriptor.kind,
        spec=descriptor.spec(),
        sources=tuple(frame.source for frame in frames),
        structures=np.repeat(np.arange(len(frames)), counts),
        numbers=np.repeat(numbers, n_each) if n_each else None,
        axes=np.tile(np.arange(3), len(numbers)) if n_each == 3 else None,
    )


def write_features(path: Path, features: Features) -> None:
    """An .npz file, whole or not at all: arrays and text, which `numpy.load` reads without executing anything.

    `features`; `structure` and `source`; for rows of atoms `numbers`, for those of directions `axis` too; `kind`; and
    the descriptor's `spec` as JSON.
    """
    arrays = {"features": features.values, "structure": features.structures, "source": np.array(features.sources)}
    if features.numbers is not None:
        arrays["numbers"] = features.numbers
    if features.axes is not None:
        arrays["axis"] = features.axes
    texts = {"kind": features.kind, "spec": json.dumps(features.spec, ensure_ascii=False)}
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **arrays, **{name: np.array(text) for name, text in texts.items()})  # type: ignore[arg-type]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
