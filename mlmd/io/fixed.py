"""Atoms that the file of a structure fixes, which `ase.Atoms.info` holds by number."""

from __future__ import annotations

from collections.abc import Collection

from ase import Atoms
from ase.constraints import FixAtoms

HELD = "constrained"
"""Atoms that are fixed, those in some directions only among them."""
IN_PART = "constrained in part"
"""Atoms that are fixed in some directions only."""


def mark(atoms: Atoms, all_of_them: Collection[int], in_part: Collection[int]) -> None:
    """Keep which atoms are fixed, and which of these in some directions only."""
    for name, numbers in ((HELD, all_of_them), (IN_PART, in_part)):
        if numbers:
            atoms.info[name] = sorted(numbers)


def held(atoms: Atoms) -> frozenset[int]:
    """Atoms that are fixed, those in some directions only among them."""
    return frozenset(atoms.info.get(HELD, ()))


def held_in_part(atoms: Atoms) -> frozenset[int]:
    """Atoms that are fixed in some directions only."""
    return frozenset(atoms.info.get(IN_PART, ()))


def of_constraints(read: Atoms) -> tuple[set[int], set[int]]:
    """Atoms that ASE's constraints hold, and those that they hold in some directions or distances only."""
    every: set[int] = set()
    wholly: set[int] = set()
    for constraint in read.constraints:
        numbers = {int(number) for number in constraint.get_indices()}
        every |= numbers
        if isinstance(constraint, FixAtoms):
            wholly |= numbers
    return every, every - wholly
