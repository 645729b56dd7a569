"""A potential in the files of other programs, chosen by the suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.errors import InputError, StorageError
from mlmd.potentials import Potential, mtp, snap
from mlmd.potentials.learned import LearnedPotential

FORMATS: Mapping[str, tuple[Callable[[LearnedPotential, Path], None], tuple[str, ...]]] = MappingProxyType(
    {".mtp": (mtp.save, ()), ".snapcoeff": (snap.save, (".snapparam",))}
)
"""Suffix -> what writes it, and the suffixes of what it writes beside it."""
KNOWN = "moment tensors as .mtp (MLIP-2, MLIP-3), SNAP as .snapcoeff with its .snapparam (LAMMPS)"
"""`FORMATS` in words."""


def export(potential: Potential, path: Path) -> tuple[Path, ...]:
    """Write a potential in the format that the suffix of its file names, to files that do not exist yet.

    Returns:
        The files that were written.

    Raises:
        InputError: for another suffix, or a potential that the format cannot hold.
        StorageError: when a file exists already.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is not a format to export to. mlmd writes {KNOWN}.")
    save, beside = FORMATS[path.suffix]
    if not isinstance(potential, LearnedPotential):
        raise InputError(
            f"a potential of kind {potential.spec()['kind']!r} cannot be written as {path.suffix}. mlmd writes {KNOWN}."
        )
    paths = (path, *(path.with_suffix(suffix) for suffix in beside))
    for one in paths:
        if one.exists():
            raise StorageError(f"{one} exists already; nothing was written. Give another name.")
    save(potential, path)
    return paths
