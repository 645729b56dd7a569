"""What is suspicious about a data set, said before it is trained on: better than a bad potential without a reason.

Every finding says what was seen, why that is odd, and what to do. Only what makes training impossible is an error;
the rest are warnings, and the checks are such that sound published data sets give none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlmd.errors import some_of
from mlmd.io.labelled import LabelledFrame, other_names
from mlmd.io.validity import nearest_neighbours
from mlmd.train import neighbouring, scales
from mlmd.train.dataset import composition, elements_of, isolated_element, structure_hash
from mlmd.train.outliers import energy_outliers, force_outliers, net_forces
from mlmd.train.pair_model import Likeness, compare

_FAR = 8.0
"""Å: atoms of a material have neighbours nearer than this."""


@dataclass(frozen=True)
class Finding:
    """Something about the data that a user should know."""

    severity: Literal["error", "warning"]
    """An error makes training impossible."""
    text: str
    """What was seen, why it is odd, what to do."""


def examine(
    train: Sequence[LabelledFrame], test: Sequence[LabelledFrame], cutoff: float | None = None
) -> list[Finding]:  # fmt: skip
    """Everything that is odd about a data set.

    Args:
        train, test: the frames; `test` may be empty.
        cutoff: Å, of the model that will be trained.

    Returns:
        Errors first; empty for a sound data set.
    """
    errors = _impossible(train, test)
    if not train:
        return [Finding("error", text) for text in errors]
    warnings = [*_amount(train), *_missing(train), *_untested(train, test)]
    warnings += [*_placeholders(train), *_copies(train, test)]
    for name, frames in _files([*train, *test]).items():
        warnings += [f"{name}: {text}" for text in _signs_and_units(frames)]
    warnings += [*_levels(train), *energy_outliers(train), *force_outliers(train), *net_forces([*train, *test])]
    if cutoff is not None:
        warnings += _reach(train, cutoff)
    return [*(Finding("error", text) for text in errors), *(Finding("warning", text) for text in warnings)]


def _impossible(train: Sequence[LabelledFrame], test: Sequence[LabelledFrame]) -> list[str]:
    """What no training can do without."""
    if not train:
        return ["there are no training frames. Check the files of data and the fraction that is kept for testing."]
    found = []
    if all(frame.energy is None and frame.forces is None and frame.stress is None for frame in train):
        found.append(
            "no training frame has an energy, forces or a stress. Name the labels in the file, or compute them."
        )
    known = set(elements_of(train))
    for element in elements_of(test):
        if element not in known:
            where = [frame.source for frame in test if element in frame.atoms.get_chemical_symbols()]
            found.append(
                f"{element} occurs only in test frames ({some_of(where)}), so nothing is learned about it. Add "
                f"training frames with {element}, or remove these."
            )
    return found


def _amount(train: Sequence[LabelledFrame]) -> list[str]:
    """Too little to learn from."""
    structures = {structure_hash(frame.atoms) for frame in train if isolated_element(frame) is None}
    if not structures:
        return ["there are only isolated atoms: nothing about bonds can be learned. Add structures with neighbours."]
    if len(structures) == 1:
        return [
            "there is one training structure only. A potential needs structures that differ: displaced atoms, strained "
            "cells, frames of MD runs at the temperatures of interest."
        ]
    return []


def _missing(train: Sequence[LabelledFrame]) -> list[str]:
    """Labels that some or all frames do not have; isolated atoms need energies only."""
    bonded = [frame for frame in train if isolated_element(frame) is None]
    found = []
    without = [frame.source for frame in bonded if frame.energy is None]
    if bonded and len(without) == len(bonded) and any(frame.forces is not None for frame in bonded):
        found.append(
            "no frame has an energy: forces alone leave the energies of different structures open."
            + other_names(bonded, "energy")
        )
    elif 0 < len(without) < len(bonded):
        found.append(f"{len(without)} of {len(bonded)} frames have no energy: {some_of(without)}; is that meant?")
    without = [frame.source for frame in bonded if frame.forces is None]
    if bonded and len(without) == len(bonded) and any(frame.energy is not None for frame in bonded):
        found.append(
            "no frame has forces. Energies alone need many times more frames; take the forces from the calculations "
            "too, or name them in the file if they have an unusual name." + other_names(bonded, "forces")
        )
    elif 0 < len(without) < len(bonded):
        found.append(f"{len(without)} of {len(bonded)} frames have no forces: {some_of(without)}; is that meant?")
    unused = [frame.source for frame in train if frame.unused_stress]
    if unused:
        found.append(
            f"{len(unused)} frames have a stress but are not periodic in three directions: {some_of(unused)}. It is "
            'not used; if they are meant to be periodic, write pbc="T T T".'
        )
    return found


def _untested(train: Sequence[LabelledFrame], test: Sequence[LabelledFrame]) -> list[str]:
    """Labels that are learned, and that no test frame has."""
    if not test:
        return []
    unseen = [
        {"energy": "an energy", "forces": "forces", "stress": "a stress"}[name]
        for name in ("energy", "forces", "stress")
        if any(getattr(frame, name) is not None for frame in train)
        and all(getattr(frame, name) is None for frame in test)
    ]
    if not unseen:
        return []
    return [f"no test frame has {' or '.join(unseen)}, so that these are not tested. Name the labels, or compute them."]


def _placeholders(train: Sequence[LabelledFrame]) -> list[str]:
    """Labels that are the same everywhere or exactly zero, as a converter leaves them."""
    found = []
    frames = [frame for frame in train if len(frame.atoms) > 1]
    energies = [frame.energy for frame in frames if frame.energy is not None]
    n_structures = len({structure_hash(frame.atoms) for frame in frames if frame.energy is not None})
    zero = [frame.source for frame in frames if frame.energy == 0.0]
    if n_structures > 1 and len(set(energies)) == 1:
        found.append(
            f"all {len(energies)} energies are {energies[0]:.10g} eV although the structures differ. Are these "
            "placeholders? Take the energies from the calculations."
        )
    elif zero:
        found.append(f"{len(zero)} energies are exactly zero: {some_of(zero)}. Are they placeholders? Remove them.")
    for name, unit in (("forces", "eV/Å"), ("stress", "eV/Å³")):
        given = [value for frame in frames if (value := getattr(frame, name)) is not None]
        if len(given) > 1 and n_structures > 1 and not any(np.any(value) for value in given):
            found.append(
                f"the {name} of all {len(given)} frames are exactly 0 {unit}, as only in perfect crystals at rest. "
                f'If they are placeholders, leave them out: {name} = "none".'
            )
    return found


def _copies(train: Sequence[LabelledFrame], test: Sequence[LabelledFrame]) -> list[str]:
    """The same structure more than once."""
    first: dict[str, LabelledFrame] = {}
    same: list[str] = []
    different: list[str] = []
    leaked: list[str] = []
    for frame in train:
        key = structure_hash(frame.atoms)
        known = first.get(key)
        first.setdefault(key, frame)
        if known is not None and isolated_element(frame) is None:
            pair = f"{frame.source} = {known.source}"
            (same if _same_labels(frame, known) else different).append(pair)
    for frame in test:
        known_in_train = first.get(structure_hash(frame.atoms))
        if known_in_train is not None and isolated_element(frame) is None:
            leaked.append(f"{frame.source} = {known_in_train.source}")
    found = []
    if same:
        found.append(
            f"{len(same)} training frames are copies of others: {some_of(same)}. They count twice in a fit; "
            "remove them."
        )
    if different:
        found.append(
            f"{len(different)} training structures are there twice with different labels: {some_of(different)}. No "
            "potential can give both: keep those of one method."
        )
    if leaked:
        found.append(
            f"{len(leaked)} test frames are also training frames: {some_of(leaked)}. Their errors say nothing about "
            "new structures; remove them from one side."
        )
    return found


def _same_labels(one: LabelledFrame, other: LabelledFrame) -> bool:
    """Whether two frames of one structure agree within 0.1 meV/atom and 1 meV/Å, where both have labels."""
    energies = [frame.energy for frame in (one, other) if frame.energy is not None]
    if len(energies) == 2 and abs(energies[0] - energies[1]) > 1e-4 * len(one.atoms):
        return False
    if one.forces is not None and other.forces is not None:
        return float(np.abs(one.forces - other.forces).max()) < 1e-3
    return True


def _signs_and_units(frames: Sequence[LabelledFrame]) -> list[str]:
    """What the labels of one file say about their units and signs."""
    odd = scales.lengths_are_odd(frames)
    if odd is not None:
        return [odd]  # with wrong lengths everything else is wrong too
    pairs = neighbouring.near_pairs(frames)
    by_forces, by_stress = neighbouring.energy_against_forces(pairs), neighbouring.energy_against_stress(pairs)
    decided = by_forces is not None and (by_stress is not None or all(frame.stress is None for frame in frames))
    likeness = None if decided else compare(frames)
    found = _energies_and_forces(frames, pairs, by_forces, likeness)
    per_atom = scales.energies_are_per_atom(frames)
    if per_atom is not None and not any("energies are per atom" in text for text in found):
        found.append(per_atom)
    if found:  # a stress cannot be judged by energies and forces that are wrong
        large = scales.stresses_are_large(frames)
        return found + ([large] if large is not None else [])
    return _stresses(frames, pairs, by_stress, likeness)


def _energies_and_forces(
    frames: Sequence[LabelledFrame],
    pairs: Sequence[neighbouring.FramePair],
    ratio: neighbouring.Ratio | None,
    likeness: Likeness | None,
) -> list[str]:
    """Energies against forces, and both against what is usual."""
    bonds = scales.find_bonds(frames)
    n_atoms = float(np.median([len(frame.atoms) for frame in frames]))
    odd_forces = scales.stiffness_is_odd(bonds) or scales.forces_are_large(frames)
    if ratio is not None:
        found = [] if 0.6 < ratio.value < 1.67 else [_wrong_ratio(ratio.value, n_atoms)]
    elif neighbouring.forces_are_unrelated(pairs):
        found = [
            "between frames that are nearly alike the energies change without regard to the forces. Were the atoms "
            "reordered, or do energies and forces come from different calculations?"
        ]
    else:
        found = _unlike(likeness, n_atoms, guess=odd_forces is None)
    reversed_pulls = None if any("wrong sign" in text for text in found) else scales.pulls_are_reversed(bonds)
    absolute = [scales.energies_are_not_in_ev(frames), reversed_pulls, odd_forces]
    return found + [text for text in absolute if text is not None]


def _unlike(likeness: Likeness | None, n_atoms: float, *, guess: bool) -> list[str]:
    """Energies against those of a pair potential that was fitted to the forces, with a guess at their unit."""
    if likeness is None:
        return []
    if likeness.explained < 0.15:
        return [
            f"forces hardly depend on where the neighbours are (a pair potential explains {likeness.explained:.0%} of "
            "them; 70 to 99 % are usual). Were the atoms or the columns reordered? Make the forces anew."
        ]
    if likeness.explained < 0.5 or likeness.energy is None:
        return []
    size = likeness.energy.size
    if not 0.12 < size < 8:
        options = neighbouring.likely_energy_units(size, n_atoms) if guess else []
        perhaps = f"Perhaps {' or '.join(options)}. " if options else ""
        return [
            f"energies vary about {size:.2g} times as much as the forces say (0.4 to 3 are usual). {perhaps}"
            "Energies must be those of the whole structure in eV, forces in eV/Å."
        ]
    if likeness.energy.correlation < -0.5:
        return [
            "energies rise where the forces say that they fall: one of the two has the wrong sign. Forces are minus "
            "the gradient of the energy."
        ]
    return []


def _wrong_ratio(ratio: float, n_atoms: float) -> str:
    """Words about energies that do not follow the forces."""
    seen = f"between frames that are nearly alike the energy changes by {ratio:.3g} times the work of the forces, not 1"
    if -1.67 < ratio < -0.6:
        return f"{seen}: the forces (or the energies) have the wrong sign. Forces are minus the gradient; change them."
    sign = " (and one of them has the wrong sign)" if ratio < 0 else ""
    options = neighbouring.likely_units(ratio, n_atoms)
    guess = f"Perhaps {' or '.join(options)}{sign}." if options else f"They have different units or methods{sign}."
    return f"{seen}. {guess} Energies must be those of the whole structure in eV, forces in eV/Å, positions in Å."


def _stresses(
    frames: Sequence[LabelledFrame],
    pairs: Sequence[neighbouring.FramePair],
    ratio: neighbouring.Ratio | None,
    likeness: Likeness | None,
) -> list[str]:
    """Stress against energies and forces that can be trusted; without them, against what is usual."""
    if ratio is not None:
        value, wrong = ratio.value, not 0.25 < ratio.value < 4
        seen = f"between strained frames the energy changes by {value:.3g} times the work of the stress, not 1"
        volume = float(np.median([pair.volume for pair in neighbouring.strained_pairs(pairs)]))
    elif likeness is not None and likeness.stress is not None and likeness.explained > 0.5:
        agreement = likeness.stress
        volume = float(np.median([frame.atoms.get_volume() for frame in frames if frame.stress is not None]))
        value = np.copysign(1 / agreement.size, agreement.correlation)
        wrong = not 0.12 < agreement.size < 8 or agreement.correlation < -0.4
        seen = (
            f"shear stresses are about {1 / value:.2g} times those that the forces say (correlation "
            f"{agreement.correlation:.2f}; 0.5 to 2 times are usual)"
        )
    else:
        large = scales.stresses_are_large(frames)
        return [] if large is None else [large]
    if not wrong:
        return []
    must = "A stress must be +(1/V) dE/dε in eV/Å³, positive in tension (ASE's sign, not VASP's)."
    if 0.12 < -value < 8:
        return [f'{seen}: it has the wrong sign. {must} Change its sign, or leave it out: stress = "none".']
    options = neighbouring.likely_stress_units(value, volume)
    guess = (
        f"Perhaps {' or '.join(options)}."
        if options
        else "Its unit is none of the usual ones, or the forces are wrong."
    )
    return [f'{seen}. {guess} {must} Convert it, or leave it out: stress = "none".']


def _levels(train: Sequence[LabelledFrame]) -> list[str]:
    """Files of one composition and density whose energies per atom lie more than 1 eV apart."""
    kinds = {}
    elements = elements_of(train)
    for name, frames in _files(train).items():
        used = [f for f in frames if f.energy is not None and f.atoms.pbc.all() and isolated_element(f) is None]
        if len(used) < 3:
            continue
        shares = composition(used, elements)
        shares /= shares.sum(axis=1, keepdims=True)
        energies = np.array([f.energy / len(f.atoms) for f in used if f.energy is not None])
        volume = float(np.median([f.atoms.get_volume() / len(f.atoms) for f in used]))
        if np.ptp(shares, axis=0).max() < 1e-6:
            kinds[name] = (shares[0], volume, energies)
    names = list(kinds)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            (share, volume, energies), (share2, volume2, energies2) = kinds[one], kinds[other]
            gap = max(energies.min() - energies2.max(), energies2.min() - energies.max())
            if np.allclose(share, share2) and 0.85 < volume / volume2 < 1.18 and gap > 1.0:
                return [
                    f"energies in {one} ({np.median(energies):.4g} eV/atom) and {other} ({np.median(energies2):.4g} "
                    "eV/atom) differ by far more than structures of the same composition and density do. Were they "
                    "computed with different methods, pseudopotentials or units? Train on one of them."
                ]
    return []


def _reach(train: Sequence[LabelledFrame], cutoff: float) -> list[str]:
    """Atoms that have no neighbour within the cutoff."""
    reach = min(cutoff, _FAR)  # the cost of a search grows with its volume
    alone, n_atoms = 0, 0
    for frame in train:
        if isolated_element(frame) is None:
            n_atoms += len(frame.atoms)
            alone += int(np.sum(nearest_neighbours(frame.atoms, reach)[0] < 0))
    if n_atoms == 0 or alone < 0.1 * n_atoms:
        return []
    if cutoff > _FAR:
        return [f"{alone} of {n_atoms} atoms have no neighbour within {_FAR:g} Å. Check the unit of the positions."]
    return [
        f"{alone} of {n_atoms} atoms have no neighbour within the cutoff of {cutoff:g} Å. Raise the cutoff, or check "
        "the unit of the positions."
    ]


def _files(frames: Iterable[LabelledFrame]) -> dict[str, list[LabelledFrame]]:
    """Frames by the file (or the folder of a DeePMD data set) they come from."""
    files: dict[str, list[LabelledFrame]] = {}
    for frame in frames:
        files.setdefault(frame.source.rpartition("@")[0].partition("/")[0], []).append(frame)
    return files
