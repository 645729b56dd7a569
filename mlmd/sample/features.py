"""Features of structures by a descriptor alone, for whatever is learned from them elsewhere: maps, other models."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlmd.config.descriptors import DescriptorTable
from mlmd.config.explain import explain
from mlmd.config.quantities import shorten
from mlmd.config.read import read_toml
from mlmd.config.train import Train
from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.descriptors.linearised import needs_pairs, values
from mlmd.errors import InputError, StorageError, did_you_mean
from mlmd.io.labelled import LabelledFrame
from mlmd.io.validity import closest_neighbour
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.registry import find
from mlmd.train.dataset import elements_of
from mlmd.train.start import make_descriptor

OF_TRAININGS: tuple[str, ...] = tuple(
    one.model_fields["kind"].default for one in get_args(get_args(DescriptorTable)[0])
)
"""Kinds of descriptors with the options that they have in the input of a training."""
_BY_OTHER_NAMES = {"moments": "mtp", "symmetry": "acsf", "bispectrum": "snap"}
_NOT_A_LIST = {"is_instance_of": "is not a list of what is needed", "sequence_str": "is not a list"}
_OF_FILES = ("radial-angular", "deeppot-se")  # with numbers that are fitted with the rest: of a potential only


@dataclass(frozen=True)
class Features:
    """Rows of features, of atoms or of structures."""

    values: np.ndarray
    """(n_rows, n_features) float64."""
    kind: str
    """What a row is of, "atom" or "structure"."""
    spec: Mapping[str, Any]
    """Of the descriptor, JSON-able."""
    sources: tuple[str, ...]
    """Of each structure, the file and the number in it."""
    structures: np.ndarray
    """(n_rows,) number of the structure, from 0."""
    numbers: np.ndarray | None
    """(n_rows,) atomic numbers; None for rows of structures."""


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


def descriptor_of(potential: Potential, name: str) -> Descriptor:
    """The descriptor of a learned potential.

    Raises:
        InputError: when it has none.
    """
    descriptor = getattr(potential, "descriptor", None)
    if descriptor is None:
        raise InputError(
            f"{name} is a potential of kind {potential.spec()['kind']!r}, which has no descriptor. "
            "Give a learned one, or --descriptor FILE."
        )
    found: Descriptor = descriptor
    return found


def read_descriptor(
    path: Path, frames: Sequence[LabelledFrame], elements: Sequence[str] | None = None
) -> Descriptor:  # fmt: skip
    """The descriptor of a TOML file: its table, or the table [descriptor] of an input of a training.

    Kinds of `OF_TRAININGS` have the options that they have there. Others have the keywords of their classes; elements
    and the number of atoms of the largest structure are filled in.

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
    table = given if isinstance(given, Mapping) else {"kind": given}
    symbols = elements_of(frames) if elements is None else tuple(elements)
    kind = table.get("kind", "mtp")
    try:
        if kind in OF_TRAININGS and kind not in _OF_FILES:
            return _of_training(table, frames, symbols)
        return _by_keywords(kind, table, frames, symbols)
    except InputError as error:
        raise InputError("\n".join(f"{path.name}: {line}" for line in str(error).splitlines())) from None


def _of_training(table: Mapping[str, Any], frames: Sequence[LabelledFrame], elements: Sequence[str]) -> Descriptor:
    """One of those that potentials are trained with; radial functions are plain polynomials."""
    given = {"data": "structures", "descriptor": dict(table), "fit": {"kind": "linear", "radial": "plain"}}
    try:
        config = Train.model_validate(given)
    except ValidationError as error:
        raise InputError("\n".join(explain(error, Train, given))) from None
    pairs = (closest_neighbour(frame.atoms, config.descriptor.cutoff) for frame in frames)
    shortest = min((float(pair[2]) for pair in pairs if pair is not None), default=float("inf"))
    return make_descriptor(config, shortest, elements)


def _by_keywords(
    kind: object, table: Mapping[str, Any], frames: Sequence[LabelledFrame], elements: Sequence[str]
) -> Descriptor:
    """One that is called with the options of the table."""
    apart = (*OF_TRAININGS, *_BY_OTHER_NAMES, *_OF_FILES)
    others = {name: target for name, target in DESCRIPTORS.items() if name not in apart}
    word = str(kind)
    if word in _BY_OTHER_NAMES:
        raise InputError(f"kind: {word!r} is called {_BY_OTHER_NAMES[word]!r} here.")
    if word in _OF_FILES:
        raise InputError(f"kind: {kind!r} has numbers that are fitted: give the potential, --model FILE.")
    if word not in others:
        raise InputError(f"kind: {kind!r} is not a descriptor. {did_you_mean(word, (*OF_TRAININGS, *others))}")
    make = find("mlmd.descriptors", word, others)
    parameters = inspect.signature(make).parameters
    found = {"elements": elements, "n_atoms_max": max(len(frame.atoms) for frame in frames)}
    options = {name: value for name, value in found.items() if name in parameters}
    options |= {name: value for name, value in table.items() if name != "kind"}
    for name in options:
        if name not in parameters:
            raise InputError(f"{name!r} is not an option of {kind}. {did_you_mean(name, parameters)}")
    needed = [name for name, one in parameters.items() if one.default is inspect.Parameter.empty]
    if missing := [name for name in needed if name not in options]:
        raise InputError(f"{kind} needs {' and '.join(missing)}.")
    _check_types(word, options, get_type_hints(make.__init__))
    try:
        made: Descriptor = make(**options)
    except (TypeError, ValueError, AttributeError) as error:  # in tables within the table
        raise InputError(f"{kind}: a value has another type than it needs: {error}.") from None
    return made


def _check_types(kind: str, options: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Refuse a word where a number is needed, and its like."""
    for name, value in options.items():
        try:
            TypeAdapter(types[name], config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
                value, strict=True
            )
        except ValidationError as error:
            first = error.errors()[0]
            what = _NOT_A_LIST.get(first["type"], first["msg"].lower().replace("input should be", "is not"))
            raise InputError(f"{kind}: {name}: {shorten(value)} {what}.") from None


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
    cutoff = descriptor.cutoff if needs_pairs(descriptor) else 0.0
    rows = []
    for frame in frames:
        try:
            rows.append(values(descriptor, build_graph(frame.atoms, cutoff)).numpy())
        except InputError as error:
            raise InputError(f"{frame.source}: {error}") from None
    counts = [len(one) for one in rows]
    of_atoms = descriptor.kind == "atom"
    return Features(
        values=np.concatenate(rows),
        kind=descriptor.kind,
        spec=descriptor.spec(),
        sources=tuple(frame.source for frame in frames),
        structures=np.repeat(np.arange(len(frames)), counts),
        numbers=np.concatenate([frame.atoms.numbers for frame in frames]).astype(np.int64) if of_atoms else None,
    )


def write_features(path: Path, features: Features) -> None:
    """An .npz file, whole or not at all: arrays and text, which `numpy.load` reads without executing anything.

    `features`; `structure` and `source`; for rows of atoms `numbers`; `kind`; and the descriptor's `spec` as JSON.
    """
    arrays = {"features": features.values, "structure": features.structures, "source": np.array(features.sources)}
    if features.numbers is not None:
        arrays["numbers"] = features.numbers
    texts = {"kind": features.kind, "spec": json.dumps(features.spec, ensure_ascii=False)}
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, **arrays, **{name: np.array(text) for name, text in texts.items()})  # type: ignore[arg-type]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
