"""Which name in a data file means which label, and its value in eV, eV/Å and eV/Å³.

Programs call the same thing differently (``energy``, ``REF_energy``, ``dft_energy``; ``stress`` or ``virial``). Names
are looked for in the whole file, so that all its frames are read alike, and doubt is an error that asks for the name.

Sign: stress is +(1/V) dE/dε, positive in tension. ``virial`` and ``virials`` are -V·stress in the extended XYZ files of
GAP, MACE and GPUMD and in DeePMD's folders (libAtoms/QUIP#227; NequIP's conventions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlmd.errors import InputError, did_you_mean

Tiers = tuple[tuple[str, ...], ...]

NAMES: dict[str, Tiers] = {
    "energy": (
        ("ref_energy", "energy_ref"),
        ("energy", "dft_energy", "energy_dft", "total_energy", "potential_energy", "qm_energy"),
        ("free_energy", "ref_free_energy", "dft_free_energy"),
    ),
    "forces": (
        ("ref_forces", "ref_force", "forces_ref", "force_ref"),
        ("forces", "force", "dft_forces", "dft_force", "forces_dft", "force_dft", "qm_forces"),
    ),
    "stress": (("ref_stress", "stress_ref"), ("stress", "dft_stress", "stress_dft")),
    "virial": (
        ("ref_virial", "ref_virials", "virial_ref", "virials_ref"),
        ("virial", "virials", "dft_virial", "dft_virials", "virial_dft", "virials_dft"),
    ),
    "group": (("config_type",), ("group",), ("configtype",), ("config_name",)),
    "property": (),
}
"""Label -> names in lower case; those of an earlier tier are preferred. `free_energy` is the last: where ASE writes it
beside `energy`, the latter is extrapolated to zero smearing, which is what data sets usually mean. A property is any
number of a structure, and is always named by the user."""

IGNORED = "none"
"""What a user writes for a label that is to be left out."""

SCALED = "potential_scale"
"""The factor of a run with one on its potential, in its frames: their ``energy``, ``forces`` and ``stress`` have it."""
_UNITS = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å³", "virial": "eV"}


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A structure and everything that stands beside it in its file, under the names it has there."""

    atoms: Atoms
    values: Mapping[str, object]
    """Of the whole structure: text, numbers or arrays."""
    per_atom: Mapping[str, np.ndarray]
    """(n_atoms, 3) arrays."""
    source: str
    """File and frame, ``Cu.xyz@12``."""

    def labels(self, label: str) -> Mapping[str, object]:
        """Where a label of this kind can stand."""
        return self.per_atom if label == "forces" else self.values


def find_names(frames: Sequence[RawFrame], keys: Mapping[str, str], name: str) -> dict[str, str]:
    """The name of each label in a file.

    Args:
        frames: all of the file.
        keys: label -> name as given by the user; they win, and "none" leaves a label out.
        name: of the file, for messages.

    Returns:
        Label -> name, without those that the file does not have.

    Raises:
        InputError: a name that is nowhere in the file, or several that could be meant.
    """
    for label in keys:
        if label not in NAMES:
            raise InputError(f"{name}: {label!r} is not a label. {did_you_mean(label, NAMES)}")
    found: dict[str, str] = {}
    for label, tiers in NAMES.items():
        present = _present(frames, label)
        if label in keys:
            if keys[label] == IGNORED and IGNORED not in present:
                continue
            if keys[label] not in present:
                hint = did_you_mean(keys[label], present) if present else f"Nothing in it could be {label}."
                option = {"group": "group_key", "property": "property: name"}.get(label, label)
                raise InputError(f"{name}: {option} = {keys[label]!r} is in none of its {len(frames)} frames. {hint}")
            found[label] = keys[label]
        elif guess := _guess(frames, label, tiers, name):
            found[label] = guess
    _one_tensor(found, keys)
    _same_theory(frames, found, keys, name)
    return found


def energy_of(frame: RawFrame, key: str | None) -> float | None:
    """Energy of the whole structure, eV, or None when this frame has none.

    Raises:
        InputError: when it is not one finite number.
    """
    if key is None or key not in frame.values:
        return None
    return float(_numbers(frame.values[key], (1,), frame, key, "energy")[0])


def property_of(frame: RawFrame, key: str | None) -> float | None:
    """A number of the whole structure in whatever unit the file has, or None when this frame has none.

    Raises:
        InputError: when it is not one finite number.
    """
    if key is None or key not in frame.values:
        return None
    return float(_numbers(frame.values[key], (1,), frame, key, "property")[0])


def forces_of(frame: RawFrame, key: str | None) -> np.ndarray | None:
    """(n_atoms, 3) eV/Å, or None when this frame has none.

    Raises:
        InputError: when a component is not finite, naming the atom.
    """
    if key is None or key not in frame.per_atom:
        return None
    forces = np.asarray(frame.per_atom[key], dtype=float)
    odd = np.flatnonzero(~np.isfinite(forces).all(axis=1))
    if odd.size:
        atom = f"atom {odd[0]} ({frame.atoms.get_chemical_symbols()[odd[0]]})"
        raise InputError(
            f"{frame.source}: the force on {atom} is not finite in {key!r} ({odd.size} such atoms). Remove the frame."
        )
    return forces


def stress_of(frame: RawFrame, names: Mapping[str, str]) -> np.ndarray | None:
    """(3, 3) eV/Å³, positive in tension, from a stress or from a virial = -V·stress.

    None when this frame has neither, and without full periodicity, where there is no volume to refer to. Six numbers
    are xx yy zz yz xz xy.

    Raises:
        InputError: for other shapes, numbers that are not finite, a tensor that is not symmetric, and a virial that
            contradicts the stress beside it.
    """
    if not frame.atoms.pbc.all():
        return None
    volume = abs(float(np.linalg.det(frame.atoms.cell.array)))
    stress = _tensor(frame, names.get("stress"), "stress")
    virial = _tensor(frame, names.get("virial"), "virial")
    if virial is None:
        return stress
    other = -virial / volume
    if stress is None:
        return other
    if np.abs(stress - other).max() > 1e-4 + 1e-2 * np.abs(stress).max():
        raise InputError(
            f"{frame.source}: {names['stress']!r} (trace {np.trace(stress):.4g} eV/Å³) and {names['virial']!r} "
            f"(-trace/volume {np.trace(other):.4g} eV/Å³) contradict each other; virial should be -volume·stress. "
            f'Leave the wrong one out: stress = "{IGNORED}" or virial = "{IGNORED}".'
        )
    return stress


def has_unused_stress(frame: RawFrame, names: Mapping[str, str]) -> bool:
    """Whether a stress or virial stands beside a partly periodic structure, where it is not used (see `stress_of`)."""
    pbc = frame.atoms.pbc
    return bool(pbc.any() and not pbc.all()) and any(names.get(label) in frame.values for label in ("stress", "virial"))


def group_of(frame: RawFrame, key: str | None) -> str:
    """Name of the group of the frame, empty when it has none."""
    value = "" if key is None else frame.values.get(key, "")
    return str(value).strip()


def candidates(frame: RawFrame, label: str) -> tuple[str, ...]:
    """Names that could be a label that was not found: of numbers of the structure, or of vectors of its atoms."""
    known = {name for tiers in NAMES.values() for tier in tiers for name in tier} | {SCALED}
    names = (name for name in frame.labels(label) if name.lower().replace("-", "_") not in known)
    return tuple(name for name in names if label == "forces" or _is_number(frame.values[name]))


def _is_number(value: object) -> bool:
    """Whether it is one number, also as text."""
    try:
        float(np.asarray(value).item())
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool | np.bool_)


def _present(frames: Iterable[RawFrame], label: str) -> list[str]:
    """Names that stand in at least one frame where a label of this kind can stand."""
    return list(dict.fromkeys(name for frame in frames for name in frame.labels(label)))


def _guess(frames: Sequence[RawFrame], label: str, tiers: Tiers, name: str) -> str | None:
    """The name of the first tier that occurs."""
    present = _present(frames, label)
    for tier in tiers:
        fitting = [one for one in present if one.lower().replace("-", "_") in tier]
        fitting.sort(key=lambda one: tier.index(one.lower().replace("-", "_")))
        for other in fitting[1:]:
            if not _agree(frames, label, fitting[0], other):
                raise _doubt(label, fitting, name)
        if fitting:
            return fitting[0]
    return None


def _doubt(label: str, names: Sequence[str], name: str, why: str = "") -> InputError:
    said = " and ".join(repr(one) for one in names)
    return InputError(
        f'{name} has {said}, and {label} could be any of them{why}. Say which one: {label} = "{names[0]}".'
    )


def _agree(frames: Iterable[RawFrame], label: str, first: str, second: str) -> bool:
    """Whether two names stand side by side in the same frames with the same values."""
    for frame in frames:
        given = frame.labels(label)
        if (first in given) != (second in given):
            return False
        if first in given and not np.array_equal(np.asarray(given[first]), np.asarray(given[second])):
            return False
    return True


def _one_tensor(found: dict[str, str], keys: Mapping[str, str]) -> None:
    """Of a stress and a virial of different rank (REF_stress beside virial), keep the better one."""
    if not {"stress", "virial"} <= found.keys():
        return
    given = [label for label in ("stress", "virial") if label in keys]
    if len(given) == 1:  # the other was not asked for
        del found["virial" if given == ["stress"] else "stress"]
    elif not given:
        rank = {label: _rank(label, found[label]) for label in ("stress", "virial")}
        if rank["stress"] != rank["virial"]:
            del found[max(rank, key=lambda label: rank[label])]


def _rank(label: str, name: str) -> int:
    plain = name.lower().replace("-", "_")
    return next(rank for rank, tier in enumerate(NAMES[label]) if plain in tier)


def _same_theory(
    frames: Sequence[RawFrame], found: Mapping[str, str], keys: Mapping[str, str], name: str
) -> None:  # fmt: skip
    """Refuse energies and forces that may come from two methods.

    Files that went through a model have REF_energy from DFT beside energy and forces of the model.
    """
    for label in ("energy", "forces"):
        if label in keys or label not in found or _rank(label, found[label]) > 0:
            continue
        for frame in frames:
            plain = [one for one in frame.labels(label) if one.lower() in NAMES[label][1]]
            if found[label] not in frame.labels(label) and plain:
                raise _doubt(label, [found[label], plain[0]], name, f" ({frame.source} has only the second)")
    if {"energy", "forces"} & keys.keys() or not {"energy", "forces"} <= found.keys():
        return
    ranks = [_rank(label, found[label]) for label in ("energy", "forces")]
    if min(ranks) > 0 or max(ranks) == 0:
        return
    label = ("energy", "forces")[ranks.index(0)]
    if plain := [one for one in _present(frames, label) if one.lower() in NAMES[label][1]]:
        other = "forces" if label == "energy" else "energy"
        why = f": {other} is there as {found[other]!r} only, and energies and forces must be of one method"
        raise _doubt(label, [found[label], plain[0]], name, why)


def _numbers(value: object, shape: Sequence[int], frame: RawFrame, key: str, label: str) -> np.ndarray:
    """A finite array with one of some numbers of elements."""
    try:
        parts = value.replace(",", " ").split() if isinstance(value, str) else value
        numbers = np.array(parts, dtype=float).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if isinstance(value, bool | np.bool_) or numbers.size not in shape:
        needed = " or ".join(str(size) for size in shape)
        unit = f" in {_UNITS[label]}" if label in _UNITS else ""
        raise InputError(
            f"{frame.source}: {key} = {shown(value)} is not a {label}; {needed} number(s){unit} are needed."
        )
    if not np.isfinite(numbers).all():
        raise InputError(
            f"{frame.source}: {key} = {shown(value)} is not finite. Remove the frame, or the label where it is unknown."
        )
    return numbers


def shown(value: object) -> str:
    """A value of a file in a message, shortened."""
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _tensor(frame: RawFrame, key: str | None, label: str) -> np.ndarray | None:
    """A symmetric (3, 3) tensor of six or nine numbers."""
    if key is None or key not in frame.values:
        return None
    numbers = _numbers(frame.values[key], (6, 9), frame, key, label)
    if numbers.size == 6:
        xx, yy, zz, yz, xz, xy = numbers
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    tensor = numbers.reshape(3, 3)
    # codes round the components, but an antisymmetric part would be a torque
    if np.abs(tensor - tensor.T).max() > 1e-6 + 0.02 * np.abs(tensor).max():
        raise InputError(
            f"{frame.source}: {key} is not symmetric ({shown(numbers)}). Is it something else than a {label}?"
        )
    symmetric: np.ndarray = (tensor + tensor.T) / 2
    return symmetric
