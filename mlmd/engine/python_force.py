"""A potential as a function of OpenMM's PythonForce, which is copied and stored as how it is made.

OpenMM pickles the function to copy a force and to write it as XML. It ends the process when that cannot be read back,
so that nothing is loaded before the function is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np
import openmm
from openmm import unit

from mlmd.config import PotentialTable
from mlmd.config.files import sha256
from mlmd.config.needed import files_of_table
from mlmd.engine.forces import NM
from mlmd.errors import ModelError
from mlmd.potentials import Evaluator, Potential
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.load import load_potential
from mlmd.units import EV_PER_KJMOL


class Loaded:
    """A potential that is loaded when it is first asked for, and again by whoever has a copy in another process."""

    def __init__(
        self,
        tables: Sequence[PotentialTable],
        files: Mapping[str, str] | None = None,
        key: str = "",
        potential: Potential | None = None,
    ) -> None:
        """Take what an input would say of it.

        Args:
            tables: the potential, or those whose sum it is, with absolute paths.
            files: names of its files, with their SHA-256; those that are there when they are not given.
            key: of the potential that this is a copy of.
            potential: itself, where it has been loaded already.
        """
        self.tables, self.key = tuple(tables), key or uuid4().hex
        if files is None:
            named = [path for table in tables for path in files_of_table("potential", table).values()]
            files = {str(path): sha256(path) for path in named if path.is_file()}
        self.files = dict(files)
        self._potential = potential
        _alive[self.key] = self

    @property
    def potential(self) -> Potential:
        """The potential.

        Raises:
            InputError: when it cannot be loaded.
            ModelError: also when one of its files has changed.
        """
        if self._potential is None:
            for name, digest in self.files.items():
                if Path(name).is_file() and sha256(Path(name)) != digest:
                    raise ModelError(f"{name} is not the file any more that the potential of this system was made of.")
            self._potential = load_potential(self.tables)
        return self._potential


_alive: WeakValueDictionary[str, Loaded] = WeakValueDictionary()
"""Potentials that are there, so that a copy of a force does not load its own."""


def again(
    key: str,
    tables: Sequence[PotentialTable],
    files: Mapping[str, str],
    numbers: np.ndarray,
    periodic: bool,
    device: str,
) -> Compute:
    """The function of a force that is copied or read."""
    return Compute(_alive.get(key) or Loaded(tables, files, key), numbers, periodic, device)


class Compute:
    """What OpenMM calls."""

    def __init__(self, loaded: Loaded, numbers: np.ndarray, periodic: bool, device: str) -> None:
        """Take the potential, atomic numbers (n_atoms,), whether there is a box, and where to compute."""
        self._loaded, self._numbers, self._periodic, self._device = loaded, numbers, periodic, device
        self._evaluator: Evaluator | None = None
        self.failure: BaseException | None = None
        """What went wrong inside OpenMM's call, kept because OpenMM passes on only its text."""

    def begin(self, device: str) -> None:
        """Forget the list of pairs, and compute on a device from now on."""
        self._device, self._evaluator = device, None

    def prepare(self) -> Evaluator:
        """Load what is needed.

        Raises:
            InputError, ModelError: when it cannot be loaded.
        """
        if self._evaluator is None:
            pbc = np.full(3, self._periodic)
            self._evaluator = evaluator(self._loaded.potential, self._numbers, pbc, device=self._device)
        return self._evaluator

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is made."""
        one = self._loaded
        return again, (one.key, one.tables, one.files, self._numbers, self._periodic, self._device)

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy (kJ/mol) and forces (n_atoms, 3) (kJ/mol/nm)."""
        try:
            return self._of(state)
        except BaseException as error:
            self.failure = error
            raise

    def _of(self, state: openmm.State) -> tuple[float, np.ndarray]:
        positions = np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)) * NM
        cell = np.zeros((3, 3))
        if self._periodic:
            cell = np.array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)) * NM
        found = self.prepare().evaluate(positions, cell)
        return found.energy / EV_PER_KJMOL, found.forces * NM / EV_PER_KJMOL
