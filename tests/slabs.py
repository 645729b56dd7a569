"""A slab of argon and inputs that deposit on it."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.build
import numpy as np
from runs import ARGON, assert_same_run, write_input

from mlmd.engine import checkpoint
from mlmd.rundir import CHECKPOINTS, DEPOSITION

STAGE = """[[stage]]
kind = "deposit"
species = [{ element = "Ar", fraction = 0.4 }, { element = "He", fraction = 0.6 }]
every = "0.133 ps"
duration = "2 ps"
beam = { energy = "0.3 eV", direction = "cone", angle = "40 deg" }
height = "7 Å"
ceiling = "3 Å"
min_distance = "3 Å"
contact = "5 Å"
settle = "0.2 ps"
bath = { temperature = "60 K", above = "2 Å", below = "9 Å", friction = "2 / ps" }
"""
"""Atoms that come fast, heavy and light: some stick, others bounce and are removed within two picoseconds."""
OFTEN = 'log_every = "50 fs"\ntrajectory_every = "100 fs"'


def argon_slab(repeat: tuple[int, int, int] = (3, 3, 2), *, periodic: bool = False) -> ase.Atoms:
    """Layers of an fcc crystal with a free surface (001), which lies along z; with a vacuum of 40 Å where periodic."""
    atoms = ase.build.bulk("Ar", "fcc", 5.4, cubic=True).repeat(repeat)
    atoms.rattle(0.03, seed=1)
    atoms.positions += 0.2  # no atom lies on a border of the cell
    atoms.pbc = (True, True, periodic)
    atoms.cell[2, 2] += 40.0
    return atoms


def deposit_input(folder: Path, stage: str = STAGE, **options: object) -> Path:
    """An input whose lowest layer is frozen; a step is 5 fs."""
    given = {"atoms": argon_slab(), "options": "frozen = { below = 2 }\n", "output": OFTEN, "potential": ARGON}
    return write_input(folder, stage, **(given | options))  # type: ignore[arg-type]


def book(folder: Path) -> np.ndarray:
    """The rows of deposition.csv: step, arrival, what, atoms."""
    rows = [line.split(",") for line in (folder / "deposition.csv").read_text().splitlines()[1:]]
    kinds = [("step", int), ("arrival", int), ("what", "U10"), ("atoms", "U40"), ("z", float), ("vz", float)]
    table = [(int(r[0]), int(r[2]), r[3], r[5], float(r[8]), float(r[11])) for r in rows]
    return np.array(table, dtype=kinds)


def assert_same_deposition(first: Path, second: Path) -> None:
    """The runs and who came and went in them are the same, byte for byte."""
    assert_same_run(first, second, extra=(DEPOSITION,))
    one, other = (checkpoint.newest(folder / CHECKPOINTS)[0] for folder in (first, second))
    assert one is not None and other is not None
    for name in one.arrays:
        if name.startswith(("present/", "deposit/")):
            assert np.array_equal(one.arrays[name], other.arrays[name]), f"{name} in the last checkpoint differs"
