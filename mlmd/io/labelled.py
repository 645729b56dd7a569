"""Structures with energies, forces and stresses: what potentials are fitted to and judged by."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from mlmd.config.files import no_such_file
from mlmd.errors import InputError, StorageError
from mlmd.io import fixed
from mlmd.io.labels import (
    SCALED,
    RawFrame,
    candidates,
    energy_of,
    find_names,
    forces_of,
    group_of,
    has_unused_stress,
    property_of,
    stress_of,
)
from mlmd.io.validity import check_structure
from mlmd.io.xyz_frames import COMPRESSED, open_text, read_xyz

CLOSEST = 0.2
"""Å: nearest that two atoms may be. Dimers in training sets go far up the repulsive wall."""

_WITH_RESULTS = {
    "traj", "db", "json", "vasp-xml", "vasp-out", "espresso-out", "aims-output", "castep-castep", "gpaw-out",
    "abinit-out", "cp2k-output", "orca-output", "onetep-out", "siesta-out", "nwchem-out",
}  # fmt: skip
"""ASE's names of formats with energies; none of them can execute code."""


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A structure and what a reference method says about it; None stands for a label that was not computed."""

    atoms: Atoms
    """Elements, positions (Å), cell and periodicity; what the file fixes is in its `info` (`mlmd.io.fixed`)."""
    energy: float | None
    """eV, of the whole structure."""
    forces: np.ndarray | None
    """(n_atoms, 3) eV/Å."""
    stress: np.ndarray | None
    """(3, 3) eV/Å³, symmetric, positive in tension."""
    group: str
    """Kind of structure (config_type), empty when the file has none."""
    source: str
    """File and number of the frame in it, counted from 0: ``Cu_train.xyz@12``."""
    unused_stress: bool = False
    """Whether its file has a stress that is not used, because the structure is periodic in some directions only."""
    value: float | None = None
    """The property that was asked for, of the whole structure, in the unit of the file."""
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """For the energy and the forces, where its file has none under a name that is known: names that could be theirs."""


def forces_alone(frames: Iterable[LabelledFrame]) -> list[LabelledFrame]:
    """The same structures without energies and stresses, for what knows forces only."""
    return [replace(frame, energy=None, stress=None) for frame in frames]


def other_names(frames: Sequence[LabelledFrame], label: str) -> str:
    """A sentence about names in the files that could be a label that no frame has; empty when there are none."""
    found = {name: frame for frame in reversed(frames) for name in frame.unread.get(label, ())}
    if not found:
        return ""
    name, frame = next(reversed(found.items()))
    said = " or ".join(repr(one) for one in list(found)[::-1][:4])
    file = frame.source.rpartition("@")[0]
    return f' Is it {said}? Then name it: data = {{ path = "{file}", {label} = "{name}" }}.'


def read_labelled(
    path: Path | str, *, keys: Mapping[str, str] | None = None, need_labels: bool = True
) -> list[LabelledFrame]:
    """All frames of a file or folder with their labels.

    Args:
        path: an extended XYZ file (also packed as .xz, .gz or .bz2), another file with results that ASE reads (.traj,
            .db, vasprun.xml, OUTCAR, ...), or a folder with DeePMD systems.
        keys: names that labels have in the file, for ``energy``, ``forces``, ``stress``, ``virial`` (-V·stress, eV)
            and ``group``; ``"none"`` leaves a label out. Others are found by themselves (`labels.NAMES`; REF_energy is
            preferred to energy). Only where it is named there is also a ``property``, any number of a structure. For
            DeePMD also ``type_map``: symbols joined by commas.
        need_labels: whether to refuse a file without any energy, force or stress.

    Raises:
        InputError: the file is missing, damaged or incomplete (with frame and line), a name is nowhere in it or could
            be one of several, a label is not finite or has a factor in it (`labels.SCALED`), or a structure is unsound.
    """
    path = Path(path)
    type_map, names_given = _type_map(keys or {})
    raw = _read(path, type_map)
    if not raw:
        raise InputError(f"{path.name} has no structures at all.")
    names = find_names(raw, names_given, path.name)
    if need_labels and not {"energy", "forces", "stress", "virial", "property"} & names.keys():
        raise _no_labels(raw, path.name)
    unscaled = {label: name for label, name in names.items() if name not in ("energy", "forces", "stress")}
    scaled = [frame for frame in raw if SCALED in frame.values]
    if scaled and need_labels and names != unscaled:
        raise InputError(
            f"{scaled[0].source}: its energy and forces are those of a potential times {scaled[0].values[SCALED]}, "
            f"from a run with a scale, and no labels. Label the structure (mlmd label); or take {SCALED} out, where "
            "they have been computed since."
        )
    return [_labelled(frame, unscaled if SCALED in frame.values else names) for frame in raw]


def write_labelled(path: Path | str, frames: Iterable[LabelledFrame]) -> None:
    """Write frames as extended XYZ that `read_labelled` reads back to the same numbers; packed when named .xz or .gz.

    Labels are called energy, forces, stress (xx xy xz yx ...) and config_type; fixed atoms have an F in move_mask, as
    ASE writes them. The file appears when it is complete.

    Raises:
        StorageError: when the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")  # the ending tells how it is packed
    try:
        with open_text(partial, "w") as file:
            for frame in frames:
                file.write(_text(frame))
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)


def _type_map(keys: Mapping[str, str]) -> tuple[str | None, dict[str, str]]:
    """The elements of DeePMD's types, and the names of labels."""
    names = dict(keys)
    return names.pop("type_map", None), names


def _read(path: Path, type_map: str | None) -> list[RawFrame]:
    """The frames of a file or folder with all that stands beside them."""
    if path.is_dir() and not path.name.endswith(".traj"):
        from mlmd.io.deepmd import read_systems

        return read_systems(path, type_map)
    if not path.is_file():
        raise InputError(f"{path}: not a file." if path.exists() else no_such_file(path))
    if type_map is not None:
        raise InputError(f"{path.name}: type_map is for DeePMD folders; this file names its elements itself.")
    packed = path.suffix.lower() in COMPRESSED
    ending = (path.with_suffix("") if packed else path).suffix.lower()
    return list(read_xyz(path)) if ending in {".xyz", ".extxyz"} else _read_with_ase(path)


def _read_with_ase(path: Path) -> list[RawFrame]:
    """The frames of a file with results, as ASE's calculators hold them."""
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        kind = filetype(str(path), read=True, guess=True)
    except (UnknownFileTypeError, OSError, ValueError):
        kind = "unknown"
    if kind not in _WITH_RESULTS:
        raise InputError(
            f"{path.name} is not read as labelled structures (format {kind}). Give extended XYZ (.xyz, .extxyz), ASE's "
            ".traj or .db, vasprun.xml or OUTCAR, or a DeePMD folder; ASE converts many others."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(path, index=":", format=kind, do_not_split_by_at_sign=True)
    except Exception as error:  # readers raise whatever a wrong file happens to trigger
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise InputError(f"{path.name} cannot be read as {kind} ({reason}). Is it damaged or incomplete?") from None
    frames = found if isinstance(found, list) else [found]
    return [_from_ase(atoms, f"{path.name}@{index}") for index, atoms in enumerate(frames)]


def _from_ase(read: Atoms, source: str) -> RawFrame:
    """A structure with its calculator's results under the names these have."""
    results = dict(read.calc.results) if read.calc is not None else {}
    per_atom = {
        name: array
        for name, array in [*read.arrays.items(), *results.items()]
        if np.shape(array) == (len(read), 3) and name not in {"positions", "momenta"}
    }
    values = {name: value for name, value in [*read.info.items(), *results.items()] if name not in per_atom}
    atoms = Atoms(numbers=read.numbers, positions=read.positions, cell=read.cell, pbc=read.pbc)
    fixed.mark(atoms, *fixed.of_constraints(read))
    return RawFrame(atoms, values, per_atom, source)


def _labelled(frame: RawFrame, names: Mapping[str, str]) -> LabelledFrame:
    """A sound structure with its labels."""
    cell = frame.atoms.cell.array
    if frame.atoms.pbc.all() and np.isfinite(cell).all() and np.linalg.det(cell) < 0:
        frame.atoms.set_cell(-cell)  # the same lattice, right-handed
    check_structure(frame.atoms, frame.source, closest=CLOSEST)
    return LabelledFrame(
        atoms=frame.atoms,
        energy=energy_of(frame, names.get("energy")),
        forces=forces_of(frame, names.get("forces")),
        stress=stress_of(frame, names),
        group=group_of(frame, names.get("group")),
        source=frame.source,
        unused_stress=has_unused_stress(frame, names),
        value=property_of(frame, names.get("property")),
        unread={
            label: tuple(name for name in candidates(frame, label) if name not in names.values())
            for label in ("energy", "forces")
            if label not in names
        },
    )


def _no_labels(raw: Sequence[RawFrame], name: str) -> InputError:
    """That no label was recognised, and what stands in the file instead."""
    values = sorted({key for frame in raw for key in frame.values})
    arrays = sorted({key for frame in raw for key in frame.per_atom})
    there = f"Per structure it has: {', '.join(values) or 'nothing'}; per atom: {', '.join(arrays) or 'nothing'}."
    return InputError(
        f"{name} has neither energies nor forces nor stresses under names that are known. {there} If one of them is "
        'meant (in eV, eV/Å), name it: energy = "..." or forces = "...".'
    )


def _text(frame: LabelledFrame) -> str:
    """A frame in extended XYZ; repr gives the shortest digits that read back to the same float."""
    atoms, pairs = frame.atoms, []
    if atoms.cell.array.any():
        pairs.append(f'Lattice="{_row(atoms.cell.array.reshape(-1))}"')
    held = fixed.held(atoms)
    mask = ":move_mask:L:1" if held else ""
    pairs.append(f"Properties=species:S:1:pos:R:3{mask}" + (":forces:R:3" if frame.forces is not None else ""))
    if frame.energy is not None:
        pairs.append(f"energy={float(frame.energy)!r}")
    if frame.stress is not None:
        pairs.append(f'stress="{_row(frame.stress.reshape(-1))}"')
    if frame.group:
        group = " ".join(frame.group.replace('"', "'").split())
        pairs.append(f'config_type="{group}"')
    pairs.append('pbc="{}"'.format(" ".join("T" if periodic else "F" for periodic in atoms.pbc)))
    words = [[f"{symbol:<2}", _row(row)] for symbol, row in zip(atoms.symbols, atoms.positions, strict=True)]
    for n, row in enumerate(words if held else ()):
        row.append("F" if n in held else "T")
    if frame.forces is not None:
        for row, force in zip(words, frame.forces, strict=True):
            row.append(_row(force))
    body = "".join(" ".join(row) + "\n" for row in words)
    return f"{len(atoms)}\n{' '.join(pairs)}\n{body}"


def _row(numbers: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in numbers)
