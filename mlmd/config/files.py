"""Files that an input names and that are not there: which key names them, and what lies beside."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mlmd.config.simulate import Simulate
from mlmd.errors import InputError


def check_files(config: Simulate, source: Path) -> None:
    """Make sure that the structure and the files of the potentials are there.

    Args:
        config: the input.
        source: its file, for the message.

    Raises:
        InputError: e.g. ``in.toml: potential: path: /data/cu.mtp: no such file. Did you mean 'Cu.mtp'?``
    """
    frame_of = config.structure.name.rpartition("@")[0]  # a.extxyz@3 is a frame of a.extxyz
    whole = config.structure.with_name(frame_of) if frame_of else config.structure
    if not config.structure.exists() and not whole.exists():
        raise InputError(f"{source.name}: structure: {no_such_file(whole)}")
    for number, table in enumerate(config.potential, 1):
        if table.path is not None and not table.path.exists():
            place = "potential" if len(config.potential) == 1 else f"potential {number}"
            raise InputError(f"{source.name}: {place}: {no_such_file(table.path)}")


def no_such_file(path: Path) -> str:
    """That a file does not exist, and which names in its folder are nearly the same, whatever their case."""
    if not path.parent.is_dir():
        return f"{path}: no such file; the folder {path.parent} does not exist either."
    try:
        names = {entry.name.lower(): entry.name for entry in sorted(path.parent.iterdir()) if entry.is_file()}
    except OSError:
        names = {}
    close = [names[name] for name in get_close_matches(path.name.lower(), names, n=3, cutoff=0.6)]
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{path}: no such file.{hint}"
