"""Small systems, their input files, and what two run folders have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlmd.engine import checkpoint
from mlmd.engine.observe import Moment
from mlmd.engine.run import simulate
from mlmd.errors import Stopped
from mlmd.io.structures import read_structure
from mlmd.rundir import CHECKPOINTS, FINAL, LOG, STOP, Run

ARGON = '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "6 Å" }'
BREATHING = (
    '[[stage]]\nkind = "npt"\ntemperature = "60 K"\npressure = "1 bar"\nduration = "1 ps"\n'
    'barostat = { kind = "anisotropic", every = 4 }'
)
"""A stage of 200 steps in which the cell changes."""


def fcc_argon(repeat: int, lattice_constant: float = 5.4) -> ase.Atoms:
    """A cubic block of the fcc crystal, its atoms a little off their places."""
    atoms = ase.build.bulk("Ar", "fcc", lattice_constant, cubic=True).repeat(repeat)
    atoms.rattle(0.03, seed=1)
    return atoms


def primitive_argon() -> ase.Atoms:
    """27 atoms in a rhombohedral cell, whose angles of 60° lie on the border of OpenMM's reduced form."""
    atoms = ase.build.bulk("Ar", "fcc", 5.4).repeat(3)
    atoms.rattle(0.03, seed=1)
    return atoms


def skewed(atoms: ase.Atoms) -> tuple[ase.Atoms, np.ndarray]:
    """The same crystal, turned and described by other lattice vectors; and the rotation (3, 3), x' = x @ rotation.

    The new cell is in neither standard orientation nor OpenMM's reduced form.
    """
    rotation = Rotation.from_euler("xyz", [0.4, -0.7, 1.9]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(np.array([[1, 0, 1], [2, 1, 2], [-1, 1, 0]]) @ atoms.cell.array @ rotation)
    turned.positions = atoms.positions @ rotation
    return turned, rotation


def turned_salt() -> ase.Atoms:
    """Li3YCl6 in a skewed, turned cell that is thinner than twice the cutoff."""
    return skewed(read_structure(Path(__file__).parents[1] / "inputs/li3ycl6.cif"))[0]


def open_slab() -> ase.Atoms:
    """Copper, open along z."""
    atoms = ase.build.fcc111("Cu", (4, 4, 4), vacuum=4.0)
    atoms.info.clear()
    atoms.pbc = (True, True, False)
    atoms.rattle(0.05, seed=2)
    return atoms


def write_input(
    folder: Path,
    stages: str,
    *,
    atoms: ase.Atoms | None = None,
    options: str = "",
    output: str = 'log_every = "50 fs"\ntrajectory_every = "100 fs"',
    potential: str = ARGON,
) -> Path:
    """Write a structure (by default 32 argon atoms) and an input file with these stages; a step is 5 fs."""
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "atoms.extxyz", fcc_argon(2) if atoms is None else atoms, format="extxyz")
    timestep = "" if "timestep" in options else 'timestep = "5 fs"\n'
    seed = "" if "seed" in options else "seed = 1\n"
    path = folder / "input.toml"
    top = f'structure = "atoms.extxyz"\npotential = {potential}\n{timestep}{seed}{options}\n'
    path.write_text(f"{top}\n{stages}\n[output]\n{output}\n")
    return path


def stopping(folder: Path, step: int) -> Callable[[Moment], None]:
    """A progress function that asks the run in this folder to stop at a global step of the log."""

    def look(moment: Moment) -> None:
        if moment.stage.first_step + moment.step == step:
            (folder / STOP).touch()

    return look


def run_in_parts(path: Path, out: Path, steps: list[int], **options: Any) -> Run:
    """Run an input, stopping at each of these global steps and continuing."""
    for step in steps:
        with pytest.raises(Stopped, match=f"step {step:,} "):
            simulate(path, out, progress=stopping(out, step), **options)
    return simulate(path, out, **options)


def assert_same_run(first: Path, second: Path, extra: tuple[str, ...] = ()) -> None:
    """Log, trajectory, last frame and last state of two finished runs are the same, byte for byte."""
    trajectory = next(path.name for path in first.iterdir() if path.name.startswith("trajectory."))
    for name in (LOG, trajectory, FINAL, *extra):
        assert (first / name).read_bytes() == (second / name).read_bytes(), f"{name} differs"
    one, other = (checkpoint.newest(folder / CHECKPOINTS)[0] for folder in (first, second))
    assert one is not None and other is not None
    for key in ("stage", "step", "lattice", "energy", "barostat"):
        assert one.header.get(key) == other.header.get(key), f"{key} in the last checkpoint differs"
    for key in ("positions", "velocities", "cell", "forces", "virial"):
        same = np.array_equal(one.arrays[key], other.arrays[key], equal_nan=key == "virial")  # not all have one
        assert same, f"{key} in the last checkpoint differ"


def read_log(run: Run | Path) -> dict[str, np.ndarray]:
    """The columns of log.csv by name, units left out of the names."""
    path = (run if isinstance(run, Path) else run.path) / LOG
    names = [name.split(" [")[0] for name in path.read_text().splitlines()[0].split(",")]
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    return dict(zip(names, table.T, strict=True))
