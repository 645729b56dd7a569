"""Walkers: runs that leave the hills of their metadynamics in one folder and read each other's.

A walker always goes on from what lies in the folder. Nothing there is cut back to a checkpoint, its own hills neither:
others may have read them. PLUMED wants every walker's file to exist before one of them goes on, and appends to a last
line that a killed walker has not finished.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from mlmd.bias.statement import Statement

_FOLDER = re.compile(r"\bWALKERS_DIR=\S+", re.IGNORECASE)


def is_walker(statement: Statement) -> bool:
    """Whether an action shares its hills through a folder."""
    return bool(statement.values("WALKERS_DIR"))


def elsewhere(statement: Statement, folder: Path) -> Statement:
    """The action with another folder, so that a check leaves the shared one alone."""
    return replace(statement, text=_FOLDER.sub(lambda _: f"WALKERS_DIR={folder}", statement.text))


def make_ready(statement: Statement) -> None:
    """Make the shared folder fit for a walker to go on from: a file for each, without half a line in its own."""
    (folder,) = statement.values("WALKERS_DIR")
    name = (statement.values("FILE") or ["HILLS"])[0]
    number, count = (int((statement.values(key) or ["0"])[0]) for key in ("WALKERS_ID", "WALKERS_N"))
    Path(folder).mkdir(parents=True, exist_ok=True)
    for walker in range(count):
        with (Path(folder) / f"{name}.{walker}").open("ab"):
            pass  # made where it is missing, never changed
    _finish_lines(Path(folder) / f"{name}.{number}")


def _finish_lines(path: Path) -> None:
    """Take away what stands behind the last end of a line."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
