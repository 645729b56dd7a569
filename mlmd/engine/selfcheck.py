"""Whether the model of another program does what a potential does: a look at the structure that is to be simulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import ase
import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from mlmd.errors import MlmdError
from mlmd.potentials import Evaluation

RATTLE = 0.05
"""Å, standard deviation: a crystal at rest has no forces to look at."""
STEP = 0.01
"""Å, of the atom that moves farthest: small beside the width of any well, far above the noise of single precision."""
MOST_ATOMS = 200
"""Up to which a structure is doubled, to see whether its energy does."""
_SLOPE = 0.03
"""Part of the force by which it may differ from the slope of the energy; the error of the difference is far smaller."""
_ASIDE = 0.15
"""The same across the forces, of what the slope is there in the mean over all ways: curvatures count for more there."""
_ROUNDING = 1e-6
"""Of the energy: what single precision leaves of a difference."""
_EXTENSIVE = 1e-3
"""eV per atom; single precision gives 1e-4 for energies of some eV per atom."""
_NEAR, _BOND = 0.5, 1.0
"""Distances of two atoms in units of the sum of their covalent radii."""
_SIZES = (1.0, 1.1, 1.2, 1.4, 1.6, 1.9, 2.3, 2.8, 3.4, 4.2, 5.5, 7.0, 9.0, 11.0, 14.0, 18.0)
"""By which all lengths of a structure are multiplied, as long as its energy falls; the last only ends the search."""
_LARGE = 1.6
"""From which on a structure at rest is none of the kind that it is: liquids and gases stop before, or never."""
_BONDED = 1.4
"""Times the sum of covalent radii, within which an atom of a solid or a molecule has another one."""
_HELD = (0.4, 120.0)
"""eV, of `_stiffness`: 1 to 2 for HCl, water and sodium by CHGNet, 12 for copper, 61 for tungsten by UNEP-v1."""
_DISPLACED = 80
"""Displacements of atoms, at least, that the mean is over: where every second one is along another bond, the mean is
within a factor of two of the truth, and `_HELD` a factor of two wider than what is known."""
_NOBLE = frozenset({2, 10, 18, 36, 54, 86})
"""Atomic numbers of what forms no bonds."""
_WELL = 1e-4
"""eV per atom, by which the energy rises behind a minimum: at a cutoff it only ends to fall."""

Answer = Callable[[ase.Atoms], Evaluation]


def self_check(answer: Answer, atoms: ase.Atoms) -> Iterator[str]:
    """What is odd about a potential, in sentences for a person.

    The energy along the forces, and across them, must change as the forces say, the energy of two cells be twice that
    of one, two atoms half a bond apart have a higher energy than at the length of a bond, and the structure not be at
    rest at lengths that are several times its own, as where the model takes them in another unit. Bonds must be about
    as stiff as bonds are: energies in another unit have consistent forces.

    Args:
        answer: of the potential, to one structure.
        atoms: the structure that is to be simulated.
    """
    yield from _slope(answer, atoms)
    yield from _extensive(answer, atoms)
    yield from _dimers(answer, atoms)
    yield from _lengths(answer, atoms)
    yield from _stiffness(answer, atoms)


def _slope(answer: Answer, atoms: ase.Atoms) -> Iterator[str]:
    start = atoms.copy()
    random = np.random.default_rng(0)
    start.positions += random.normal(0.0, RATTLE, start.positions.shape)
    here = answer(start)
    # forces that one atom lacks, or all, do not show in the way that the others go
    ways = {"in a direction drawn at random": (random.normal(size=start.positions.shape), _ASIDE)}
    if here.forces.any():
        ways = {"along them": (here.forces, _SLOPE), **ways}
    for words, (direction, part) in ways.items():
        way = direction * (STEP / np.linalg.norm(direction, axis=1).max())
        energies = []
        for sign in (1, -1):
            moved = start.copy()
            moved.positions += sign * way
            energies.append(answer(moved).energy)
        found, expected = energies[1] - energies[0], 2.0 * float(np.vdot(here.forces, way))
        usual = 2.0 * float(np.linalg.norm(here.forces) * np.linalg.norm(way)) / np.sqrt(way.size)
        size = abs(expected) if part == _SLOPE else usual
        if abs(found - expected) > part * size + _ROUNDING * abs(here.energy):
            yield (
                f"the forces of the potential are not the slope of its energy: {words} it falls by {found:.4g} eV, and "
                f"they say {expected:.4g} eV. With such forces no energy is conserved; are units and settings right?"
            )
            return


def _extensive(answer: Answer, atoms: ase.Atoms) -> Iterator[str]:
    periodic = [axis for axis in range(3) if atoms.pbc[axis]]
    if not periodic or len(atoms) > MOST_ATOMS:
        return
    repeats = [1, 1, 1]
    repeats[min(periodic, key=lambda axis: atoms.cell.lengths()[axis])] = 2
    one = answer(atoms).energy
    try:
        two = answer(atoms.repeat(repeats)).energy
    except MlmdError:  # a TorchScript module may be for the atoms of one structure
        return
    if abs(two - 2.0 * one) / (2 * len(atoms)) > _EXTENSIVE:
        yield (
            f"two cells do not have twice the energy of one: {two:.6f} eV and {one:.6f} eV. Does the potential see "
            "periodic images that are nearer than its cutoff? A larger supercell may mend it"
        )


def _dimers(answer: Answer, atoms: ase.Atoms) -> Iterator[str]:
    numbers = sorted(set(atoms.numbers.tolist()))
    falling = []
    for n, first in enumerate(numbers):
        for second in numbers[n:]:
            bond = covalent_radii[first] + covalent_radii[second]
            try:
                near, apart = (
                    answer(ase.Atoms([first, second], [[0.0, 0.0, 0.0], [0.0, 0.0, part * bond]])).energy
                    for part in (_NEAR, _BOND)
                )
            except MlmdError:  # a model of crystals may not take two atoms alone
                return
            if near < apart:
                pair = ase.Atoms([first, second]).get_chemical_symbols()
                falling.append(f"{pair[0]}–{pair[1]} at {_NEAR * bond:.2f} Å")
    if falling:
        yield (
            f"atoms that come very near are not kept apart: {', '.join(falling[:4])} have a lower energy than at the "
            'length of a bond. Add { kind = "zbl", cutoff = "1.5 Å" } where a run is hot'
        )


def _lengths(answer: Answer, atoms: ase.Atoms) -> Iterator[str]:
    """Whether the energy falls until the structure is several times as large, and rises then."""
    lowest = np.inf
    for n, size in enumerate(_SIZES):
        larger = atoms.copy()
        larger.set_cell(atoms.cell.array * size)
        larger.positions = atoms.positions * size
        try:
            energy = answer(larger).energy / len(atoms)
        except MlmdError:  # a model may not take atoms that have no neighbours
            return
        if energy > lowest:
            if _SIZES[n - 1] >= _LARGE and energy > lowest + _WELL:
                yield (
                    f"the energy falls until all lengths of the structure are {_SIZES[n - 1]:g} times as large, and "
                    "rises then: does the model take lengths in another unit (1 nm = 10 Å, 1 Å = 1.89 bohr), or is the "
                    "structure in one?"
                )
            return
        lowest = energy


def _stiffness(answer: Answer, atoms: ase.Atoms) -> Iterator[str]:
    """Whether atoms are held as bonds hold them: the mean of k r², k a force constant and r the covalent radius.

    k is the second derivative of the energy as one atom moves; for displacements r_i u_i with random u_i the mean of
    Σ_ij r_i u_i·∂²E/∂x_i∂x_j·u_j r_j is Σ_i r_i² tr k_i, whatever the coupling of atoms. Few atoms are displaced in
    several ways at right angles to each other, at most in all that there are, since one way may miss their few bonds.
    """
    if len(atoms) == 0 or _NOBLE.intersection(atoms.numbers.tolist()) or not _bonded(atoms):
        return
    random = np.random.default_rng(0)
    start = atoms.copy()
    start.positions += random.normal(0.0, RATTLE, start.positions.shape)
    size = start.positions.size
    ways = np.linalg.qr(random.normal(size=(size, min(size, -(-_DISPLACED // len(atoms))))))[0].T
    stiffnesses = []
    for way in ways.reshape(-1, len(atoms), 3) * covalent_radii[atoms.numbers][:, None]:
        part = STEP / np.linalg.norm(way, axis=1).max()
        forces = []
        for sign in (1, -1):
            moved = start.copy()
            moved.positions += sign * part * way
            forces.append(answer(moved).forces)
        stiffnesses.append(np.vdot(forces[1] - forces[0], way) / (2.0 * part))  # of Σ u² = 1
    held = float(np.mean(stiffnesses))
    softest, stiffest = _HELD
    if not softest < held < stiffest:
        yield (
            f"the potential holds atoms {'less' if held < softest else 'more'} than bonds do: the force constant of an "
            f"atom times the square of its covalent radius is {held:.3g} eV in the mean, and {softest:g} to "
            f"{stiffest:g} eV in matter. Are energies in another unit (1 eV = 23.06 kcal/mol = 96.49 kJ/mol, "
            "1 hartree = 27.21 eV), or is the structure far from any that is stable?"
        )


def _bonded(atoms: ase.Atoms) -> bool:
    """Whether nearly all atoms have a neighbour as near as in a solid or a molecule."""
    near = neighbor_list("i", atoms, _BONDED * covalent_radii[atoms.numbers])
    return len(np.unique(near)) > 0.9 * len(atoms)
