"""States of a training as they stand on disk: from each of them the training comes to the same file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mlmd.train import checkpoint
from mlmd.train.folder import MANIFEST
from mlmd.train.run import Training, train


def set_back(folder: Path, state: bytes | None = None) -> None:
    """Make a training that is done one that was killed, by default with the state that it kept last."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "state": "running"}))
    if state is not None:
        (folder / checkpoint.FILE).write_bytes(state)


def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Fills with every state that is written from now on, and makes that as many as there can be."""
    monkeypatch.setattr(checkpoint, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "KEEP_PART", float("inf"))
    states: list[bytes] = []
    write = checkpoint.write_atomically

    def remember(path: Path, content: bytes) -> None:
        write(path, content)
        states.append(content)

    monkeypatch.setattr(checkpoint, "write_atomically", remember)
    return states


def check_every_state(
    source: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen: Callable[[int], Iterable[int]],
    *,
    n_processes: int = 1,
) -> tuple[Training, list[bytes]]:
    """Train, and again from states that were kept: the file of the model has the same bytes each time.

    Args:
        source: the input.
        folder: of the training.
        monkeypatch: by which states are caught.
        chosen: numbers of the states to begin from, of how many there are.
        n_processes: of those that continue; the first one has one.

    Returns:
        The training, and all states in their order.
    """
    states = written(monkeypatch)
    whole = train(source, folder, n_processes=1)
    expected, caught = whole.model.read_bytes(), list(states)
    for number in chosen(len(caught)):
        set_back(folder, caught[number])
        again = train(source, folder, n_processes=n_processes)
        assert again.model.read_bytes() == expected, f"state {number} of {len(caught)}"
    return whole, caught
