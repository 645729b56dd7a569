"""Files that an input names: which belong together, and those that are not there, with what lies beside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlmd import models
from mlmd.config.deposit import Deposit
from mlmd.config.descriptors import Trained, parts_of
from mlmd.config.gap import points_of
from mlmd.config.potential import PotentialTable
from mlmd.config.quantities import is_there
from mlmd.config.simulate import Simulate
from mlmd.config.stages import Rerun
from mlmd.config.train import Train
from mlmd.errors import InputError

SETTINGS = "input.nn"
"""The file by which the folder of a potential of n2p2 is known."""
CLASSES = "model.json"
"""The file by which the folder of a model of MatGL is known."""
TRAINING = "train.json"
"""The file by which the folder of a training is known."""
SWEEP = "sweep.json"
"""The file by which the folder of a sweep is known."""
_PARTS = ("scaling.data", "weights.*.data")
"""What lies beside it."""


def check_files(config: Simulate | Train, source: Path) -> None:
    """Make sure that the structure and the potentials, or the data, are there.

    Args:
        config: the input.
        source: its file, for the message.

    Raises:
        InputError: e.g. ``in.toml: potential: path: /data/cu.mtp: no such file. Did you mean 'Cu.mtp'?``
    """
    missing = _missing_data(config) if isinstance(config, Train) else _missing_of_simulation(config)
    for place, problem in missing:
        raise InputError(f"{source.name}: {place}: {problem}")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_MOST_FILES = 1000
"""In a folder that is an argument of a calculator."""


def texts_in(value: Any) -> Iterator[str]:
    """All texts within the options of a potential."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)
    elif isinstance(value, str):
        yield value


def files_in(value: Any) -> Iterator[Path]:
    """Files that texts within the options of a potential name, also as ``file.py:name``, by a pattern or by a folder.

    Raises:
        InputError: for a folder with a thousand files or more.
    """
    for text in texts_in(value):
        for name in dict.fromkeys((text, text.rpartition(":")[0])):
            path = Path(name)
            if not name or not is_there(path):
                continue
            yield from [path] if path.is_file() else _all_within(path)
        if set(text) & set("*?["):
            yield from _matches(Path(text))


def _matches(pattern: Path) -> list[Path]:
    """The files that a pattern stands for; none for what is no pattern."""
    try:
        found = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
        return sorted(path for path in found if path.is_file())
    except (OSError, ValueError):
        return []


def _all_within(folder: Path) -> list[Path]:
    """The files of a folder and those within it."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            found.append(path)
        if len(found) == _MOST_FILES:
            raise InputError(
                f"{folder} has {_MOST_FILES:,} files or more, which all would have to be trusted. Name one."
            )
    return sorted(found)


def structure_file(path: Path) -> Path:
    """The file that holds a structure: ``a.extxyz@3`` is a frame of ``a.extxyz``."""
    name = path.name.rpartition("@")[0]
    return path.with_name(name) if name and not path.exists() else path


def _missing_of_simulation(config: Simulate) -> Iterator[tuple[str, str]]:
    """Place and message of each file that is not there."""
    structure = structure_file(config.structure)
    if not structure.exists():
        yield "structure", no_such_file(structure)
    for number, stage in enumerate(config.stage, 1):
        if isinstance(stage, Rerun) and not stage.trajectory.exists():
            yield f"stage {number} (rerun): trajectory", no_such_file(stage.trajectory)
        for one in stage.species if isinstance(stage, Deposit) else ():
            if one.file is not None and not structure_file(one.file).exists():
                yield f"stage {number} (deposit): species", no_such_file(structure_file(one.file))
    yield from _missing_potentials(config.potential, "potential")


def _missing_potentials(tables: Sequence[PotentialTable], place: str) -> Iterator[tuple[str, str]]:
    """Place and message of each file of a potential that is not there."""
    for number, table in enumerate(tables, 1):
        if table.path is not None and not table.path.exists():
            yield _entry(place, number, len(tables)), no_such_potential(table.path)
        yield from _missing_potentials(
            table.options.get("members", ()), f"{_entry(place, number, len(tables))}: members"
        )


def _missing_data(config: Train) -> Iterator[tuple[str, str]]:
    """Place and message of each file or folder of data that is not there."""
    for name, sources in (("data", config.data), ("test", config.test or ())):
        for number, source in enumerate(sources, 1):
            if not source.path.exists():
                yield _entry(name, number, len(sources)), no_such_file(source.path)
    yield from _missing_potentials(config.baseline.potential or (), "baseline: potential")
    parts = parts_of(config.descriptor)
    for number, part in enumerate(parts, 1):
        if isinstance(part, Trained) and not part.model.exists():
            yield f"{_entry('descriptor', number, len(parts))}: model", no_such_potential(part.model)


def files_of_potential(path: Path, options: Mapping[str, Any] = MappingProxyType({})) -> list[Path]:
    """The file of a potential and those that it needs besides.

    Of one of n2p2, given by its folder or its settings, these are the settings and all others. Of a SNAP they are the
    coefficients and the parameters: those that the options name, or those beside it. The coefficients may be called
    anything, so that a `.snapparam` file of the same stem is taken to belong to any file. Of the XML of a Gaussian
    approximation potential they are the points beside it too. Of a folder of MatGL they are all that is in it.

    Args:
        path: the file or folder.
        options: what else the table of the potential says.
    """
    folder = path.parent if path.name == SETTINGS else path
    if (folder / SETTINGS).is_file():
        return [folder / SETTINGS, *(file for name in _PARTS for file in sorted(folder.glob(name)))]
    if (path / CLASSES).is_file():
        return sorted(file for file in path.iterdir() if file.is_file())
    if points := points_of(path):
        return [path, *points]
    named = options.get("parameters")
    parameters = Path(named) if isinstance(named, str | Path) else path.parent / f"{path.stem}.snapparam"
    return [path, parameters] if parameters.is_file() and parameters != path else [path]


def folder_of(path: Path) -> Path | None:
    """The folder of the potential of n2p2 that a file is a part of; None for other files."""
    folder = path.absolute().parent
    return folder if (folder / SETTINGS).is_file() and path.absolute() in files_of_potential(folder) else None


def has_parts(folder: Path) -> bool:
    """Whether files of a potential of n2p2 lie in a folder, the settings or others."""
    return any(any(folder.glob(name)) for name in (SETTINGS, *_PARTS))


def without_settings(folder: Path) -> str:
    """Why a folder is no potential: the file in it that is one, or what it lacks of the files that one of n2p2 has."""
    if within := model_within(folder):
        return within
    found = [name for name in _PARTS if any(folder.glob(name))]
    if not found:
        return f"{folder} is a folder, not a file, without the {SETTINGS}, {' and '.join(_PARTS)} of n2p2's potentials."
    lacking = [SETTINGS, *(name for name in _PARTS if name not in found)]
    return (
        f"{folder} has {' and '.join(found)} but no {' and no '.join(lacking)}. A potential of n2p2 needs them all: "
        "copy the folder of the training."
    )


def model_within(folder: Path) -> str | None:
    """That a folder holds a potential and is none; None where it holds none."""
    files = sorted(folder.glob("*.mlmd"))
    if not files:
        return None
    named = " or ".join(f'"{path}"' for path in files[:3])
    what = "the folder of a training" if (folder / TRAINING).is_file() else "a folder"
    return f"{folder} is {what}, not a file. Give the file in it: {named}."


def _entry(name: str, number: int, total: int) -> str:
    """A member of a list, or what stands without one."""
    return name if total == 1 else f"{name} {number}"


def no_such_potential(path: Path) -> str:
    """That the file of a potential does not exist, what lies beside it, and which potentials come with mlmd."""
    named = path.stem if path.suffix == ".mlmd" and models.find(path.stem) else path.name
    hint = models.hint(named) if named == path.stem else ""
    return f"{no_such_file(path)} {hint}".rstrip()


def no_such_file(path: Path) -> str:
    """That a file does not exist, and which names in its folder are nearly the same, whatever their case."""
    if set("*?") & set(str(path)):
        return f"{path}: no such file; patterns are not expanded. Give a list of the files that are meant."
    if not path.parent.is_dir():
        return f"{path}: no such file; the folder {path.parent} does not exist either."
    try:
        names = {entry.name.lower(): entry.name for entry in sorted(path.parent.iterdir()) if entry.is_file()}
    except OSError:
        names = {}
    name = path.name.lower()
    # a long ending alone makes names similar: what stands before it must be so too
    alike = [one for one in names if get_close_matches(_before_ending(name), [_before_ending(one)], cutoff=0.6)]
    close = [names[one] for one in get_close_matches(name, alike, n=3, cutoff=0.6)]
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{path}: no such file.{hint}"


def _before_ending(name: str) -> str:
    """A name without its endings: ``li_train`` of ``li_train.xyz.xz``."""
    return name.partition(".")[0] or name
