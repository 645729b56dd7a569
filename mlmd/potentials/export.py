"""A potential in the files of other programs, chosen by the suffix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ase import Atoms

from mlmd.errors import InputError, StorageError
from mlmd.potentials import Potential, mliap, mtp, nep_save, scripted, snap
from mlmd.potentials.combine import Sum
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.names import name_of_descriptor, written_as
from mlmd.potentials.pair import ZBL

FORMATS: Mapping[str, tuple[Callable[[LearnedPotential, Path], None], tuple[str, ...]]] = MappingProxyType(
    {".mtp": (mtp.save, ()), ".snapcoeff": (snap.save, (".snapparam",)), ".txt": (nep_save.save, ())}
)
"""Suffix -> what writes a learned potential, and the suffixes of what it writes beside it."""
SUFFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mtp": (".mtp",),
        "snapcoeff": (".snapcoeff",),
        "nep": (".txt",),
        "torchscript": scripted.SUFFIXES,
        "metatomic": (".pt",),
        "mliap": (mliap.SUFFIX,),
    }
)
"""Names of formats, and the suffixes of their files."""
KNOWN = (
    "moment tensors as .mtp (MLIP-2, MLIP-3), SNAP as .snapcoeff with its .snapparam (LAMMPS), NEP as nep.txt (GPUMD), "
    "and potentials for the atoms of a structure as .pt or .ts (TorchScript for OpenMM-Torch), or for any as .pt with "
    "--to metatomic, or as .mliap (LAMMPS' ML-IAP in Python)"
)
"""What can be written, in words."""


def export(potential: Potential, path: Path, atoms: Atoms | None = None) -> tuple[Path, ...]:
    """Write a potential in the format that the suffix of its file names, to files that do not exist yet.

    Of a SNAP with ZBL the SNAP is written; ZBL is a line of LAMMPS' input (`zbl_beside`).

    Args:
        potential: to be written.
        path: of the file.
        atoms: the structure that a TorchScript module is for.

    Returns:
        The files that were written.

    Raises:
        InputError: for another suffix, or a potential that the format cannot hold.
        StorageError: when a file exists already.
    """
    if path.suffix in scripted.SUFFIXES:
        if atoms is None:
            raise InputError(
                "a TorchScript module of OpenMM-Torch gets no atomic numbers: it is made for the atoms of one "
                "structure. Name it with --structure FILE; or give --to metatomic, whose models are for any."
            )
        _check_new(path)
        scripted.save(potential, atoms, path)
        return (path,)
    if path.suffix == mliap.SUFFIX:
        _check_new(path, path.with_suffix(".in"), *([] if atoms is None else [path.with_suffix(".data")]))
        return mliap.save(potential, path, atoms)
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: {path.suffix or 'no suffix'} is not a format to export to. mlmd writes {KNOWN}.")
    if atoms is not None:
        raise InputError(f"--structure: a {path.suffix} file holds for any structure. Leave it out.")
    save, beside = FORMATS[path.suffix]
    if path.suffix == ".snapcoeff" and isinstance(potential, Sum):
        potential = _without_zbl(potential)
    if not isinstance(potential, LearnedPotential):
        raise InputError(
            f"a potential of kind {potential.spec()['kind']!r} cannot be written as {path.suffix}. mlmd writes {KNOWN}."
        )
    paths = (path, *(path.with_suffix(suffix) for suffix in beside))
    _check_new(*paths)
    save(potential, path)
    return paths


def named(model: str, out: Path | None, to: str | None) -> Path:
    """The file to write: that which is given, or that of the model with the suffix of a format.

    Args:
        model: as a user names it.
        out: the file, where it is given.
        to: a key of `SUFFIXES`, where it is given.

    Raises:
        InputError: when neither is given, or when they contradict each other.
    """
    if out is None:
        if to is None:
            raise InputError(f"give a file to write, or a format: --to {', '.join(SUFFIXES)}.")
        return Path(Path(model).name).with_suffix(SUFFIXES[to][0])
    if to is not None and out.suffix not in SUFFIXES[to]:
        raise InputError(f"{out}: a file of --to {to} ends in {' or '.join(SUFFIXES[to])}.")
    return out


def _check_new(*paths: Path) -> None:
    for one in paths:
        if one.exists():
            raise StorageError(f"{one} exists already; nothing was written. Give another name.")


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
