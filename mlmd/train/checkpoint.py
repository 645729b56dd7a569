"""The state of a training on disk: one file, replaced whole after every part of the work."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mlmd.errors import StorageError
from mlmd.rundir import write_atomically
from mlmd.train.optimise import State
from mlmd.train.shards import Outcome

Made = TypeVar("Made")

FILE = "checkpoint.safetensors"
KEEP_EVERY = 10.0
"""Seconds between states that are written."""
KEEP_PART = 0.05
"""Of the time, at most, for writing them: large ones take a while."""
_BEGIN_AGAIN = "Remove it to begin the fit again; the data are read anew."
_ARRAYS = ("radial", "linear", "best_radial", "best_linear", "best_factor")


class OtherVersion(Exception):
    """A state is whole, but not of the form that this version of mlmd keeps."""


class Pace:
    """Says when a state is due: every `KEEP_EVERY` seconds, or so seldom that writing takes `KEEP_PART` of the time."""

    def __init__(self) -> None:
        """The first one is due after `KEEP_EVERY`."""
        self._last, self._writing = time.monotonic(), 0.0

    def __call__(self, write: Callable[[], None]) -> None:
        """Write, if it is time."""
        before = time.monotonic()
        if before - self._last > max(KEEP_EVERY, self._writing / KEEP_PART):
            write()
            self._last = time.monotonic()
            self._writing = self._last - before


def write(folder: Path, state: State, key: str) -> None:
    """Keep a state.

    Args:
        folder: of the training.
        state: what the next step depends on.
        key: says to which training it belongs.
    """
    arrays = {name: value for name in _ARRAYS if (value := getattr(state, name)) is not None}
    arrays |= {f"shard {outcome.shard} {outcome.n_rows}": outcome.factor for outcome in state.outcomes.values()}
    numbers = {name: value for name, value in asdict(state).items() if name not in (*_ARRAYS, "outcomes")}
    write_numbers(folder, arrays, numbers, key)


def read(folder: Path, key: str) -> State | None:
    """The state that was kept, if there is one.

    Raises:
        StorageError: when it is damaged, or of another training.
    """
    return read_numbers(folder, _state, key)


def _state(arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> State:
    """The state that `write` was given."""
    shards = [(name.split(), value) for name, value in arrays.items() if name.startswith("shard ")]
    outcomes = {int(words[1]): Outcome(int(words[1]), value, int(words[2])) for words, value in shards}
    known = {name: value for name, value in arrays.items() if name in _ARRAYS}
    losses = {name: tuple(numbers.get(name, ())) for name in ("history", "of_part")}
    fields: dict[str, Any] = numbers | known | losses
    return State(**fields, outcomes=outcomes)


def write_numbers(folder: Path, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any], key: str) -> None:
    """Keep arrays, and what JSON can hold; arguments as those of `write`."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    header = json.dumps({"key": key, "digest": _digest(contiguous), **numbers})
    write_atomically(folder / FILE, save(contiguous, metadata={"state": header}))


def read_numbers(folder: Path, made: Callable[[dict[str, np.ndarray], dict[str, Any]], Made], key: str) -> Made | None:
    """What is made of the arrays and numbers that were kept, if there are any; `made` may raise `OtherVersion`.

    Raises:
        StorageError: when they are damaged, of another training, or of another version of mlmd.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["state"])
        arrays = load(content)
        found = header.pop("key")
        if header.pop("digest") != _digest(arrays):
            raise ValueError("numbers have changed")
        state = made(arrays, header)
    except (SafetensorError, ValueError, KeyError, TypeError, IndexError):
        raise StorageError(f"{path} is damaged: it does not hold what was written into it. {_BEGIN_AGAIN}") from None
    except OtherVersion:
        raise StorageError(f"{path} was kept by another version of mlmd. {_BEGIN_AGAIN}") from None
    if found != key:
        raise StorageError(f"{path} belongs to another training. Give another --out, or remove it.")
    return state


def forget(folder: Path) -> None:
    """Remove the state of a training that is done, where it is too large to stay."""
    (folder / FILE).unlink(missing_ok=True)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names and numbers."""
    hashed = hashlib.sha256()
    for name in sorted(arrays):
        hashed.update(f"{name}\0{arrays[name].shape}\0".encode())
        hashed.update(np.ascontiguousarray(arrays[name]).data)  # without a copy: arrays may be large
    return hashed.hexdigest()
