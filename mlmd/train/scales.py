"""Whether the numbers of a data file have the size that eV and Å give them.

Chemistry fixes some numbers within narrow limits: how long bonds are, how stiff they are, what an atom's electrons are
bound by. The limits here are several times wider than what sound data sets show (metals, silicon, water, molecules,
sulfides), and narrower than the factors between units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from mlmd.io.labelled import LabelledFrame
from mlmd.io.validity import nearest_neighbours
from mlmd.train.dataset import composition, elements_of, isolated_element
from mlmd.units import EV_PER_KCALMOL, EV_PER_KJMOL, units_of

_HARTREE = units_of("energy")["hartree"]
_NOBLE = {2, 10, 18, 36, 54, 86}
_SOFT = {3, 11, 19, 37, 55, 87, 38, 56, 80, 82, 83} | _NOBLE
"""Alkali metals, Sr, Ba, Hg, Pb, Bi and noble gases: soft bonds, whose stiffness tells no unit."""
_ATOMS = -np.array([0, 0.5, 2.9037, 7.4781, 14.6674, 24.6539, 37.845, 54.5892, 75.0673, 99.7339, 128.9376])
"""Hartree: energies of the atoms by atomic number."""
_SEARCH = 6.0
"""Å: bonds in Bohr, read as Å, are shorter than this."""
N_LOOKED_AT = 200
"""Frames looked at, evenly over the file."""
LARGE_FORCE = 8.0
"""eV/Å: median force that no sound set has (molecules at 1200 K have 1.7)."""
LARGE_STRESS = 0.6
"""eV/Å³ (100 GPa): median of the largest component of the stress."""


@dataclass(frozen=True)
class Bonds:
    """Nearest neighbours of two elements."""

    elements: tuple[int, int]
    lengths: np.ndarray
    """(n,) Å."""
    pulls: np.ndarray
    """(n,) eV/Å: force that lengthens the bond, (F_j - F_i) · r̂_ij; nan without forces."""

    @property
    def name(self) -> str:
        """The elements, ``H-O``."""
        return "-".join(chemical_symbols[number] for number in self.elements)

    def stiffness(self) -> tuple[float, float] | None:
        """Slope -d(pull)/d(length) in eV/Å² and its correlation; None with too few bonds or all of one length.

        About twice the force constant of the bond: O-H 80, C-H 65, Si-Si 17, Cu-Cu 10, Li-Li 1.7.
        """
        known = np.isfinite(self.pulls)
        if known.sum() < 30:
            return None
        low, high = np.percentile(self.lengths[known], [2, 98])
        used = known & (self.lengths >= low) & (self.lengths <= high)
        lengths, pulls = self.lengths[used], self.pulls[used]
        if lengths.std() < 0.005 or pulls.std() == 0:
            return None
        correlation = float(np.corrcoef(lengths, pulls)[0, 1])
        return -correlation * float(pulls.std() / lengths.std()), -correlation


def find_bonds(frames: Sequence[LabelledFrame]) -> list[Bonds]:
    """The bonds of every atom to its nearest neighbour, by elements, the most frequent first."""
    found: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for frame in _some(frames):
        neighbours, vectors = nearest_neighbours(frame.atoms, _SEARCH)
        i = np.flatnonzero(neighbours >= 0)
        if not i.size or len(frame.atoms) < 3:  # dimers are stretched on purpose
            continue
        j, lengths = neighbours[i], np.linalg.norm(vectors[i], axis=1)
        pulls = np.full(len(i), np.nan)
        if frame.forces is not None:
            pulls = np.einsum("ij,ij->i", frame.forces[j] - frame.forces[i], vectors[i]) / lengths
        numbers = np.sort(np.stack([frame.atoms.numbers[i], frame.atoms.numbers[j]], axis=1), axis=1)
        for first, second in np.unique(numbers, axis=0):
            of_these = (numbers == (first, second)).all(axis=1)
            found.setdefault((int(first), int(second)), []).append((lengths[of_these], pulls[of_these]))
    bonds = [
        Bonds(elements, np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))
        for elements, parts in found.items()
    ]
    return sorted(bonds, key=lambda bond: -len(bond.lengths))


def lengths_are_odd(frames: Sequence[LabelledFrame]) -> str | None:
    """What is wrong with the shortest distances, compared with the sum of covalent radii."""
    ratios = []
    for frame in _some(frames):
        neighbours, vectors = nearest_neighbours(frame.atoms, _SEARCH)
        i = np.flatnonzero(neighbours >= 0)
        numbers = frame.atoms.numbers
        if i.size and len(frame.atoms) > 2 and not _NOBLE & set(numbers.tolist()):
            radii = covalent_radii[numbers[i]] + covalent_radii[numbers[neighbours[i]]]
            ratios.append(float((np.linalg.norm(vectors[i], axis=1) / radii).min()))
    if not ratios or 0.35 < (middle := float(np.median(ratios))) < 1.45:
        return None
    if _are_fractional(frames):
        doubt = "Are positions fractions of the cell? They must be Cartesian, in Å."
    else:
        doubt = f"Are positions and cells in {'Bohr' if middle > 1 else 'nm'}? They must be in Å."
    return (
        f"the closest atoms are {middle:.2g} times as far apart as covalent radii add up to (0.7 to 1.2 are usual). "
        f"{doubt}"
    )


def _are_fractional(frames: Sequence[LabelledFrame]) -> bool:
    """Whether all positions lie between 0 and 1, of cells that are much larger."""
    periodic = [frame.atoms for frame in _some(frames) if frame.atoms.pbc.all() and len(frame.atoms) > 1]
    return bool(periodic) and all(
        (atoms.positions > -0.1).all() and (atoms.positions < 1.1).all() and atoms.cell.lengths().min() > 2.0
        for atoms in periodic
    )


def pulls_are_reversed(bonds: Sequence[Bonds]) -> str | None:
    """Whether stretched bonds are stretched further by the forces on their atoms."""
    known = [(bond, stiffness) for bond in bonds if len(bond.lengths) >= 50 and (stiffness := bond.stiffness())]
    if not known or known[0][1][1] > -0.4 or any(correlation > 0.1 for _, (_, correlation) in known):
        return None
    name, (_, correlation) = known[0][0].name, known[0][1]
    return (
        f"forces push atoms that are close together and pull on those that are apart the wrong way ({name} bonds, "
        f"correlation {-correlation:.2f}). Are these gradients? Forces are minus the gradient: change their sign."
    )


def stiffness_is_odd(bonds: Sequence[Bonds]) -> str | None:
    """What is wrong with the stiffness of bonds, which tells the unit of forces whatever the temperature."""
    for bond in bonds:
        found, limits = bond.stiffness(), _usual_stiffness(bond)
        if found is None or limits is None or found[1] < 0.6 or limits[0] < found[0] < limits[1]:
            continue
        units = "kcal/mol/Å or kJ/mol/Å" if found[0] > limits[1] else "Hartree/Bohr or Hartree/Å"
        return (
            f"{bond.name} bonds have a stiffness of {found[0]:.3g} eV/Å² by their forces; {limits[0]:g} to "
            f"{limits[1]:g} are usual. Are the forces (and energies) in {units}? They must be in eV/Å (and eV)."
        )
    return None


def forces_are_large(frames: Sequence[LabelledFrame]) -> str | None:
    """Whether the median force is beyond what matter has at any temperature of interest."""
    sizes = [np.linalg.norm(frame.forces, axis=1) for frame in _some(frames) if frame.forces is not None]
    middle = float(np.median(np.concatenate(sizes))) if sizes else 0.0
    if middle < LARGE_FORCE:
        return None
    return (
        f"half of the forces are larger than {middle:.3g} eV/Å (0.1 to 2 are usual). Are they in kcal/mol/Å, "
        "kJ/mol/Å or meV/Å? They must be in eV/Å."
    )


def stresses_are_large(frames: Sequence[LabelledFrame]) -> str | None:
    """Whether half of the frames have a stress that only shock waves make."""
    sizes = [float(np.abs(frame.stress).max()) for frame in frames if frame.stress is not None]
    if len(sizes) < 2 or (middle := float(np.median(sizes))) < LARGE_STRESS:
        return None
    return (
        f"half of the stresses are larger than {middle:.3g} eV/Å³ (0.001 to 0.1 are usual; 1 eV/Å³ is 160 GPa). Are "
        "they in GPa or kbar, or a virial in eV? They must be in eV/Å³; a virial (-V·stress, eV) is read when its key "
        'is given as virial = "...".'
    )


def energies_are_not_in_ev(frames: Sequence[LabelledFrame]) -> str | None:
    """Whether energies are those of all electrons of light atoms, in another unit than eV.

    They are nearly the sum of the energies of the atoms (Chakravorty et al., Phys. Rev. A 47, 3649, 1993), of which
    binding is a small part. Only up to neon, because pseudopotentials give some heavier ones energies that could be
    mistaken.
    """
    ratios = []
    for frame in _some(frames):
        numbers = frame.atoms.numbers
        if frame.energy is not None and 2 < numbers.max() < len(_ATOMS):
            ratios.append(frame.energy / float(_ATOMS[numbers].sum()))
    if not ratios:
        return None
    middle = float(np.median(ratios))
    units = {"Hartree": 1.0, "Rydberg": 2.0, "kcal/mol": _HARTREE / EV_PER_KCALMOL, "kJ/mol": _HARTREE / EV_PER_KJMOL}
    for name, value in units.items():
        if abs(middle / value - 1) < 0.05:
            return (
                f"the energies are those of all electrons in {name} ({frames[0].source}: {frames[0].energy}). They "
                "must be in eV, and forces in eV/Å: convert both."
            )
    return None


def energies_are_per_atom(frames: Sequence[LabelledFrame]) -> str | None:
    """Whether energies of structures of different size are alike instead of growing with the size."""
    used = [frame for frame in frames if frame.energy is not None and isolated_element(frame) is None]
    sizes = [len(frame.atoms) for frame in used]
    if len(used) < 5 or max(sizes) < 1.5 * min(sizes):
        return None
    energies = np.array([frame.energy for frame in used], dtype=float)
    counts = composition(used, elements_of(used))
    rest = []
    for matrix in (counts, counts / counts.sum(axis=1, keepdims=True)):
        rest.append(float(np.std(energies - matrix @ np.linalg.lstsq(matrix, energies, rcond=1e-8)[0])))
    if rest[1] > 0.1 * rest[0]:
        return None
    return (
        f"energies do not grow with the number of atoms ({min(sizes)} to {max(sizes)}). Are they per atom? They must "
        "be those of the whole structure."
    )


def _some(frames: Sequence[LabelledFrame]) -> list[LabelledFrame]:
    """At most `N_LOOKED_AT` frames, evenly over all."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), N_LOOKED_AT)).astype(int))
    return [frames[index] for index in chosen]


def _usual_stiffness(bond: Bonds) -> tuple[float, float] | None:
    """eV/Å² between which the stiffness of these bonds lies; None when that is not known well enough."""
    first, second = bond.elements
    length = float(np.median(bond.lengths))
    if first == 1 and second in (6, 7, 8) and length < 1.3:
        return 15.0, 400.0
    if first > 1 and length > 2.0 and not _SOFT & {first, second}:
        return 0.5, 80.0
    return None
