"""Gaussian cube files of periodic fields, as VESTA, VMD, OVITO, PyMOL and ASE read them."""

from __future__ import annotations

import ase
import numpy as np
from ase.units import Bohr


def cube_text(values: np.ndarray, atoms: ase.Atoms, comment: str) -> str:
    """A cube file: lengths in Bohr, the field as it is.

    Args:
        values: (n_a, n_b, n_c) at the points (i/n_a, j/n_b, k/n_c) of the cell.
        atoms: what is shown with the field, and its cell.
        comment: one line; it should tell the unit of the field.
    """
    lines = [comment.replace("\n", " "), "the last index runs fastest; lengths in Bohr", _line(len(atoms), np.zeros(3))]
    lines += [_line(n, vector / n / Bohr) for n, vector in zip(values.shape, atoms.cell.array, strict=True)]
    for number, position in zip(atoms.numbers.tolist(), atoms.positions / Bohr, strict=True):
        lines.append(f"{number:5d}{float(number):12.6f}" + "".join(f"{x:12.6f}" for x in position))
    columns = values.reshape(-1, values.shape[2])  # a new line begins with every row along the third axis
    for row in columns:
        texts = [f"{value:13.5E}" for value in row.tolist()]
        lines += ["".join(texts[first : first + 6]) for first in range(0, len(texts), 6)]
    return "\n".join(lines) + "\n"


def _line(count: int, vector: np.ndarray) -> str:
    return f"{count:5d}" + "".join(f"{x:12.6f}" for x in vector)
