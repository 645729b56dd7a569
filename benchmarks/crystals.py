"""Crystals off their places, for benchmarks: the same atoms for every program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, reference_states

DISPLACEMENT = 0.07
"""Å along each axis, root mean square: thermal motion of a metal or of silicon at 300 K."""
CELLS = {
    "fcc": [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
    "bcc": [[0, 0, 0], [0.5, 0.5, 0.5]],
}
CELLS["diamond"] = CELLS["fcc"] + [[x + 0.25, y + 0.25, z + 0.25] for x, y, z in CELLS["fcc"]]


def crystal(symbol: str, n_atoms: int, *, lattice: str | None = None, constant: float | None = None) -> Atoms:
    """A cube of about as many atoms of an element, off their places.

    Args:
        symbol: chemical symbol.
        n_atoms: the number that is nearest to it for a whole number of cells is taken.
        lattice, constant: "fcc", "bcc" or "diamond" and the edge of the cell in Å; of the element at rest by default.
    """
    known = reference_states[atomic_numbers[symbol]] or {}
    lattice, edge = lattice or known["symmetry"], constant or known["a"]
    corners = np.array(CELLS[lattice])
    n = max(1, round((n_atoms / len(corners)) ** (1 / 3)))
    cells = np.indices((n, n, n), dtype=np.float64).reshape(3, -1).T[:, None]
    positions = (cells + corners).reshape(-1, 3)
    positions *= edge
    positions += np.random.default_rng(0).normal(0, DISPLACEMENT, positions.shape)
    numbers = np.full(len(positions), atomic_numbers[symbol])
    return Atoms(numbers, positions, cell=np.full(3, n * edge), pbc=True)


def alloy(symbols: Sequence[str], n_atoms: int) -> Atoms:
    """An fcc crystal with elements at random, each as frequent, at the mean of their atomic volumes."""
    volumes = []
    for symbol in symbols:
        state = reference_states[atomic_numbers[symbol]] or {}
        if state.get("symmetry") in CELLS:
            volumes.append(state["a"] ** 3 / len(CELLS[state["symmetry"]]))
    edge = (4 * float(np.mean(volumes))) ** (1 / 3)
    atoms = crystal("Cu", n_atoms, constant=edge)
    atoms.symbols = np.random.default_rng(1).choice(list(symbols), len(atoms))
    return atoms


def structure_for(elements: Sequence[str], file: Path, n_atoms: int) -> Atoms:
    """A guess for a potential: a structure beside its file (model.xyz), else a crystal of its element or elements."""
    for name in ("model.xyz", "model.xyz.xz"):
        if len(elements) > 1 and (beside := file.parent / name).is_file():
            found = ase.io.read(beside)
            return Atoms(found.numbers, found.positions, cell=found.cell, pbc=True)
    return crystal(elements[0], n_atoms) if len(elements) == 1 else alloy(elements, n_atoms)


def off_places(file: Path, repeats: tuple[int, int, int]) -> Atoms:
    """A structure from a file, repeated, off its places."""
    atoms = ase.io.read(file) * repeats
    atoms.positions += np.random.default_rng(0).normal(0, DISPLACEMENT, atoms.positions.shape)
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
