"""A command that is begun again in a new process when its graphics card has failed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from mlmd.errors import DeviceError
from mlmd.rundir import LOST, MANIFEST

_CRASHES = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS}
"""How drivers end a process when they cannot even raise an error."""
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def with_retries(arguments: Sequence[str], folder: Path, retries: int) -> int:
    """Run ``mlmd ARGUMENTS`` in processes of their own, a new one after each failure of the card.

    Args:
        arguments: of the command, without ``--retries``.
        folder: of the run.
        retries: how many more processes may be started.

    Returns:
        The exit code of the last one. Signals go to the one that works.
    """
    for left in range(retries, -1, -1):
        code = _run(arguments)
        if left == 0 or not (code in _CRASHES or (code == DeviceError.exit_code and _state(folder) == LOST)):
            break
        tries = f"{left - 1} more tries" if left != 2 else "1 more try"
        click.echo(f"A new process continues the run ({tries}).", err=True)
    return code if code >= 0 else 128 - code


def without_retries(arguments: Sequence[str]) -> list[str]:
    """The words of a command line without ``--retries N``."""
    words, kept = iter(arguments), []
    for word in words:
        if word == "--retries":
            next(words, None)
        elif not word.startswith("--retries="):
            kept.append(word)
    return kept


def _run(arguments: Sequence[str]) -> int:
    # of a group of its own: Ctrl-C at the terminal would reach it twice, from there and from here
    child = subprocess.Popen([sys.executable, "-m", "mlmd", *arguments], process_group=0)

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _state(folder: Path) -> str | None:
    try:
        state: str = json.loads((folder / MANIFEST).read_text())["state"]
    except (OSError, ValueError, KeyError):
        return None
    return state
