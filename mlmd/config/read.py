"""From a TOML file to a validated model, with every mistake reported at once in the words of the file."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mlmd.config.explain import explain, place_of
from mlmd.config.gap import is_gap
from mlmd.config.simulate import Simulate
from mlmd.config.table import Table
from mlmd.config.train import Train
from mlmd.errors import InputError, ModelError, SimulationError

MAX_BYTES = 2_000_000
"""An input file is written by a person; a larger file was meant for something else."""
MAX_DEPTH = 20
"""Tables and lists within each other."""
_POTENTIALS = (".mlmd", ".mtp", ".snapcoeff", ".sw", ".tersoff")
"""Suffixes of potentials; that of a GAP says nothing."""
_OTHER_FILE = "An input file (.toml) is needed, which names the structure or the data; `mlmd new` writes one."

INPUTS: dict[str, type[Table]] = {"simulate": Simulate, "train": Train}
"""Command -> what its input file says."""

Model = TypeVar("Model", bound=Table)


def load_simulate(path: str | Path) -> Simulate:
    """The input of ``mlmd simulate``; paths in it count from the folder it lies in.

    Raises:
        InputError: with one line for each thing that is wrong.
    """
    return load(path, Simulate)


def load_train(path: str | Path) -> Train:
    """The input of ``mlmd train``; paths in it count from the folder it lies in.

    Raises:
        InputError: with one line for each thing that is wrong.
    """
    return load(path, Train)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """What is wrong with an input beyond its own text, as with its data: every line names the file, as those of `load`.

    Raises:
        InputError, ModelError: as what is done within.
    """
    name = f"{Path(path).name}: "
    try:
        yield
    except (InputError, ModelError) as error:
        lines = (line if line.startswith(name) else name + line for line in str(error).splitlines())
        raise type(error)("\n".join(lines)) from None


def unnamed(error: InputError | SimulationError, path: str | Path) -> str:
    """What `naming` and `load` say of an input, in one line and without its name."""
    return " ".join(line.removeprefix(f"{Path(path).name}: ") for line in str(error).splitlines())


def command_of(path: str | Path) -> str:
    """The command that an input file is for, ``"simulate"``, ``"train"`` or ``"sweep"``, by the keys at its top.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    data = read_toml(Path(path))
    return "sweep" if "sweep" in data else _command_of(data, Simulate)


def _command_of(data: Mapping[str, Any], expected: type[Table]) -> str:
    """The command whose model has most of the keys; that of the expected model where they are even."""
    known = {name: sum(key in model.model_fields for key in data) for name, model in INPUTS.items()}
    return max(known, key=lambda name: (known[name], INPUTS[name] is expected))


def load(path: str | Path, model: type[Model]) -> Model:
    """A TOML file as a model.

    Raises:
        InputError: the file cannot be read, is not TOML, or does not fit the model.
    """
    path = Path(path)
    data = read_toml(path)
    command = _command_of(data, model)
    if model in INPUTS.values() and INPUTS[command] is not model:
        raise InputError(f"{path.name} is an input of another command: mlmd {command} {path}")
    try:
        return model.model_validate(data, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise InputError("\n".join(f"{path.name}: {line}" for line in explain(error, model, data))) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, free of nan, inf, dates and numbers beyond 64 bits.

    Raises:
        InputError: naming the line, or the key, that is wrong.
    """
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = _toml_hint(text, str(error)) if path.suffix == ".toml" else _OTHER_FILE
        raise InputError(f"{path.name}: not valid TOML: {error}. {hint}".strip()) from None
    except RecursionError:
        raise InputError(f"{path.name}: tables or lists are nested too deeply.") from None
    except ValueError as error:  # e.g. an integer of 5,000 digits
        raise InputError(f"{path.name}: a value cannot be read: {str(error).partition(';')[0]}.") from None
    problem = _odd_value(data)
    if problem:
        raise InputError(f"{path.name}: {problem}")
    return data


def _text(path: Path) -> str:
    """The text of an input file, with or without a byte-order mark."""
    if not path.exists():
        raise InputError(f"{path}: no such file. `mlmd new` writes one to start from.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; an input file (.toml) is needed.")
    try:
        _refuse_potential(path)
        size = path.stat().st_size
        raw = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    if size > MAX_BYTES:
        raise InputError(f"{path} has {size / 1e6:.0f} MB; that is not an input file (.toml).")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path.name}: line {line} is not UTF-8 text; save the file as UTF-8.") from None


def _refuse_potential(path: Path) -> None:
    """Say how a potential, or the model of a property, is used, which was given in the place of an input.

    Raises:
        InputError: when it is one.
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if path.suffix not in _POTENTIALS and not is_gap(start):
        return
    if path.suffix == ".mlmd" and _kind_of_model(path) == "property":
        raise InputError(
            f"{path}: this is the model of a property, not an input file. `mlmd predict {path} FILE` says what it "
            "predicts of structures."
        )
    raise InputError(
        f'{path}: this is a potential, not an input file. Write potential = "{path}" in the input of a simulation; '
        "`mlmd new` writes one."
    )


def _kind_of_model(path: Path) -> str | None:
    """What the header of a `.mlmd` file says that it is, without torch; None where it cannot be read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(min(size, MAX_BYTES))
    try:
        return str(json.loads(json.loads(header)["__metadata__"]["spec"])["kind"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _toml_hint(text: str, message: str) -> str:
    """What people most often get wrong in TOML, judged by the line that the parser names."""
    number = message.partition("at line ")[2].partition(",")[0]
    lines = text.splitlines()
    if not number.isdigit() or not 0 < int(number) <= len(lines):
        return ""
    line = lines[int(number) - 1].strip()[:80]
    hint = f"The line is `{line}`."
    if "Invalid value" in message or "Expected newline" in message:
        return f"{hint} Values with a unit stand in quotes, as text does."
    key = line.partition("=")[0].strip()
    if "immutable namespace" in message and "." in key:
        table = key.partition(".")[0]
        return (
            f'{hint} {table} has a value already. Write into it; in [sweep], beside its list, quote the name: "{key}".'
        )
    return hint


def _odd_value(data: Mapping[str, Any]) -> str | None:
    """The first value that TOML allows and no input means; walks without recursion, whatever the depth."""
    todo: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    while todo:
        place, value = todo.pop()
        if len(place) > MAX_DEPTH:
            return f"{place_of(place[:3], data)}tables or lists are nested too deeply."
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            todo += [((*place, key), item) for key, item in items]
        elif problem := _odd_scalar(value):
            return place_of(place, data) + problem
    return None


def _odd_scalar(value: object) -> str | None:
    """Why a scalar cannot be the value of any option."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number that can be used. Write a finite one."
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a whole number of more than 64 bits cannot be used."
    if not isinstance(value, bool | int | float | str):
        return f"{value} is a date or time of day, which no option is. Write text in quotes."
    return None
