"""Did PLUMED write what it should have? On a full disk it goes on without a word, and lines are lost.

PLUMED keeps lines until there are enough of them. `flush` writes them, where files are looked at or measured, so that
what could not be written is a torn line, or lines that are not there. (PLUMED's own FLUSH would be an action of each
step, and it closes and opens HILLS anew.)
"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

from mlmd.bias.script import Script
from mlmd.bias.statement import Statement
from mlmd.errors import StorageError

_BY_PACE = {"METAD", "PBMETAD"}
"""Actions with a line for every PACE; OPES waits with its first kernels until it knows their width."""
_IRREGULAR = ("UPDATE_FROM", "UPDATE_UNTIL", "FREQUENCY_ADAPTIVE", "WALKERS_N")
"""Keywords with which an action does not write at each of its steps, or writes elsewhere."""


_C = ctypes.CDLL(None)
"""The C library of this process, and of PLUMED in it."""


def flush() -> None:
    """Write what PLUMED, and every other part of this process that uses the C library, has kept back of its files.

    On a full disk lines are lost, which `Written.check` finds.
    """
    _C.fflush(None)


def strides(script: Script) -> dict[str, int]:
    """Steps between lines of each file, of those that are sure to get one at every multiple."""
    if any(statement.action == "UPDATE_IF" for statement in script.statements):
        return {}
    found: dict[str, list[int]] = {}
    for statement in script.statements:
        for name in _files(script, statement):
            found.setdefault(name, []).append(_stride(statement))
    return {name: each[0] for name, each in found.items() if len(each) == 1 and each[0] > 0}


def _files(script: Script, statement: Statement) -> tuple[str, ...]:
    if statement.action == "PRINT":
        return tuple(part for key, part in statement.paths if key == "FILE")
    return script.history_of(statement)


def _stride(statement: Statement) -> int:
    """0 where it cannot be told."""
    if any(statement.values(key) for key in _IRREGULAR) or any(word in _IRREGULAR for word in statement.words):
        return 0
    if statement.action == "PRINT":
        given = statement.values("STRIDE") or ["1"]
    elif statement.action in _BY_PACE:
        given = statement.values("PACE")
    else:
        return 0
    return int(given[0]) if len(given) == 1 and given[0].isdigit() else 0


def every_multiple(stride: int, before: int, step: int) -> int:
    """Multiples of a stride after one step and until another."""
    return step // stride - before // stride


class Written:
    """The files of a script that grow, as far as they have been looked at."""

    def __init__(
        self, script: Script, folder: Path, step: int, multiples: Callable[[int, int, int], int] = every_multiple
    ) -> None:
        """Take what is there at a global step as it is.

        Args:
            script: of the stage.
            folder: of the run.
            step: global step.
            multiples: of a stride, after one step and until another: at how many of them PLUMED was asked.
        """
        self._folder, self._step, self._strides, self._multiples = folder, step, strides(script), multiples
        self._sizes = {name: _size(folder / name) for name in (*script.prints, *script.histories)}
        self._fields: dict[str, int] = {}

    def check(self, step: int) -> None:
        """Look at what has been added until a global step, whose own lines are written.

        Raises:
            StorageError: when a line is torn, or there are fewer than steps at which one is written.
        """
        flush()
        for name, size in self._sizes.items():
            path = self._folder / name
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(size)
                added = file.read()
            self._sizes[name] = size + len(added)
            self._look(name, added, step)
        self._step = step

    def _look(self, name: str, added: bytes, step: int) -> None:
        *lines, rest = added.split(b"\n")
        n_rows, torn = 0, bool(rest)
        for line in lines:
            if line.startswith(b"#! FIELDS"):  # COMMITTOR ends with a second one, of no columns
                self._fields[name] = len(line.split()) - 2
            elif line and not line.startswith(b"#"):
                n_rows += 1
                torn |= len(line.split()) != self._fields.get(name, len(line.split()))
        missing = 0
        if stride := self._strides.get(name):
            missing = self._multiples(stride, self._step, step) - n_rows
        if torn or missing > 0:
            what = "the last line is torn" if torn else f"{missing} lines are missing"
            free = shutil.disk_usage(self._folder).free / 1e6
            raise StorageError(
                f"{self._folder / name}: PLUMED could not write all of it between steps {self._step:,} and {step:,}: "
                f"{what}. {free:,.1f} MB are free on the disk of the run folder. Nothing before the last checkpoint is "
                "lost: make room, and the same command continues."
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
