"""Files that can execute code when they are opened, which a user has to name as trusted by their digest.

A file is read once for its digest in a load, and that digest is both compared and recorded. Others open the file by its
name a moment later: what stands there then is looked at again before and after (`unchanged`), by what the file system
tells of it, and by its content where that differs. So a file that is exchanged meanwhile is noticed, but only when its
code may have been executed, and not by whoever can set the clock of the file system. Weights that are trusted belong
where nobody else can write.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from mlmd.config.files import sha256
from mlmd.errors import ModelError

PREFIX = "sha256:"


@dataclass(frozen=True)
class Digest:
    """What a file held when it was read."""

    path: Path
    """Absolute."""
    sha256: str
    """Hexadecimal."""
    state: tuple[int, ...]
    """Which file it was, how long, and when it was changed; see `state_of`."""

    def __str__(self) -> str:
        """As a user writes it to trust the file."""
        return PREFIX + self.sha256


@dataclass
class Comparison:
    """What was read, and what of it was compared, while one potential is loaded."""

    compared: list[Path] = field(default_factory=list)
    """Files whose digests were compared with those that are trusted."""
    read: dict[Path, Digest] = field(default_factory=dict)


_comparison: ContextVar[Comparison | None] = ContextVar("_comparison", default=None)


@contextmanager
def comparing() -> Iterator[Comparison]:
    """While this lasts no file is read twice for its digest; what is compared is known, but not of such calls within.

    What was read is forgotten when it ends: the next load reads anew, whatever the file system says of a file.
    """
    token = _comparison.set(found := Comparison())
    try:
        yield found
    finally:
        _comparison.reset(token)


def digest_of(path: Path) -> Digest:
    """The digest of a file.

    Raises:
        ModelError: when somebody writes to it at the same time.
    """
    path = path.absolute()
    comparison = _comparison.get()
    if comparison is not None and path in comparison.read:
        return comparison.read[path]
    with path.open("rb") as file:
        before = state_of(os.fstat(file.fileno()))
        content = hashlib.file_digest(file, "sha256").hexdigest()
        after = state_of(os.fstat(file.fileno()))
    if before != after:
        raise ModelError(f"{path} was changed while it was read. Is something still writing it?")
    found = Digest(path, content, after)
    if comparison is not None:
        comparison.read[path] = found
    return found


def state_of(told: os.stat_result) -> tuple[int, ...]:
    """What the file system tells of a file: device, number, length, and when content and number were changed (ns).

    The last of them is not for programs to set.
    """
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


@contextmanager
def unchanged(digests: Sequence[Digest]) -> Iterator[None]:
    """Files are what was read of them, before and after they are opened by others.

    Raises:
        ModelError: when one is not.
    """
    _check_unchanged(digests)
    yield
    _check_unchanged(digests)


def _check_unchanged(digests: Sequence[Digest]) -> None:
    for one in digests:
        if not one.path.is_file():
            raise ModelError(f"{one.path} is not there any more.")
        if state_of(one.path.stat()) != one.state and sha256(one.path) != one.sha256:
            raise ModelError(f"{one.path} is not the file any more that was read: it was changed, or exchanged.")


def check(path: Path, trust: Sequence[str], why: str) -> Digest:
    """Make sure that a file that can execute code is one that the user trusts.

    Args:
        path: the file.
        trust: digests that the user gave, each ``"sha256:..."``.
        why: what the file can do, e.g. ``"a Python pickle executes code when it is opened"``.

    Raises:
        ModelError: when it is not, with what to write.
    """
    digest = _compared(path)
    if str(digest) in trust:
        return digest
    if trust:
        raise ModelError(
            f"{path}: {why}, and it is not the file that is trusted: its digest is {digest}, not "
            f"{' or '.join(trust)}. Was it changed, or exchanged?"
        )
    raise ModelError(
        f'{path}: {why}. If you know where it comes from, write trust = "{digest}" in the table of the potential (in '
        f'--options: {{"trust": "{digest}"}}).'
    )


def check_unused(path: Path, trust: Sequence[str]) -> None:
    """Make sure that a file that executes nothing has a digest that is given all the same.

    Raises:
        ModelError: when it has another.
    """
    if trust and str(digest := _compared(path)) not in trust:
        raise ModelError(f"{path}: its digest is {digest}, not {' or '.join(trust)}. Was it changed, or exchanged?")


def _compared(path: Path) -> Digest:
    """Of a file that is compared."""
    if (comparison := _comparison.get()) is not None:
        comparison.compared.append(path)
    return digest_of(path)
