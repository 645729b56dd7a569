"""Who is there: the atoms of a run at a moment, in which some may have arrived and others gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import ase
import numpy as np

from mlmd.engine.system import Body

ID = "id"
"""Name of the array that says which atom is which: numbers from 0 that are never given twice."""


@dataclass(frozen=True)
class Present:
    """Atoms that are there."""

    body: Body
    atoms: ase.Atoms
    """Numbers, masses, periodicity, charges and identities; positions mean nothing."""
    n_ever: int
    """Atoms that have been there at any time: the identity that the next one gets."""

    @property
    def ids(self) -> np.ndarray:
        """(n_atoms,) identities."""
        ids: np.ndarray = self.atoms.arrays[ID]
        return ids


def at_start(body: Body, atoms: ase.Atoms, *, numbered: bool) -> Present:
    """The atoms with which a run begins; `numbered` where others will come."""
    if numbered:
        atoms = atoms.copy()
        atoms.set_array(ID, np.arange(len(atoms)))
    return Present(body, atoms, len(atoms))


def without(present: Present, gone: np.ndarray) -> Present:
    """What is left when atoms (n_atoms,) bool have gone."""
    atoms = present.atoms[~gone]
    return replace(present, body=_body_of(present, atoms, present.body.mobile[~gone]), atoms=atoms)


def with_more(present: Present, arrived: ase.Atoms) -> Present:
    """What is there when others, which can move, have been added behind the last."""
    new = ase.Atoms(arrived.numbers, masses=arrived.get_masses())
    new.set_array(ID, present.n_ever + np.arange(len(new)))
    if present.atoms.has("initial_charges"):
        new.set_initial_charges(arrived.get_initial_charges())
    atoms = present.atoms + new
    mobile = np.concatenate([present.body.mobile, np.ones(len(new), dtype=bool)])
    return Present(_body_of(present, atoms, mobile), atoms, present.n_ever + len(new))


def _body_of(present: Present, atoms: ase.Atoms, mobile: np.ndarray) -> Body:
    return replace(present.body, numbers=np.array(atoms.numbers), masses=atoms.get_masses(), mobile=mobile)


def arrays_of(present: Present) -> dict[str, np.ndarray]:
    """What a checkpoint keeps of them."""
    arrays = {
        "present/numbers": present.body.numbers,
        "present/masses": present.body.masses,
        "present/mobile": present.body.mobile,
        "present/ids": present.ids,
        "present/n_ever": np.array([present.n_ever]),
    }
    if present.atoms.has("initial_charges"):
        arrays["present/charges"] = present.atoms.get_initial_charges()
    return arrays


def restored(start: Present, arrays: Mapping[str, np.ndarray]) -> Present:
    """Those of a checkpoint; `start` are those with which the run began."""
    if "present/numbers" not in arrays:
        return start
    atoms = ase.Atoms(arrays["present/numbers"], pbc=start.atoms.pbc, cell=start.atoms.cell)
    atoms.set_masses(arrays["present/masses"])
    atoms.set_array(ID, arrays["present/ids"])
    if "present/charges" in arrays:
        atoms.set_initial_charges(arrays["present/charges"])
    body = _body_of(start, atoms, arrays["present/mobile"])
    return Present(body, atoms, int(arrays["present/n_ever"][0]))
