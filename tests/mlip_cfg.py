"""Configurations with the results MLIP wrote beside them (its .cfg text format)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Configuration:
    """A structure and what MLIP computed for it, with the digits it prints."""

    types: np.ndarray
    positions: np.ndarray
    cell: np.ndarray | None
    energy: float
    forces: np.ndarray
    plus_stress: np.ndarray
    """(6,) eV: xx, yy, zz, yz, xz, xy of -Σ r ⊗ dE/dr, five decimals."""

    def atoms(self, elements: tuple[str, ...]) -> Atoms:
        """The structure, types being places in `elements`."""
        symbols = [elements[kind] for kind in self.types]
        return Atoms(symbols, positions=self.positions, cell=self.cell, pbc=self.cell is not None)


def read_cfg(path: Path) -> list[Configuration]:
    """All configurations of a file."""
    blocks = path.read_text().split("BEGIN_CFG")[1:]
    return [_configuration(block.splitlines()) for block in blocks]


def _configuration(lines: list[str]) -> Configuration:
    words = {line.split()[0].rstrip(":"): index for index, line in enumerate(lines) if line.strip()}
    keys = ("Size", "Supercell", "AtomData", "Energy", "PlusStress")
    start = {key: words[key] + 1 for key in keys if key in words}
    n_atoms = int(lines[start["Size"]])
    names = lines[start["AtomData"] - 1].split()[1:]
    rows = np.array([line.split() for line in lines[start["AtomData"] : start["AtomData"] + n_atoms]], dtype=float)
    column = {name: rows[:, index] for index, name in enumerate(names)}
    cell = None
    if "Supercell" in start:
        cell = np.array([line.split() for line in lines[start["Supercell"] : start["Supercell"] + 3]], dtype=float)
    return Configuration(
        types=column["type"].astype(int),
        positions=np.stack([column[f"cartes_{axis}"] for axis in "xyz"], axis=1),
        cell=cell,
        energy=float(lines[start["Energy"]]),
        forces=np.stack([column[f"f{axis}"] for axis in "xyz"], axis=1),
        plus_stress=np.array(lines[start["PlusStress"]].split(), dtype=float),
    )
