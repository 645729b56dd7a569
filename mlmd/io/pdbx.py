"""Structures of PDBx/mmCIF, which ASE takes for crystals with a symmetry that they do not have."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

_TAG = b"_atom_site.cartn_x"
_NAMES = ("label_asym_id", "auth_asym_id", "auth_seq_id", "label_seq_id", "pdbx_pdb_ins_code", "label_atom_id")
"""Which atom of a model it is."""
_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def is_pdbx(path: Path) -> bool:
    """Whether a `.cif` file has Cartesian coordinates under the names of mmCIF."""
    return path.is_file() and _TAG in path.read_bytes().lower()


def read(path: Path) -> list[Atoms]:
    """The models of a file, the first of alternative locations only; periodic where it has a cell.

    Raises:
        ValueError: for a damaged file and for what is no element.
    """
    from ase.io.cif import parse_cif

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocks = [block for block in parse_cif(path.open("rb")) if _TAG.decode() in block]
    if not blocks:
        raise ValueError("no atoms")
    block = blocks[0]
    n_atoms = len(_column(block, "cartn_x"))
    positions = np.array([_column(block, f"cartn_{axis}") for axis in "xyz"], dtype=float).T
    symbols = [str(one).capitalize() for one in _column(block, "type_symbol")]
    unknown = [one for one in symbols if one not in atomic_numbers]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no element")
    models = np.array(_column(block, "pdbx_pdb_model_num", [1] * n_atoms), dtype=int)
    alternatives = _column(block, "label_alt_id", ["."] * n_atoms)
    names = list(zip(models.tolist(), *(_column(block, name, ["."] * n_atoms) for name in _NAMES), strict=True))
    begun = {name: n for n, name in reversed([*enumerate(names)])}
    first = np.array([alternatives[n] in (".", "?") or begun[name] == n for n, name in enumerate(names)])
    cell = [block.get(f"_cell.{name}") for name in _CELL]
    periodic = all(isinstance(one, int | float) and one > 1.0 for one in cell)  # a cell of 1 Å says that there is none
    found = []
    for model in dict.fromkeys(models.tolist()):
        chosen = np.flatnonzero(first & (models == model))
        atoms = Atoms([symbols[n] for n in chosen], positions[chosen])
        if periodic:
            atoms.set_cell(np.array(cell, dtype=float))
            atoms.set_pbc(True)
        found.append(atoms)
    return found


def _column(block: Any, name: str, default: list[Any] | None = None) -> list[Any]:
    found = block.get(f"_atom_site.{name}", default)
    if found is None:
        raise ValueError(f"there is no _atom_site.{name}")
    return found if isinstance(found, list) else [found]
