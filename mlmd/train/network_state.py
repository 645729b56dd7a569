"""Where the training of a network stands, and how that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.train.checkpoint import OtherVersion, read_numbers, write_numbers

_ARRAYS = ("weights", "average", "best", "done")
_OF_OPTIMISER = "optimiser "
"""Before the names of what the optimiser remembers."""


@dataclass(frozen=True)
class NetworkState:
    """Where a training stands: all that the next step depends on."""

    weights: np.ndarray
    """All parameters of the member that is trained, one after the other."""
    average: np.ndarray
    """Of the weights."""
    best: np.ndarray
    """The average with the lowest loss on the structures that are kept apart."""
    done: np.ndarray
    """(n_members that are trained, n_weights) of the committee; nothing at first, and of a single network."""
    memory: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the optimiser remembers."""
    n_steps: int = 0
    """Of this member."""
    squares: float = 0.0
    """Sum of the squared residuals of the present epoch so far."""
    n_rows: int = 0
    """How many there were."""
    history: tuple[float, ...] = ()
    """Loss of every epoch, while the weights changed: root mean square of the weighted residuals."""
    held_out: tuple[float, ...] = ()
    """Loss of the structures that are kept apart after every epoch, with the average of the weights."""
    earlier: tuple[tuple[float, ...], ...] = ()
    """The history of each member that is trained."""
    finished: bool = False

    @property
    def n_epochs(self) -> int:
        """Epochs that are done, of all members."""
        return sum(map(len, self.earlier)) + len(self.history)


def keep(folder: Path, state: NetworkState, key: str) -> None:
    """Write a state; `key` says to which training it belongs."""
    arrays = {name: getattr(state, name) for name in _ARRAYS}
    arrays |= {_OF_OPTIMISER + name: values for name, values in state.memory.items()}
    others = {one.name for one in fields(state)} - {*_ARRAYS, "memory"}
    write_numbers(folder, arrays, {name: getattr(state, name) for name in sorted(others)}, key)


def kept(folder: Path, key: str) -> NetworkState | None:
    """The state that was kept, if there is one.

    Raises:
        StorageError: when it is damaged, of another training, or of another version of mlmd.
    """
    return read_numbers(folder, _state, key)


def _state(arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> NetworkState:
    """The state that `keep` was given.

    Raises:
        OtherVersion: for histories of members that are joined in one.
    """
    if not all(isinstance(one, list) for one in numbers["earlier"]):
        raise OtherVersion
    told: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in numbers.items()}
    told["earlier"] = tuple(map(tuple, told["earlier"]))
    memory: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        if name.startswith(_OF_OPTIMISER):
            memory[name.removeprefix(_OF_OPTIMISER)] = values
        else:
            told[name] = values
    return NetworkState(**told, memory=memory)
