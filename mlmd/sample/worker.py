"""What a process that labels does: it opens the method once and computes structures until nobody asks any more.

Whatever a calculator does to its process (it crashes, leaks, prints, leaves files behind, changes folders) happens
to this process alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from ase import Atoms

from mlmd.errors import MlmdError
from mlmd.sample.method import Compute, Label, Method

OUTPUT = "output.txt"
"""What a calculator printed, in the folder of its structure."""
ERROR = "error.txt"
_HEARTBEAT = 0.5
"""Seconds between two looks whether the process that asks is still there."""


@dataclass(frozen=True)
class Order:
    """What a worker is started with."""

    method: Method
    compositions: tuple[tuple[str, list[str]], ...]
    """Name and symbols of one structure of each set of elements."""
    folder: Path
    """Where folders of structures are made."""
    parent: int
    alone: bool
    """Whether it is the only one, and may use all threads."""


@dataclass(frozen=True)
class Refused:
    """The method cannot be opened."""

    error: str
    """Name of the class of the error."""
    message: str


@dataclass(frozen=True)
class Ready:
    """The method is open."""


def work(connection: Connection) -> None:
    """Answer until the other side closes the connection.

    It receives an `Order`, answers `Ready` or `Refused`, then receives (number, structure) and answers with a
    `Label`, or with a text about what went wrong.
    """
    order: Order = connection.recv()
    threading.Thread(target=_end_with, args=(order.parent,), daemon=True).start()
    try:
        compute = order.method.open(order.compositions)
    except MlmdError as error:
        connection.send(Refused(type(error).__name__, str(error)))
        return
    if not order.alone and (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # several processes with all threads each wait for one another
    connection.send(Ready())
    while True:
        try:
            number, atoms = connection.recv()
        except EOFError:
            return
        with _folder_for(order, number) as folder:
            answer = _answer(compute, atoms, folder)
        connection.send(answer)


def _end_with(parent: int) -> None:
    """End this process, and the programs it started, when the one that asks has died without saying so."""
    while os.getppid() == parent:
        time.sleep(_HEARTBEAT)
    os.killpg(0, signal.SIGKILL)


def _answer(compute: Compute, atoms: Atoms, folder: Path | None) -> Label | str:
    """The label of a structure, or what went wrong."""
    try:
        label = compute(atoms)
    except (Exception, SystemExit) as error:  # calculators raise whatever they like
        if folder is not None:
            (folder / ERROR).write_text(traceback.format_exc())
        text = " ".join(str(error).split())[:500]
        return text if isinstance(error, MlmdError) else f"{type(error).__name__}: {text}"
    values = {"energy": label.energy, "force": label.forces, "stress": label.stress}
    odd = [name for name, value in values.items() if value is not None and not np.isfinite(value).all()]
    return f"not a finite number: {', '.join(odd)}" if odd else label


@contextmanager
def _folder_for(order: Order, number: int) -> Iterator[Path | None]:
    """An empty folder to compute in, removed afterwards unless something went wrong in it."""
    if not order.method.in_folders:
        yield None
        return
    folder = order.folder / str(number)
    folder.mkdir()
    os.chdir(folder)
    with _printing_to(folder / OUTPUT):
        yield folder
    os.chdir(order.folder)
    if not (folder / ERROR).exists():
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Send what this process and its programs print to a file."""
    before = os.dup(1), os.dup(2)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for standard, old in zip((1, 2), before, strict=True):
            os.dup2(old, standard)
            os.close(old)
