"""Files that can execute code when they are opened, which a user has to name as trusted by their digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from mlmd.config.files import sha256
from mlmd.errors import ModelError

PREFIX = "sha256:"
_compared: ContextVar[list[Path] | None] = ContextVar("_compared", default=None)


@contextmanager
def comparing() -> Iterator[list[Path]]:
    """The files whose digests are compared with those that are trusted while this lasts, within no other such call."""
    seen: list[Path] = []
    token = _compared.set(seen)
    try:
        yield seen
    finally:
        _compared.reset(token)


def check(path: Path, trust: Sequence[str], why: str) -> None:
    """Make sure that a file that can execute code is one that the user trusts.

    Args:
        path: the file.
        trust: digests that the user gave, each ``"sha256:..."``.
        why: what the file can do, e.g. ``"a Python pickle executes code when it is opened"``.

    Raises:
        ModelError: when it is not, with what to write.
    """
    digest = _digest(path)
    if digest in trust:
        return
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
    if trust and (digest := _digest(path)) not in trust:
        raise ModelError(f"{path}: its digest is {digest}, not {' or '.join(trust)}. Was it changed, or exchanged?")


def _digest(path: Path) -> str:
    """Of a file that is compared."""
    if (seen := _compared.get()) is not None:
        seen.append(path)
    return PREFIX + sha256(path)


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """Absolute names of files, and their SHA-256."""
    return {str(path.absolute()): sha256(path) for path in paths}
