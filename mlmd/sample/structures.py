"""Structures that are to be labelled, from any number of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlmd.config.files import no_such_file
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame, read_labelled
from mlmd.io.labels import IGNORED
from mlmd.io.structures import FORMATS, read_structure

_SEVERAL = (".xyz", ".extxyz")
_NO_LABELS = dict.fromkeys(("energy", "forces", "stress", "virial"), IGNORED)


def read_structures(paths: Sequence[Path | str], *, labels: bool = False) -> list[LabelledFrame]:
    """All structures of some files, in their order.

    Args:
        paths: of the files.
        labels: whether labels that stand in the files are kept; else they are not even looked at.

    Raises:
        InputError: when a file is missing or damaged, or a structure is unsound (see `mlmd.io.validity`).
    """
    frames = [frame for path in paths for frame in _read(Path(path), labels)]
    if not frames:
        raise InputError(f"there is no structure in {', '.join(map(str, paths)) or 'no file'}.")
    return frames


def _read(path: Path, labels: bool) -> list[LabelledFrame]:
    if not path.exists() and "@" not in path.name:
        raise InputError("structures " + no_such_file(path))
    ending = path.suffix.partition("@")[0].lower()
    one = (ending in FORMATS and ending not in _SEVERAL) or path.name.upper().startswith(("POSCAR", "CONTCAR"))
    if one or not path.exists():  # the latter is one frame of a file, e.g. a.extxyz@3
        return [LabelledFrame(read_structure(path), None, None, None, "", path.name)]
    return read_labelled(path, keys=None if labels else _NO_LABELS, need_labels=False)
