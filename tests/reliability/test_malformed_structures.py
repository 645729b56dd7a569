"""Structure files that are damaged in any way are read as sound structures or refused in one message."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from runs import fcc_argon

from mlmd.errors import MlmdError
from mlmd.io.structures import read_structure
from mlmd.io.validity import CLOSEST, closest_neighbour

FORMATS = {"a.extxyz": "extxyz", "a.cif": "cif", "POSCAR": "vasp", "a.pdb": "proteindatabank", "a.gro": "gromacs",
           "a.data": "lammps-data"}  # fmt: skip
PIECES = ["nan", "inf", "-", "1e999", "0", "X", "Qq", '"', "\n", "\x00", "9" * 30, "é", "_", " ", "data_", "Lattice="]


def mutated(good: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes flipped, cut, doubled, or put in."""
    raw = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw) + 1)
        way = rng.randrange(5)
        if way == 0 and raw:
            raw[min(at, len(raw) - 1)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del raw[at:]
        elif way == 2:
            del raw[at : at + rng.randrange(40)]
        elif way == 3:
            raw[at:at] = raw[at : at + rng.randrange(200)]
        else:
            raw[at : at + rng.randrange(8)] = rng.choice(PIECES).encode()
    return bytes(raw)


@pytest.mark.row("R13")
@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_structure_is_sound_or_refused(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path, rng = tmp_path / name, random.Random(name)
    atoms = fcc_argon(1)
    options = {"masses": True} if name == "a.data" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ase.io.write(path, atoms, format=FORMATS[name], **options)
    good, refused = path.read_bytes(), 0
    assert len(read_structure(path)) == 4
    for n in range(100):
        path.write_bytes(mutated(good, rng))
        try:
            found = read_structure(path)
        except MlmdError as error:
            assert "\n" not in str(error).strip() or len(str(error)) < 2000, (n, str(error))
            refused += 1
            continue
        assert len(found) and np.isfinite(found.positions).all() and np.isfinite(found.cell.array).all()
        assert (found.numbers > 0).all()
        near = closest_neighbour(found, CLOSEST)
        assert near is None or near[2] >= CLOSEST, (n, near)
        assert not found.pbc.any() or abs(found.cell.volume) > 0 or not found.pbc.all()
    record_property(f"{name} refused", f"{refused}/100")
