"""A potential in the files of other programs, chosen by the suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.errors import InputError, StorageError
from mlmd.potentials import Potential, mtp, snap
from mlmd.potentials.combine import Sum
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.names import name_of_descriptor, written_as
from mlmd.potentials.pair import ZBL

FORMATS: Mapping[str, tuple[Callable[[LearnedPotential, Path], None], tuple[str, ...]]] = MappingProxyType(
    {".mtp": (mtp.save, ()), ".snapcoeff": (snap.save, (".snapparam",))}
)
"""Suffix -> what writes it, and the suffixes of what it writes beside it."""
KNOWN = "moment tensors as .mtp (MLIP-2, MLIP-3), SNAP as .snapcoeff with its .snapparam (LAMMPS)"
"""`FORMATS` in words."""


def export(potential: Potential, path: Path) -> tuple[Path, ...]:
    """Write a potential in the format that the suffix of its file names, to files that do not exist yet.

    Of a SNAP with ZBL the SNAP is written; ZBL is a line of LAMMPS' input (`zbl_beside`).

    Returns:
        The files that were written.

    Raises:
        InputError: for another suffix, or a potential that the format cannot hold.
        StorageError: when a file exists already.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is not a format to export to. mlmd writes {KNOWN}.")
    save, beside = FORMATS[path.suffix]
    if path.suffix == ".snapcoeff" and isinstance(potential, Sum):
        potential = _without_zbl(potential)
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


def zbl_beside(potential: Potential) -> ZBL | None:
    """The ZBL that must be added to what `export` writes; None where there is none."""
    parts = potential.parts if isinstance(potential, Sum) else ()
    return next((part for part in parts if isinstance(part, ZBL)), None)


def _without_zbl(potential: Sum) -> Potential:
    """The other part of a sum of SNAP and ZBL.

    Raises:
        InputError: for other sums, and for ZBL that LAMMPS would switch in another way.
    """
    zbl = zbl_beside(potential)
    others = [part for part in potential.parts if part is not zbl]
    if zbl is None or len(others) != 1 or written_as(others[0]) != ".snapcoeff":
        kinds = " + ".join(
            name_of_descriptor(part.descriptor) if isinstance(part, LearnedPotential) else str(part.spec()["kind"])
            for part in potential.parts
        )
        raise InputError(f"a sum ({kinds}) cannot be written as .snapcoeff, but SNAP alone, or with ZBL beside it.")
    if zbl.switching != "lammps":
        raise InputError(
            'LAMMPS brings ZBL to zero in another way. Give the ZBL of the baseline switching = "lammps", train again.'
        )
    return others[0]
