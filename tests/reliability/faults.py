"""A file system that fails or dies at a chosen change, within one folder, for the command of a child process.

What the command does to files goes through a few calls of Python: opening for writing, the writes of the buffers
below, fsync, rename, truncation and removal. They are counted, and at the n-th of them the fault strikes. What
libraries in C write (PLUMED) is not seen here; limits of the operating system stand for their full disk.

A loss of power is the hardest: of each file only what an fsync of it has made durable is kept, and a new or renamed
file is there only when its folder was synchronised afterwards.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BETWEEN, KILL, TORN, POWER = "between", "kill", "torn", "power"
FULL, SHORT, BROKEN = "full", "short", "broken"
WRITES_ONLY = {TORN, FULL, SHORT}
"""Faults that only a write can have, so that they count writes alone."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong."""

    kind: str
    """``kill`` before the change; ``between``: the same, but writes do not count; ``torn``: half a write, then death;
    ``power``: death, and what was not made durable is lost; ``full``: no write succeeds any more; ``short``: the same
    after half a write; ``broken``: this change fails with an error of input and output, later ones do not."""
    at: int
    """Which change, counted from 1."""
    folder: str
    """Changes elsewhere do not count."""


def install(fault: Fault) -> None:
    """Let the fault happen in this process."""
    disk = _Disk(fault)
    builtins.open = disk.open  # type: ignore[assignment]
    io.open = disk.open  # type: ignore[assignment]
    os.fsync = disk.fsync  # type: ignore[assignment]
    for name in ("replace", "rename", "truncate", "unlink", "ftruncate", "mkdir"):
        setattr(os, name, disk.changing(name))


class _Disk:
    """Counts changes and keeps in mind what would be left after a loss of power."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.left, self.is_full = fault, fault.at, False
        self.folder = os.path.realpath(fault.folder)
        self._durable: dict[str, int] = {}
        """Bytes of each file written that an fsync has made durable."""
        self._names: dict[str, bytes | None] = {}
        """New names whose folder was not synchronised: what was there before."""
        self._open, self._fsync, self._replace = io.open, os.fsync, os.replace

    def watches(self, path: Any) -> bool:
        """Whether changes to a path count."""
        try:
            place = os.path.realpath(os.fsdecode(path))
        except TypeError:
            return False
        return (place + os.sep).startswith(self.folder + os.sep)

    def due(self) -> bool:
        """Count a change; whether it is the one."""
        self.left -= 1
        return self.left == 0

    def strike(self, path: str) -> None:
        """Count a change that is no write."""
        kind = self.fault.kind
        if kind in WRITES_ONLY or not self.due():
            return
        if kind == BROKEN:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        self.die()

    def die(self) -> None:
        """End here and now."""
        if self.fault.kind == POWER:
            self._lose()
        os.kill(os.getpid(), signal.SIGKILL)

    def write(self, path: str, content: memoryview, write: Callable[[Any], int]) -> int:
        """A write of the lowest level."""
        kind = self.fault.kind
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if kind == BETWEEN or not self.due():
            return write(content)
        if kind in (FULL, SHORT):
            self.is_full = True
        if kind in (TORN, SHORT) and len(content) > 1:
            written = write(content[: len(content) // 2])
            if kind == SHORT:
                return written
        if kind == FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if kind == BROKEN:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        self.die()
        return 0

    def open(
        self, file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
        newline: Any = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        """`io.open`, with a raw file of ours below those that are written."""
        if not set(mode) & set("wax+") or isinstance(file, int) or not self.watches(file):
            return self._open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        path = os.path.realpath(os.fsdecode(file))
        self._named(path, keep="w" in mode)
        raw = _Raw(self, path, mode.replace("b", "").replace("t", ""))
        if "w" in mode:
            self._durable[path] = 0
            self.strike(path)  # it is empty now
        else:
            self._durable.setdefault(path, os.path.getsize(path))
        buffer: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline)
        text.mode = mode  # type: ignore[misc]
        return text

    def fsync(self, descriptor: int) -> None:
        """`os.fsync`."""
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if not self.watches(path):
            return self._fsync(descriptor)
        self.strike(path)
        self._fsync(descriptor)
        if os.path.isdir(path):
            self._names = {name: old for name, old in self._names.items() if os.path.dirname(name) != path}
        else:
            self._durable[path] = os.fstat(descriptor).st_size
        return None

    def changing(self, name: str) -> Callable[..., Any]:
        """A call of `os` that changes files; the last path is the one changed."""
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            first = arguments[0]
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.path.realpath(first)
            if not self.watches(path) or (name == "mkdir" and os.path.isdir(path)):  # which changes nothing
                return original(*arguments, **options)
            self.strike(path)
            if name in ("replace", "rename"):
                target = os.path.realpath(arguments[1])
                self._named(target, keep=True)
                result = original(*arguments, **options)
                self._durable[target] = self._durable.pop(path, os.path.getsize(target))
                self._names.pop(path, None)
                return result
            result = original(*arguments, **options)
            if name in ("truncate", "ftruncate") and path in self._durable:
                self._durable[path] = min(self._durable[path], arguments[1])
            if name == "unlink":
                self._durable.pop(path, None)
                self._names.pop(path, None)
            return result

        return call

    def _named(self, path: str, *, keep: bool) -> None:
        """A name that may be new; `keep` what it stood for, if it will stand for something else."""
        if path in self._names:
            return
        if not os.path.exists(path):
            self._names[path] = None
        elif keep and self.fault.kind == POWER:
            with self._open(path, "rb") as file:
                self._names[path] = file.read()

    def _lose(self) -> None:
        for path, size in self._durable.items():
            if os.path.exists(path) and os.path.getsize(path) > size:
                with self._open(path, "r+b") as file:
                    io.FileIO.truncate(file.raw, size)
        for path, old in self._names.items():
            if old is None and os.path.exists(path):
                os.remove(path)
            elif old is not None:
                with self._open(path, "wb") as file:
                    file.write(old)


class _Raw(io.FileIO):
    """A file whose writes go through the disk."""

    def __init__(self, disk: _Disk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._disk, self._path = disk, path

    def write(self, content: Any) -> int:
        """Write, or fail."""
        return self._disk.write(self._path, memoryview(content).cast("B"), super().write)
