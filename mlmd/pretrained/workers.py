"""Who computes: a calculator in this process, or one in a process of another Python."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes

from mlmd.potentials.trust import Digest, unchanged
from mlmd.pretrained import serve
from mlmd.pretrained.other_process import Elsewhere
from mlmd.pretrained.recipe import Found, Recipe, failed


class Worker(Protocol):
    """Something that computes."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the calculator tells of itself."""
        ...

    def ask(
        self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray, *, anew: bool
    ) -> Found:
        """Energy, forces and stress of one structure.

        Args:
            numbers, pbc, positions, cell: (n_atoms,), (3,), (n_atoms, 3) Å and (3, 3) Å.
            anew: whether the calculator is told that everything has changed; else, where it may keep things, that
                atoms of the same system have moved.

        Raises:
            SimulationError: when the calculator fails.
        """
        ...


def worker(recipe: Recipe, device: str, files: Sequence[Digest] = ()) -> Worker:
    """Somebody who computes by a recipe.

    Args:
        recipe: of the calculator.
        device: where it computes.
        files: that it opens, as they were read for their digests.

    Raises:
        InputError: when the calculator cannot be made.
        ModelError: when a file has changed since, or does so meanwhile, or is not whole.
    """
    return Here(recipe, device, files) if recipe.python is None else Elsewhere(recipe, device, files)


class Here:
    """A calculator in this process."""

    def __init__(self, recipe: Recipe, device: str, files: Sequence[Digest] = ()) -> None:
        """Find and build it, of files that are as they were read."""
        try:
            with unchanged(files), _quietly():
                self.calculator = serve.build(recipe.target, recipe.on(device))
                self.facts = serve.facts(recipe.target, self.calculator)
        except serve.Unusable as error:
            raise recipe.failed(str(error), file=error.file) from None
        self._recipe = recipe
        self._system: tuple[bytes, bytes] | None = None
        self._atoms = Atoms()

    def ask(
        self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray, *, anew: bool
    ) -> Found:
        """As `Worker.ask`."""
        system = (numbers.tobytes(), pbc.tobytes())
        same = self._recipe.keeps and system == self._system and not anew
        changes = serve.MOVED if same else tuple(all_changes)
        if system != self._system:
            self._atoms = Atoms(numbers=numbers, pbc=pbc, info=dict(self._recipe.info))
        self._system = None  # until there is an answer: after a failure nothing is known of what a calculator keeps
        self._atoms.set_cell(cell)
        self._atoms.set_positions(positions)
        try:
            with redirect_stdout(sys.stderr):  # what mlmd prints may be JSON
                energy, forces, stress = serve.ask(self.calculator, self._atoms, changes)
        except Exception as error:  # whatever a calculator does with a structure that it does not like
            raise failed(self._recipe, serve.reason(error)) from error
        if forces is None:
            raise failed(self._recipe, "the calculator gives no forces")
        self._system = system
        return energy, forces, stress


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings, logs and prints of a framework that is imported: they are not about what a user wrote."""
    silent = logging.NullHandler()  # without any, the first warning would give the root a handler for good
    logging.getLogger().addHandler(silent)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(silent)
