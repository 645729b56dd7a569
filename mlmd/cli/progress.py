"""How a long command shows where it is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

QUIET_EVERY = 30.0
"""Seconds between lines when nobody is looking at a terminal."""


@contextmanager
def shown(describe: Callable[[Any], str], hush: bool) -> Iterator[tuple[Callable[[Any], None], Callable[[str], None]]]:
    """What to call with each moment of the work, and what with a message; on standard error.

    Args:
        describe: a moment as one line.
        hush: say nothing.
    """
    if hush:
        yield (lambda moment: None), (lambda text: None)
    elif not sys.stderr.isatty():
        yield _now_and_then(describe), lambda text: click.echo(text, err=True)
    else:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(stderr=True)
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield (
                lambda moment: live.update(Text(describe(moment), no_wrap=True, overflow="ellipsis")),
                lambda text: console.print(Text(text)),  # a message is no markup
            )


def _now_and_then(describe: Callable[[Any], str]) -> Callable[[Any], None]:
    """A line at most every `QUIET_EVERY` seconds."""
    last = time.monotonic()

    def progress(moment: Any) -> None:
        nonlocal last
        line = describe(moment)  # every moment is looked at: a description may compare it with the first
        if time.monotonic() - last >= QUIET_EVERY:
            last = time.monotonic()
            click.echo(line, err=True)

    return progress


def time_left(seconds: float) -> str:
    """``1:05:00 left``."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"


def near(path: Path) -> Path:
    """A path as seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
